"""The table at a glance: so many rows as tell most of it, and how many there are of each kind that are not among them.

What runs comes first, the longest-lived on top; then what failed within a day, what is pending in the order in which it
will be handed out, and what has finished last. Costs the same at any size: it walks indexes from their ends. Reads the
state and changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from kueue.job import JobState
from kueue.wire.messages import LeftOut
from kueue_server.core import turns
from kueue_server.core.arrays import Tasks
from kueue_server.core.idset import IdSet, walk
from kueue_server.core.jobs import Job
from kueue_server.core.pending import Lane, job_of
from kueue_server.core.queues import Queues
from kueue_server.core.state import State

S = JobState

LEAST_PART = 6
"""Each kind that has jobs gets a sixth of the rows at least, if it can fill them."""
FEW = 500
"""So many jobs are put in order by looking at each."""
MOST_LOOKS = 2000
"""Ends that are looked at to find the last ones: some may be of jobs that are gone or run again."""


class Glance:
    """Which rows, of each of the four kinds in their order, and how many jobs there are of each."""

    def __init__(self, state: State, rows: int, *, arrays: bool = False) -> None:
        table, lately = state.table, state.retention.lately
        self._counts = [
            table.count(S.RUNNING, S.OFFERED),
            len(lately.jobs),
            table.count(S.PENDING, S.WAITING),
            table.count(S.SUCCEEDED, S.CANCELED),
        ]
        self._failed_before = table.count(S.FAILED) - len(lately.jobs)
        parts = shares(rows, self._counts)
        self._kinds: tuple[Sequence[Job | Tasks], ...] = (
            _running(state, parts[0]),
            _newest(state, (S.FAILED,), lately.jobs, lately.newest, parts[1]),
            _next_with_arrays(state, parts[2]) if arrays else _next(state, parts[2]),
            _newest(state, (S.SUCCEEDED, S.CANCELED), None, state.retention.newest, parts[3]),
        )

    def take(self) -> Iterator[Job | Tasks]:
        """The jobs, one by one; those that are not taken are left out, too."""
        for kind, jobs in enumerate(self._kinds):
            for job in jobs:
                self._counts[kind] -= len(job) if isinstance(job, Tasks) else 1
                yield job

    def left_out(self) -> LeftOut:
        """How many of each kind were not taken."""
        running, failed, pending, finished = self._counts
        return LeftOut(running, failed, pending, finished, self._failed_before)


def shares(rows: int, counts: Sequence[int]) -> list[int]:
    """How many rows each kind gets, those that come first as many as they can fill; none is without any."""
    least = max(1, rows // LEAST_PART)
    parts: list[int] = []
    for count in counts:
        parts.append(min(count, least, rows - sum(parts)))
    left = rows - sum(parts)
    for at, count in enumerate(counts):
        more = min(left, count - parts[at])
        parts[at] += more
        left -= more
    return parts


def upcoming(queues: Queues) -> Iterator[int]:
    """The pending jobs in the order in which they will be handed out, as far as that is known now; then those of
    queues from which nothing starts. Nothing may change meanwhile."""
    started = _in_turns(queues) if queues.taking_turns else _merged(turns.lanes(queues))
    closed = _merged(sorted(closed_lanes(queues), key=lambda lane: lane.head or 0))
    return map(job_of, chain(started, closed))


def closed_lanes(queues: Queues) -> Iterator[Lane]:
    """The lanes of queues that are paused or full."""
    for queue in queues.by_name.values():
        if not queue.is_open:
            yield from queue.heads.values()


def _merged(lanes: Iterable[Lane]) -> Iterator[int]:
    """The order keys of the jobs of lanes that come in the order of their heads."""
    rest = iter(lanes)
    lane = next(rest, None)
    behind: list[
        tuple[int, Iterator[int]]
    ] = []  # of each lane that was begun: the next key, and those after it
    while lane is not None or behind:
        if lane is not None and lane.head is not None and (not behind or lane.head < behind[0][0]):
            keys = lane.keys_from(lane.head)
            heapq.heappush(behind, (next(keys), keys))
            lane = next(rest, None)
            continue
        key, keys = behind[0]
        yield key
        following = next(keys, None)
        if following is None:
            heapq.heappop(behind)
        else:
            heapq.heapreplace(behind, (following, keys))


def _in_turns(queues: Queues) -> Iterator[int]:
    """The queue that is furthest behind gives the next one, as `turns` has it."""
    line = []
    for queue in queues.apart.values():
        if queue.heads and queue.is_open:
            keys = _merged(queue.heads.values())
            line.append((queues.due(queue), next(keys), queue.stride, keys))
    heapq.heapify(line)
    while line:
        due, key, stride, keys = line[0]
        yield key
        following = next(keys, None)
        if following is None:
            heapq.heappop(line)
        else:
            heapq.heapreplace(line, (due + stride, following, stride, keys))


def _running(state: State, most: int) -> list[Job]:
    table = state.table
    found = list(islice(table.by_state[S.RUNNING], most))
    found += islice(table.by_state[S.OFFERED], most - len(found))
    return [table.jobs[job_id] for job_id in found]


def _next(state: State, most: int) -> list[Job]:
    table = state.table
    found = [table.jobs[job_id] for job_id in islice(upcoming(state.queues), most)]
    waiting = islice(table.by_state[S.WAITING], most - len(found))
    return found + [job for number in waiting if (job := table.look(number)) is not None]


def _next_with_arrays(state: State, most: int) -> list[Job | Tasks]:
    """The same, but latent tasks that follow one another are one row."""
    table = state.table
    found: list[Job | Tasks] = []
    run = range(0)
    for key in islice(upcoming(state.queues), MOST_LOOKS):
        if key in run:
            continue
        if len(found) == most:
            break
        tasks = table.run_from(key)
        found.append(table.jobs[key] if tasks is None else tasks)
        run = range(0) if tasks is None else tasks.ids()
    waiting = table.by_state[S.WAITING]
    number = waiting.at_or_after(0)
    while number is not None and len(found) < most:
        tasks = table.run_from(number)
        found.append(table.jobs[number] if tasks is None else tasks)
        number = waiting.at_or_after((number if tasks is None else tasks.last) + 1)
    return found


def _newest(
    state: State,
    states: tuple[JobState, ...],
    among: IdSet | None,
    by_end: Callable[[], Iterator[int]],
    most: int,
) -> list[Job]:
    """The jobs in these states that finished last, the newest at the end. `by_end` tells ends, the last one first."""
    if not most:
        return []
    table = state.table
    sets = [table.by_state[each] for each in states]
    count = sum(map(len, sets)) if among is None else len(among)
    base = table.present if among is None else among
    if count <= FEW:
        jobs = [table.jobs[job_id] for job_id in walk(base, sets)]
        return sorted(jobs, key=_end)[-most:]
    found: dict[int, Job] = {}
    for job_id in islice(by_end(), MOST_LOOKS):
        job = table.get(job_id)
        if job is not None and job.state in states and (among is None or job_id in among):
            found[job_id] = job
            if len(found) == most:
                break
    for job_id in walk(base, sets, descending=True) if len(found) < most else ():
        found.setdefault(job_id, table.jobs[job_id])
        if len(found) == most:
            break
    return sorted(found.values(), key=_end)


def _end(job: Job) -> tuple[float, int]:
    return (0.0 if job.outcome is None else job.outcome.finished_at, job.id)
