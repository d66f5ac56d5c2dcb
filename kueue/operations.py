"""The operations of the client, without I/O: the list of them, and the listing of jobs itself.

`effects.py` says what an operation is and who drives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from kueue.effects import Close, Effect, Emit, Open, Operation, Receive, Send, ask, failure
from kueue.reading import follow, read_log
from kueue.submitting import submit, submit_array
from kueue.watching import as_completed, is_over, parts_of, watch, watch_cluster
from kueue.wire.messages import MAX_ITEMS, JobPage, ListJobs, Range, Selector

__all__ = [
    "Close",
    "Effect",
    "Emit",
    "Open",
    "Operation",
    "Receive",
    "Send",
    "as_completed",
    "ask",
    "failure",
    "follow",
    "is_over",
    "list_jobs",
    "parts_of",
    "ranges_of",
    "read_log",
    "submit",
    "submit_array",
    "watch",
    "watch_cluster",
]


def list_jobs(
    filter: Selector, newest_first: bool, limit: int | None, *, arrays: bool = False
) -> Operation[None]:
    """Emits jobs by id, page by page, as they are asked for; at most `limit` rows of them. With `arrays`, tasks of an
    array that have not started are one row."""
    left = limit
    for part in _filters(filter, newest_first):
        cursor: int | None = None
        while left is None or left > 0:
            size = MAX_ITEMS if left is None else min(left, MAX_ITEMS)
            wanted, at = part, cursor

            def page(rid: int, wanted: Selector = wanted, at: int | None = at, size: int = size) -> ListJobs:
                return ListJobs(rid, wanted, newest_first, at, size, attempts=True, arrays=arrays)

            reply = yield from ask(page, JobPage)
            for job in reply.jobs:
                yield Emit(job)
            if left is not None:
                left -= len(reply.jobs)
            cursor = reply.cursor
            if cursor is None:
                break


def _filters(filter: Selector, newest_first: bool) -> Iterator[Selector]:
    """The same in as many parts as its ranges need, in the order of the listing."""
    if not filter.ranges:
        yield filter
        return
    parts = list(parts_of(filter.ranges))
    for part in reversed(parts) if newest_first else parts:
        yield msgspec.structs.replace(filter, ranges=part)


def ranges_of(ids: Iterable[int]) -> tuple[Range, ...]:
    """Sorted, joined ranges of ids."""
    ranges: list[Range] = []
    for job in sorted(set(ids)):
        if ranges and ranges[-1][1] + 1 == job:
            ranges[-1] = (ranges[-1][0], job)
        else:
            ranges.append((job, job))
    return tuple(ranges)
