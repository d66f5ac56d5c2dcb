"""What the keeper does: starts attempts, sees them end, ends them, and remembers them until they are
forgotten.

It is driven by the loop and knows no sockets: messages come in, messages for the agent collect in `out`.
The loop calls `save` before it sends these, so that no agent hears of an end that a next keeper would not
know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from kueue_worker.keeper.attempts import (
    EXITED,
    INTERRUPTED,
    NOT_STARTED,
    OUTPUT_LIMIT,
    STOPPED,
    TIME_LIMIT,
    Attempt,
    Ended,
)
from kueue_worker.keeper.kill import Endings
from kueue_worker.keeper.line import Line
from kueue_worker.keeper.orders import (
    SpawnOrder,
    read_id,
    read_key,
    read_pairs,
    read_seconds,
    read_spawn,
    read_text,
)
from kueue_worker.keeper.processes import look_at
from kueue_worker.keeper.reaping import Exit, Reaper
from kueue_worker.keeper.records import NO_MEMORY, Records, reason_of
from kueue_worker.keeper.spawn import Spawner, SpawnError
from kueue_worker.keeper.timers import Timers
from kueue_worker.keeper.wire import MOST_RECORDS, VERSION, Message, WireError, encode_json

TIME_LIMIT_GRACE_SECONDS = 10.0
SAVE_AGAIN_SECONDS = 1.0
SLOW_SPAWN_SECONDS = 0.5
"""After so long the machine was busy, or the keeper stopped: the process is asked when it began."""
ENOUGH_IN_LINE = 8
"""Ordered ahead: so many short jobs keep the machine busy until the agent has been told and has ordered more."""
STATE_BYTES = 1024 * 1024
"""A frame of `state` has no more records after these, whatever their number."""


class Keeper:
    """`attempts`: those that an earlier keeper remembered, all ended; `say` writes to the log. Times
    (`now`) are seconds of the clock that counts from the machine's boot."""

    def __init__(
        self,
        name: str,
        boot: str,
        attempts: dict[str, Attempt],
        records: Records,
        spawner: Spawner,
        endings: Endings,
        say: Callable[[str], None],
        clock: Callable[[], float],
        program: str | None = None,
    ) -> None:
        self.out: list[Message] = []
        self.leaving = False
        self._name = name
        self._boot = boot
        self._attempts = attempts
        self._records = records
        self._spawner = spawner
        self._endings = endings
        self._say = say
        self._clock = clock
        self._program = program
        self._leaders: dict[int, Attempt] = {}
        self._limits = Timers()
        self._ordered_end: dict[str, tuple[str, str]] = {}  # with a line that says more
        self._exited: dict[str, Ended] = {}
        self._save_at: float | None = None
        self._line = Line()
        self._due: list[SpawnOrder] = []  # out of the line: their room is free
        self._reaper = Reaper(self._on_exit, clock)

    @property
    def is_busy(self) -> bool:
        """Does a job run, or is one being ended?"""
        return bool(self._leaders or self._endings)

    @property
    def remembers(self) -> bool:
        """Is there an attempt that no agent has let us forget?"""
        return bool(self._attempts)

    def is_urgent(self) -> bool:
        """Does the agent have to do something about what is in `out`? Not about starts, nor about ends whose room is
        taken again, while there are more in line."""
        enough = len(self._line) >= ENOUGH_IN_LINE
        return not all(message["m"] == "started" or ("next" in message and enough) for message in self.out)

    # ---------------------------------------------------------------- the agent

    def welcome(self, message: Message) -> list[Message]:
        """Another agent says hello; the frames that answer it. It has to send environments and directories
        anew.

        Raises:
            WireError: it is no hello, or of a version that there is none of.
        """
        version = message.get("v")
        if message["m"] != "hello" or type(version) is not int or version < 1:
            raise WireError("no hello")
        self.on_agent_gone()
        self._spawner.forget()
        self.out.clear()
        head: Message = {"m": "state", "v": VERSION, "keeper": self._name, "boot": self._boot}
        if self._program:
            head["program"] = self._program
        parts: list[list[Message]] = [[]]
        room = STATE_BYTES
        for attempt in self._attempts.values():
            record = attempt.record()
            room -= len(encode_json(record))
            if len(parts[-1]) == MOST_RECORDS or (room < 0 and parts[-1]):
                parts.append([])
                room = STATE_BYTES
            parts[-1].append(record)
        answer: list[Message] = [{**head, "records": part, "more": part is not parts[-1]} for part in parts]
        if self.leaving:
            answer.append({"m": "leaving"})
        return answer

    def on_agent_gone(self) -> None:
        """What it ordered ahead is nobody's now."""
        for order in self._line.clear():
            self._spawner.discard(order)

    def put_right(self) -> None:
        """There was no memory in the middle of something, and the agent is gone: what was begun is finished, so that
        no attempt seems to run for ever. The agent finds all in the next `state`."""
        now = self._clock()
        self._endings.put_right(now)
        for attempt in list(self._attempts.values()):
            key = attempt.key
            if attempt.ended is not None or key in self._endings:
                continue
            if attempt.pid is None and (found := self._pid_of_start(key)) is not None:
                attempt.pid, attempt.started = found, now
                self._records.spawned(attempt)
            pid = attempt.pid
            if pid is None:
                self._end(attempt, Ended(NOT_STARTED, ended=now, code="exhausted", text=NO_MEMORY))
            elif key in self._exited:
                self._on_gone(key, now)
            else:
                self._leaders[pid] = attempt
                if key in self._ordered_end:
                    self._endings.begin(key, pid, reaped=False, grace=TIME_LIMIT_GRACE_SECONDS, now=now)

    def on_messages(self, messages: list[Message], take_descriptor: Callable[[], int]) -> None:
        """Do what the messages of a frame say.

        Raises:
            WireError: one is not of the protocol; those before it were done.
        """
        orders: list[SpawnOrder] = []
        try:
            for message in messages:
                if message["m"] == "spawn":
                    order = read_spawn(message, take_descriptor)
                    if order.until is None:
                        orders.append(order)
                    else:
                        self._put_in_line(order)
                    continue
                ready, orders = orders, []
                self._spawn_all(ready)
                try:
                    self._on_message(message, take_descriptor)
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    raise WireError(f"a {message['m']!r} that can't be read: {error!r}") from None
        finally:
            self._spawn_all(orders)

    def _on_message(self, message: Message, take_descriptor: Callable[[], int]) -> None:
        match message["m"]:
            case "env":
                if type(message["id"]) is not str:
                    raise TypeError("id")
                self._spawner.set_environment(message["id"], read_pairs(message["env"]))
            case "dir":
                self._spawner.set_directory(read_id(message["id"]), take_descriptor())
            case "undir":
                self._spawner.drop_directory(read_id(message["id"]))
            case "kill":
                end = message["end"]
                if end not in (STOPPED, INTERRUPTED, OUTPUT_LIMIT):
                    raise ValueError(end)
                text = read_text(message.get("text", ""))
                self._on_kill(read_key(message["key"]), read_seconds(message["grace"]), end, text)
            case "go":
                order = self._line.take(read_key(message["key"]))
                if order is not None:
                    self._spawn_all([order])
            case "drop":
                self._drop(read_key(message["key"]))
            case "forget":
                self._forget(message["keys"])
            case "ping":
                self.out.append({"m": "pong", "n": message["n"]})
            case "exit":
                self._leave(read_seconds(message["grace"]))
            case other:
                raise ValueError(other)

    def _forget(self, keys: Any) -> None:
        if type(keys) is not list:
            raise TypeError("keys")
        known = [self._attempts.get(read_key(key)) for key in keys]
        ended = [attempt.key for attempt in known if attempt is not None and attempt.ended is not None]
        for key in ended:
            self._attempts.pop(key, None)
        if ended:
            self._records.forget(ended)

    # ---------------------------------------------------------------- starting

    def _put_in_line(self, order: SpawnOrder) -> None:
        if order.key in self._line or order.key in self._attempts or self.leaving:
            self._spawn_all([order])  # as any other: it is told what is known of it
        else:
            self._line.add(order)

    def _drop(self, key: str) -> None:
        """One that has not started is not to. Of one that has, the agent is being told."""
        order = self._line.take(key)
        if order is not None:
            self._spawner.discard(order)
            self.out.append({"m": "dropped", "key": key})

    def start_due(self) -> None:
        """Start those whose turn it is. One that can't be started makes room for the next."""
        while self._due:
            orders, self._due = self._due, []
            self._spawn_all(orders)

    def _spawn_all(self, orders: list[SpawnOrder]) -> None:
        """Start these; what starts is on file before, all in one write."""
        wanted = [order for order in orders if self._is_new(order)]
        if not wanted:
            return
        try:
            self._records.will_spawn(self._attempts[order.key] for order in wanted)
        except (OSError, MemoryError) as error:
            text = f"cannot write the worker's records: {reason_of(error)}"
            code = "output" if isinstance(error, OSError) else "exhausted"
            for order in wanted:
                self._spawner.discard(order)
                attempt = self._attempts.pop(order.key)
                attempt.ended = Ended(NOT_STARTED, ended=self._clock(), code=code, text=text)
                self.out.append(attempt.message())
            self._say(text)
            return
        try:
            for order in wanted:
                self._spawn(order, self._attempts[order.key])
        finally:
            self._spawner.settle()

    def _is_new(self, order: SpawnOrder) -> bool:
        known = self._attempts.get(order.key)
        if known is not None:
            if known.pid is not None or known.ended is not None:  # else its start is in the same frame
                self.out.append(known.message())
        elif not self._spawner.has_environment(order.env):
            self.out.append({"m": "no_env", "key": order.key, "id": order.env})
        else:
            self._attempts[order.key] = Attempt(
                order.key, order.job, order.attempt, order.note, room=order.room
            )
            return True
        self._spawner.discard(order)
        return False

    def _spawn(self, order: SpawnOrder, attempt: Attempt) -> None:
        now = self._clock()
        if self.leaving:
            self._spawner.discard(order)
            self._end(attempt, Ended(INTERRUPTED, ended=now))
            return
        if order.time_limit is not None:
            self._limits.set(attempt.key, now + order.time_limit)
        try:
            pid = self._spawner.spawn(order)
        except SpawnError as error:
            self._end(attempt, Ended(NOT_STARTED, ended=now, code=error.code, text=error.text))
            return
        except MemoryError:
            found = self._spawner.pid or self._pid_of_start(attempt.key)
            if found is None:
                self._end(attempt, Ended(NOT_STARTED, ended=now, code="exhausted", text=NO_MEMORY))
                return
            pid = found
        except Exception as error:  # unforeseen: it must not seem to run for ever, nor harm the others
            self._end(attempt, Ended(NOT_STARTED, ended=now, code="spawn", text=f"cannot start: {error!r}"))
            return
        if self._clock() - now > SLOW_SPAWN_SECONDS:
            # A next keeper knows the process by when it began; see `leftovers.is_of_record`.
            process = look_at(pid)
            now = now if process is None else process.started
            if order.time_limit is not None:
                self._limits.set(attempt.key, now + order.time_limit)
        attempt.pid, attempt.started = pid, now
        self._leaders[pid] = attempt
        self._endings.drop(attempt.key)
        self._records.spawned(attempt)
        self.out.append(attempt.message())

    def _pid_of_start(self, key: str) -> int | None:
        """Of a start that was broken off just when there may have been a process."""
        if self._spawner.trying != key:
            return None
        process = self._endings.child_of_start(key, self._leaders)
        self._spawner.trying = ""
        return None if process is None else process.pid

    # ---------------------------------------------------------------- ends

    def reap(self) -> None:
        """Wait for all processes that have ended, our orphans among them."""
        self._reaper.reap()

    def _on_exit(self, exit: Exit) -> None:
        """May be told again of the same one, if it was broken off."""
        attempt = self._leaders.get(exit.pid)
        if attempt is None:
            self._endings.on_orphan_reaped(exit.at)
            return
        key = attempt.key
        end, text = self._ordered_end.get(key, (EXITED, ""))
        code, cpu_seconds, peak_kb = end if text else "", exit.cpu_seconds, exit.peak_kb
        ended = Ended(end, exit.status, attempt.started, exit.at, cpu_seconds, peak_kb, code, text)
        if key in self._endings:
            self._exited[key] = ended
            self._endings.on_reaped(key, exit.at)
        else:
            self._end(attempt, ended)
        del self._leaders[exit.pid]

    def _end(self, attempt: Attempt, ended: Ended) -> None:
        self._limits.drop(attempt.key)
        attempt.ended = ended
        self._records.ended(attempt)
        message = attempt.message()
        if attempt.room and not self.leaving:
            successor = self._line.next(attempt.room, self._clock())
            if successor is not None:
                message["next"] = successor.key
                self._due.append(successor)
        self.out.append(message)

    def _on_kill(self, key: str, grace: float, end: str, text: str) -> None:
        """What has exited by itself keeps its end; what it left behind is ended all the same."""
        self.reap()
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.pid is not None:
            self._order_end(attempt, end, grace, text)

    def _order_end(self, attempt: Attempt, end: str, grace: float, text: str = "") -> None:
        assert attempt.pid is not None, attempt.key
        reaped = attempt.pid not in self._leaders
        if attempt.ended is None:
            self._ordered_end.setdefault(attempt.key, (end, text))
        self._endings.begin(attempt.key, attempt.pid, reaped=reaped, grace=grace, now=self._clock())

    def _on_gone(self, key: str, now: float) -> None:
        """Nothing is left of a job that was to end."""
        ordered = self._ordered_end.get(key)
        ended = self._exited.get(key)
        attempt = self._attempts.get(key)
        if attempt is not None and attempt.ended is None and ordered is not None:
            if ended is None:
                self._say(f"{key}: process {attempt.pid} hangs in the kernel and can't be ended; given up")
                ended = Ended(ordered[0], None, attempt.started, now, text="its process hangs in the kernel")
            self._end(attempt, ended)
            if key not in self._exited and attempt.pid is not None:
                self._leaders.pop(attempt.pid, None)  # when it dies one day it is an orphan like others
        self._ordered_end.pop(key, None)
        self._exited.pop(key, None)

    # ---------------------------------------------------------------- time

    def next_time(self) -> float | None:
        """When `on_time` has something to do."""
        times = (self._limits.next(), self._endings.next(), self._spawner.sessions.next_time(), self._save_at)
        return min((time for time in times if time is not None), default=None)

    def on_time(self, now: float) -> None:
        """Time limits, the jobs that are being ended, and sessions that are to be nice."""
        limit = self._limits.next()
        if limit is not None and limit <= now:
            self.reap()  # who made it in time
            while (key := self._limits.due(now)) is not None:
                attempt = self._attempts.get(key)
                if attempt is not None and attempt.ended is None and key not in self._endings:
                    self._order_end(attempt, TIME_LIMIT, TIME_LIMIT_GRACE_SECONDS)
                self._limits.drop(key)
        for key in self._endings.look(now, self._leaders.keys()):
            self._on_gone(key, now)
        self._spawner.sessions.on_time(now, self._leaders)

    def save(self, now: float) -> None:
        """Have on file what is in `out`. If that fails it is tried again; jobs and agent go on."""
        try:
            self._records.flush()
        except (OSError, MemoryError) as error:
            if self._save_at is None:
                self._say(f"cannot write the records, tries on: {reason_of(error)}")
            self._save_at = now + SAVE_AGAIN_SECONDS
        else:
            self._save_at = None

    # ---------------------------------------------------------------- leaving

    def on_told_to_end(self, grace: float) -> None:
        """SIGTERM: end all jobs. The second time, without grace."""
        if self.leaving:
            self._leave(0.0)
            return
        self._say("was told to end")
        self.reap()
        self.out.append({"m": "leaving"})
        now = self._clock()
        for attempt in self._attempts.values():
            ended = attempt.ended
            if ended is not None and ended.may_be_of_shutdown(now):
                attempt.ended = dataclasses.replace(ended, end=INTERRUPTED)
                self._records.ended(attempt)
        self._leave(grace)

    def _leave(self, grace: float) -> None:
        for attempt in self._leaders.values():
            self._order_end(attempt, INTERRUPTED, grace)
        self.leaving = True
        self._due.extend(self._line.clear())  # each is answered as any start from now on
