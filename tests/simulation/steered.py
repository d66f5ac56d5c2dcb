"""What people do to machines, and what machines lack: whether it is heeded as promised.

Watches the server's core from outside, as `server` does. Promises: an acknowledged pause lets nothing be handed out
to that worker until a person ends it, whoever restarts, and then it has ended; what a pause with `kill` ends is
ordered durably and counts as no loss; a job fails for want of its program only when every worker that fits has
refused it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kueue.job import JobState
from kueue_server.core.core import Core
from kueue_server.core.events import (
    Event,
    ForgetWorkerRequested,
    JobsSubmitted,
    PauseRequested,
    ResumeRequested,
    WorkerReported,
)
from kueue_server.core.instructions import AnswerSteering
from kueue_server.core.sight import NOT_FOUND
from kueue_server.core.workers import Worker
from tests.simulation.truth import PromiseBrokenError, Truth

if TYPE_CHECKING:
    from tests.simulation.disk import Disk

TOOL = "tool"
"""A program that machines lack at times; all have `run`."""

Order = tuple[str, int, int]
"""A worker's name, job and fence."""


@dataclass
class Steered:
    """Of one journal. `last` is the last thing asked of each worker, durable or not."""

    paused: set[str] = field(default_factory=set)
    resumed: set[str] = field(default_factory=set)
    last: dict[str, tuple[object, int]] = field(default_factory=dict)
    came: dict[int, float] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    no_directory: set[str] = field(default_factory=set)
    judged: set[tuple[int, int]] = field(default_factory=set)

    def come_from(self, older: Steered) -> None:
        """This journal begins as a copy of that one."""
        self.paused = set(older.paused)
        self.resumed = set(older.resumed)
        self.came = dict(older.came)
        self.refused = dict(older.refused)
        self.no_directory = set(older.no_directory)
        self.judged = set(older.judged)


class Watcher:
    """One life of the server, as far as `Steered` is concerned."""

    def __init__(self, truth: Truth, disk: Disk) -> None:
        self._world = truth.world
        self._truth = truth
        self._steered = disk.steered
        self._disk = disk
        self._asked: dict[int, tuple[list[str], list[Order]]] = {}
        self._before: dict[int, int] = {}

    def before(self, core: Core) -> None:
        """An event is about to be handled: how often was each job lost that a pause has ordered to end?"""
        jobs = core._state.table.jobs
        self._before = {}
        for worker in core._state.workers.by_id.values():
            for (job_id, fence), why in worker.stops.items():
                job = jobs.get(job_id)
                current = job is not None and (job.fence, job.worker) == (fence, worker.id)
                if job is not None and current and why == "superseded":
                    self._before[job_id] = job.losses

    def after(self, core: Core, event: Event) -> None:
        """It was handled."""
        for worker in core._state.workers.by_id.values() if self._steered.resumed else ():
            again = worker.paused is not None and not isinstance(event, PauseRequested)
            if again and worker.name in self._steered.resumed:
                self._break("G11", f"{worker.name} is paused again, and nobody has asked for that")
        for job_id, losses in self._before.items():
            job = core._state.table.jobs.get(job_id)
            if job is not None and job.losses > losses and job.restart:
                self._break("G11", f"job {job_id} was to end for a pause, and that counts as a loss")
        match event:
            case PauseRequested():
                found = _named(core, event.globs)
                self._steered.resumed -= {worker.name for worker in found}
                orders = [order for worker in found for order in _orders(core, worker)] if event.kill else []
                for worker in found if event.kill else []:
                    lacking = {
                        (job_id, core._state.table.jobs[job_id].fence) for job_id in worker.current_jobs()
                    }
                    if not lacking <= worker.stops.keys():
                        self._break("G11", f"not all of {worker.name} was ordered to end")
                self._truth.ended_by_pause.update((self._disk.uuid, job, fence) for _, job, fence in orders)
                self._ask(event.request, found, orders)
            case ResumeRequested():
                found = _named(core, event.globs)
                self._ask(event.request, found, [])
                self._steered.paused -= {worker.name for worker in found}
            case ForgetWorkerRequested():
                known = {worker.name for worker in core._state.workers.by_id.values()}
                self._steered.paused &= known
            case JobsSubmitted():
                for job_id in range(event.first, event.first + len(event.specs)):
                    self._steered.came[job_id] = self._world.now
            case WorkerReported():
                self._hear(core, event)
                self._check_programs(core)
            case _:
                pass

    def handed_out(self, host: str, job: int) -> None:
        """A job was handed to a worker."""
        if host in self._steered.paused:
            self._break("G11", f"job {job} is handed to {host}, which is paused")

    def answered(self, core: Core, answer: AnswerSteering) -> None:
        """A person is told that it is so: now it is on the disk."""
        asked = self._asked.pop(answer.request, None)
        if asked is None or answer.error is not None:
            return
        names, orders = asked
        for name in names:
            worker = core._state.workers.by_name.get(name)
            if self._steered.last.get(name) == (self, answer.request) and worker is not None:
                (self._steered.resumed if worker.paused is None else self._steered.paused).add(name)
                for _, job_id, fence in (order for order in orders if order[0] == name):
                    if (job_id, fence) in worker.stops and (
                        worker.id,
                        job_id,
                        fence,
                    ) not in self._disk.rows.stops:
                        self._break("G11", f"the order to end job {job_id} on {name} is not on the disk")

    # ---------------------------------------------------------------- inside

    def _ask(self, request: int, workers: list[Worker], orders: list[Order]) -> None:
        names = [worker.name for worker in workers]
        self._asked[request] = (names, orders)
        for name in names:
            self._steered.last[name] = (self, request)

    def _hear(self, core: Core, event: WorkerReported) -> None:
        worker = core._state.workers.by_session.get(event.session)
        if worker is None:
            return
        for refused in event.report.refused:
            if refused.code == "no_program":
                self._steered.refused[worker.name] = self._world.now
            elif refused.code == "no_directory":
                self._steered.no_directory.add(worker.name)

    def _check_programs(self, core: Core) -> None:
        state = core._state
        for job_id in state.table.by_state[JobState.FAILED]:
            job = state.table.jobs[job_id]
            key = (job_id, job.fence)
            if key in self._steered.judged or job.outcome is None or job.outcome.exit_code != NOT_FOUND:
                continue
            self._steered.judged.add(key)
            for worker in state.workers.by_id.values():
                away = worker.session is None and (worker.lost or worker.left)
                if away or not worker.could_run(job.lane.shape) or worker.name in self._steered.no_directory:
                    continue
                if self._steered.refused.get(worker.name, -1.0) < self._steered.came.get(job_id, 0.0):
                    self._break("G12", f"job {job_id} failed, and {worker.name} was not asked")

    def _break(self, promise: str, text: str) -> None:
        error = PromiseBrokenError(promise, text)
        self._world.faults.append(error)
        raise error


def _named(core: Core, globs: tuple[str, ...]) -> list[Worker]:
    """People name them by their names here, or all."""
    workers = core._state.workers.ordered()
    return [worker for worker in workers if worker.name in globs or "*" in globs]


def _orders(core: Core, worker: Worker) -> list[Order]:
    jobs = core._state.table.jobs
    return [(worker.name, job_id, jobs[job_id].fence) for job_id in worker.current_jobs()]
