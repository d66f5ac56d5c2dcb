"""What a dump of a queue consists of: the jobs that have not been handed out, as they were asked for. Only reads.

Jobs that wait for others are left out, and counted: whom they wait for is said by ids, which mean nothing elsewhere.
"""

from __future__ import annotations

import msgspec

from kueue.job import JobState
from kueue.wire.messages import BATCH_BYTES, MAX_ITEMS, Spec
from kueue_server.core.idset import walk
from kueue_server.core.state import State

Page = tuple[list[tuple[int, bytes]], int | None, int]
"""Ids and encoded specs; the next cursor, None if these were the last; how many were left out."""

_decode = msgspec.json.Decoder(Spec).decode
_encode = msgspec.json.Encoder().encode
_STATES = (JobState.WAITING, JobState.PENDING)


def _alone(encoded: bytes) -> bytes:
    """A task keeps its index, and belongs to no array elsewhere."""
    if b'"array":' not in encoded:
        return encoded
    return _encode(msgspec.structs.replace(_decode(encoded), array=None, max_running=None))


def page(state: State, queue: str, cursor: int | None) -> Page | None:
    """The next page beyond `cursor`; None if there is no such queue."""
    found = state.queues.by_name.get(queue)
    rows: list[tuple[int, bytes]] = []
    if found is None:
        return None if cursor is None else (rows, None, 0)
    size = left_out = 0
    states = [state.table.by_state[each] for each in _STATES]
    for number in walk(found.jobs, states, 0 if cursor is None else cursor + 1):
        if len(rows) + left_out == MAX_ITEMS or size >= BATCH_BYTES:
            return rows, cursor, left_out
        cursor = number
        job = state.table.look(number)
        if job is None:
            continue
        if job.state is JobState.WAITING and job.retry_at is None:
            left_out += 1
            continue
        rows.append((number, _alone(job.spec)))
        size += len(job.spec)
    return rows, None, left_out
