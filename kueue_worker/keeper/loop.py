"""The keeper's loop: one thread, one epoll; the agent's messages, ends of processes, timers.

It never waits for anything but its epoll, and nothing an agent sends can end it.
"""

from __future__ import annotations

import heapq
import os
import select
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kueue_worker.keeper import trees
from kueue_worker.keeper.records import Records
from kueue_worker.keeper.spawn import NotStartedError, Spawner
from kueue_worker.keeper.wire import BrokenConnectionError, Connection, Message, is_ours

PROTOCOL_VERSION = 1
MOST_ENVIRONMENTS = 256
RECORDS_A_FRAME = 500
TIME_LIMIT_GRACE_SECONDS = 10.0
REBOOT_SECONDS = 5.0
"""An end that was not good, so shortly before we are told to end ourselves, was the shutdown's doing."""
KILL_CHECK_SECONDS = (0.01, 0.02, 0.05, 0.1)
GIVE_UP_SECONDS = 30.0
"""After KILL: what still lives then hangs in the kernel; it can't do anything any more."""
IDLE_SECONDS = 60.0


def boottime() -> float:
    """Seconds since the machine booted, suspended ones included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Job:
    """A running attempt. Its process may have ended while its tree is being ended (`status` is set then)."""

    __slots__ = ("checks", "deadline", "end", "ended", "key", "killed", "pid", "started", "status", "usage")

    def __init__(self, key: str, pid: int, started: float) -> None:
        self.key = key
        self.pid = pid
        self.started = started
        self.end = "exited"
        self.deadline: float | None = None  # when TERM becomes KILL; set: it is being ended
        self.killed = False
        self.checks = 0
        self.status: int | None = None
        self.usage: Any = None
        self.ended = 0.0


class Keeper:
    """Everything the keeper has. `run` returns when it was told to end and nothing runs any more."""

    def __init__(
        self,
        listener: socket.socket,
        records: Records,
        keeper: str,
        boot: str,
        say: Callable[[str], None],
        *,
        grace_seconds: float = 5.0,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._listener = listener
        self._records = records
        self._id = keeper
        self._boot = boot
        self._say = say
        self._grace = grace_seconds
        self._idle_seconds = idle_seconds
        self._spawner = Spawner()
        self._agent: Connection | None = None
        self._arrived: Connection | None = None  # connected, has not said hello yet
        self._environments: OrderedDict[str, dict[bytes, bytes]] = OrderedDict()
        self._directories: dict[int, int] = {}
        self._by_key: dict[str, _Job] = {}
        self._by_pid: dict[int, _Job] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = 0
        self._sweeping = False
        self._ending = False
        self._idle_since = boottime()
        self._poll = select.epoll()
        self._poll.register(listener.fileno(), select.EPOLLIN)
        self._signals, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self._poll.register(self._signals, select.EPOLLIN)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    # ---------------------------------------------------------------- the loop

    def run(self) -> None:
        """Serve."""
        while True:
            events = self._poll.poll(self._timeout())
            for descriptor, happened in events:
                if descriptor == self._signals:
                    self._on_signals()
                elif descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._on_connection(descriptor, happened)
            now = boottime()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            self._save()
            self._flush()
            if self._may_end(now):
                self._say_goodbye()
                return

    def _timeout(self) -> float:
        timeout = 60.0 if self._by_key or self._agent else max(1.0, self._idle_seconds / 4)
        if self._timers:
            timeout = min(timeout, max(0.0, self._timers[0][0] - boottime()))
        return timeout

    def _may_end(self, now: float) -> bool:
        if self._by_key:
            self._idle_since = now
            return False
        if self._ending:
            return True
        if self._agent is not None or self._arrived is not None or self._records.attempts:
            self._idle_since = now
            return False
        return now - self._idle_since >= self._idle_seconds

    def _say_goodbye(self) -> None:
        """What was said last should arrive."""
        until = boottime() + 1.0
        while self._agent is not None and boottime() < until:
            try:
                if not self._agent.flush():
                    break
            except BrokenConnectionError:
                break
            time.sleep(0.01)
        self._say("ends")

    def _at(self, when: float, what: Callable[[], None]) -> None:
        self._timer_number += 1
        heapq.heappush(self._timers, (when, self._timer_number, what))

    def _save(self) -> None:
        try:
            self._records.flush()
        except OSError as error:
            self._say(f"the record file can't be written: {error}")

    # ---------------------------------------------------------------- agents

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        if not is_ours(sock):
            sock.close()
            return
        if self._arrived is not None:
            self._drop(self._arrived)
        self._arrived = Connection(sock)
        self._poll.register(sock.fileno(), select.EPOLLIN)

    def _on_connection(self, descriptor: int, happened: int) -> None:
        for connection in (self._agent, self._arrived):
            if connection is None or connection.fileno() != descriptor:
                continue
            try:
                if happened & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._on_messages(connection, connection.receive())
            except BrokenConnectionError as error:
                if str(error) != "closed":
                    self._say(f"the agent's connection is dropped: {error}")
                self._drop(connection)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._say(f"the agent's connection is dropped: a message that can't be meant: {error!r}")
                self._drop(connection)
            return

    def _drop(self, connection: Connection) -> None:
        if connection is self._agent:
            self._agent = None
            self._environments.clear()
            for descriptor in self._directories.values():
                os.close(descriptor)
            self._directories.clear()
        if connection is self._arrived:
            self._arrived = None
        if connection.fileno() >= 0:
            self._poll.unregister(connection.fileno())
            connection.close()

    def _flush(self) -> None:
        for connection in (self._agent, self._arrived):
            if connection is None:
                continue
            try:
                more = connection.flush()
                self._poll.modify(connection.fileno(), select.EPOLLIN | (select.EPOLLOUT if more else 0))
            except BrokenConnectionError:
                self._drop(connection)

    def _tell(self, message: Message) -> None:
        if self._agent is not None:
            self._agent.send(message)

    # ---------------------------------------------------------------- messages

    def _on_messages(self, connection: Connection, messages: list[Message]) -> None:
        spawns = [message for message in messages if message["m"] == "spawn"]
        if spawns and connection is self._agent:
            self._note_intents(spawns)
        for message in messages:
            if connection is not self._agent and message["m"] != "hello":
                raise BrokenConnectionError("no hello")
            self._on_message(connection, message)

    def _note_intents(self, spawns: list[Message]) -> None:
        """All intents of a frame in one write, before the first of its processes exists."""
        for message in spawns:
            if message["key"] not in self._records.attempts:
                self._records.spawn(message["key"], message["job"], message["attempt"], message["note"])
                message["fresh"] = True
        self._save()

    def _on_message(self, connection: Connection, message: Message) -> None:
        match message["m"]:
            case "spawn":
                self._on_spawn(connection, message)
            case "forget":
                running = [key for key in message["keys"] if key in self._by_key]
                self._records.forget([key for key in message["keys"] if key not in running])
            case "dir":
                self._directories[int(message["id"])] = connection.take_descriptor()
            case "undir":
                descriptor = self._directories.pop(int(message["id"]), None)
                if descriptor is not None:
                    os.close(descriptor)
            case "env":
                self._environments[message["id"]] = {
                    os.fsencode(name): os.fsencode(value) for name, value in message["env"]
                }
                while len(self._environments) > MOST_ENVIRONMENTS:
                    self._environments.popitem(last=False)
            case "kill":
                job = self._by_key.get(message["key"])
                if job is not None:
                    self._end(job, str(message["end"]), float(message["grace"]))
            case "ping":
                connection.send({"m": "pong", "n": message["n"]})
            case "exit":
                self._end_all(float(message["grace"]))
            case "hello":
                self._on_hello(connection, message)
            case _:
                pass  # of a newer agent; it will see that nothing comes of it

    def _on_hello(self, connection: Connection, message: Message) -> None:
        if message["v"] != PROTOCOL_VERSION:
            raise BrokenConnectionError(
                f"protocol version {message['v']}, this keeper speaks {PROTOCOL_VERSION}"
            )
        if self._agent is not None and self._agent is not connection:
            self._drop(self._agent)
        self._agent = connection
        if self._arrived is connection:
            self._arrived = None
        records = list(self._records.attempts.values())
        state = {"m": "state", "v": PROTOCOL_VERSION, "keeper": self._id, "boot": self._boot}
        for start in range(0, len(records), RECORDS_A_FRAME):
            connection.send({**state, "records": records[start : start + RECORDS_A_FRAME], "more": True})
            connection.flush()
        connection.send({**state, "records": [], "more": False})
        if self._ending:
            connection.send({"m": "leaving"})

    # ---------------------------------------------------------------- starting

    def _on_spawn(self, connection: Connection, message: Message) -> None:
        key = str(message["key"])
        out, err = message["out"], message["err"]
        passed = [
            connection.take_descriptor() for wanted in (out, err) if wanted != "null" and "fd" in wanted
        ]
        if not message.get("fresh"):
            self._close(passed)
            self._repeat(key)
            return
        environment = self._environments.get(message["env"])
        if environment is None:
            self._close(passed)
            self._records.forget([key])
            self._tell({"m": "no_env", "key": key, "id": message["env"]})
            return
        self._environments.move_to_end(message["env"])
        if self._ending:
            self._close(passed)
            self._finish(key, {"end": "interrupted", "text": "the worker is ending"})
            return
        opened: list[int] = []
        try:
            waiting = list(passed)
            out_descriptor = self._output(out, waiting, opened)
            err_descriptor = out_descriptor if err == "out" else self._output(err, waiting, opened)
            full = {os.fsencode(name): os.fsencode(value) for name, value in message["extra"]}
            pid = self._spawner.spawn(
                message["program"],
                [os.fsencode(word) for word in message["argv"]],
                {**environment, **full, b"KUEUE_FENCE": key.encode()},
                self._directories[int(message["dir"])],
                out_descriptor,
                err_descriptor,
                umask=message["umask"],
                limits=message["limits"],
                nice=int(message["nice"]),
                oom=int(message["oom"]),
            )
        except NotStartedError as error:
            self._finish(key, {"end": "not_started", "code": error.code, "text": error.text})
            return
        except OSError as error:
            text = f"cannot write {error.filename or 'its output'}: {error.strerror}"
            self._finish(key, {"end": "not_started", "code": "output", "text": text})
            return
        except (KeyError, ValueError, TypeError) as error:
            self._finish(
                key, {"end": "not_started", "code": "spawn", "text": f"cannot be started: {error!r}"}
            )
            return
        finally:
            self._close(passed)
            self._close(opened)
        started = boottime()
        job = _Job(key, pid, started)
        self._by_key[key] = job
        self._by_pid[pid] = job
        self._records.started(key, pid, started)
        self._tell({"m": "started", "key": key, "pid": pid, "started": started})
        limit = message["time_limit"]
        if limit is not None:
            self._at(started + float(limit), lambda: self._on_time_limit(job))

    def _repeat(self, key: str) -> None:
        """The agent asks for a start that it has asked for before: it gets what is known of it."""
        record = self._records.attempts[key]
        if record["state"] == "ended":
            self._tell({"m": "ended", **{name: value for name, value in record.items() if name != "note"}})
        else:
            self._tell({"m": "started", "key": key, "pid": record["pid"], "started": record["started"]})

    def _output(self, wanted: Any, passed: list[int], opened: list[int]) -> int:
        if wanted == "null":
            return self._spawner.null
        if "fd" in wanted:
            return passed.pop(0)
        descriptor = self._spawner.open_spool_file(wanted["path"])
        opened.append(descriptor)
        return descriptor

    @staticmethod
    def _close(descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        descriptors.clear()

    # ---------------------------------------------------------------- ends

    def _on_signals(self) -> None:
        try:
            received = os.read(self._signals, 4096)
        except BlockingIOError:
            return
        if signal.SIGCHLD in received:
            self._reap()
        if signal.SIGTERM in received or signal.SIGINT in received:
            self._on_told_to_end()

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self._by_pid.pop(pid, None)
            if job is None:
                continue  # an orphan that we had adopted
            job.status, job.usage, job.ended = status, usage, boottime()
            if job.deadline is None:
                self._report(job)
            else:
                self._sweep()

    def _report(self, job: _Job) -> None:
        del self._by_key[job.key]
        self._by_pid.pop(job.pid, None)
        usage = job.usage
        self._finish(
            job.key,
            {
                "end": job.end,
                "status": job.status,
                "started": job.started,
                "ended": job.ended or boottime(),
                "cpu_seconds": usage.ru_utime + usage.ru_stime if usage else 0.0,
                "peak_kb": usage.ru_maxrss if usage else 0,
            },
        )

    def _finish(self, key: str, fields: dict[str, Any]) -> None:
        full = {
            "end": "",
            "status": None,
            "started": None,
            "ended": boottime(),
            "cpu_seconds": 0.0,
            "peak_kb": 0,
            "code": "",
            "text": "",
            **fields,
        }
        self._records.ended(key, full)
        self._tell({"m": "ended", "key": key, **full})

    def _on_time_limit(self, job: _Job) -> None:
        if self._by_key.get(job.key) is job and job.status is None and job.deadline is None:
            self._end(job, "time_limit", TIME_LIMIT_GRACE_SECONDS)

    def _end(self, job: _Job, end: str, grace: float) -> None:
        """TERM to the whole tree now, KILL after `grace` seconds."""
        deadline = boottime() + max(0.0, grace)
        if job.deadline is None:
            job.end = end
            job.deadline = deadline
            found = trees.members({job.pid: job.key}, {job.key})
            trees.send(found.get(job.key, [job.pid]), signal.SIGTERM)
            # A process that is stopped gets its TERM only when it goes on.
            trees.send(found.get(job.key, [job.pid]), signal.SIGCONT)
        else:
            job.deadline = min(job.deadline, deadline)
        job.checks = 0
        self._at(boottime() + KILL_CHECK_SECONDS[0], self._sweep)

    def _end_all(self, grace: float) -> None:
        self._ending = True
        for job in list(self._by_key.values()):
            self._end(job, "interrupted", grace)

    def _on_told_to_end(self) -> None:
        """The machine goes down, most likely: every process gets TERM at the same time."""
        if not self._ending:
            self._say("told to end")
            self._tell({"m": "leaving"})
            since = boottime() - REBOOT_SECONDS
            for key, record in list(self._records.attempts.items()):
                ended = record.get("ended")
                if (
                    record["state"] == "ended"
                    and record["end"] == "exited"
                    and record["status"] != 0
                    and ended is not None
                    and ended >= since
                ):
                    fields = {name: record.get(name) for name in ("status", "started", "ended")}
                    fields |= {name: record.get(name) for name in ("cpu_seconds", "peak_kb")}
                    self._finish(key, {**fields, "end": "interrupted"})
        self._end_all(self._grace)

    def _sweep(self) -> None:
        """Look after the trees that are being ended: report those that are gone, KILL those that are late."""
        ending = {job.key: job for job in self._by_key.values() if job.deadline is not None}
        if not ending:
            return
        found = trees.members({job.pid: key for key, job in ending.items()}, ending.keys())
        now = boottime()
        soonest = now + 60.0
        for key, job in ending.items():
            assert job.deadline is not None
            living = found.get(key, [])
            if not living and job.status is not None:
                self._report(job)
                continue
            if now >= job.deadline:
                trees.send(living, signal.SIGKILL)
                job.killed = True
            if now >= job.deadline + GIVE_UP_SECONDS:
                self._say(f"{key}: processes {living} can't be ended; given up")
                self._report(job)
                continue
            pause = KILL_CHECK_SECONDS[min(job.checks, len(KILL_CHECK_SECONDS) - 1)]
            job.checks += 1
            soonest = min(soonest, now + pause if job.killed else min(now + pause, max(job.deadline, now)))
        if soonest < now + 60.0 and not self._sweeping:
            self._sweeping = True
            self._at(soonest, self._swept)

    def _swept(self) -> None:
        self._sweeping = False
        self._sweep()
