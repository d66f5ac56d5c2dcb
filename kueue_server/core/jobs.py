"""The record of a job: what decisions need of it.

The rest stays in its encoded spec, and is decoded when somebody looks.
"""

from __future__ import annotations

import msgspec

from kueue.job import JobState
from kueue.resources import Shape
from kueue.wire.messages import AttemptView, OsString, Reason, Spec, Waits
from kueue.wire.words import DEFAULT_QUEUE
from kueue_server.core.closed import path_bytes
from kueue_server.core.pending import Lane, order_key
from kueue_server.core.programs import Program
from kueue_server.core.records import Outcome, Progress

MAX_ATTEMPTS_KEPT = 32
"""Ended attempts that a job remembers; the oldest go first."""

LOST_CODES = frozenset({"lost", "max_restarts"})
"""Reasons of failures that a worker which comes back may still prove wrong."""


class Job(msgspec.Struct, gc=False):
    """A job as the server holds it in memory. The fields from `fence` on are those of `Progress`."""

    id: int
    spec: bytes
    lane: Lane
    context: str
    group: str
    submitted_at: float
    priority: int
    restart: bool
    state: JobState = JobState.PENDING
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

    @property
    def key(self) -> int:
        """Its place among pending jobs."""
        return order_key(self.priority, self.id)

    @property
    def failed_as_lost(self) -> bool:
        """Failed because its worker fell silent, which that worker may still prove wrong."""
        return self.state is JobState.FAILED and self.reason is not None and self.reason.code in LOST_CODES


class SpecHead(msgspec.Struct, gc=False):
    """The part of an encoded `Spec` that a record is made of; names and defaults are those of `Spec`."""

    volume: OsString
    shape: Shape
    context: str
    group: str = ""
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    restart: bool = True
    max_retries: int = 0
    key: str = ""
    waits: Waits | None = None
    array: int | None = None
    max_running: int | None = None


class _Place(msgspec.Struct, gc=False):
    cwd: OsString


class _Words(msgspec.Struct, gc=False):
    argv: tuple[OsString, ...]


class _Program(msgspec.Struct, gc=False):
    cwd: OsString
    payload: _Words


class _Restarts(msgspec.Struct, gc=False):
    max_restarts: int = 5


class _Key(msgspec.Struct, gc=False):
    key: str = ""


class _Waiting(msgspec.Struct, gc=False):
    waits: Waits | None = None


_spec_decoder = msgspec.json.Decoder(Spec)
_place_decoder = msgspec.json.Decoder(_Place)
_program_decoder = msgspec.json.Decoder(_Program)
_restarts_decoder = msgspec.json.Decoder(_Restarts)
_key_decoder = msgspec.json.Decoder(_Key)
_waiting_decoder = msgspec.json.Decoder(_Waiting)
_progress_encoder = msgspec.json.Encoder()


def spec_of(job: Job) -> Spec:
    """A job as it was asked for."""
    return _spec_decoder.decode(job.spec)


def cwd_of(job: Job) -> bytes:
    """A job's working directory."""
    return path_bytes(_place_decoder.decode(job.spec).cwd)


def program_of(job: Job) -> Program:
    """Which program a job means, as exactly as can be told without its environment."""
    found = _program_decoder.decode(job.spec)
    return Program(path_bytes(found.payload.argv[0]), job.context, path_bytes(found.cwd))


def key_of(job: Job) -> str:
    """A job's key, empty if it has none."""
    return _key_decoder.decode(job.spec).key


def max_restarts_of(job: Job) -> int:
    """How often a job may be lost."""
    return _restarts_decoder.decode(job.spec).max_restarts


def waits_of(job: Job) -> Waits | None:
    """What a job was to wait for, whether it still does or not."""
    return _waiting_decoder.decode(job.spec).waits


def encoded_progress(job: Job) -> bytes:
    """What the journal keeps of a job beside its spec and state."""
    return _progress_encoder.encode(
        Progress(
            job.fence,
            job.worker,
            job.attempt,
            job.losses,
            job.retries,
            job.holding,
            job.started_at,
            job.outcome,
            job.reason,
            job.attempts,
            job.retry_at,
        )
    )
