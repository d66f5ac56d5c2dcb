"""Machines on which everything fails at once, drawn and judged: the server may pause such a one by itself, and nobody
else.

The promise (G13), told from what ran and what the server has heard, not from how it decides: whoever is paused without
a person had its last jobs fail within seconds, as many as the setting says, and at least as many of these jobs ran well
on other machines.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kueue.job import FINISHED, End
from kueue.wire.messages import FinishedAttempt
from kueue_server.core.core import Core
from kueue_server.core.events import Event, PauseRequested, WorkerConnected, WorkerReported
from kueue_server.core.failing import QUICK_SECONDS
from tests.simulation.truth import PromiseBrokenError, Run, Truth

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule

SICK_CODE = 99
SICK_SECONDS = 0.05
MANY, FEW = 10, 3
"""After how many failures a worker is paused: where no machine is sick, and where one is."""
MOST_HEARD = 100


def pause_after(schedule: Schedule) -> int:
    """The setting of a run."""
    return FEW if any(action.what == "sick" for action in schedule.actions) else MANY


def draw_sickness(
    seed: int, seconds: float, machines: tuple[str, ...]
) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """In some of the runs a machine on which all fails for a while, and jobs of one kind that meet it; or that fail
    everywhere."""
    dice = random.Random(f"sickness {seed}")
    if dice.random() < 0.8:
        return
    for _ in range(dice.randrange(1, 4)):
        at = round(dice.uniform(0.0, 0.8 * seconds), 3)
        submit = {
            "count": dice.choice((8, 20, 40)),
            "seconds": dice.choice((0.3, 2.0, 15.0)),
            "cpus": 1,
            "wait": False,
        }
        if dice.random() < 0.3:
            submit["code"] = 1
        yield at, "sick", {"host": dice.choice(machines), "seconds": round(dice.uniform(2.0, 40.0), 3)}
        yield round(at + dice.uniform(0.0, 1.0), 3), "submit", submit
        if dice.random() < 0.3:
            yield round(at + dice.uniform(1.0, 10.0), 3), "resume", {"host": dice.choice(machines)}


class Sickness:
    """One life of the server, as far as this promise is concerned. `resumed`: workers that a person has resumed, and
    was told so."""

    def __init__(self, truth: Truth, journal: str, resumed: set[str]) -> None:
        self._truth = truth
        self._journal = journal
        self._resumed = resumed
        self._paused: set[str] = set()
        self._told: set[tuple[int, int]] = set()
        self._heard: dict[str, deque[FinishedAttempt]] = {}

    def before(self, core: Core, event: Event) -> None:
        """An event is about to be handled."""
        state = core._state
        self._paused = {worker.name for worker in state.workers.by_id.values() if worker.paused is not None}
        if isinstance(event, WorkerReported):
            worker = state.workers.by_session.get(event.session)
            name, ends = ("" if worker is None else worker.name), event.report.finished
        elif isinstance(event, WorkerConnected):
            name, ends = event.name, event.finished
        else:
            return
        known = state.workers.by_name.get(name)
        stops = {} if known is None else known.stops
        heard = self._heard.setdefault(name, deque(maxlen=MOST_HEARD))
        for end in ends:
            job = state.table.get(end.job)
            if stops.get((end.job, end.fence)) == "canceled":
                continue
            if job is None or job.state in FINISHED:
                continue  # told again to a server that had it from an earlier life
            if name and job.fence == end.fence and (end.job, end.fence) not in self._told:
                self._told.add((end.job, end.fence))
                heard.append(end)

    def after(self, core: Core, event: Event) -> None:
        """It was handled: has the server paused anybody by itself?"""
        state = core._state
        for worker in state.workers.by_id.values():
            if worker.paused is None or worker.name in self._paused or isinstance(event, PauseRequested):
                continue
            self._truth.count("paused by the server")
            self._resumed.discard(worker.name)
            self._judge(worker.name, state.limits.worker_pause_after_failures)

    def _judge(self, name: str, most: int) -> None:
        ends = [end for end in self._heard.get(name, ()) if end.end in (End.EXITED, End.NOT_STARTED)][-most:]
        quick = [end for end in ends if end.exit_code != 0 and end.run_seconds <= QUICK_SECONDS]
        if len(quick) < most:
            self._break(f"{name} is paused, and its last jobs have not all failed at once: {ends}")
        kinds = {_kind(run) for end in quick for run in self._runs(end.job) if run.fence == end.fence}
        well = [
            run
            for runs in self._truth.runs.values()
            for run in runs
            if run.host != name and _kind(run) in kinds and self._ran_well(run)
        ]
        if len(well) < most:
            self._break(f"{name} is paused, and only {len(well)} such jobs ran elsewhere")

    def _runs(self, job: int) -> list[Run]:
        return self._truth.runs.get((self._journal, job), [])

    def _ran_well(self, run: Run) -> bool:
        if run.how == "exited" and run.code == 0:
            return True
        until = run.ended if run.ended is not None and run.how == "exited" else self._truth.world.now
        return until - run.started > QUICK_SECONDS

    def _break(self, text: str) -> None:
        self._truth.broken(PromiseBrokenError("G13", text))


def _kind(run: Run) -> tuple[object, ...]:
    return run.spec.shape, run.spec.volume, run.spec.payload.argv[0]
