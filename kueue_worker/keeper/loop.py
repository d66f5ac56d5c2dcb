"""The keeper's loop: one thread, one epoll; signals, the agent's connection, timers.

It never waits for anything but its epoll. What an agent sends can cost that agent its connection, nothing
more; an agent that does not read loses its connection, too, and finds all in the next one's `state`. So it is where
there is no memory for something: whatever was broken off, the agent begins anew, and the jobs run on.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import select
import signal
import socket
import time
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
NO_MEMORY_SECONDS = 0.1
"""A rest, rather than to try without a pause what there is no memory for."""
RESERVE_BYTES = 2 * 1024 * 1024
"""Given back when there is no memory, for what must not be put off. Not touched, so it costs none before."""
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
        self._has_signals = False
        self._broken_off = False
        self._dropping: Wire | None = None
        self._reserve: mmap.mmap | None = None
        self._epoll.register(self._signals, select.EPOLLIN)

    def serve(self) -> None:
        """Serve until the keeper was told to end, or has been without anything to do for long."""
        self._listener.listen(WAITING_CONNECTIONS)
        self._epoll.register(self._listener, select.EPOLLIN)
        while True:
            try:
                if self._is_over(boottime()):
                    break
                self.turn()
            except MemoryError:
                self._reserve = None
                self.after_no_memory()
        self._say_goodbye()

    def turn(self) -> None:
        """Wait for something, and do what it is about.

        Raises:
            MemoryError: nothing is lost; `after_no_memory` is next.
        """
        keeper = self._keeper
        if self._broken_off:
            keeper.put_right()
            self._broken_off = False
        if self._reserve is None:
            self._reserve = _reserved()
        events = dict(self._epoll.poll(self._wait_seconds()))
        if events.pop(self._signals, 0):
            self._has_signals = True
            os.read(self._signals, 4096)
        if self._has_signals:  # ends before orders: a kill must know who has exited by itself
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

    def after_no_memory(self) -> None:
        """Rest, and let the agent begin anew: nobody knows what it has been told."""
        self._has_signals = self._broken_off = True
        try:
            if self._dropping is not None:
                self._drop(self._dropping)
            if self._agent is not None:
                self._drop(self._agent)
            self._say("no memory left; tries on")
            time.sleep(NO_MEMORY_SECONDS)
        except MemoryError:
            return

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
        self._keeper.reap()
        while self._told_to_end:
            self._keeper.on_told_to_end(self._grace)
            self._told_to_end.pop()
        self._has_signals = False

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
        except MemoryError:
            self._dropping = wire
            raise
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
        except WireError as error:  # what it was not sent it finds in the state, next time
            self._say(f"the agent's connection is dropped: {error}")
            self._drop(wire)

    def _drop(self, wire: Wire) -> None:
        self._dropping = wire
        if wire is self._agent:
            self._agent = None
            self._keeper.out.clear()
            self._keeper.on_agent_gone()
        if wire.fileno() >= 0:  # else it was broken off behind this
            self._silent.pop(wire.fileno(), None)
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(wire)
            wire.close()
        self._dropping = None

    def _say_goodbye(self) -> None:
        """The agent is to hear the last ends; it finds them in the records if it does not listen."""
        try:
            until = boottime() + GOODBYE_SECONDS
            while self._agent is not None and self._agent.wants_write and boottime() < until:
                self._epoll.poll(0.05)
                self._send(boottime())
            self._say("ends")
        except MemoryError:
            return


def _reserved() -> mmap.mmap | None:
    try:
        return mmap.mmap(-1, RESERVE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, MemoryError):
        return None


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
