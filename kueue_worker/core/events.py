"""Past facts that the agent's shell tells its core. Only `Machine.handle(event, now)` changes it.

`now` and all times here are seconds of one clock that counts while the machine sleeps (CLOCK_BOOTTIME). A
*key* names an attempt as the keeper does: `<journal>/<job>/<fence>`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kueue.job import End
from kueue.resources import Shape
from kueue.wire.messages import AttemptRef, Number, OsString, Reason, Spec

# ---------------------------------------------------------------- the keeper


class Note(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What the keeper remembers for the agent with each attempt, so that a new agent knows all it needs.

    `units` are the units of this worker's own resources that the attempt has. `stdout`/`stderr` are the
    absolute paths of its output, `"null"` if discarded, None for the spool.
    """

    journal: str
    job: Number
    fence: Number
    attempt: Number
    shape: Shape = Shape()
    units: tuple[tuple[str, tuple[str, ...]], ...] = ()
    stdout: OsString | None = None
    stderr: OsString | None = None


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How an attempt ended, as the keeper saw it. `ended` None: nobody knows when."""

    end: End
    exit_code: int | None = None
    signal: int | None = None
    started: float | None = None
    ended: float | None = None
    cpu_seconds: float = 0.0
    peak_ram_mb: float = 0.0
    reason: Reason | None = None


class KeptAttempt(msgspec.Struct, frozen=True, gc=False):
    """A record of the keeper: of a running attempt, or of an ended one that nobody has dropped yet."""

    key: str
    note: Note
    started: float | None = None
    ended: Ended | None = None


class KeeperReady(msgspec.Struct, frozen=True):
    """A keeper answered with all its records; `keeper` is the random id of its process. `has_line`: starts can be
    ordered ahead."""

    keeper: str
    records: tuple[KeptAttempt, ...] = ()
    has_line: bool = False


class KeeperGone(msgspec.Struct, frozen=True):
    """The keeper's connection ended; the shell is getting another keeper."""


class KeeperSilent(msgspec.Struct, frozen=True):
    """The keeper has not answered for so long; 0: it answers again."""

    seconds: float


class KeeperLeaving(msgspec.Struct, frozen=True):
    """The keeper was told to end by somebody else: it is interrupting all jobs."""


class AttemptStarted(msgspec.Struct, frozen=True, gc=False):
    key: str
    started: float


class AttemptEnded(msgspec.Struct, frozen=True, gc=False):
    """`next`: it was in the keeper's line and starts now, in the room of the one that ended."""

    key: str
    ended: Ended
    next: str | None = None


class OutputExceeded(msgspec.Struct, frozen=True, gc=False):
    """A running attempt has written more than this worker's cap; told again until it has ended."""

    key: str


class SpawnUndone(msgspec.Struct, frozen=True, gc=False):
    """The keeper did not spawn it, since it has forgotten the environment; it has to be prepared again."""

    key: str


class StartDropped(msgspec.Struct, frozen=True, gc=False):
    """The keeper took it out of its line, as it was told; it has not started."""

    key: str


# ---------------------------------------------------------------- checks on this machine


class LookDone(msgspec.Struct, frozen=True, gc=False):
    """The working directory of an attempt was looked at. `refusal` None: it is there. `ancestor` as in
    `RefusedAttempt`."""

    key: str
    refusal: Reason | None = None
    ancestor: OsString | None = None


class PrepareDone(msgspec.Struct, frozen=True, gc=False):
    """Everything for a start is open and at hand, or `refusal` (another worker may try), or `failure`
    (the job can't be run). `stdout`/`stderr` as in `Note`."""

    key: str
    refusal: Reason | None = None
    ancestor: OsString | None = None
    failure: Reason | None = None
    stdout: OsString | None = None
    stderr: OsString | None = None


class TailsRead(msgspec.Struct, frozen=True, gc=False):
    key: str
    stdout: bytes
    stderr: bytes


class Measured(msgspec.Struct, frozen=True):
    """What the machine and our jobs used since the last measurement (CPUs, on average) and use now (MB)."""

    cpus_used: float
    cpus_used_by_ours: float
    ram_used_mb: float
    ram_used_by_ours_mb: float
    load: tuple[float, float, float]
    uptime_seconds: float


class SpoolChanged(msgspec.Struct, frozen=True):
    """The spool's file system has room, or `full` says what is wrong with it."""

    full: str


class SystemStopping(msgspec.Struct, frozen=True):
    """The operating system is shutting down."""


# ---------------------------------------------------------------- the server


class Welcomed(msgspec.Struct, frozen=True):
    """The server took our registration; it keeps this journal. `highest_job`: the spool remembers it."""

    journal: str
    worker_timeout_seconds: float
    highest_job: int = 0


class ServerGone(msgspec.Struct, frozen=True):
    """The session ended."""


class ServerHeard(msgspec.Struct, frozen=True):
    """Any message arrived from the server."""


class OfferedAttempt(msgspec.Struct, frozen=True, gc=False):
    job: int
    fence: int
    attempt: int
    spec: Spec


class Offered(msgspec.Struct, frozen=True):
    jobs: tuple[OfferedAttempt, ...]


class Acknowledged(msgspec.Struct, frozen=True):
    attempts: tuple[AttemptRef, ...]


class StopOrdered(msgspec.Struct, frozen=True):
    attempts: tuple[AttemptRef, ...]
    why: Literal["canceled", "superseded"]


class RetractOrdered(msgspec.Struct, frozen=True):
    attempts: tuple[AttemptRef, ...]


# ---------------------------------------------------------------- people


class DrainRequested(msgspec.Struct, frozen=True):
    """Take no more, end when the running jobs have ended (first Ctrl-C, `Leave`)."""

    why: str


class EndRequested(msgspec.Struct, frozen=True):
    """End now: running jobs are interrupted (second Ctrl-C, SIGTERM, `Leave(kill=True)`)."""

    why: str


class DepartRequested(msgspec.Struct, frozen=True):
    """Only the agent ends; keeper and jobs live on (SIGUSR2: an upgrade)."""


class TimePassed(msgspec.Struct, frozen=True):
    """A deadline that the core named (`next_deadline`) is over."""


Event = (
    KeeperReady
    | KeeperGone
    | KeeperSilent
    | KeeperLeaving
    | AttemptStarted
    | AttemptEnded
    | OutputExceeded
    | SpawnUndone
    | StartDropped
    | LookDone
    | PrepareDone
    | TailsRead
    | Measured
    | SpoolChanged
    | SystemStopping
    | Welcomed
    | ServerGone
    | ServerHeard
    | Offered
    | Acknowledged
    | StopOrdered
    | RetractOrdered
    | DrainRequested
    | EndRequested
    | DepartRequested
    | TimePassed
)
