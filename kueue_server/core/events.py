"""Past facts that the shell tells the core. `Core.handle(event, now)` is the only way to change it.

`now` is monotonic seconds of the server; `wall` fields are seconds since the epoch, only ever stored and
shown. Sessions and request ids are opaque numbers of the shell.
"""

from __future__ import annotations

import msgspec

from kueue.resources import Capacity
from kueue.wire.messages import (
    AttemptRef,
    Changes,
    FinishedAttempt,
    Range,
    Report,
    RunningAttempt,
    Selector,
    Spec,
    Status,
    Step,
    SystemInfo,
    Waits,
)


class JobsSubmitted(msgspec.Struct, frozen=True):
    """A block that is durable in the journal, or becomes so together with what follows from it. `encoded[i]` is the
    encoded `specs[i]`. `request`: that of the `PredecessorsAsked` for it, if there was one. `whole`: the first id of
    several blocks that follow one another, some of whose jobs may wait for others of them; `more` of them are to
    come."""

    first: int
    specs: tuple[Spec, ...]
    encoded: tuple[bytes, ...]
    wall: float
    request: int = 0
    whole: int = 0
    more: bool = False


class PredecessorsAsked(msgspec.Struct, frozen=True):
    """Jobs are to be submitted that wait for others: for which, and are these there? From the answer on it counts how
    they end; `JobsSubmitted` or `SubmitFailed` follows."""

    request: int
    waits: tuple[Waits, ...]
    wall: float


class SubmitFailed(msgspec.Struct, frozen=True):
    """No jobs come any more of that request: they are not in the journal and never will be, or have all come."""

    request: int


class ArraySubmitted(msgspec.Struct, frozen=True):
    """An array that is already durable in the journal. `spec` has its marks, and says which array it is. `request` is
    that of the question for whom it waits."""

    first: int
    last: int
    spec: Spec
    steps: tuple[Step, ...]
    wall: float
    request: int = 0


class WorkerConnected(msgspec.Struct, frozen=True):
    """A worker registered and sent the whole inventory it has of our journal."""

    session: int
    name: str
    host: str
    version: str
    keeper: str
    boot: str
    capacity: Capacity
    system: SystemInfo
    address: str
    held: tuple[AttemptRef, ...]
    running: tuple[RunningAttempt, ...]
    finished: tuple[FinishedAttempt, ...]
    wall: float


class WorkerDisconnected(msgspec.Struct, frozen=True):
    """The session ended, for whatever reason. `leaving`: the worker said so, and its jobs ended too."""

    session: int
    leaving: bool
    wall: float


class WorkerStatus(msgspec.Struct, frozen=True):
    session: int
    status: Status
    wall: float


class WorkerReported(msgspec.Struct, frozen=True):
    session: int
    report: Report
    wall: float


class WorkerHeard(msgspec.Struct, frozen=True):
    """Any frame arrived from the worker (heartbeats included); renews its lease."""

    session: int
    wall: float


class CancelRequested(msgspec.Struct, frozen=True):
    """`ranges` are ids of which all are told about; with `selector` that says which jobs."""

    request: int
    ranges: tuple[Range, ...]
    kill: bool
    wall: float
    selector: Selector | None = None


class CleanRequested(msgspec.Struct, frozen=True):
    """`selector` None: the whole table."""

    request: int
    failed: bool
    wall: float = 0.0
    selector: Selector | None = None


class ChangeRequested(msgspec.Struct, frozen=True):
    """`changes` are some that `Core.refusal_of_changes` does not refuse."""

    request: int
    selector: Selector
    changes: Changes
    wall: float


class TurnCame(msgspec.Struct, frozen=True):
    """Peers were heard; a verb of many jobs that is under way may go on."""


class ForgetWorkerRequested(msgspec.Struct, frozen=True):
    """`worker` is an id, a worker's name, or its host's name where that is unique."""

    request: int
    worker: str
    wall: float


class PauseRequested(msgspec.Struct, frozen=True):
    """A person keeps workers from taking jobs; `globs` are over ids, names and hosts. `kill`: what they have is ended
    and goes back to the queue."""

    request: int
    globs: tuple[str, ...]
    kill: bool
    reason: str
    wall: float


class ResumeRequested(msgspec.Struct, frozen=True):
    """A person lets workers take jobs again."""

    request: int
    globs: tuple[str, ...]


class PauseQueuesRequested(msgspec.Struct, frozen=True):
    """A person wants nothing of these queues to start."""

    request: int
    queues: tuple[str, ...]
    reason: str
    wall: float


class ResumeQueuesRequested(msgspec.Struct, frozen=True):
    """A person lets jobs of these queues start again."""

    request: int
    queues: tuple[str, ...]


class SetQueueRequested(msgspec.Struct, frozen=True):
    """What is None stays as it is; a `max_running` of 0 is no limit."""

    request: int
    queue: str
    weight: int | None
    max_running: int | None


class RemoveQueueRequested(msgspec.Struct, frozen=True):
    """What is set of a queue goes, and its finished jobs; with `cancel`, unfinished ones are canceled."""

    request: int
    queue: str
    cancel: bool
    wall: float


class LimitsChanged(msgspec.Struct, frozen=True):
    """Reload: the new amounts of global resources and the other limits (`Limits` in `core.py`)."""

    limits: Limits


class Tick(msgspec.Struct, frozen=True):
    """Time passed; the shell sends one at least every second. `late` is by how much this tick came later
    than it should have: the server itself slept, so every deadline moves by that much."""

    wall: float
    late: float = 0.0


class Limits(msgspec.Struct, frozen=True):
    """What the configuration says; everything that the core needs of it."""

    global_resources: tuple[tuple[str, int], ...] = ()
    global_max_parallel_jobs: int | None = None
    worker_timeout_seconds: float = 600.0
    job_offer_timeout_seconds: float = 60.0
    job_cleanup_after_seconds: float = 40320 * 60.0
    max_finished_jobs: int = 1_000_000
    starvation_seconds: float = 60.0
    worker_pause_after_failures: int = 10  # 0: never
    maintenance_interval_seconds: float = 60.0  # how often finished jobs are looked over for retention


Event = (
    JobsSubmitted
    | ArraySubmitted
    | PredecessorsAsked
    | SubmitFailed
    | WorkerConnected
    | WorkerDisconnected
    | WorkerStatus
    | WorkerReported
    | WorkerHeard
    | CancelRequested
    | CleanRequested
    | ChangeRequested
    | TurnCame
    | ForgetWorkerRequested
    | PauseRequested
    | ResumeRequested
    | PauseQueuesRequested
    | ResumeQueuesRequested
    | SetQueueRequested
    | RemoveQueueRequested
    | LimitsChanged
    | Tick
)
