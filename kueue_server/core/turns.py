"""In which order decisions look at the lanes of pending jobs: whose turn it is among the queues.

Where nothing is set, all lanes stand in one order, by priority and id of their heads. A paused queue, and one that has
as many jobs running as it may, is not among them. Once a weight is set, the queues take turns: each job that is
handed out brings its queue forward by one over its weight, and the one that is furthest behind comes first (stride
scheduling), so that shares follow the weights wherever there is a choice; priority counts within a queue. One that has
nothing to hand out, or nothing that fits, gathers no claim beyond its next job.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, merge
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sortedcontainers import SortedDict

    from kueue_server.core.pending import Lane
    from kueue_server.core.queues import Queue, Queues
    from kueue_server.core.state import State

Cursor = tuple[int, int]
"""Where a decision goes on: the number of a queue (0: of all), and the order key of a head."""


def lanes(queues: Queues, start: Cursor | None = None) -> Iterator[Lane]:
    """The lanes with pending jobs of queues that are open, in the order in which they are looked at, from `start` on.
    Nothing must change meanwhile."""
    if queues.taking_turns:
        return _in_turns(queues, start)
    least = None if start is None or start[0] else start[1]
    common = queues.common
    if not queues.apart:
        return map(common.__getitem__, common.irange(minimum=least))
    return _merged(queues, least)


def cursor_of(queues: Queues, lane: Lane) -> Cursor:
    """From this lane on."""
    assert lane.head is not None
    return (lane.queue.number if queues.taking_turns else 0, lane.head)


def place_of(queues: Queues, lane: Lane) -> tuple[int, int]:
    """Sorts lanes with pending jobs into their order."""
    assert lane.head is not None
    return (queues.due(lane.queue) if queues.taking_turns else 0, lane.head)


def _open(queues: Queues) -> list[Queue]:
    """Those of `apart` that may hand out something."""
    return [queue for queue in queues.apart.values() if queue.heads and not queue.is_full]


def _merged(queues: Queues, least: int | None) -> Iterator[Lane]:
    pools = [queues.common, *(queue.heads for queue in _open(queues))]
    for _, lane in merge(*(_keyed(pool, least) for pool in pools)):
        yield lane


def _keyed(pool: SortedDict[int, Lane], least: int | None) -> Iterator[tuple[int, Lane]]:
    for key in pool.irange(minimum=least):
        yield key, pool[key]


def _in_turns(queues: Queues, start: Cursor | None) -> Iterator[Lane]:
    order = [(queues.due(queue), next(iter(queue.heads)), queue.number, queue) for queue in _open(queues)]
    if start is not None:
        for _, _, number, queue in order:
            if number == start[0]:
                yield from map(queue.heads.__getitem__, queue.heads.irange(minimum=start[1]))
    heapify(order)
    while order:
        _, _, number, queue = heappop(order)
        if start is None or number != start[0]:
            yield from map(queue.heads.__getitem__, queue.heads.irange())


def overtaken(queues: Queues, lane: Lane, key: int, most: int) -> Iterator[Lane]:
    """The lanes whose heads come before the job of this key, which is about to be handed out; `most` of a queue."""
    if not queues.apart:
        yield from _before(queues.common, key, most)
    elif not queues.taking_turns:
        for pool in (queues.common, *(queue.heads for queue in _open(queues))):
            yield from _before(pool, key, most)
    else:
        due = queues.due(lane.queue)
        for queue in _open(queues):
            if queue is lane.queue:
                yield from _before(queue.heads, key, most)
            elif queues.due(queue) < due:
                yield from _before(queue.heads, None, most)


def _before(pool: SortedDict[int, Lane], key: int | None, most: int) -> Iterator[Lane]:
    heads = islice(pool.irange(maximum=key, inclusive=(True, False)), most)
    return map(pool.__getitem__, heads)


def due_before(queues: Queues, lane: Lane, most: int) -> Iterator[Lane]:
    """The lanes of queues whose turn comes before that of this lane's; `most` of a queue."""
    if queues.taking_turns:
        place = place_of(queues, lane)
        for queue in _open(queues):
            if queue is not lane.queue and (queues.due(queue), next(iter(queue.heads))) < place:
                yield from islice(queue.heads.values(), most)


# ---------------------------------------------------------------- limits


def look_for_room(state: State) -> None:
    """Before jobs are placed: what a queue has that was full, and is no more, is news to idle workers."""
    for queue in state.queues.apart.values():
        if queue.was_full and not queue.is_full:
            state.fresh.update(dict.fromkeys(queue.heads.values()))


def note_fullness(state: State) -> None:
    """After jobs were placed."""
    for queue in state.queues.apart.values():
        queue.was_full = queue.is_full
