"""Why a pending job waits, in words; worked out when somebody looks, and only for the jobs shown."""

from __future__ import annotations

from kueue.wire.messages import Reason
from kueue_server.core import sight
from kueue_server.core.admission import all_paused, closed, no_fit
from kueue_server.core.awaited import Awaited
from kueue_server.core.closed import Sight
from kueue_server.core.jobs import Job, cwd_of, program_of
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.shapes import KnownShape
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

_DECISIVE = frozenset({"queue_paused", "queue_full", "no_worker", "no_fit", "paused"})
"""Reasons beside which it does not matter what workers see of a job."""


class WhyWaiting:
    """Answers for the rows of one listing. Workers are looked over once a lane, not once a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._of_lane: dict[Lane, Reason | None] = {}
        self._of_shape: dict[KnownShape, tuple[Reason | None, list[Worker]]] = {}
        self.awaited = Awaited(state)

    def reason(self, job: Job) -> Reason:
        """Why this pending job has not been handed out yet."""
        lane = job.lane
        reason = self._shared(lane)
        if reason is not None and reason.code in _DECISIVE:
            return reason
        unseen = self._unseen(job)
        if unseen is not None:
            return unseen
        if reason is not None:
            return reason
        head = lane.head
        if head is not None and job_of(head) != job.id:
            return Reason("busy", f"waits for its turn, after job {job_of(head)}")
        return Reason("busy", "every worker that fits is busy")

    def shared_by(self, lane: Lane) -> Reason | None:
        """Why all jobs of a lane wait; None if that differs by their directories and programs."""
        reason = self._shared(lane)
        if reason is not None and reason.code in _DECISIVE:
            return reason
        if not any(sight.is_clear(worker) for worker in self._fitting(lane)):
            return None
        return reason or Reason("busy", "every worker that fits is busy")

    def _shared(self, lane: Lane) -> Reason | None:
        if lane not in self._of_lane:
            self._of_lane[lane] = self._reason_of(lane)
        return self._of_lane[lane]

    def _fitting(self, lane: Lane) -> list[Worker]:
        """The connected workers that could run its jobs, and that nobody has paused."""
        return self._looked_over(lane.shape)[1]

    def _looked_over(self, known: KnownShape) -> tuple[Reason | None, list[Worker]]:
        """Why no worker could run jobs of a shape, if so, and those that could."""
        found = self._of_shape.get(known)
        if found is None:
            connected = self._state.workers.connected()
            able = [worker for worker in connected if worker.could_run(known)]
            fitting = [worker for worker in able if worker.paused is None]
            reason: Reason | None = None
            if not connected:
                reason = Reason("no_worker", "no worker is connected")
            elif not able:
                reason = no_fit(known, connected)
            elif not fitting:
                reason = all_paused(able)
            found = self._of_shape[known] = reason, fitting
        return found

    def _reason_of(self, lane: Lane) -> Reason | None:
        state = self._state
        if not lane.queue.is_open:
            return closed(lane.queue, state.wall)
        nobody, fitting = self._looked_over(lane.shape)
        if nobody is not None:
            return nobody
        ledger = state.ledger
        if ledger.full:
            return Reason(
                "max_parallel_jobs",
                f"{ledger.parallel} jobs run, global_max_parallel_jobs is {ledger.max_parallel}",
            )
        needs = lane.shape.global_needs
        lacking = ledger.lacking(needs)
        if lacking:
            name = lacking[0]
            used, total = ledger.used.get(name, 0), ledger.total(name)
            if name in ledger.caps:
                return Reason("max_running", f"{used} tasks of {name} run, and at most {total} may")
            return Reason("resource", f"{name} {used}/{total} in use")
        for name, _ in needs:
            kept = state.kept.get(name)
            if kept is not None and kept[0] is not lane:
                return Reason("resource", f"{name} is kept for job {job_of(kept[1])}, which waits longer")
        if not any(worker.status is not None and worker.status.accepting for worker in fitting):
            notes = [
                worker.status.note for worker in fitting if worker.status is not None and worker.status.note
            ]
            text = "no worker that fits takes jobs now"
            return Reason("draining", f"{text} ({notes[0]})" if notes else text)
        if any(worker.drained_for is not None and worker.drained_for[0] is lane for worker in fitting):
            return Reason("busy", "a worker is being drained for it")
        return None

    def _unseen(self, job: Job) -> Reason | None:
        """No worker that fits sees the job's working directory, or has its program, or its program or output hangs on
        all that do."""
        fitting = self._fitting(job.lane)
        if any(sight.is_clear(worker) for worker in fitting):
            return None
        cwd, program, now = cwd_of(job), program_of(job), self._state.now
        hangs = lacks = False
        for worker in fitting:
            if sight.of_job(worker, job, now) is Sight.OPEN:
                return None
            if worker.lacks.has_refused(job.lane, program, job.id):
                lacks = True
            else:
                hangs = hangs or worker.closed.directory(cwd, job.lane.volume, now) is Sight.OPEN
        if lacks:
            name = program.name.decode("utf-8", "backslashreplace")
            return Reason("no_program", f"no worker that is here has {name} ({len(fitting)} asked)")
        if hangs:
            return Reason("file_timeout", "the place of its program or output does not answer")
        shown = cwd.decode("utf-8", "backslashreplace")
        return Reason("no_directory", f"no worker sees {shown} ({len(fitting)} asked)")
