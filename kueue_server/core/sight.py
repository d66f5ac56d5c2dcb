"""What a worker is known not to see or have of what a job needs: its directory, its program.

Joins the two kinds of memory, `closed` and `programs`, for those who look for jobs, and judges when nobody is left
to be asked.
"""

from __future__ import annotations

from kueue.job import End, JobState
from kueue.wire.messages import FinishedAttempt, Reason, RefusedAttempt
from kueue_server.core import attempts
from kueue_server.core.closed import Sight
from kueue_server.core.jobs import Job, cwd_of, program_of
from kueue_server.core.pending import Lane
from kueue_server.core.programs import Program
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

NOT_FOUND = 127
"""What a shell returns for a command that it does not find."""


def is_clear(worker: Worker) -> bool:
    """Is nothing known that this worker lacks?"""
    return not worker.closed and not worker.lacks


def of_lane(worker: Worker, lane: Lane, now: float) -> Sight:
    """What is known of the jobs of a lane."""
    sight = worker.closed.volume(lane.volume, now)
    return Sight.PARTLY if sight is Sight.OPEN and lane in worker.lacks else sight


def of_job(worker: Worker, job: Job, now: float) -> Sight:
    """What is known of a job's directory, of its program, and of the job itself."""
    sight = worker.closed.job(job.id, cwd_of(job), job.lane.volume, now)
    if sight is Sight.CLOSED or job.lane not in worker.lacks:
        return sight
    lack = worker.lacks.sight(job.lane, program_of(job), job.id, now)
    return sight if lack is Sight.OPEN else lack


def probing(worker: Worker, job: Job, now: float) -> None:
    """This job is the probe of whatever is closed to it."""
    worker.closed.probing(cwd_of(job), job.lane.volume, now)
    if job.lane in worker.lacks:
        worker.lacks.probing(job.lane, program_of(job), job.id, now)


def missing(state: State, worker: Worker, refused: RefusedAttempt) -> bool:
    """A worker has not got a job's program. Returns whether the job has failed, since nobody else is left."""
    job = state.table.get(refused.job)
    if (
        job is None
        or (job.fence, job.worker) != (refused.fence, worker.id)
        or job.state is not JobState.OFFERED
    ):
        return False
    program = program_of(job)
    if refused.ancestor is None:
        program = program._replace(cwd=None)
    worker.lacks.refuse(job.lane, program, state.table.present.last() or job.id, state.now)
    asked = _all_have_refused(state, job)
    if not asked or worker.stops.get((job.id, job.fence)) == "canceled":
        return False
    # Those behind it that mean the same program come here next, and fail one by one.
    worker.lacks.forget(job.lane, program)
    text = refused.text if asked == 1 else f"{refused.text} ({asked} workers were asked)"
    reason = Reason("no_program", text)
    end = FinishedAttempt(job.id, job.fence, job.attempt, End.NOT_STARTED, exit_code=NOT_FOUND, reason=reason)
    attempts.take_end(state, worker, end)
    return True


def _all_have_refused(state: State, job: Job) -> int:
    """How many workers could run it, if each has refused to, for want of its program or directory; else 0. One that
    is away counts as long as its lease holds: it may be the one that has it."""
    program, cwd = program_of(job), cwd_of(job)
    asked = 0
    for worker in state.workers.by_id.values():
        away = worker.session is None and (worker.lost or worker.left)
        if away or not worker.could_run(job.lane.shape):
            continue
        if not has_refused(state, worker, job, program, cwd):
            return 0
        asked += 1
    return asked


def has_refused(state: State, worker: Worker, job: Job, program: Program, cwd: bytes) -> bool:
    """Has a worker refused this job, or one with the same needs, for want of its program or directory?"""
    if worker.lacks.has_refused(job.lane, program, job.id):
        return True
    return bool(worker.closed) and (
        worker.closed.directory(cwd, job.lane.volume, state.now) is not Sight.OPEN
    )
