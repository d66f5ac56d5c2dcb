"""The keeper's loop: one thread, one epoll; signals, the agent's connection, timers.

It never waits for anything but its epoll. What an agent sends can cost that agent its connection, nothing
more; an agent that does not read loses its connection, too, and finds all in the next one's `state`.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType

from kueue_worker.keeper.boot import boottime
from kueue_worker.keeper.keeper import Keeper
from kueue_worker.keeper.place import WAITING_CONNECTIONS, is_trusted
from kueue_worker.keeper.wire import Message, Wire, WireError

MOST_UNREAD_BYTES = 8 * 1024 * 1024
"""That wait for the agent, besides the answer to its hello."""
MOST_SILENT = 8
"""Connections that have not said hello yet."""
LONGEST_WAIT_SECONDS = 30.0
"""The clock goes on while the machine sleeps, epoll's does not."""
GOODBYE_SECONDS = 1.0
DEAF_SECONDS = 1.0
"""Without a descriptor for a new connection: let it wait so long, instead of looking at it all the time."""
STARTS_WAIT_SECONDS = 0.01
"""Nobody waits for the news that a job has started: that of a short one goes with its end."""


class Loop:
    """`listener` is bound and non-blocking; it listens as soon as this serves. `grace`: of a SIGTERM;
    `idle`: the seconds without anything to do after which the keeper ends."""

    def __init__(
        self,
        keeper: Keeper,
        listener: socket.socket,
        say: Callable[[str], None],
        *,
        grace: float,
        idle: float,
    ) -> None:
        self._keeper = keeper
        self._listener = listener
        self._say = say
        self._grace = grace
        self._idle = idle
        self._agent: Wire | None = None
        self._agent_most_bytes = 0
        self._agent_writes = False
        self._silent: dict[int, Wire] = {}
        self._idle_since = boottime()
        self._deaf_until: float | None = None
        self._starts_due: float | None = None
        self._epoll = select.epoll()
        self._told_to_end: list[int] = []
        self._signals = _catch_signals(self._told_to_end)
        self._epoll.register(self._signals, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until the keeper was told to end, or has been without anything to do for long."""
        self._listener.listen(WAITING_CONNECTIONS)
        self._epoll.register(self._listener, select.EPOLLIN)
        keeper = self._keeper
        while not self._is_over(boottime()):
            events = dict(self._epoll.poll(self._wait_seconds()))
            if events.pop(self._signals, 0):  # ends before orders: a kill must know who has exited by itself
                self._on_signals()
            for descriptor, event in events.items():
                if descriptor == self._listener.fileno():
                    self._on_connection()
                else:
                    self._on_socket(descriptor, event)
            now = boottime()
            if self._deaf_until is not None and now >= self._deaf_until:
                self._deaf_until = None
                self._epoll.modify(self._listener, select.EPOLLIN)
            keeper.on_time(now)
            keeper.start_due()
            keeper.save(now)
            self._send(now)
        self._say_goodbye()

    # ---------------------------------------------------------------- time

    def _wait_seconds(self) -> float:
        now = boottime()
        times = [now + LONGEST_WAIT_SECONDS]
        if (due := self._keeper.next_time()) is not None:
            times.append(due)
        if self._deaf_until is not None:
            times.append(self._deaf_until)
        if self._is_idle():
            times.append(self._idle_since + self._idle)
        if self._starts_due is not None:
            times.append(self._starts_due)
        # epoll counts in milliseconds; too early would be a turn for nothing
        return max(0.0, min(times) - now + 0.001)

    def _is_idle(self) -> bool:
        keeper = self._keeper
        return not (keeper.is_busy or keeper.remembers or self._agent)

    def _is_over(self, now: float) -> bool:
        if self._keeper.leaving and not self._keeper.is_busy:
            return True
        if not self._is_idle():
            self._idle_since = now
            return False
        return now - self._idle_since >= self._idle

    # ---------------------------------------------------------------- signals

    def _on_signals(self) -> None:
        os.read(self._signals, 65536)
        self._keeper.reap()
        while self._told_to_end:
            self._told_to_end.pop()
            self._keeper.on_told_to_end(self._grace)

    # ---------------------------------------------------------------- connections

    def _on_connection(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._say(f"a connection has to wait: {error.strerror}")
                self._deaf_until = boottime() + DEAF_SECONDS
                self._epoll.modify(self._listener, 0)
            return  # else it has gone again
        if not is_trusted(sock):
            self._say("a process of another user was turned away")
            sock.close()
            return
        if len(self._silent) >= MOST_SILENT:
            self._drop(next(iter(self._silent.values())))
        wire = Wire(sock)
        self._silent[wire.fileno()] = wire
        self._epoll.register(wire, select.EPOLLIN)

    def _on_socket(self, descriptor: int, event: int) -> None:
        wire = self._silent.get(descriptor)
        if wire is None:
            wire = self._agent
            if wire is None or wire.fileno() != descriptor:
                return  # closed in this very turn
        try:
            if event & ~select.EPOLLOUT:
                frames = wire.receive()
                if frames is None:
                    self._drop(wire)
                    return
                for messages in frames:
                    if wire is not self._agent:
                        if not messages:
                            continue
                        self._on_hello(wire, messages.pop(0))
                    self._keeper.on_messages(messages, wire.take_descriptor)
                wire.check_all_taken()
        except WireError as error:
            self._say(f"a connection is dropped: {error}")
            self._drop(wire)
        except Exception as error:
            # Not known how this could be; but whatever it is, jobs must not go down with their keeper.
            self._say(f"a connection is dropped: unforeseen {error!r}")
            self._drop(wire)

    def _on_hello(self, wire: Wire, hello: Message) -> None:
        self._keeper.save(boottime())  # no agent is told what a next keeper would not know
        answer = self._keeper.welcome(hello)
        if self._agent is not None:
            self._drop(self._agent)
        del self._silent[wire.fileno()]
        self._agent = wire
        for message in answer:
            wire.send([message])
        self._agent_most_bytes = wire.queued_bytes + MOST_UNREAD_BYTES
        self._agent_writes = False

    def _send(self, now: float) -> None:
        """Send what the keeper has to tell, all of one turn in one frame; what is not urgent waits for more."""
        messages = self._keeper.out
        wire = self._agent
        if wire is None:
            messages.clear()
            self._starts_due = None
            return
        if messages and not self._keeper.is_urgent():
            if self._starts_due is None:
                self._starts_due = now + STARTS_WAIT_SECONDS
            if now < self._starts_due and not wire.wants_write:
                return
        self._starts_due = None
        try:
            if messages:
                wire.send(messages)
                messages.clear()
            elif wire.wants_write:
                wire.flush()
            if wire.queued_bytes > self._agent_most_bytes:
                raise WireError("the agent does not read")
            if not wire.wants_write:
                self._agent_most_bytes = MOST_UNREAD_BYTES
            if wire.wants_write != self._agent_writes:
                self._agent_writes = wire.wants_write
                self._epoll.modify(wire, select.EPOLLIN | (select.EPOLLOUT if self._agent_writes else 0))
        except (WireError, MemoryError) as error:  # what it was not sent it finds in the state, next time
            self._say(f"the agent's connection is dropped: {error or 'no memory left'}")
            self._drop(wire)

    def _drop(self, wire: Wire) -> None:
        self._silent.pop(wire.fileno(), None)
        self._epoll.unregister(wire)
        wire.close()
        if wire is self._agent:
            self._agent = None
            self._keeper.out.clear()
            self._keeper.on_agent_gone()

    def _say_goodbye(self) -> None:
        """The agent is to hear the last ends; it finds them in the records if it does not listen."""
        until = boottime() + GOODBYE_SECONDS
        while self._agent is not None and self._agent.wants_write and boottime() < until:
            self._epoll.poll(0.05)
            self._send(boottime())
        self._say("ends")


def _catch_signals(told_to_end: list[int]) -> int:
    """A descriptor that becomes readable with each signal; those that are to end the keeper are added to
    the list (the descriptor may be full). A hang-up ends nothing."""

    def wake(number: int, frame: FrameType | None) -> None:
        """Python has written to the descriptor already; there is nothing else to do."""

    def end(number: int, frame: FrameType | None) -> None:
        told_to_end.append(number)

    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, wake)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    return reading
