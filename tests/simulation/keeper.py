"""The keeper, stood in for by its rules: intent on file before the spawn, ends on file before they are told,
what a dead keeper left is ended before a new one serves, and a new agent takes the old one's place.

The real one is under test with real processes; here its protocol and its deaths at every step matter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec

from kueue.job import End
from kueue.wire.messages import Reason, Spec
from kueue_worker.core import events as e
from tests.simulation.machine import Machine, Record
from tests.simulation.truth import Run

LEFTOVER_SECONDS = 2.0
SHUTDOWN_SECONDS = 5.0

ENDS = {
    "exited": End.EXITED,
    "stopped": End.STOPPED,
    "interrupted": End.INTERRUPTED,
    "time limit": End.TIME_LIMIT,
    "left over": End.LOST,
    "shutdown": End.EXITED,  # by a TERM that was not the keeper's
}

Tell = Callable[[e.Event], None]


class SimulatedKeeper:
    """One life of a keeper. Messages to and from the agent are in order, and lost with either of them."""

    def __init__(self, machine: Machine) -> None:
        machine.keepers += 1
        self.machine = machine
        self.name = f"{machine.name}-keeper-{machine.keepers}"
        self.process = machine.new_process("keeper")
        self.serving = False
        self.leaving = False
        self._agent: Tell | None = None
        self._lost: Callable[[], None] | None = None
        self._line: dict[str, tuple[Spec, e.Note, str, float]] = {}
        self._rooms: dict[str, str] = {}
        self._ordered: dict[str, Literal["stopped", "interrupted", "time limit"]] = {}
        self._exited: dict[str, Run] = {}
        self._waiting: list[tuple[Tell, Callable[[], None]]] = []
        self.process.died.append(lambda: machine.keeper_deaths.append(machine.world.now))
        self.process.later(machine.random.uniform(0.02, 0.1), self._end_leftovers)

    # ---------------------------------------------------------------- coming up

    def _end_leftovers(self) -> None:
        machine = self.machine
        living = [key for key in machine.records if key in machine.processes]
        if living:
            for key in living:
                seconds = machine.random.uniform(0.0, LEFTOVER_SECONDS)
                machine.world.after(seconds, partial(self._end_leftover, key))
            self.process.later(LEFTOVER_SECONDS + 0.1, self._end_leftovers)
            return
        for record in machine.records.values():
            if record.ended is None:
                # Was it in this boot? An older boot's times mean nothing now.
                same = record.written >= machine.booted
                self._write(
                    record,
                    e.Ended(
                        End.LOST,
                        started=record.started if same else None,
                        ended=machine.clock() if same else None,
                        reason=Reason("lost", "the worker's keeper died under it"),
                    ),
                )
            elif record.written < machine.booted and record.ended.ended is not None:
                # Told by another boot's clock: as if it had been at the beginning of this one.
                started = record.ended.started
                before = None if started is None else started - record.ended.ended
                self._write(record, msgspec.structs.replace(record.ended, started=before, ended=0.0))
        self.serving = True
        waiting, self._waiting = self._waiting, []
        for tell, lost in waiting:
            self._welcome(tell, lost)

    def _end_leftover(self, key: str) -> None:
        run = self.machine.processes.get(key)
        if run is not None:
            self.machine.gone(key, run, "left over")

    # ---------------------------------------------------------------- the agent

    def hello(self, tell: Tell, lost: Callable[[], None]) -> None:
        """Another agent is there; the old one is heard no more."""
        if self.serving:
            self._welcome(tell, lost)
        else:
            self._waiting.append((tell, lost))

    def _welcome(self, tell: Tell, lost: Callable[[], None]) -> None:
        if self._lost is not None:
            self._lost()
        self._agent, self._lost = tell, lost
        self._line.clear()
        records = tuple(
            e.KeptAttempt(record.key, record.note, record.started, record.ended)
            for record in self.machine.records.values()
        )
        self._tell(e.KeeperReady(self.name, records, has_line=True))
        if self.leaving:
            self._tell(e.KeeperLeaving())

    def discard_agent(self, tell: Tell) -> None:
        """Its connection ended."""
        if self._agent is tell:
            self._agent = self._lost = None
            self._line.clear()

    def _tell(self, event: e.Event) -> None:
        self.process.instruction()
        if self._agent is not None:
            self._agent(event)

    # ---------------------------------------------------------------- orders

    def spawn(self, key: str, spec: Spec, note: e.Note, room: str, until: float | None) -> None:
        """Start an attempt, or put it in line."""
        machine = self.machine
        if until is not None and key not in machine.records and not self.leaving:
            self._line[key] = spec, note, room, until
            return
        self._rooms[key] = room
        known = machine.records.get(key)
        if known is not None:
            self._tell_of(known)
            return
        if machine.random.random() < 0.03:
            self._tell(e.SpawnUndone(key))  # it has forgotten the environment
            return
        record = machine.records[key] = Record(key, note, written=machine.world.now)
        self.process.instruction()
        if self.leaving:
            self._write(record, e.Ended(End.INTERRUPTED, ended=machine.clock()))
            self._tell_of(record)
            return
        machine.spawn(key, note, spec)
        self.process.instruction()
        record.started = machine.clock()
        if spec.time_limit_seconds is not None:
            self.process.later(spec.time_limit_seconds, self._over_time, key)
        self._tell_of(record)

    def go(self, key: str) -> None:
        """Start one in line."""
        waiting = self._line.pop(key, None)
        if waiting is not None:
            spec, note, room, _ = waiting
            self.spawn(key, spec, note, room, None)

    def drop(self, key: str) -> None:
        """One in line is not to start."""
        if self._line.pop(key, None) is not None:
            self._tell(e.StartDropped(key))

    def _next(self, room: str) -> str | None:
        now = self.machine.clock()
        mine = (key for key, waiting in self._line.items() if waiting[2] == room and now <= waiting[3])
        return next(mine, None) if room and not self.leaving else None

    def kill(self, key: str, grace: float, end: Literal["stopped", "interrupted"]) -> None:
        """End an attempt."""
        run = self.machine.processes.get(key)
        record = self.machine.records.get(key)
        if run is None or record is None or record.ended is not None:
            return
        self._order(key, run, grace, end)

    def forget(self, keys: tuple[str, ...]) -> None:
        """Drop records of ended ones."""
        for key in keys:
            record = self.machine.records.get(key)
            if record is not None and record.ended is not None:
                self.process.instruction()
                del self.machine.records[key]

    def exit(self) -> None:
        """End, and all jobs with it."""
        self._leave()

    # ---------------------------------------------------------------- ends

    def _over_time(self, key: str) -> None:
        run = self.machine.processes.get(key)
        if run is not None:
            self._order(key, run, 10.0, "time limit")

    def _order(
        self, key: str, run: Run, grace: float, end: Literal["stopped", "interrupted", "time limit"]
    ) -> None:
        if key in self._ordered:
            return
        self._ordered[key] = end
        # It dies of TERM at once, or takes its time, or has to be killed.
        random = self.machine.random
        seconds = random.choice((0.001, random.uniform(0.0, grace), grace + 0.01))
        self.machine.world.after(seconds, lambda: self.machine.gone(key, run, end))

    def reap(self, key: str, run: Run) -> None:
        """A process has ended."""
        record = self.machine.records.get(key)
        if record is None or record.ended is not None:
            return
        self.process.instruction()
        code, signal = (run.code, None) if run.how == "exited" else (None, 15)
        if run.how in ("exited", "shutdown"):  # whatever it died of, it was being ended
            run.how = self._ordered.get(key, run.how)
        ended = e.Ended(ENDS[run.how], code, signal, started=record.started, ended=self.machine.clock())
        self._write(record, ended)
        run.recorded = True
        run.recorded_at = self.machine.world.now
        follower = self._next(self._rooms.get(key, ""))
        self._tell(e.AttemptEnded(key, ended, follower))
        if follower is not None:
            self.go(follower)
        self._go_if_idle()

    def _write(self, record: Record, ended: e.Ended) -> None:
        record.ended = ended
        record.written = self.machine.world.now
        self.process.instruction()

    def _tell_of(self, record: Record) -> None:
        if record.ended is not None:
            self._tell(e.AttemptEnded(record.key, record.ended))
        elif record.started is not None:
            self._tell(e.AttemptStarted(record.key, record.started))

    # ---------------------------------------------------------------- leaving

    def terminate(self) -> None:
        """SIGTERM."""
        if self.leaving:
            return
        self._tell(e.KeeperLeaving())
        now = self.machine.clock()
        for record in self.machine.records.values():
            ended = record.ended
            if (
                ended is not None
                and ended.end is End.EXITED
                and ended.exit_code != 0
                and ended.ended is not None
                and ended.ended > 0
                and now - ended.ended <= SHUTDOWN_SECONDS
            ):
                self._write(record, msgspec.structs.replace(ended, end=End.INTERRUPTED))
        self._leave()

    def _leave(self) -> None:
        self.leaving = True
        for key in list(self._line):
            self.go(key)
        for key, run in list(self.machine.processes.items()):
            self._order(key, run, 5.0, "interrupted")
        self._go_if_idle()

    def _go_if_idle(self) -> None:
        if self.leaving and not self.machine.processes:
            self.process.later(0.01, self.process.kill)
