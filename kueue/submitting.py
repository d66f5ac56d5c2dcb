"""Submitting as an operation: batches, some of them ahead of their acknowledgements, none of them twice.

A batch keeps its token as long as it lives, so one that is sent again after a lost connection makes no second
job. Jobs are encoded once; what is on its way at a time is all that is kept.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import msgspec

from kueue.directories import Reach
from kueue.effects import TRIES, Close, Emit, Open, Operation, Receive, Send, answer, ask, broken, failure
from kueue.errors import ServerUnreachableError, UsageError
from kueue.indices import MARK, fault_of_indices
from kueue.job_encoding import Encoder
from kueue.job_spec import JobSpec
from kueue.job_values import amount_of
from kueue.wire.codec import from_os
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import (
    BATCH_BYTES,
    MAX_ITEMS,
    Failure,
    Range,
    Reason,
    Spec,
    Step,
    SubmitArray,
    Submitted,
)

WINDOW = 8
"""Batches on their way at a time."""
MAX_JOB_BYTES = 8 * 1024 * 1024
"""Of one encoded job; more than any system lets a program have as arguments."""
RANGE_WEIGHT = 64
"""What a range of ids that a job waits for counts in a batch, beyond its bytes: the server looks each of them up."""

_encode = msgspec.json.Encoder().encode


J = TypeVar("J")
J_contra = TypeVar("J_contra", contravariant=True)


class Encodes(Protocol[J_contra]):
    """Makes wire specs of jobs; `reach` has the warnings of all of them."""

    reach: Reach

    def encode(self, job: J_contra) -> tuple[Spec, bytes]:
        """The spec, and the encoded context that it refers to."""
        ...


class EncodedSubmit(msgspec.Struct, frozen=True, tag="submit", omit_defaults=True):
    """`Submit` on the wire, with jobs that are encoded already."""

    rid: int
    token: str
    jobs: tuple[msgspec.Raw, ...]
    contexts: tuple[bytes, ...] = ()


class _Batch(msgspec.Struct):
    token: str
    start: int  # of all jobs, from 0
    jobs: tuple[msgspec.Raw, ...]
    contexts: tuple[bytes, ...]
    rid: int = 0


def submit(
    jobs: Iterable[J], encoder: Encodes[J], token: str | None = None
) -> Operation[tuple[list[Range], list[Reason]]]:
    """Submit any number of jobs, in order; emits how many are durable after each batch. Returns the ranges of
    their ids and the distinct warnings.

    When a job can't be submitted, or `jobs` itself raises, what is on its way is waited for first; a note on
    the error says which jobs are durable. With a `token`, all must fit in one batch.
    """
    batches = _batches(jobs, encoder, token)
    waiting: deque[_Batch] = deque()
    ranges: list[Range] = []
    warnings: dict[Reason, None] = {}
    error: Exception | None = None
    exhausted = False
    done = lost = duplicates = 0
    while True:
        try:
            for batch in waiting:
                if not batch.rid:
                    yield from _send(batch)
            while not exhausted and len(waiting) < WINDOW:
                try:
                    fresh = next(batches, None)
                except Exception as raised:
                    error, fresh = raised, None
                if fresh is None:
                    exhausted = True
                    break
                waiting.append(fresh)
                yield from _send(fresh)
            if not waiting:
                break
            _, reply = yield Receive((waiting[0].rid,))
        except ConnectionLostError as cut:
            lost += 1
            if lost >= TRIES:
                raise _noted(broken(cut), ranges) from None
            for batch in waiting:
                batch.rid = 0
            continue
        except ServerUnreachableError as unreachable:
            raise _noted(unreachable, ranges) from None
        lost = 0
        batch = waiting.popleft()
        yield Close(batch.rid)
        if isinstance(reply, Failure):
            exhausted = True
            if error is None:
                error = failure(reply.reason)
                if batch.start:
                    error.add_note(f"its batch begins with job {batch.start + 1} of all")
            continue
        submitted = answer(reply, Submitted)
        done += submitted.count
        duplicates += submitted.duplicates
        if submitted.count:
            _append(ranges, (submitted.first, submitted.first + submitted.count - 1))
        warnings.update(dict.fromkeys(submitted.warnings))
        yield Emit(done)
    if error is not None:
        raise _noted(error, ranges)
    if duplicates:
        many = "1 job was" if duplicates == 1 else f"{duplicates} jobs were"
        warnings[Reason("duplicate", f"{many} left out: a job of the same key is in the queue")] = None
    warnings.update(dict.fromkeys(Reason(code, text) for code, text in encoder.reach.warnings))
    return ranges, list(warnings)


def _send(batch: _Batch) -> Operation[None]:
    rid = yield Open()
    batch.rid = rid
    yield Send(EncodedSubmit(rid, batch.token, batch.jobs, batch.contexts))


def _append(ranges: list[Range], fresh: Range) -> None:
    if ranges and ranges[-1][1] + 1 == fresh[0]:
        ranges[-1] = (ranges[-1][0], fresh[1])
    else:
        ranges.append(fresh)


def _noted(error: Exception, ranges: list[Range]) -> Exception:
    if ranges:
        shown = ", ".join(f"{first}-{last}" for first, last in ranges[:10])
        more = " and more" if len(ranges) > 10 else ""
        error.add_note(f"these jobs had been submitted and stay: {shown}{more}")
    return error


def _batches(jobs: Iterable[J], encoder: Encodes[J], token: str | None) -> Iterator[_Batch]:
    bodies: list[msgspec.Raw] = []
    contexts: dict[bytes, None] = {}
    size = start = 0
    for number, job in enumerate(jobs):
        spec, context = encoder.encode(job)
        body = _encode(spec)
        if len(body) > MAX_JOB_BYTES:
            raise UsageError(f"a job of {len(body)} bytes is too large (at most {MAX_JOB_BYTES})")
        if spec.waits is not None:
            extra = RANGE_WEIGHT * (len(spec.waits.after) + len(spec.waits.after_any))
        else:
            extra = 0
        more = extra + len(body) + 1 + (0 if context in contexts else len(context) * 4 // 3 + 8)
        if bodies and (len(bodies) >= MAX_ITEMS or size + more > BATCH_BYTES):
            yield _Batch(secrets.token_hex(16), start, tuple(bodies), tuple(contexts))
            bodies, contexts, size, start = [], {}, 0, number
            more = extra + len(body) + 1 + len(context) * 4 // 3 + 8
        bodies.append(msgspec.Raw(body))
        contexts[context] = None
        size += more
    if bodies:
        yield _Batch(token or secrets.token_hex(16), start, tuple(bodies), tuple(contexts))


def submit_array(
    job: JobSpec, steps: tuple[Step, ...], max_running: int | None, encoder: Encoder
) -> Operation[tuple[list[Range], list[Reason]]]:
    """Submit an array: the range of its ids, and the warnings.

    Raises:
        UsageError: it can't be meant.
    """
    spec, context = _array_spec(job, encoder)
    fault = fault_of_indices(steps)
    if fault is not None:
        raise UsageError(fault)
    if max_running is not None:
        spec = msgspec.structs.replace(spec, max_running=amount_of("max_running", max_running, 1))
    token = secrets.token_hex(16)
    found = yield from ask(lambda rid: SubmitArray(rid, token, spec, steps, (context,)), Submitted)
    warnings = dict.fromkeys((*found.warnings, *(Reason(*pair) for pair in encoder.reach.warnings)))
    return [(found.first, found.first + found.count - 1)], list(warnings)


def _array_spec(job: JobSpec, encoder: Encoder) -> tuple[Spec, bytes]:
    """The volume of directories with marks is that of what they have in common."""
    directory = None if job.cwd is None else os.fsdecode(job.cwd)
    if directory is None or MARK not in directory:
        return encoder.encode(job)
    common = os.path.dirname(directory[: directory.index(MARK)]) or "."
    base, _ = encoder.encode(msgspec.structs.replace(job, cwd=common))
    spec, context = encoder.encode(
        msgspec.structs.replace(job, cwd=os.path.join(from_os(base.cwd), directory))
    )
    return msgspec.structs.replace(spec, volume=base.volume, shape=base.shape), context
