"""Why a pending job waits, in words; worked out when somebody looks, and only for the jobs shown."""

from __future__ import annotations

from kueue.wire.messages import Reason
from kueue_server.core import sight
from kueue_server.core.admission import all_paused, no_fit
from kueue_server.core.closed import Sight
from kueue_server.core.pending import Queue, job_of
from kueue_server.core.state import State
from kueue_server.core.table import Job, cwd_of, program_of
from kueue_server.core.workers import Worker


class WhyWaiting:
    """Answers for the rows of one listing. Workers are looked over once a queue, not once a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._of_queue: dict[Queue, Reason | None] = {}
        self._fitting: dict[Queue, list[Worker]] = {}

    def reason(self, job: Job) -> Reason:
        """Why this pending job has not been handed out yet."""
        queue = job.queue
        if queue not in self._of_queue:
            self._of_queue[queue] = self._reason_of(queue)
        reason = self._of_queue[queue]
        if reason is not None and reason.code in ("no_worker", "no_fit", "paused"):
            return reason
        unseen = self._unseen(job)
        if unseen is not None:
            return unseen
        if reason is not None:
            return reason
        head = queue.head
        if head is not None and job_of(head) != job.id:
            return Reason("busy", f"waits for its turn, after job {job_of(head)}")
        return Reason("busy", "every worker that fits is busy")

    def _reason_of(self, queue: Queue) -> Reason | None:
        state = self._state
        connected = state.workers.connected()
        if not connected:
            return Reason("no_worker", "no worker is connected")
        able = [worker for worker in connected if worker.could_run(queue.shape)]
        fitting = self._fitting[queue] = [worker for worker in able if worker.paused is None]
        if not able:
            return no_fit(queue.shape)
        if not fitting:
            return all_paused(able)
        ledger = state.ledger
        if ledger.full:
            return Reason(
                "max_parallel_jobs",
                f"{ledger.parallel} jobs run, global_max_parallel_jobs is {ledger.max_parallel}",
            )
        needs = queue.shape.global_needs
        lacking = ledger.lacking(needs)
        if lacking:
            name = lacking[0]
            used, total = ledger.used.get(name, 0), ledger.total(name)
            if name in ledger.caps:
                return Reason("max_running", f"{used} tasks of {name} run, and at most {total} may")
            return Reason("resource", f"{name} {used}/{total} in use")
        for name, _ in needs:
            kept = state.kept.get(name)
            if kept is not None and kept[0] is not queue:
                return Reason("resource", f"{name} is kept for job {job_of(kept[1])}, which waits longer")
        if not any(worker.status is not None and worker.status.accepting for worker in fitting):
            notes = [
                worker.status.note for worker in fitting if worker.status is not None and worker.status.note
            ]
            text = "no worker that fits takes jobs now"
            return Reason("draining", f"{text} ({notes[0]})" if notes else text)
        if any(worker.drained_for is not None and worker.drained_for[0] is queue for worker in fitting):
            return Reason("busy", "a worker is being drained for it")
        return None

    def _unseen(self, job: Job) -> Reason | None:
        """No worker that fits sees the job's working directory, or has its program, or its program or output hangs on
        all that do."""
        fitting = self._fitting[job.queue]
        if any(sight.is_clear(worker) for worker in fitting):
            return None
        cwd, program, now = cwd_of(job), program_of(job), self._state.now
        hangs = lacks = False
        for worker in fitting:
            if sight.of_job(worker, job, now) is Sight.OPEN:
                return None
            if worker.lacks.has_refused(job.queue, program, job.id):
                lacks = True
            else:
                hangs = hangs or worker.closed.directory(cwd, job.queue.volume, now) is Sight.OPEN
        if lacks:
            name = program.name.decode("utf-8", "backslashreplace")
            return Reason("no_program", f"no worker that is here has {name} ({len(fitting)} asked)")
        if hangs:
            return Reason("file_timeout", "the place of its program or output does not answer")
        shown = cwd.decode("utf-8", "backslashreplace")
        return Reason("no_directory", f"no worker sees {shown} ({len(fitting)} asked)")
