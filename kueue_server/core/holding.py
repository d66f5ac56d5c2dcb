"""Held jobs and stealing: work handed over ahead, so that a worker need not wait for the round trip.

A worker may hold jobs of a shape that it is running. They reserve nothing, never need global resources, are
never at-most-once jobs, never wide, never of a queue with a limit, and there are only as many as it finishes in
about 100 ms. When another worker goes hungry they are asked back, and move only on the worker's answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from kueue.job import JobState
from kueue.wire.messages import AttemptRef
from kueue_server.core import attempts, sight, turns
from kueue_server.core.closed import Sight
from kueue_server.core.jobs import Job
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.shapes import KnownShape
from kueue_server.core.state import State
from kueue_server.core.workers import Retraction, Worker

AHEAD_SECONDS = 0.1
"""A worker holds about as much as it finishes in this time."""
LONG_SECONDS = 1.0
"""Jobs that run longer than this are not worth holding."""
MAX_HELD = 256
HELD_PER_UNKNOWN = 2
"""Held per running job of a shape of which none has finished on that worker yet."""
_FASTEST_SECONDS = 0.0005
_LANES_LOOKED_AT = 16
"""Of each queue that may come before."""


def may_hold(state: State, worker: Worker, known: KnownShape) -> bool:
    """Whether jobs of this shape may be held by the worker at all."""
    return (
        state.ledger.max_parallel is None
        and not known.global_needs
        and known.shape.cpus <= max(1, worker.record.capacity.cpus // 4)
    )


def target(state: State, worker: Worker, known: KnownShape) -> int:
    """How many jobs of a shape the worker should hold: what it finishes in a tenth of a second."""
    if not may_hold(state, worker, known) or worker.would_start(known):
        return 0
    usual = worker.pace.get(known.number)
    if usual is not None and usual > LONG_SECONDS:
        return 0
    quick = _quick_attempts(state, worker, known)
    if usual is None:
        # A bad end is told a second late; whoever seems to run more than fits may only be failing.
        fails = worker.reserved_slots > worker.record.capacity.job_slots
        return 0 if fails else min(MAX_HELD, HELD_PER_UNKNOWN * quick)
    return min(MAX_HELD, math.ceil(AHEAD_SECONDS * quick / max(usual, _FASTEST_SECONDS)))


def _quick_attempts(state: State, worker: Worker, known: KnownShape) -> int:
    """Attempts of a shape that may be over soon: those that have not run for a second yet."""
    jobs = state.table.jobs
    count = sum(1 for job_id in worker.offered if jobs[job_id].lane.shape is known)
    for job_id, started in reversed(worker.running.items()):
        if state.now - started > LONG_SECONDS:
            break
        count += jobs[job_id].lane.shape is known
    return count


def promote(state: State, worker: Worker) -> None:
    """There is new room on a worker that holds jobs; it takes them by itself, so it is theirs first."""
    for known in list(worker.held):
        while (jobs := worker.held.get(known)) and worker.would_start(known) and not state.ledger.full:
            attempts.promote(state, worker, state.table.jobs[next(iter(jobs))])


def fill(state: State, workers: Iterable[Worker]) -> None:
    """Let workers hold jobs that nobody can start now, if they have few left."""
    if state.ledger.max_parallel is not None:
        return
    for worker in workers:
        if not _takes_held(state, worker):
            continue
        for known in list(worker.active):
            if not known.lanes or not any(lane.head is not None for lane in known.lanes.values()):
                continue
            have = len(worker.held.get(known, ()))
            if have * 2 > MAX_HELD:
                continue
            wanted = target(state, worker, known)
            if have and have * 2 >= wanted:
                continue
            _hand_out(state, worker, known, wanted - have)


def _takes_held(state: State, worker: Worker) -> bool:
    status = worker.status
    return (
        worker.session is not None
        and status is not None
        and status.accepting
        and status.keeper_silent_seconds <= 0
        and worker.drained_for is None
        and worker.paused is None
        and not (state.streaks.stands_out(worker.id) and len(state.workers.by_session) > 1)
        and not (worker.respite is not None and state.now < worker.respite.until)
    )


def _hand_out(state: State, worker: Worker, known: KnownShape, count: int) -> None:
    backoff = worker.backoffs.get(known.number)
    if count <= 0 or (backoff is not None and state.now < backoff.until):
        return
    # Of the lanes of the shape those whose turn it is; what is held would not count right where jobs are limited.
    lanes = [
        (turns.place_of(state.queues, lane), lane.number, lane)
        for lane in known.lanes.values()
        if lane.head is not None and lane.queue.may_be_held
    ]
    heapify(lanes)
    while count > 0 and lanes:
        place, number, lane = heappop(lanes)
        now = turns.place_of(state.queues, lane)
        if now != place:  # its queue has been served meanwhile
            heappush(lanes, (now, number, lane))
            continue
        if not _is_due(state, worker, lane):
            return
        job = _pick_held(state, worker, lane)
        if job is None:
            continue
        state.queues.serve(lane.queue)
        attempts.offer(state, worker, job, held=True)
        count -= 1
        if lane.head is not None:
            heappush(lanes, (turns.place_of(state.queues, lane), number, lane))


def _is_due(state: State, worker: Worker, lane: Lane) -> bool:
    """Whether no queue comes before this lane's that the worker could serve: what it holds starts before all else."""
    for other in turns.due_before(state.queues, lane, _LANES_LOOKED_AT):
        known = other.shape
        if (
            worker.would_have_room(known)
            and state.ledger.has_room(known.global_needs)
            and sight.of_lane(worker, other, state.now) is not Sight.CLOSED
        ):
            return False
    return True


def _pick_held(state: State, worker: Worker, lane: Lane) -> Job | None:
    """The job at the head of a lane, if the worker may hold it. Held jobs are no probes of closed places."""
    assert lane.head is not None
    state.looks += 1
    job = state.table.jobs[job_of(lane.head)]
    return job if job.restart and _sees(state, worker, job) else None


def _sees(state: State, worker: Worker, job: Job) -> bool:
    if sight.is_clear(worker):
        return True
    found = sight.of_lane(worker, job.lane, state.now)
    if found is Sight.PARTLY:
        found = sight.of_job(worker, job, state.now)
    return found is Sight.OPEN


# ---------------------------------------------------------------- asking back


def retract(state: State, worker: Worker, job: Job, thief: Worker | None) -> None:
    """Ask a connected worker for an offered or held job; it answers whether it has started."""
    if job.id in worker.retracting:
        return
    assert worker.session is not None
    assert job.state is JobState.OFFERED
    deadline = state.now + state.limits.job_offer_timeout_seconds
    worker.retracting[job.id] = Retraction(deadline, thief.id if thief is not None else 0)
    if thief is not None:
        thief.loot += 1
    state.outbox.retract(worker.session, AttemptRef(job.id, job.fence))


def settle(state: State, worker: Worker, job_id: int) -> None:
    """A retraction was answered, or is void."""
    retraction = worker.retracting.pop(job_id, None)
    if retraction is not None:
        thief = state.workers.by_id.get(retraction.thief)
        if thief is not None:
            thief.loot -= 1
            state.wake(thief)


def steal(state: State, hungry: Iterable[Worker]) -> None:
    """Workers with room for which nothing is pending get half of what the most loaded one holds."""
    if not state.workers.holders:
        return
    for worker in hungry:
        if worker.idle_key is None or worker.loot or worker.drained_for is not None:
            continue
        if any(worker.has_room(known) for known in state.workers.held_shapes):
            _steal_for(state, worker)


def _steal_for(state: State, thief: Worker) -> None:
    holders = [state.workers.by_id[number] for number in state.workers.holders]
    for victim in sorted(holders, key=lambda holder: (-holder.held_count, holder.id)):
        if victim is thief or victim.session is None:
            continue
        for known, jobs in victim.held.items():
            backoff = thief.backoffs.get(known.number)
            paused = backoff is not None and state.now < backoff.until
            if paused or not thief.has_room(known) or not thief.could_run(known):
                continue
            mine = [
                job
                for job in map(state.table.jobs.__getitem__, jobs)
                if job.id not in victim.retracting and _sees(state, thief, job)
            ]
            if mine:
                # Those at the end would start last.
                for job in mine[len(mine) // 2 :]:
                    retract(state, victim, job, thief)
                return


def give_up_surplus(state: State) -> None:
    """Held jobs that will not start soon are asked back, so that they wait where everybody can have them."""
    for number in list(state.workers.holders):
        worker = state.workers.by_id[number]
        if worker.session is None:
            continue
        for known, held in worker.held.items():
            wanted = 0 if not _takes_held(state, worker) else target(state, worker, known)
            if len(held) > 2 * wanted:
                for job_id in list(held)[wanted:]:
                    retract(state, worker, state.table.jobs[job_id], None)


def hungry_workers(state: State) -> list[Worker]:
    """Idle workers, in the order in which they are served."""
    return [state.workers.by_id[key[2]] for key in state.workers.idle]
