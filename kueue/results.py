"""What the Python API gives back: plain strings, aware times in UTC. `replies.py` makes them from the wire's views.

A value is how things were when the server answered; it does not change by itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import msgspec

from kueue.job import FINISHED, JobState
from kueue.wire.messages import Context, JobCounts, Range, Reason, Stream, SystemInfo

UNKNOWN = "unknown"
"""State of a job that is not in the server's table: it never was, or it has been cleaned."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One handing-over of a job to a worker. `end` is empty while it is current."""

    attempt: int
    worker: str
    end: str = ""
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    return_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None


class Job(msgspec.Struct, frozen=True, eq=False):
    """A job as it was when the server spoke of it. Two are equal if they are the same job, whatever their state.

    What the answer did not tell is None or empty: `Client.submit` knows little more than the id, `wait` and
    `as_completed` tell how it ended, `Client.jobs` and `Client.job` tell all. Paths and arguments that are not
    UTF-8 are surrogate-escaped, as `os.fsdecode` does.
    """

    id: int
    state: str
    command: tuple[str, ...] = ()
    cwd: str | None = None
    cpus: int | None = None
    ram_mb: int | None = None
    job_slots: int | None = None
    resources: dict[str, int] = {}
    name: str = ""
    group: str = ""
    queue: str = "default"
    priority: int = 0
    worker: str | None = None
    attempt: int = 0
    attempts: tuple[Attempt, ...] = ()
    restarts: int = 0
    return_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    submitted_at: datetime.datetime | None = None
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    run_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_ram_mb: float | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    submit_host: str = ""
    warnings: tuple[str, ...] = ()
    _client: Any = None

    @property
    def finished(self) -> bool:
        """Nothing more will come of it by itself: succeeded, failed or canceled."""
        return self.state in FINISHED

    @property
    def succeeded(self) -> bool:
        """It ended well."""
        return self.state == JobState.SUCCEEDED

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        ended = f", return_code={self.return_code}" if self.return_code is not None else ""
        return f"Job(id={self.id}, state={self.state!r}{ended})"


class Jobs(Sequence[Job]):
    """The jobs of one `submit_many`, in order; takes the same memory for ten and for a million.

    `warnings` are the server's, e.g. that no connected worker is large enough.
    """

    def __init__(
        self, ranges: Iterable[Range], warnings: Iterable[str] = (), client: object | None = None
    ) -> None:
        self.ranges: tuple[Range, ...] = tuple(ranges)
        self.warnings: tuple[str, ...] = tuple(warnings)
        self._client = client
        self._length = sum(last - first + 1 for first, last in self.ranges)

    @property
    def ids(self) -> Iterator[int]:
        """Their ids, in order."""
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Job]:
        for job in self.ids:
            yield self._job(job)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Job | list[Job]:
        if isinstance(index, slice):
            return [self._job(self._id(at)) for at in range(*index.indices(self._length))]
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(f"{index} of {self._length} jobs")
        return self._job(self._id(at))

    def __contains__(self, job: object) -> bool:
        number = job.id if isinstance(job, Job) else job
        return isinstance(number, int) and any(first <= number <= last for first, last in self.ranges)

    def __repr__(self) -> str:
        shown = ", ".join(f"{first}–{last}" for first, last in self.ranges[:3])
        more = ", …" if len(self.ranges) > 3 else ""
        return f"Jobs({shown}{more})"

    def _id(self, at: int) -> int:
        for first, last in self.ranges:
            if at <= last - first:
                return first + at
            at -= last - first + 1
        raise IndexError

    def _job(self, number: int) -> Job:
        return Job(number, JobState.PENDING.value, _client=self._client)


class JobDetails(msgspec.Struct, frozen=True):
    """All about one job. The tails are the ends of the output of its last finished attempt; None: not kept.
    `context` (environment, umask, limits) only where it was asked for."""

    job: Job
    max_restarts: int
    restart: bool
    time_limit_seconds: float | None
    workers: tuple[str, ...]
    not_workers: tuple[str, ...]
    stdout_tail: bytes | None
    stderr_tail: bytes | None
    context: Context | None


class CancelResult(msgspec.Struct, frozen=True):
    """How many jobs were canceled, and the ranges of ids that were not: finished already, running (they need
    `kill`), or unknown."""

    canceled: int
    finished: tuple[Range, ...]
    running: tuple[Range, ...]
    unknown: tuple[Range, ...]


class LogPart(msgspec.Struct, frozen=True):
    """A piece of a job's output. `tail`: its worker can't be asked; these bytes are the end that the server
    keeps, and `path`, if the output did not stay on the worker, is where the whole of it is."""

    stream: Stream
    data: bytes
    attempt: int
    offset: int
    tail: bool = False
    worker: str | None = None
    path: str | None = None


class Worker(msgspec.Struct, frozen=True):
    """A worker. `state`: `connected`, `silent` (not heard of, its jobs still count as its own), `lost`,
    `leaving`. `jobs` run there, `held` wait there, `unconfirmed` may still run there though it is lost.
    `load`, `busy` (0…1) and what follows are of its last report."""

    id: int
    name: str
    host: str
    version: str
    state: str
    cpus: int
    cpus_free: float
    ram_mb: int
    ram_free_mb: float
    job_slots: int
    slots_free: int
    resources: dict[str, int]
    resources_free: dict[str, int]
    jobs: int
    held: int
    unconfirmed: int
    connected_at: datetime.datetime | None
    last_seen_at: datetime.datetime | None
    system: SystemInfo
    load: tuple[float, float, float] = (0.0, 0.0, 0.0)
    busy: float = 0.0
    ram_used_mb: float = 0.0
    uptime_seconds: float = 0.0
    accepting: bool = True
    note: str = ""
    keeper_silent_seconds: float = 0.0


class WorkerDetails(msgspec.Struct, frozen=True):
    """All about one worker; ids of its jobs (at most 1,000 of each kind), and the directories that it is known
    not to see."""

    worker: Worker
    running: tuple[int, ...]
    held: tuple[int, ...]
    unconfirmed: tuple[int, ...]
    address: str
    closed: tuple[str, ...]


class Resource(msgspec.Struct, frozen=True):
    """A global resource, e.g. licences of a program; `jobs` (at most 1,000 ids) hold it."""

    name: str
    used: int
    total: int
    jobs: tuple[int, ...] = ()


class Resources(msgspec.Struct, frozen=True):
    """The global resources (iterate over it), and how many jobs run at a time, of how many that may."""

    resources: tuple[Resource, ...]
    parallel_jobs: int
    max_parallel_jobs: int | None

    def __iter__(self) -> Iterator[Resource]:
        return iter(self.resources)

    def __len__(self) -> int:
        return len(self.resources)

    def __bool__(self) -> bool:
        return True


class ServerDetails(msgspec.Struct, frozen=True):
    """The server itself. `journal` is the id of its journal; `journal_error` is set while it can't write it."""

    version: str
    journal: str
    host: str
    pid: int
    started_at: datetime.datetime
    state_dir: str
    counts: JobCounts
    workers: int
    journal_error: str
