"""What time does: leases that run out, offers and retractions that nobody answers, pauses that end.

All of it happens on ticks, and deadlines count the time in which the server itself was awake.
"""

from __future__ import annotations

from kueue.wire.messages import Reason
from kueue_server.core import arrivals, attempts, holding
from kueue_server.core.instructions import AnswerForgetWorker, CloseSession, DropPause, DropWorker
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

_MAX_CURSORS = 256


def review(state: State) -> None:
    """Look at the deadlines of all workers."""
    timeout = state.limits.worker_timeout_seconds
    deadline = arrivals.heartbeat_deadline(timeout)
    for worker in state.workers.ordered():
        silence = state.now - worker.heard
        if worker.session is not None:
            if silence > deadline:
                state.outbox.log("warning", f"worker {worker.name} is silent; its connection is closed")
                _close(state, worker, None)
            else:
                _review_offers(state, worker)
                _review_pauses(state, worker)
        elif silence >= timeout and not worker.lost and not worker.left:
            expire(state, worker)


def expire(state: State, worker: Worker) -> None:
    """The lease is over: give up the worker's attempts; they may still live, so they are unconfirmed."""
    worker.lost = True
    jobs = worker.current_jobs()
    for job_id in jobs:
        job = state.table.jobs[job_id]
        was_held = job_id in worker.held.get(job.lane.shape, ())
        attempts.lose(state, worker, job, counts=not was_held, may_live=True)
    if jobs:
        state.outbox.log(
            "warning",
            f"worker {worker.name} is lost: not heard of for {state.limits.worker_timeout_seconds:g} s; "
            f"{len(jobs)} jobs are taken from it",
        )
    else:
        state.outbox.log("info", f"worker {worker.name} is away; it had no jobs")


def _review_offers(state: State, worker: Worker) -> None:
    # Both are in the order of their deadlines.
    first = next(iter(worker.retracting.values()), None)
    if first is not None and state.now >= first.deadline:
        state.outbox.log("warning", f"worker {worker.name} does not answer; its connection is closed")
        _close(state, worker, Reason("no_answer", "a retraction was not answered in time"))
        return
    late = []
    for job_id, deadline in worker.offered.items():
        if state.now < deadline:
            break
        late.append(job_id)
    for job_id in late:
        del worker.offered[job_id]
        worker.offered[job_id] = state.now + 2 * state.limits.job_offer_timeout_seconds
        holding.retract(state, worker, state.table.jobs[job_id], None)


def _review_pauses(state: State, worker: Worker) -> None:
    over = worker.respite is not None and state.last_tick < worker.respite.until <= state.now
    if worker.backoffs:
        over = over or any(
            state.last_tick < backoff.until <= state.now for backoff in worker.backoffs.values()
        )
    due = bool(worker.closed) and worker.closed.probe_due(state.last_tick, state.now)
    if worker.lacks:
        due = worker.lacks.probe_due(state.last_tick, state.now) or due
    if due:
        worker.cursors.clear()
        over = True
    if len(worker.cursors) > _MAX_CURSORS:
        worker.cursors.clear()
    if over:
        state.wake(worker)


def _close(state: State, worker: Worker, reason: Reason | None) -> None:
    assert worker.session is not None
    state.outbox.send(CloseSession(worker.session, reason))
    arrivals.part(state, worker)


def forget(state: State, request: int, worker: Worker) -> None:
    """A person says that a worker's attempts are dead: what they held is free, and the worker is no more."""
    if worker.session is not None:
        reason = Reason(
            "worker_connected", f"worker {worker.name} is connected; only one that is away can be forgotten"
        )
        state.outbox.send(AnswerForgetWorker(request, reason, ()))
        return
    jobs = worker.current_jobs()
    for job_id in jobs:
        attempts.lose(state, worker, state.table.jobs[job_id], counts=True, may_live=False)
    unconfirmed = len(worker.unconfirmed)
    for key in list(worker.unconfirmed):
        attempts.confirm(state, worker, *key, state.table.get(key[0]))
    for key in list(worker.stops):
        attempts.confirm(state, worker, *key, state.table.get(key[0]))
    state.workers.remove(worker)
    state.outbox.write(DropWorker(worker.id))
    if worker.paused is not None:
        state.outbox.write(DropPause(worker.id))
    lines = [f"worker {worker.name} is forgotten"]
    if jobs:
        lines.append(f"{len(jobs)} jobs were taken from it")
    if unconfirmed:
        lines.append(f"{unconfirmed} lost attempts are confirmed dead; what they held is free")
    state.outbox.send(AnswerForgetWorker(request, None, tuple(lines)))
