"""Jobs as the Python API gives them back: handles of submitted jobs, and a job as it was when asked."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from kueue.errors import RequestError
from kueue.job import FINISHED, JobState
from kueue.wire.codec import from_os
from kueue.wire.messages import JobChange, JobView, Range, Reason

C = TypeVar("C")


@dataclass(frozen=True, eq=False, repr=False)
class Job:
    """A job at one moment; it does not change by itself. Two are equal if they are the same job.

    `state` is `unknown` if it is not in the server's table (any more). `return_code` is the program's exit
    code, `signal` what killed it. Times are in UTC. What is not known (yet), or was not told, is None or
    empty: `submit` tells the id, `wait` and `as_completed` how it ended, `Client.job` all. Paths and
    arguments that are not UTF-8 are surrogate-escaped, as by `os.fsdecode`.
    """

    id: int
    state: str = "pending"
    worker: str | None = None
    attempt: int = 0
    return_code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    run_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_ram_mb: float | None = None
    command: tuple[str, ...] = ()
    cwd: str = ""
    cpus: int | None = None
    ram_mb: int | None = None
    resources: tuple[tuple[str, int], ...] = ()
    name: str = ""
    group: str = ""
    queue: str = ""
    priority: int = 0
    submitted_at: datetime.datetime | None = None
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    stdout_path: str | None = None
    stderr_path: str | None = None
    submit_host: str = ""
    client: object = None

    @property
    def finished(self) -> bool:
        """Succeeded, failed or canceled."""
        return self.state in FINISHED

    @property
    def succeeded(self) -> bool:
        """It ended with exit code 0."""
        return self.state == JobState.SUCCEEDED

    def __index__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        ended = "" if self.return_code is None else f", return_code={self.return_code}"
        return f"Job(id={self.id}, state={self.state!r}{ended})"


def job_of_change(change: JobChange, client: object = None) -> Job:
    """From what a watcher is told."""
    return Job(
        id=change.id,
        state=change.state,
        worker=change.worker,
        attempt=change.attempt,
        return_code=change.return_code,
        signal=change.signal,
        reason=change.reason,
        run_seconds=change.run_seconds,
        cpu_seconds=change.cpu_seconds,
        peak_ram_mb=change.peak_ram_mb,
        client=client,
    )


def job_of_view(view: JobView, client: object = None) -> Job:
    """From a row of a listing."""
    return Job(
        id=view.id,
        state=view.state,
        worker=view.worker,
        attempt=view.attempt,
        return_code=view.return_code,
        signal=view.signal,
        reason=view.reason,
        run_seconds=view.run_seconds,
        cpu_seconds=view.cpu_seconds,
        peak_ram_mb=view.peak_ram_mb,
        command=tuple(map(from_os, view.command)),
        cwd=from_os(view.cwd),
        cpus=view.cpus,
        ram_mb=view.ram_mb,
        resources=view.resources,
        name=view.name,
        group=view.group,
        queue=view.queue,
        priority=view.priority,
        submitted_at=_utc(view.submitted_at),
        started_at=_utc(view.started_at),
        finished_at=_utc(view.finished_at),
        stdout_path=None if view.stdout_path is None else from_os(view.stdout_path),
        stderr_path=None if view.stderr_path is None else from_os(view.stderr_path),
        submit_host=view.submit_host,
        client=client,
    )


def _utc(seconds: float | None) -> datetime.datetime | None:
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


class SubmittedJobs(Sequence[Job], Generic[C]):
    """What `submit_many` returns: the jobs in their order, kept as ranges of ids however many they are."""

    def __init__(self, client: C, ranges: list[Range], warnings: list[Reason]) -> None:
        self.client = client
        self.ranges = tuple(ranges)
        self.warnings = tuple(warnings)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    @overload
    def __getitem__(self, index: int) -> Job: ...
    @overload
    def __getitem__(self, index: slice) -> list[Job]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = index if index >= 0 else len(self) + index
        if position >= 0:
            for first, last in self.ranges:
                if position <= last - first:
                    return Job(first + position, client=self.client)
                position -= last - first + 1
        raise IndexError(index)

    def __iter__(self) -> Iterator[Job]:
        for first, last in self.ranges:
            for number in range(first, last + 1):
                yield Job(number, client=self.client)

    def __repr__(self) -> str:
        shown = ", ".join(f"{first}-{last}" if last > first else str(first) for first, last in self.ranges)
        return f"<{len(self)} submitted jobs: {shown}>"


def one_of(jobs: SubmittedJobs[C]) -> Job:
    """The job that was submitted.

    Raises:
        RequestError: there is none, for one of its key is in the queue.
    """
    if not jobs:
        raise RequestError("duplicate", "no job was made: one of the same key is in the queue")
    return jobs[0]
