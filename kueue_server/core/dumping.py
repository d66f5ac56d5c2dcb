"""What a dump of a queue consists of: the jobs that have not been handed out, as they were asked for. Only reads."""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import BATCH_BYTES, MAX_ITEMS
from kueue_server.core.idset import walk
from kueue_server.core.state import State

Page = tuple[list[tuple[int, bytes]], int | None]
"""Ids and encoded specs, and the next cursor; None if these were the last."""

_STATES = (JobState.WAITING, JobState.PENDING)


def page(state: State, queue: str, cursor: int | None) -> Page | None:
    """The next page beyond `cursor`; None if there is no such queue."""
    found = state.queues.by_name.get(queue)
    rows: list[tuple[int, bytes]] = []
    if found is None:
        return None if cursor is None else (rows, None)
    size = 0
    states = [state.table.by_state[each] for each in _STATES]
    for number in walk(found.jobs, states, 0 if cursor is None else cursor + 1):
        if len(rows) == MAX_ITEMS or size >= BATCH_BYTES:
            return rows, rows[-1][0]
        spec = state.table.jobs[number].spec
        rows.append((number, spec))
        size += len(spec)
    return rows, None
