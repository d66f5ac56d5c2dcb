"""Orders that the core gives the shell, in the order in which they must take effect.

Two kinds: `Save…`/`Drop…` change the journal, everything else leaves the server. The shell lets nothing
leave before every journal change that came earlier in the list (of this and all former steps) is
committed, so an acknowledgement or an offer is never ahead of the disk.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kueue.job import JobState
from kueue.wire.messages import Range, Reason, ToWorker, Waits

# ---------------------------------------------------------------- journal


class SaveJob(msgspec.Struct, frozen=True, gc=False):
    """Write a job's changeable part. `progress` is an encoded `records.Progress`."""

    job: int
    state: JobState
    progress: bytes


class SaveSpec(msgspec.Struct, frozen=True, gc=False):
    """Write what is asked for by a job that was changed."""

    job: int
    spec: bytes


class SaveTask(msgspec.Struct, frozen=True, gc=False):
    """A task of an array becomes a job by itself, with a spec of its own."""

    job: int
    submitted_at: float
    context: str
    spec: bytes


class SavePart(msgspec.Struct, frozen=True, gc=False):
    """Write what is kept of tasks of an array as long as they are all the same. `plan` is an encoded
    `records.PlanRecord`; a part that begins with the same task is replaced."""

    first: int
    last: int
    submitted_at: float
    context: str
    plan: bytes
    state: JobState
    finished_at: float


class DropPart(msgspec.Struct, frozen=True, gc=False):
    """The part that begins with this task is no more."""

    first: int


class SaveTails(msgspec.Struct, frozen=True, gc=False):
    """Keep the ends of an attempt's output."""

    job: int
    attempt: int
    stdout: bytes
    stderr: bytes


class SaveWorker(msgspec.Struct, frozen=True, gc=False):
    """Write what must be known of a worker after a restart. `record` is an encoded `records.WorkerRecord`."""

    worker: int
    name: str
    record: bytes


class DropWorker(msgspec.Struct, frozen=True, gc=False):
    worker: int


class SaveStop(msgspec.Struct, frozen=True, gc=False):
    """Keep a stop order until the worker has confirmed the end of that attempt."""

    worker: int
    job: int
    fence: int
    why: Literal["canceled", "superseded"]


class DropStop(msgspec.Struct, frozen=True, gc=False):
    worker: int
    job: int
    fence: int


class SavePause(msgspec.Struct, frozen=True, gc=False):
    """Keep that a person has paused a worker, since when and why."""

    worker: int
    since: float
    reason: str


class DropPause(msgspec.Struct, frozen=True, gc=False):
    worker: int


class SaveQueue(msgspec.Struct, frozen=True, gc=False):
    """Keep what a person has set of a queue. `paused_since` None: it is not paused."""

    queue: str
    weight: int
    max_running: int | None
    paused_since: float | None
    reason: str


class DropQueue(msgspec.Struct, frozen=True, gc=False):
    queue: str


class DropJobs(msgspec.Struct, frozen=True, gc=False):
    """These jobs leave the table, with their tails and what only they refer to."""

    ranges: tuple[Range, ...]


# ---------------------------------------------------------------- outside


class SendWorker(msgspec.Struct, frozen=True, gc=False):
    """Send to a worker's session; dropped silently if it has ended meanwhile."""

    session: int
    message: ToWorker


class OfferJobs(msgspec.Struct, frozen=True, gc=False):
    """Offer to a worker's session: `(job, fence, attempt, encoded spec, context hash)` each. The shell
    adds the contexts that the session has not been sent and cuts it into messages."""

    session: int
    jobs: tuple[tuple[int, int, int, bytes, str], ...]


class CloseSession(msgspec.Struct, frozen=True, gc=False):
    """End a worker's session after sending `reason` as a `Refuse` (None: without a word)."""

    session: int
    reason: Reason | None


class AnswerCancel(msgspec.Struct, frozen=True, gc=False):
    request: int
    canceled: int
    finished: tuple[Range, ...]
    running: tuple[Range, ...]
    unknown: tuple[Range, ...]


class AnswerClean(msgspec.Struct, frozen=True, gc=False):
    request: int
    dropped: int
    kept: int = 0


class AnswerChange(msgspec.Struct, frozen=True, gc=False):
    """`reason`: why the first of the `refused` was."""

    request: int
    changed: int
    started: int
    finished: int
    refused: int
    reason: Reason | None


class AnswerForgetWorker(msgspec.Struct, frozen=True, gc=False):
    """`error` or what was done, as lines for people."""

    request: int
    error: Reason | None
    lines: tuple[str, ...]


class AnswerSteering(msgspec.Struct, frozen=True, gc=False):
    """`error`, or the names of the workers that are paused or take jobs again, and lines for people."""

    request: int
    error: Reason | None
    workers: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


class AnswerQueues(msgspec.Struct, frozen=True, gc=False):
    """`error`, or what was done to queues, as lines for people."""

    request: int
    error: Reason | None
    lines: tuple[str, ...] = ()


class AnswerPredecessors(msgspec.Struct, frozen=True, gc=False):
    """`error`, or what each of the `Waits` that were asked about means, in their order: ids alone."""

    request: int
    error: Reason | None
    waits: tuple[Waits, ...] = ()


class JobsChanged(msgspec.Struct, frozen=True, gc=False):
    """These jobs changed as people see them: for the watchers. Emitted last in a step, ids in order. `ranges` are
    large numbers of them."""

    jobs: tuple[int, ...]
    ranges: tuple[Range, ...] = ()


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """Something that the person who runs the server wants to read."""

    level: Literal["debug", "info", "warning", "error"]
    text: str


JournalWrite = (
    SaveJob
    | SaveSpec
    | SaveTask
    | SavePart
    | DropPart
    | SaveTails
    | SaveWorker
    | DropWorker
    | SaveStop
    | DropStop
    | SavePause
    | DropPause
    | SaveQueue
    | DropQueue
    | DropJobs
)
Instruction = (
    JournalWrite
    | SendWorker
    | OfferJobs
    | CloseSession
    | AnswerCancel
    | AnswerClean
    | AnswerChange
    | AnswerForgetWorker
    | AnswerSteering
    | AnswerQueues
    | AnswerPredecessors
    | JobsChanged
    | LogLine
)
