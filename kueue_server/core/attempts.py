"""The life of an attempt: handed out, started, given back, finished, lost, confirmed dead.

Every change of an attempt goes through here, so that the job's record, the worker's books, the ledger and the
journal change together. The rules of fences: an attempt is *current* until a newer one is handed out, and the
reports of the current one win; any other that may live is *unconfirmed* and keeps its global resources.
"""

from __future__ import annotations

from typing import assert_never

from kueue.job import FINISHED, End, JobState
from kueue.wire.messages import TAIL_BYTES, AttemptRef, AttemptView, FinishedAttempt, Reason
from kueue_server.core import distrust, retries
from kueue_server.core.instructions import DropStop, SaveStop, SaveTails
from kueue_server.core.jobs import MAX_ATTEMPTS_KEPT, Job, cwd_of, max_restarts_of, program_of
from kueue_server.core.outbox import Why
from kueue_server.core.outcomes import CANCELED, outcome_of, paused_reason, reason_of
from kueue_server.core.records import Outcome
from kueue_server.core.shapes import KnownShape
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

S = JobState

# ---------------------------------------------------------------- handing out and taking back


def offer(state: State, worker: Worker, job: Job, *, held: bool) -> None:
    """Hand a pending job to a connected worker: to run (reserves there), or to hold."""
    assert worker.session is not None
    state.pending.overtake(job.lane, job.key)
    state.dequeue(job)
    state.queues.charge(job.lane.queue)
    if (job.worker, job.fence) in job.holding:
        order_stop(state, state.workers.by_id[job.worker], job, job.fence, "superseded")
    job.fence = state.next_fence()
    job.worker = worker.id
    job.attempt += 1
    job.started_at = None
    job.outcome = None
    job.reason = None
    state.table.move(job, S.OFFERED)
    if held:
        state.workers.hold(worker, job.lane.shape, job.id)
    else:
        _reserve(state, worker, job)
        state.workers.serve(worker)
    state.outbox.offer(worker.session, (job.id, job.fence, job.attempt, job.spec, job.context))
    _note(state, job)


def promote(state: State, worker: Worker, job: Job) -> None:
    """A held job has room on its worker now, which will start it by itself: reserve for it."""
    state.workers.unhold(worker, job.lane.shape, job.id)
    _reserve(state, worker, job)


def demote(state: State, worker: Worker, job: Job) -> None:
    """An offered job that the worker has no room for, and may hold, reserves nothing any more."""
    del worker.offered[job.id]
    worker.free(job.lane.shape)
    state.give(job)
    state.workers.hold(worker, job.lane.shape, job.id)


def start(state: State, worker: Worker, job: Job, started_ago: float) -> None:
    """The current attempt of a job runs."""
    if job.state is S.PENDING:
        state.dequeue(job)
    if job.state in (S.PENDING, S.FAILED):  # it was given up, and was alive after all
        confirm(state, worker, job.id, job.fence, job)
        _take_back_loss(job)
        _note(state, job)
    elif job.state is S.OFFERED:
        _detach(state, worker, job)
    else:
        assert job.state is S.RUNNING, f"job {job.id} is {job.state} and starts"
        return
    state.table.move(job, S.RUNNING)
    job.reason = None
    job.outcome = None
    job.started_at = state.wall - started_ago
    worker.running[job.id] = state.now - started_ago
    worker.reserve(job.lane.shape)
    state.take(job)
    state.outbox.changed(job.id)
    if worker.closed or worker.lacks:
        reopen(state, worker, job)
    worker.backoffs.pop(job.lane.shape.number, None)


def runs_since(state: State, worker: Worker, job: Job, started_ago: float) -> None:
    """Its worker says again how long a running job has run: what the journal said went by wall clocks."""
    del worker.running[job.id]  # it belongs behind those that have run for longer
    worker.running[job.id] = state.now - started_ago


def reopen(state: State, worker: Worker, job: Job) -> None:
    """A job runs in a place, or a program, that the worker was thought not to have."""
    opened = worker.closed.open(job.id, cwd_of(job), job.lane.volume)
    if worker.lacks.open(job.lane, program_of(job)) or opened:
        worker.cursors.clear()
        state.wake(worker)


def adopt_held(state: State, worker: Worker, job: Job) -> None:
    """A worker that was given up has the current attempt of a job, not started: it is offered again."""
    confirm(state, worker, job.id, job.fence, job)
    _take_back_loss(job)
    if job.state is S.FAILED:
        state.table.move(job, S.PENDING)
    else:
        state.dequeue(job)
    job.reason = None
    job.outcome = None
    state.table.move(job, S.OFFERED)
    _reserve(state, worker, job)
    _note(state, job)


def give_back(state: State, worker: Worker, job: Job) -> None:
    """The current attempt never started and never will: pending again, as if it had not been handed out."""
    confirm(state, worker, job.id, job.fence, job)
    _detach(state, worker, job)
    state.queues.refund(job.lane.queue)
    job.fence = 0
    job.worker = 0
    job.attempt -= 1
    requeue(state, job)


def requeue(state: State, job: Job) -> None:
    """An offered or running job, detached from its worker already, waits again."""
    state.table.move(job, S.PENDING)
    job.started_at = None
    job.outcome = None
    job.reason = None
    state.enqueue(job)
    _note(state, job)


# ---------------------------------------------------------------- the end


def finish(state: State, worker: Worker, end: FinishedAttempt) -> None:
    """A worker reports the end of an attempt: taken in if it is the current one, acknowledged in any case."""
    if worker.session is not None:
        state.outbox.acknowledge(worker.session, AttemptRef(end.job, end.fence))
    take_end(state, worker, end)


def take_end(state: State, worker: Worker, end: FinishedAttempt) -> None:
    """Take in the end of an attempt if it is the current one."""
    job = state.table.get(end.job)
    ordered = worker.stops.get((end.job, end.fence))
    canceled = ordered == "canceled"
    confirm(state, worker, end.job, end.fence, job)
    if job is None or job.fence != end.fence or job.worker != worker.id:
        return
    match job.state:
        case S.OFFERED | S.RUNNING:
            _detach(state, worker, job)
        case S.PENDING if _is_remembered(job):
            return  # told again: its acknowledgement did not arrive
        case S.PENDING | S.FAILED if job.state is S.PENDING or job.failed_as_lost:
            _take_back_loss(job)
        case _:
            return
    if end.stdout_tail or end.stderr_tail:
        tails = end.stdout_tail[-TAIL_BYTES:], end.stderr_tail[-TAIL_BYTES:]
        state.outbox.write(SaveTails(job.id, job.attempt, *tails))
    if end.started_ago is not None:
        job.started_at = state.wall - end.started_ago
    reason = reason_of(end, job.lane.shape.shape.ram_mb)
    if end.end is End.STOPPED and not canceled and reason is None and worker.paused is not None:
        reason = paused_reason(worker.paused)
    _remember(state, job, worker, end.end.value, end, reason)
    match end.end:
        case End.EXITED | End.TIME_LIMIT | End.OUTPUT_LIMIT | End.NOT_STARTED:
            if not canceled:
                distrust.note(state, worker, job, end, reason)
            if end.end is not End.NOT_STARTED:
                state.pace.finished(state.now, end.run_seconds)
                job.lane.queue.rate.finished(state.now)
                worker.remember_pace(job.lane.shape, end.run_seconds)
            if (worker.closed or worker.lacks) and end.end is not End.NOT_STARTED:
                reopen(state, worker, job)
            worker.backoffs.pop(job.lane.shape.number, None)
            if not canceled and retries.may_retry(job, end):
                _try_again(state, job, end)
                return
            _close(state, job, S.FAILED if reason else S.SUCCEEDED, reason, outcome_of(end, state.wall))
        case End.STOPPED | End.INTERRUPTED:
            if canceled:
                _close(state, job, S.CANCELED, CANCELED, outcome_of(end, state.wall))
            elif job.restart:
                _to_pending(state, job)
            else:
                why = Reason("interrupted", f"interrupted when {worker.name} ended; not to be restarted")
                _close(state, job, S.FAILED, why, outcome_of(end, state.wall))
        case End.LOST:
            if canceled:
                _close(state, job, S.CANCELED, CANCELED, outcome_of(end, state.wall))
            elif ordered is not None and job.restart:  # it was to end anyway
                _to_pending(state, job)
            else:
                _count_loss(state, worker, job, outcome_of(end, state.wall))
        case _:
            assert_never(end.end)


def cancel_at_once(state: State, worker: Worker, job: Job) -> None:
    """Cancel an offered or running job without waiting for its worker's word; the attempt is unconfirmed and
    has a durable stop order until then."""
    was_held = job.id in worker.held.get(job.lane.shape, ())
    _detach(state, worker, job)
    reserves = worker.session is not None and not was_held
    haunt(state, worker, job, job.fence, "canceled", reserves=reserves)
    end_without_report(state, job, worker)
    _close(state, job, S.CANCELED, CANCELED, Outcome(state.wall))


def cancel_pending(state: State, job: Job, reason: Reason = CANCELED) -> None:
    """Cancel a job that waits. An attempt that was lost and may still live gets a stop order."""
    if job.state is S.PENDING:
        state.dequeue(job)
    else:
        state.gates.leave(job)
    for number, fence in job.holding:
        holder = state.workers.by_id[number]
        if (job.id, fence) not in holder.stops:
            order_stop(state, holder, job, fence, "canceled")
    job.outcome = None
    job.retry_at = None
    state.table.move(job, S.CANCELED)
    job.reason = reason
    job.outcome = Outcome(state.wall)
    state.retention.finished(job.id, failed=False, now=state.now)
    _note(state, job)


def end_without_report(state: State, job: Job, worker: Worker) -> None:
    """Remember an attempt that the server ends by itself."""
    end = FinishedAttempt(job.id, job.fence, job.attempt, End.STOPPED)
    _remember(state, job, worker, "stopped", end, CANCELED)


def lose(state: State, worker: Worker, job: Job, *, counts: bool, may_live: bool) -> None:
    """The current attempt of an offered or running job is given up.

    `counts`: it may have started, so it counts as a loss. `may_live`: its end is not confirmed.
    """
    why = worker.stops.get((job.id, job.fence))
    canceled = why == "canceled"
    run_seconds = state.now - worker.running.get(job.id, state.now)
    _detach(state, worker, job)
    if may_live:
        haunt(state, worker, job, job.fence, None, reserves=False)
    else:
        confirm(state, worker, job.id, job.fence, job)
    end = FinishedAttempt(job.id, job.fence, job.attempt, End.LOST)
    if canceled:
        _remember(state, job, worker, End.LOST.value, end, None)
        _close(state, job, S.CANCELED, CANCELED, Outcome(state.wall))
    elif (counts and why is None) or not job.restart:  # what was to end for a pause is no loss
        _remember(state, job, worker, End.LOST.value, end, None)
        _count_loss(state, worker, job, Outcome(state.wall, run_seconds=run_seconds))
    else:
        requeue(state, job)


def confirm(state: State, worker: Worker, job_id: int, fence: int, job: Job | None) -> None:
    """An attempt does not live any more, or is current again: what it held is free, its stop order done."""
    key = (job_id, fence)
    if worker.stops.pop(key, None) is not None:
        state.outbox.write(DropStop(worker.id, job_id, fence))
    if key not in worker.unconfirmed:
        return
    reserved = worker.unconfirmed.pop(key)
    if reserved is not None:
        worker.free(reserved)
        state.wake(worker)
    assert job is not None, f"job {job_id} left the table while an attempt of it was unconfirmed"
    job.holding = tuple(pair for pair in job.holding if pair != (worker.id, fence))
    job.lane.queue.unconfirmed -= 1
    state.give(job)
    state.outbox.save(job.id)


def haunt(state: State, worker: Worker, job: Job, fence: int, why: Why | None, *, reserves: bool) -> None:
    """An attempt that nobody wants may live on: it is unconfirmed, and with `why` gets a stop order."""
    key = (job.id, fence)
    if key not in worker.unconfirmed:
        shape: KnownShape | None = job.lane.shape if reserves else None
        worker.unconfirmed[key] = shape
        if shape is not None:
            worker.reserve(shape)
        job.holding = (*job.holding, (worker.id, fence))
        job.lane.queue.unconfirmed += 1
        state.take(job)
        state.outbox.save(job.id)
    elif reserves and worker.unconfirmed[key] is None:
        worker.unconfirmed[key] = job.lane.shape
        worker.reserve(job.lane.shape)
    if why is not None:
        order_stop(state, worker, job, fence, why)


def order_stop(state: State, worker: Worker, job: Job, fence: int, why: Why) -> None:
    """A durable order to end an attempt, sent at once if the worker is there. A cancel is not taken back."""
    if worker.stops.get((job.id, fence)) not in (why, "canceled"):
        worker.stops[job.id, fence] = why
        state.outbox.write(SaveStop(worker.id, job.id, fence, why))
    if worker.session is not None:
        state.outbox.stop(worker.session, AttemptRef(job.id, fence), worker.stops[job.id, fence])


# ---------------------------------------------------------------- the parts


def _note(state: State, job: Job) -> None:
    state.outbox.save(job.id)
    state.outbox.changed(job.id)


def _reserve(state: State, worker: Worker, job: Job) -> None:
    worker.offered[job.id] = state.now + state.limits.job_offer_timeout_seconds
    worker.reserve(job.lane.shape)
    state.take(job)


def _detach(state: State, worker: Worker, job: Job) -> None:
    """Take the current attempt of an offered or running job out of all books."""
    retraction = worker.retracting.pop(job.id, None)
    if retraction is not None:
        thief = state.workers.by_id.get(retraction.thief)
        if thief is not None:
            thief.loot -= 1
            state.wake(thief)
    if not state.workers.unhold(worker, job.lane.shape, job.id):
        if worker.offered.pop(job.id, None) is None:
            del worker.running[job.id]
        worker.free(job.lane.shape)
        state.give(job)
    state.wake(worker)


def _to_pending(state: State, job: Job) -> None:
    if job.state is S.PENDING:
        job.outcome = None
        _note(state, job)
        return
    requeue(state, job)


def _close(state: State, job: Job, end: JobState, reason: Reason | None, outcome: Outcome) -> None:
    """The job has finished."""
    if job.state is S.PENDING:
        state.dequeue(job)
    state.table.move(job, end)
    job.reason = reason
    job.outcome = outcome
    assert end in FINISHED
    state.retention.finished(job.id, failed=end is S.FAILED, now=state.now)
    _note(state, job)


def _try_again(state: State, job: Job, end: FinishedAttempt) -> None:
    """The attempt failed, the job is not over: pending again, or waiting until its time has come."""
    job.retries += 1
    job.fence = job.worker = 0  # no attempt is current: whatever is said of this one is said again
    delay = retries.delay_of(job)
    if not delay:
        _to_pending(state, job)
        return
    if job.state is S.PENDING:
        state.dequeue(job)
    state.table.move(job, S.WAITING)
    job.started_at = None
    job.outcome = None
    job.reason = retries.why_waiting(job, end)
    job.retry_at = state.wall + delay
    state.retries.add(state.now + delay, job.id)
    _note(state, job)


def retry_due(state: State) -> None:
    """On each tick: those whose time has come are pending."""
    for job_id in state.retries.pop_due(state.now):
        job = state.table.get(job_id)
        if job is not None and job.state is S.WAITING:
            job.retry_at = None
            requeue(state, job)


def _count_loss(state: State, worker: Worker, job: Job, outcome: Outcome) -> None:
    job.losses += 1
    if not job.restart:
        reason = Reason("lost", f"lost with worker {worker.name}; not to be restarted")
    elif job.losses > (most := max_restarts_of(job)):
        times = "once" if job.losses == 1 else f"{job.losses} times"
        reason = Reason("max_restarts", f"lost {times}, max_restarts is {most}")
    else:
        _to_pending(state, job)
        return
    _close(state, job, S.FAILED, reason, outcome)


def _is_remembered(job: Job) -> bool:
    """Has the worker told the end of the current attempt before?"""
    last = job.attempts[-1] if job.attempts else None
    return last is not None and last.attempt == job.attempt and last.end != End.LOST.value


def _take_back_loss(job: Job) -> None:
    """The attempt that was counted as lost was not."""
    last = job.attempts[-1] if job.attempts else None
    if last is not None and last.attempt == job.attempt and last.end == End.LOST.value:
        job.attempts = job.attempts[:-1]
        job.losses -= 1
        if last.started_at is not None:
            job.started_at = last.started_at


def _remember(
    state: State, job: Job, worker: Worker, how: str, end: FinishedAttempt, reason: Reason | None
) -> None:
    view = AttemptView(
        job.attempt,
        worker.name,
        how,
        job.started_at,
        state.wall - end.ended_ago,
        end.exit_code,
        end.signal,
        reason,
    )
    job.attempts = (*job.attempts[1 - MAX_ATTEMPTS_KEPT :], view)
