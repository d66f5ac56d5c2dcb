"""Which jobs are run again, and as what: a read, in portions; the new jobs are submitted like any others."""

from __future__ import annotations

import msgspec

from kueue.job import FINISHED
from kueue.resources import Shape
from kueue.wire.changes import Changes
from kueue.wire.messages import Reason, Spec
from kueue_server.core.admission import Admission
from kueue_server.core.changing import changed
from kueue_server.core.selection import PORTION, Selection
from kueue_server.core.table import spec_of
from kueue_server.core.verbs import CHANGE_COST

_encode = msgspec.json.Encoder().encode


class Reruns(msgspec.Struct):
    """New jobs, gathered portion by portion: `encoded` specs in the order of the old ids. `cursor` is None when all
    are there. `unfinished` and `refused` (and why the first of them) count those that are not run again."""

    cursor: int | None = 0
    encoded: list[bytes] = []
    contexts: list[str] = []
    shapes: dict[Shape, Spec] = {}
    unfinished: int = 0
    refused: int = 0
    reason: Reason | None = None


def gather(
    selection: Selection, changes: Changes, admission: Admission, last: int, most: int, found: Reruns
) -> None:
    """Put the next portion into `found`: of the jobs up to `last`, as long as there are not more than `most`."""
    left = PORTION
    for job, named in selection.walk(cursor=found.cursor):
        if job.id > last or len(found.encoded) > most:
            break
        if left <= 0:
            return
        left -= selection.cost
        found.cursor = job.id
        if not named:
            continue
        if job.state not in FINISHED:
            found.unfinished += 1
            continue
        left -= CHANGE_COST
        spec = msgspec.structs.replace(changed(spec_of(job), changes), rerun_of=job.id)
        refusal = admission.refusal_of(spec)
        if refusal is not None:
            found.refused += 1
            found.reason = found.reason or refusal
            continue
        found.encoded.append(_encode(spec))
        found.contexts.append(job.context)
        found.shapes.setdefault(spec.shape, spec)
    found.cursor = None
