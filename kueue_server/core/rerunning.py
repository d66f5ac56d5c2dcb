"""Which jobs are run again, and as what: a read, in portions; the new jobs are submitted like any others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kueue.job import FINISHED
from kueue.resources import Shape
from kueue.wire.changes import Changes
from kueue.wire.messages import Range, Reason, Spec
from kueue_server.core.admission import Admission
from kueue_server.core.arrays import Tasks
from kueue_server.core.changing import changed
from kueue_server.core.jobs import Job, spec_of
from kueue_server.core.selection import PORTION, Selection
from kueue_server.core.table import task_of
from kueue_server.core.verbs import CHANGE_COST

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Spec).decode


class Reruns(msgspec.Struct):
    """New jobs, gathered portion by portion: `encoded` specs in the order of the old ids. `cursor` is None when all
    are there. `unfinished` and `refused` (and why the first of them) count those that are not run again. `old` are the
    ids of those that are, `following` the places of those that waited for others."""

    cursor: int | None = 0
    encoded: list[bytes] = []
    contexts: list[str] = []
    shapes: dict[Shape, Spec] = {}
    old: list[int] = []
    following: list[int] = []
    unfinished: int = 0
    refused: int = 0
    reason: Reason | None = None


def gather(
    selection: Selection, changes: Changes, admission: Admission, last: int, most: int, found: Reruns
) -> None:
    """Put the next portion into `found`: of the jobs up to `last`, as long as there are not more than `most`."""
    left = PORTION
    for one, named in selection.walk_tasks(cursor=found.cursor):
        if left <= 0:
            return
        jobs: Iterable[Job] = _each(one) if named else ()
        if isinstance(one, Tasks) and one.part.state not in FINISHED:
            found.unfinished += len(one) if named and one.first <= last else 0
            jobs = ()
        for job in jobs:
            if job.id > last or len(found.encoded) > most:
                found.cursor = None
                return
            if left <= 0:
                return
            left -= CHANGE_COST
            found.cursor = job.id
            _gather_one(job, changes, admission, found)
        left -= selection.cost
        found.cursor = one.last if isinstance(one, Tasks) else one.id
        if found.cursor > last:
            break
    found.cursor = None


def _each(found: Job | Tasks) -> Iterator[Job]:
    if isinstance(found, Job):
        yield found
    else:
        for job_id in found.ids():
            yield task_of(found.part, job_id)


def _gather_one(job: Job, changes: Changes, admission: Admission, found: Reruns) -> None:
    if job.state not in FINISHED:
        found.unfinished += 1
        return
    spec = msgspec.structs.replace(changed(spec_of(job), changes), rerun_of=job.id)
    refusal = admission.refusal_of(spec)
    if refusal is not None:
        found.refused += 1
        found.reason = found.reason or refusal
        return
    if spec.waits is not None:
        found.following.append(len(found.old))
    found.old.append(job.id)
    found.encoded.append(_encode(spec))
    found.contexts.append(job.context)
    found.shapes.setdefault(spec.shape, spec)


def follow(found: Reruns, start: int, most: int, first: int) -> int | None:
    """Have new jobs, `first` and on, wait for the new runs of those that the old ones waited for; who is not run again
    is waited for no more. Does `most` of `found.following` from `start` on; where to go on, None when all is done."""
    for place in found.following[start : start + most]:
        spec = _decode(found.encoded[place])
        waits = spec.waits
        assert waits is not None
        after, after_any = (_new_ids(ids, found.old, first) for ids in (waits.after, waits.after_any))
        waits = (
            msgspec.structs.replace(waits, after=after, after_any=after_any) if after or after_any else None
        )
        found.encoded[place] = _encode(msgspec.structs.replace(spec, waits=waits))
    return start + most if start + most < len(found.following) else None


def _new_ids(ids: Sequence[Range], old: Sequence[int], first: int) -> tuple[Range, ...]:
    """The new ids of those of `ids` that are among the `old` ones, whose order they have."""
    result: list[Range] = []
    for low, high in ids:
        begin, end = bisect_left(old, low), bisect_right(old, high)
        if begin < end:
            if result and result[-1][1] + 1 == first + begin:
                begin = result.pop()[0] - first
            result.append((first + begin, first + end - 1))
    return tuple(result)
