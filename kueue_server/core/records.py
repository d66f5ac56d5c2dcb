"""What the core keeps of a job and of a worker, and the encoded parts that the journal keeps of them."""

from __future__ import annotations

import msgspec

from kueue.indices import Step
from kueue.job import JobState
from kueue.resources import Capacity
from kueue.wire.messages import AttemptView, OsString, Reason, Spec, SystemInfo


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How the job's last attempt ended, for listings and `show-job`."""

    finished_at: float
    exit_code: int | None = None
    signal: int | None = None
    run_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_ram_mb: float = 0.0
    stdout_path: OsString | None = None
    stderr_path: OsString | None = None


class Progress(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The changeable part of a job, as the journal keeps it.

    `worker` and `fence` name the current attempt, the one whose reports count; they stay after a lost
    worker until a newer one is handed out; `fence` 0: there is none (never handed out, or refused).
    `holding`: attempts `(worker, fence)` that are unconfirmed, so may still live and hold licences.
    `attempt` counts handings-over that may have started. `retry_at`: when a waiting job is tried again, by the wall.
    """

    fence: int = 0
    worker: int = 0
    attempt: int = 0
    losses: int = 0
    retries: int = 0
    holding: tuple[tuple[int, int], ...] = ()
    started_at: float | None = None
    outcome: Outcome | None = None
    reason: Reason | None = None
    attempts: tuple[AttemptView, ...] = ()
    retry_at: float | None = None


class WorkerRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the journal keeps of a worker."""

    name: str
    host: str
    version: str
    keeper: str
    boot: str
    capacity: Capacity
    system: SystemInfo
    last_seen_at: float


class PlanRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the journal keeps of an array as it was submitted; `spec` has its marks. `reason`: that of a part."""

    spec: Spec
    steps: tuple[Step, ...]
    reason: Reason | None = None


class RestoredPart(msgspec.Struct, frozen=True):
    """Tasks of an array as the journal had them. `plan` is an encoded `PlanRecord`."""

    first: int
    last: int
    submitted_at: float
    plan: bytes
    state: JobState
    finished_at: float


class RestoredJob(msgspec.Struct, frozen=True, gc=False):
    """A job as the journal had it. `spec` is the encoded `Spec`, empty for a task of an array that is as it was
    submitted; `progress` None: never changed."""

    job: int
    submitted_at: float
    state: JobState
    spec: bytes
    progress: bytes | None


class RestoredStop(msgspec.Struct, frozen=True, gc=False):
    worker: int
    job: int
    fence: int
    why: str


class RestoredPause(msgspec.Struct, frozen=True, gc=False):
    worker: int
    since: float
    reason: str


class RestoredQueue(msgspec.Struct, frozen=True, gc=False):
    queue: str
    weight: int
    max_running: int | None
    paused_since: float | None
    reason: str


class Restored(msgspec.Struct, frozen=True):
    """All that the core starts from after a restart. Jobs come as an iterable of batches by id so that a
    million of them need not be in memory twice; `next_job` is above every id ever assigned."""

    next_job: int
    workers: tuple[tuple[int, WorkerRecord], ...] = ()
    stops: tuple[RestoredStop, ...] = ()
    pauses: tuple[RestoredPause, ...] = ()
    queues: tuple[RestoredQueue, ...] = ()
    parts: tuple[RestoredPart, ...] = ()


_record_encoder = msgspec.json.Encoder()


def encoded_plan(spec: Spec, steps: tuple[Step, ...], reason: Reason | None = None) -> bytes:
    """An array for the journal."""
    return _record_encoder.encode(PlanRecord(spec, steps, reason))


def encoded_record(record: WorkerRecord) -> bytes:
    """A worker's record for the journal."""
    return _record_encoder.encode(record)
