"""Who gets what: decisions over the heads of the lanes, made once at the end of each step.

Only workers that have new room, and lanes that have something new, are looked at. Among idle workers the one
with the largest free share of its CPUs is served first. A decision compares heads in order of priority and
takes the first whose shape fits and whose directory the worker may see; inside one lane it looks at 16
jobs at most and goes on from there the next time, so its cost does not grow with what is pending.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import partial

from kueue_server.core import attempts, holding, sight, turns
from kueue_server.core.closed import Sight
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.state import State
from kueue_server.core.workers import IdleKey, Worker

DEPTH = 16
"""Jobs of one lane that a decision looks at."""
WIDTH = 1000
"""Lanes that a decision looks at."""
_NO_CPU: IdleKey = (0.0, -1, -1)
"""Before the keys of idle workers without a free CPU, after all others."""
LOOKS_PER_TICK = 2048
"""Jobs that a tick looks at for workers whose last decisions were cut short."""


def place(state: State) -> None:
    """Hand out what can be handed out, after everything else of the step."""
    if state.queues.apart:
        turns.look_for_room(state)
    for worker in state.woken.values():
        if worker.held_count:
            holding.promote(state, worker)
        refresh(state, worker)
    served: dict[int, Worker] = dict(state.woken)
    if state.pending.size and not state.ledger.full:
        _place(state, served)
        holding.fill(state, served.values())
    holding.steal(state, state.woken.values())
    if state.queues.apart:
        turns.note_fullness(state)
    state.woken.clear()
    state.fresh.clear()
    state.all_fresh = False


def resume(state: State) -> None:
    """On a tick: let workers go on whose last decision was cut short, within a budget."""
    limit = state.looks + LOOKS_PER_TICK
    for number in list(state.unfinished):
        if state.looks >= limit:
            return
        del state.unfinished[number]
        worker = state.workers.by_id.get(number)
        if worker is not None and worker.session is not None:
            refresh(state, worker)
            if worker.idle_key is not None and _serve(state, worker, None):
                state.wake(worker)


def refresh(state: State, worker: Worker) -> None:
    """Put a worker at its place among the idle ones."""
    resting = worker.respite is not None and state.now < worker.respite.until
    paused = resting or worker.paused is not None
    state.workers.refresh(worker, paused=paused)


def _place(state: State, served: dict[int, Worker]) -> None:
    everything = state.all_fresh
    if everything or state.fresh:
        heap = _candidates(state)
    else:
        heap = sorted(worker.idle_key for worker in state.woken.values() if worker.idle_key is not None)
    woken_left = sum(1 for worker in state.woken.values() if worker.idle_key is not None)
    while heap and state.pending.size and not state.ledger.full:
        news = everything or any(_may_go(state, lane) for lane in state.fresh)
        if not news and not woken_left:
            return
        key = heapq.heappop(heap)
        worker = state.workers.by_id[key[2]]
        woken = worker.id in state.woken
        if not news and not woken:
            continue
        lanes = None if everything or woken else state.fresh
        if _serve(state, worker, lanes):
            served[worker.id] = worker
            if worker.idle_key is not None:
                heapq.heappush(heap, worker.idle_key)
                continue
        if woken:
            woken_left -= 1


def _may_go(state: State, lane: Lane) -> bool:
    """Whether a lane has a job that lacks nothing but a worker."""
    return lane.head is not None and lane.queue.is_open and state.ledger.has_room(lane.shape.global_needs)


def _candidates(state: State) -> list[IdleKey]:
    """The idle workers that may get one of all jobs, or of the fresh lanes, as a heap: a sorted list is one.

    A worker that has slots left but no CPU is none of them, unless it was woken, or a job needs no CPU. There are
    many such where jobs are wide.
    """
    idle = state.workers.idle
    if state.all_fresh or any(lane.head is not None and not lane.shape.shape.cpus for lane in state.fresh):
        return list(idle)
    found = list(idle.irange(maximum=_NO_CPU, inclusive=(True, False)))
    woken = (worker.idle_key for worker in state.woken.values())
    return [*found, *sorted(key for key in woken if key is not None and key >= _NO_CPU)]


def _serve(state: State, worker: Worker, lanes: Iterable[Lane] | None) -> bool:
    """Offer a worker the one job that is its due. Returns whether there was one."""
    found = decide(state, worker, lanes)
    if found is None:
        return False
    job = state.table.jobs[found]
    attempts.offer(state, worker, job, held=False)
    if worker.drained_for is not None:
        worker.drained_for = None
        state.wake(worker)
    refresh(state, worker)
    return True


def decide(state: State, worker: Worker, lanes: Iterable[Lane] | None) -> int | None:
    """The job that an idle worker should get next, of these lanes (None: of all); None if there is none."""
    if worker.drained_for is not None:
        lane, key = worker.drained_for
        if lane.head != key or not lane.queue.is_open or not fits(state, worker, lane):
            return None
        return pick(state, worker, lane)
    if lanes is not None:
        live = (lane for lane in lanes if lane.head is not None and lane.queue.is_open)
        for lane in sorted(live, key=partial(turns.place_of, state.queues)):
            if fits(state, worker, lane) and (found := pick(state, worker, lane)) is not None:
                state.queues.serve(lane.queue)
                return found
        return None
    return _decide_among_all(state, worker)


def _decide_among_all(state: State, worker: Worker) -> int | None:
    start, worker.lane_cursor = worker.lane_cursor, None
    for count, lane in enumerate(turns.lanes(state.queues, start)):
        if count >= WIDTH:
            worker.lane_cursor = turns.cursor_of(state.queues, lane)
            state.unfinished[worker.id] = None
            return None
        if fits(state, worker, lane) and (found := pick(state, worker, lane)) is not None:
            state.queues.serve(lane.queue)
            return found
    if start is not None:
        state.unfinished[worker.id] = None  # the front of the lanes has not been seen this time
    return None


def _head(lane: Lane) -> int:
    assert lane.head is not None
    return lane.head


def fits(state: State, worker: Worker, lane: Lane) -> bool:
    """Whether a job of this lane may be offered to the worker as far as room is concerned."""
    known = lane.shape
    if not worker.has_room(known) or not worker.could_run(known):
        return False
    backoff = worker.backoffs.get(known.number)
    if backoff is not None and state.now < backoff.until:
        return False
    if known.global_needs:
        if not state.ledger.has_room(known.global_needs):
            return False
        if state.kept and not may_overtake(state, lane):
            return False
    return True


def may_overtake(state: State, lane: Lane) -> bool:
    """Whether nothing that the head of this lane needs is kept for an earlier one.

    Freed units of a global resource are kept for a job that has waited long for several."""
    for name, _ in lane.shape.global_needs:
        kept = state.kept.get(name)
        if kept is not None and kept[0] is not lane and kept[0].head == kept[1] and _head(lane) > kept[1]:
            return False
    return True


def pick(state: State, worker: Worker, lane: Lane) -> int | None:
    """The first job of a lane whose directory the worker may see."""
    head = _head(lane)
    if sight.is_clear(worker):
        state.looks += 1
        return job_of(head)
    found = sight.of_lane(worker, lane, state.now)
    if found is Sight.CLOSED:
        return None
    if found is Sight.PROBE:
        worker.closed.probing(b"", lane.volume, state.now)
    if found is not Sight.PARTLY:
        state.looks += 1
        return job_of(head)
    start, seen = worker.cursors.get(lane, (head, lane.arrivals))
    start = max(start, head)
    looked = 0
    for key in lane.keys_from(start):
        if looked == DEPTH:
            worker.cursors[lane] = (key, seen)
            state.unfinished[worker.id] = None
            return None
        looked += 1
        state.looks += 1
        job_id = job_of(key)
        job = state.table.look(job_id)
        assert job is not None, f"job {job_id} is pending, and not there"
        found = sight.of_job(worker, job, state.now)
        if found is Sight.CLOSED:
            continue
        if found is Sight.PROBE:
            sight.probing(worker, job, state.now)
        worker.cursors[lane] = (key, seen)
        return job_id
    worker.cursors.pop(lane, None)
    if seen != lane.arrivals:
        state.unfinished[worker.id] = None  # some that came meanwhile may stand before where we began
    return None
