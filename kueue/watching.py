"""Waiting as an operation: subscriptions to changes of jobs, which go on after a lost connection."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import msgspec

from kueue.effects import TRIES, Close, Emit, Open, Operation, Receive, Send, Values, answer, broken
from kueue.errors import RequestError, ServerUnreachableError, WaitTimeoutError
from kueue.job import FINISHED
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import ClusterState, JobChange, Range, Unwatch, Watch, WatchCluster, WatchState

MAX_RANGES = 10_000
"""Of one request; more are asked for in parts."""
MAX_WIDTH = 500_000
"""Ids of one range: of wider ones the server does not name those that are not in its table."""
SNAPSHOT_SECONDS = 5.0
"""How long the first answer may take, however short the timeout is."""
OTHER_JOURNAL = (
    "the server that answers now keeps another journal than the one that was asked before (its state directory was"
    " emptied, a backup was restored, or it is another server): what became of the jobs is not known here"
)


class _Part(msgspec.Struct):
    """One of the watches; a server takes only so many ranges in one."""

    ranges: tuple[Range, ...]
    since: int | None = None


def watch(ranges: tuple[Range, ...], timeout: float | None) -> Operation[None]:
    """Emits every `JobChange` of these jobs, beginning with how they are now, for ever.

    It goes on across lost connections: a server that was there and is away is waited for as long as there is
    time. A job that is told of again need not have changed.

    Raises:
        RequestError: `other_journal`: the server that came back has another journal, whose ids are other jobs.
        WaitTimeoutError: `timeout` seconds are over.
    """
    began = time.monotonic()
    parts = [_Part(part) for part in parts_of(ranges)]
    failed = 0
    heard = False
    journal = ""
    while parts:
        watched: dict[int, _Part] = {}
        try:
            for part in parts:
                rid = yield Open(_patience(began, timeout, heard))
                watched[rid] = part
                yield Send(Watch(rid, part.ranges, part.since))
            while True:
                received = yield Receive(tuple(watched), _left(began, timeout, parts))
                if received is None:
                    for rid in watched:
                        yield Send(Unwatch(rid))
                        yield Close(rid)
                    raise _over(timeout)
                rid, reply = received[0], answer(received[1], WatchState)
                failed = 0
                heard = True
                if reply.journal:
                    if journal not in ("", reply.journal):
                        raise RequestError("other_journal", OTHER_JOURNAL)
                    journal = reply.journal
                for change in reply.jobs:
                    yield Emit(change)
                if not reply.more:
                    watched[rid].since = reply.seq
        except ConnectionLostError as error:
            failed += 1
            if failed >= TRIES:
                raise broken(error) from None
        except ServerUnreachableError:
            if heard and not _patience(began, timeout, heard):
                raise _over(timeout) from None
            raise


def watch_cluster(details: bool) -> Operation[None]:
    """Emits the `ClusterState` of now, and one more whenever it changed, for ever; None when the connection is lost,
    after which the next begins anew. A server that was there is waited for."""
    failed = 0
    while True:
        rid = yield Open(math.inf)
        try:
            yield Send(WatchCluster(rid, details))
            while True:
                received = yield Receive((rid,))
                assert received is not None
                reply = answer(received[1], ClusterState)
                failed = 0
                yield Emit(reply)
        except ConnectionLostError as error:
            failed += 1
            if failed >= TRIES:
                raise broken(error) from None
        yield Emit(None)


def as_completed(ranges: tuple[Range, ...], timeout: float | None) -> Operation[None]:
    """Emits each job's `JobChange` once, when it has finished, was canceled, or is not in the table."""
    left = sum(last - first + 1 for first, last in ranges)
    seen = _Seen()
    changes: Values[JobChange] = Values(watch(ranges, timeout))
    try:
        while left:
            change = yield from changes.next()
            assert change is not None
            if is_over(change) and seen.add(change.id):
                left -= 1
                yield Emit(change)
    finally:
        changes.close()


def is_over(change: JobChange) -> bool:
    """Nothing more will come of this job by itself."""
    return change.state in FINISHED or change.state == "unknown"


def parts_of(ranges: tuple[Range, ...]) -> Iterator[tuple[Range, ...]]:
    """The ranges in their order, in parts that a server takes in one request."""
    part: list[Range] = []
    for first, last in ranges:
        for start in range(first, last + 1, MAX_WIDTH):
            part.append((start, min(last, start + MAX_WIDTH - 1)))
            if len(part) == MAX_RANGES:
                yield tuple(part)
                part = []
    if part:
        yield tuple(part)


def _patience(began: float, timeout: float | None, heard: bool) -> float:
    if timeout is None:
        return math.inf
    return max(0.0, began + (timeout if heard else max(timeout, SNAPSHOT_SECONDS)) - time.monotonic())


def _over(timeout: float | None) -> WaitTimeoutError:
    return WaitTimeoutError(f"not finished within {timeout:g} s")


def _left(began: float, timeout: float | None, parts: list[_Part]) -> float | None:
    if timeout is None:
        return None
    complete = all(part.since is not None for part in parts)
    return max(0.0, began + (timeout if complete else max(timeout, SNAPSHOT_SECONDS)) - time.monotonic())


class _Seen:
    """A set of ids, compact where they are dense."""

    def __init__(self) -> None:
        self._parts: dict[int, int] = {}

    def add(self, job: int) -> bool:
        """False if it was there already."""
        part, bit = job >> 10, 1 << (job & 1023)
        old = self._parts.get(part, 0)
        self._parts[part] = old | bit
        return not old & bit
