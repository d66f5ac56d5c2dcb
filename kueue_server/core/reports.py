"""What connected workers say: their status, and what happened to their attempts."""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import AttemptRef, RefusedAttempt
from kueue_server.core import arrivals, attempts, holding, sight, steering
from kueue_server.core.closed import path_bytes
from kueue_server.core.events import WorkerHeard, WorkerReported, WorkerStatus
from kueue_server.core.jobs import Job, cwd_of
from kueue_server.core.state import State
from kueue_server.core.workers import Backoff, Worker

S = JobState

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 60.0

_WHOLE_WORKER = frozenset({"draining", "spool_full", "keeper_silent"})
"""Refusals that say nothing about the job: the worker takes nothing at all."""


def heard(state: State, session: int, wall: float) -> Worker | None:
    """A sign of life of a session's worker: its lease is renewed. None if the session is over."""
    worker = state.workers.by_session.get(session)
    if worker is not None:
        worker.heard = state.now
        worker.last_seen_at = wall
    return worker


def sign_of_life(state: State, event: WorkerHeard) -> None:
    """Any frame arrived."""
    heard(state, event.session, event.wall)


def status(state: State, event: WorkerStatus) -> None:
    """A worker says what it can give now."""
    worker = heard(state, event.session, event.wall)
    if worker is not None:
        if event.status.accepting and worker.status is not None and not worker.status.accepting:
            worker.respite = None
        worker.set_status(event.status)
        state.wake(worker)


def reported(state: State, event: WorkerReported) -> None:
    """Attempts started, finished, or came back."""
    worker = heard(state, event.session, event.wall)
    if worker is None:
        return
    report = event.report
    for running in report.started:
        arrivals.adopt_running(state, worker, running)
    for end in report.finished:
        attempts.finish(state, worker, end)
    if report.finished:
        steering.review_at_once(state, worker)
    for refused in report.refused:
        _refused(state, worker, refused)
    for ref in report.released:
        _released(state, worker, ref)
    for ref in report.kept:
        holding.settle(state, worker, ref.job)


def _refused(state: State, worker: Worker, refused: RefusedAttempt) -> None:
    if refused.code == "no_program":
        if not sight.missing(state, worker, refused):
            _given_back(state, worker, refused.job, refused.fence)
        return
    job = _given_back(state, worker, refused.job, refused.fence)
    if job is None:
        return
    if refused.code == "no_directory":
        ancestor = None if refused.ancestor is None else path_bytes(refused.ancestor)
        worker.closed.close(cwd_of(job), job.lane.volume, ancestor, state.now)
    elif refused.code == "directory_timeout":
        worker.closed.close_silent_volume(job.lane.volume, state.now)
    elif refused.code == "file_timeout":
        worker.closed.close_job(job.id, job.lane.volume, state.now)
    elif refused.code in _WHOLE_WORKER:
        worker.respite = _next(worker.respite, state.now)
    else:
        known = job.lane.shape
        worker.backoffs[known.number] = _next(worker.backoffs.get(known.number), state.now)


def _released(state: State, worker: Worker, ref: AttemptRef) -> None:
    _given_back(state, worker, ref.job, ref.fence)


def _given_back(state: State, worker: Worker, job_id: int, fence: int) -> Job | None:
    """An attempt never started and never will. Returns the job if it is pending for that reason now."""
    job = state.table.get(job_id)
    canceled = worker.stops.get((job_id, fence)) == "canceled"
    if (
        job is not None
        and job.fence == fence
        and job.worker == worker.id
        and job.state in (S.OFFERED, S.RUNNING)
    ):
        if canceled:
            attempts.lose(state, worker, job, counts=False, may_live=False)
            return None
        attempts.give_back(state, worker, job)
        return job
    attempts.confirm(state, worker, job_id, fence, job)
    return None


def _next(backoff: Backoff | None, now: float) -> Backoff:
    """Wait, and the longer the more often it was in vain. What was on its way already counts as one time."""
    if backoff is not None and now < backoff.until:
        return backoff
    delay = _FIRST_DELAY_SECONDS
    if backoff is not None and now - backoff.until < _LONGEST_DELAY_SECONDS:
        delay = min(_LONGEST_DELAY_SECONDS, backoff.delay * 2)
    return Backoff(now + delay, delay)
