"""The operations of the client, each a generator without I/O: it yields effects and is sent their results.

`client.py` and `async_client.py` drive them, one with blocking sockets, one with asyncio; what an operation means, and
how it survives a lost connection, is written here once.

Effects: `Open` gives a request id on a living connection (connecting if need be); `Send`; `Receive` gives
`(rid, message)` for one of the ids, or None after its timeout; `Close` ends an id; `Emit` gives a value to the
caller of a streaming operation. A lost connection is thrown into `Receive` and `Send` as `ConnectionLostError`.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from kueue.errors import (
    KueueError,
    RequestError,
    ServerUnreachableError,
    UnknownJobError,
    UnknownWorkerError,
    UsageError,
    WaitTimeoutError,
)
from kueue.job import FINISHED
from kueue.job_spec import Encoder, JobSpec
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import (
    BATCH_BYTES,
    LOG_CHUNK_BYTES,
    MAX_ITEMS,
    Failure,
    JobChange,
    JobFilter,
    JobPage,
    ListJobs,
    LogChunk,
    Range,
    ReadLog,
    Reason,
    Spec,
    Stream,
    Submit,
    Submitted,
    Unwatch,
    Watch,
    WatchState,
)

TRIES = 3
"""How often a request is sent when the connection breaks under it."""
WINDOW = 4
"""Batches on their way at a time."""
FOLLOW_SECONDS = 30.0
MAX_RANGES = 10_000

T = TypeVar("T")


class Open(msgspec.Struct, frozen=True):
    pass


class Send(msgspec.Struct, frozen=True):
    message: Any


class Receive(msgspec.Struct, frozen=True):
    rids: tuple[int, ...]
    timeout: float | None = None


class Close(msgspec.Struct, frozen=True):
    rid: int


class Emit(msgspec.Struct, frozen=True):
    value: Any


Effect = Open | Send | Receive | Close | Emit
Operation = Generator[Effect, Any, T]


def failure(reason: Reason) -> KueueError:
    """The error for the server's no."""
    if reason.code == "unknown_job":
        return UnknownJobError(reason.code, reason.text)
    if reason.code == "unknown_worker":
        return UnknownWorkerError(reason.code, reason.text)
    if reason.code in ("unknown_resource", "too_much", "empty_command") or reason.code.startswith("bad_"):
        return UsageError(reason.text)
    return RequestError(reason.code, reason.text)


def ask(make: Callable[[int], Any]) -> Operation[Any]:
    """One request, one answer; sent again if the connection breaks before it comes."""
    for left in reversed(range(TRIES)):
        rid = yield Open()
        try:
            yield Send(make(rid))
            _, reply = yield Receive((rid,))
            yield Close(rid)
        except ConnectionLostError as error:
            if not left:
                raise ServerUnreachableError(f"the connection broke: {error}") from None
            continue
        if isinstance(reply, Failure):
            raise failure(reply.reason)
        return reply
    raise AssertionError


# ---------------------------------------------------------------- submitting


@dataclass
class _Batch:
    token: str
    specs: tuple[Spec, ...]
    contexts: tuple[bytes, ...]
    rid: int = 0


def submit(jobs: Iterable[JobSpec], encoder: Encoder) -> Operation[tuple[list[Range], list[Reason]]]:
    """Submit any number of jobs, in order, some batches ahead of their acknowledgements; emits the number of
    jobs that are durable after each. Returns the ranges of ids and the distinct warnings.

    A batch keeps its token, so one that is sent again after a lost connection makes no second job.
    """
    batches = _batches(jobs, encoder)
    waiting: deque[_Batch] = deque()
    ranges: list[Range] = []
    warnings: dict[Reason, None] = {}
    done = 0
    lost = 0
    exhausted = False
    while True:
        try:
            if any(batch.rid == 0 for batch in waiting):
                for batch in waiting:
                    yield from _send_batch(batch)
            while not exhausted and len(waiting) < WINDOW:
                fresh = next(batches, None)
                if fresh is None:
                    exhausted = True
                    break
                waiting.append(fresh)
                yield from _send_batch(fresh)
            if not waiting:
                return ranges, list(warnings)
            _, reply = yield Receive((waiting[0].rid,))
        except ConnectionLostError as error:
            lost += 1
            if lost >= TRIES:
                raise ServerUnreachableError(f"the connection broke: {error}") from None
            for batch in waiting:
                batch.rid = 0
            continue
        batch = waiting.popleft()
        yield Close(batch.rid)
        if isinstance(reply, Failure):
            raise failure(reply.reason)
        assert isinstance(reply, Submitted)
        lost = 0
        done += reply.count
        last = reply.first + reply.count - 1
        if ranges and ranges[-1][1] + 1 == reply.first:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((reply.first, last))
        warnings.update(dict.fromkeys(reply.warnings))
        yield Emit(done)


def _send_batch(batch: _Batch) -> Operation[None]:
    batch.rid = yield Open()
    yield Send(Submit(batch.rid, batch.token, batch.specs, batch.contexts))


def _batches(jobs: Iterable[JobSpec], encoder: Encoder) -> Iterator[_Batch]:
    specs: list[Spec] = []
    contexts: dict[bytes, None] = {}
    size = 0
    for job in jobs:
        spec, context = encoder.encode(job)
        specs.append(spec)
        size += 400 + sum(len(word) if isinstance(word, str) else 40 for word in spec.payload.argv)
        if context not in contexts:
            contexts[context] = None
            size += len(context) * 4 // 3
        if len(specs) >= MAX_ITEMS or size >= BATCH_BYTES:
            yield _Batch(secrets.token_hex(16), tuple(specs), tuple(contexts))
            specs, contexts, size = [], {}, 0
    if specs:
        yield _Batch(secrets.token_hex(16), tuple(specs), tuple(contexts))


# ---------------------------------------------------------------- listing


def list_jobs(filter: JobFilter, newest_first: bool, limit: int | None) -> Operation[None]:
    """Emits jobs page by page, as they are asked for."""
    cursor: int | None = None
    left = limit
    while left is None or left > 0:
        size = MAX_ITEMS if left is None else min(left, MAX_ITEMS)
        at = cursor

        def page(rid: int, at: int | None = at, size: int = size) -> ListJobs:
            return ListJobs(rid, filter, newest_first, at, size, attempts=True)

        reply: JobPage = yield from ask(page)
        for job in reply.jobs:
            yield Emit(job)
        cursor = reply.cursor
        if cursor is None:
            return
        if left is not None:
            left -= len(reply.jobs)


# ---------------------------------------------------------------- watching


def watch(ranges: tuple[Range, ...], timeout: float | None) -> Operation[None]:
    """Emits every `JobChange` of these jobs, beginning with how they are now, across lost connections; for ever.

    Raises:
        WaitTimeoutError: `timeout` seconds are over.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    since: int | None = None
    failed = 0
    while True:
        rid = yield Open()
        try:
            yield Send(Watch(rid, ranges, since))
            while True:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                received = yield Receive((rid,), left)
                if received is None:
                    yield Send(Unwatch(rid))
                    yield Close(rid)
                    raise WaitTimeoutError(f"not finished within {timeout:g} s")
                reply = received[1]
                if isinstance(reply, Failure):
                    raise failure(reply.reason)
                assert isinstance(reply, WatchState)
                failed = 0
                for change in reply.jobs:
                    yield Emit(change)
                if not reply.more:
                    since = reply.seq
        except ConnectionLostError as error:
            failed += 1
            if failed >= TRIES:
                raise ServerUnreachableError(f"the connection broke: {error}") from None


def as_completed(ranges: tuple[Range, ...], timeout: float | None) -> Operation[None]:
    """Emits each job's `JobChange` once, when it has finished, was canceled, or is not in the table."""
    left = sum(last - first + 1 for first, last in ranges)
    seen = _Seen()
    if not left:
        return
    changes = watch(ranges, timeout)
    try:
        effect = next(changes)
        while True:
            if isinstance(effect, Emit):
                change: JobChange = effect.value
                if is_over(change) and seen.add(change.id):
                    left -= 1
                    yield effect
                    if not left:
                        return
                effect = next(changes)
                continue
            try:
                result = yield effect
            except ConnectionLostError as error:
                effect = changes.throw(error)
            else:
                effect = changes.send(result)
    finally:
        changes.close()


def is_over(change: JobChange) -> bool:
    """Nothing more will come of this job by itself."""
    return change.state in FINISHED or change.state == "unknown"


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


# ---------------------------------------------------------------- output


def follow(job: int, streams: tuple[Stream, ...], attempt: int | None) -> Operation[int]:
    """Emits `(stream, LogChunk)` of an attempt (None: the current one) as its output grows, to its end; returns the
    attempt that it was. An answer with `tail` set is the last of its stream: the worker can't be asked."""
    offsets = dict.fromkeys(streams, 0)
    rids: dict[int, Stream] = {}
    known = attempt
    lost = 0
    while offsets:
        try:
            for stream in offsets:
                if stream not in rids.values():
                    rid = yield Open()
                    rids[rid] = stream
                    yield Send(
                        ReadLog(rid, job, stream, known, offsets[stream], LOG_CHUNK_BYTES, FOLLOW_SECONDS)
                    )
            rid, reply = yield Receive(tuple(rids))
        except ConnectionLostError as error:
            lost += 1
            if lost >= TRIES:
                raise ServerUnreachableError(f"the connection broke: {error}") from None
            rids.clear()
            continue
        stream = rids.pop(rid)
        yield Close(rid)
        if isinstance(reply, Failure):
            raise failure(reply.reason)
        assert isinstance(reply, LogChunk)
        lost = 0
        known = reply.attempt
        if reply.data or reply.tail:
            yield Emit((stream, reply))
        if reply.tail or (reply.at_end and reply.offset + len(reply.data) >= reply.size):
            del offsets[stream]
        else:
            offsets[stream] = reply.offset + len(reply.data)
    return known or 0


def read_log(job: int, stream: Stream, attempt: int | None) -> Operation[None]:
    """Emits the `LogChunk`s of what there is of a stream now."""
    offset = 0
    while True:
        at, of = offset, attempt

        def chunk(rid: int, at: int = at, of: int | None = of) -> ReadLog:
            return ReadLog(rid, job, stream, of, at)

        reply: LogChunk = yield from ask(chunk)
        attempt = reply.attempt
        yield Emit(reply)
        offset = reply.offset + len(reply.data)
        if reply.tail or not reply.data or offset >= reply.size:
            return


def ranges_of(ids: Iterable[int]) -> tuple[Range, ...]:
    """Sorted, joined ranges of ids.

    Raises:
        UsageError: too many separate ones for one request.
    """
    ranges: list[Range] = []
    for job in sorted(set(ids)):
        if ranges and ranges[-1][1] + 1 == job:
            ranges[-1] = (ranges[-1][0], job)
        else:
            ranges.append((job, job))
    if len(ranges) > MAX_RANGES:
        raise UsageError(f"more than {MAX_RANGES} separate ranges of ids; ask in parts")
    return tuple(ranges)
