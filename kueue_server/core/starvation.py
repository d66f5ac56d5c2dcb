"""Large jobs are not starved by small ones that always fit.

After `starvation_seconds` at the front of its lane, a job that was overtaken by later ones, and that some
worker could fit but none has room for now, gets a worker drained for it: only this job is placed there until
it fits. If what it lacks is a global resource, freed units are kept for it: later jobs that need the resource
wait too. Whoever comes first in the order takes precedence in both, so that no two wait for each other.
"""

from __future__ import annotations

from itertools import islice

from kueue_server.core import holding, sight, turns
from kueue_server.core.closed import Sight
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.placement import fits, may_overtake
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

_LANES_PER_TICK = 100


def review(state: State) -> None:
    """On each tick: end what has served its purpose, and see who has waited too long."""
    _lift(state)
    drained = {worker.drained_for for worker in state.workers.connected() if worker.drained_for is not None}
    patience = state.limits.starvation_seconds
    for lane in list(islice(turns.lanes(state.queues), _LANES_PER_TICK)):
        head = lane.head
        assert head is not None
        if not lane.overtaken or state.now - lane.head_since < patience or (lane, head) in drained:
            continue
        candidates = _candidates(state, lane)
        if not candidates:
            continue
        for name in state.ledger.lacking(lane.shape.global_needs):
            kept = state.kept.get(name)
            if kept is None or kept[1] > head:
                state.kept[name] = (lane, head)
        if state.ledger.full or not _has_resources(state, lane):
            continue
        worker = _to_drain(state, lane, head, candidates)
        if worker is not None:
            _drain(state, worker, lane, head)


def _has_resources(state: State, lane: Lane) -> bool:
    """Whether nothing but a worker keeps the head of a lane from being handed out."""
    room = lane.queue.is_open and state.ledger.has_room(lane.shape.global_needs)
    return room and may_overtake(state, lane)


def _candidates(state: State, lane: Lane) -> list[Worker]:
    """Connected workers that would have room for the head of a lane if their jobs were over."""
    assert lane.head is not None
    found = []
    for worker in state.workers.connected():
        status = worker.status
        if status is None or not status.accepting or worker.paused is not None:
            continue
        if not worker.would_have_room(lane.shape):
            continue
        front = state.table.jobs[job_of(lane.head)]
        if sight.is_clear(worker) or sight.of_job(worker, front, state.now) is Sight.OPEN:
            found.append(worker)
    return found


def _to_drain(state: State, lane: Lane, head: int, candidates: list[Worker]) -> Worker | None:
    """The candidate to drain; None if there is none, or the job is about to be placed anyway."""
    free = []
    for worker in candidates:
        if worker.drained_for is not None:
            if worker.drained_for[1] > head:
                free.append(worker)
        elif worker.idle_key is not None and fits(state, worker, lane):
            return None
        elif not worker.has_room(lane.shape):  # else something that passes, a back-off, keeps the job away
            free.append(worker)
    return max(free, key=_freedom, default=None)


def _freedom(worker: Worker) -> tuple[float, int, int]:
    """Most for the worker that will have room first, as far as one can tell."""
    return worker.free_cpus / max(1, worker.usable_cpus), worker.free_cpus, -worker.id


def _drain(state: State, worker: Worker, lane: Lane, head: int) -> None:
    worker.drained_for = (lane, head)
    for jobs in worker.held.values():
        for job_id in jobs:
            holding.retract(state, worker, state.table.jobs[job_id], None)
    state.wake(worker)
    shape = lane.shape.shape
    state.outbox.log(
        "info",
        f"worker {worker.name} is drained for job {job_of(head)}, which has waited long "
        f"for {shape.cpus} CPUs and {shape.ram_mb} MB",
    )


def _lift(state: State) -> None:
    for name, (lane, head) in list(state.kept.items()):
        gone = lane.head != head or state.ledger.total(name) is None
        if gone or not lane.queue.is_open or not _candidates(state, lane):
            del state.kept[name]
            state.wake_all()
    for worker in state.workers.connected():
        if worker.drained_for is None:
            continue
        lane, head = worker.drained_for
        if lane.head != head or not _has_resources(state, lane) or worker not in _candidates(state, lane):
            worker.drained_for = None
            state.wake(worker)
