"""What both clients offer, as pairs of a request and how its answer is understood. No I/O.

Each function returns an operation; `Client` runs it, `AsyncClient` awaits it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from kueue.errors import UsageError
from kueue.job_handle import Job, SubmittedJobs
from kueue.operations import Operation, ask, parts_of, ranges_of
from kueue.wire.codec import to_os
from kueue.wire.messages import (
    Backup,
    Cancel,
    Canceled,
    Clean,
    Cleaned,
    Done,
    ForgetWorker,
    JobCounts,
    JobDetail,
    JobFilter,
    JobPage,
    ListJobs,
    ListResources,
    ListWorkers,
    Range,
    Reload,
    ResourcePage,
    ServerInfo,
    ServerState,
    ShowJob,
    ShowWorker,
    Shutdown,
    WorkerDetail,
    WorkerPage,
    WorkerView,
)

Jobs = Job | int | Iterable[Job | int]


def ranges_of_jobs(jobs: Jobs) -> tuple[Range, ...]:
    """Ranges of ids of a job, an id, or any iterable of them."""
    if isinstance(jobs, SubmittedJobs):
        return tuple(jobs.ranges)
    if isinstance(jobs, Job):
        return ((jobs.id, jobs.id),)
    if isinstance(jobs, int):
        return ((id_of(jobs), jobs),)
    return ranges_of(map(id_of, jobs))


def id_of(job: Job | int) -> int:
    """Of a job or an id."""
    number = job if isinstance(job, int) else job.id
    if number < 1 or number >= 2**62:
        raise UsageError(f"{number} is no job id")
    return number


def filter_of(states: Sequence[str], jobs: Jobs | None, group: str | None) -> JobFilter:
    """For listings."""
    ranges = () if jobs is None else ranges_of_jobs(jobs)
    return JobFilter(ranges=ranges, states=tuple(states), group=group)


def counts() -> Operation[JobCounts]:
    """The table by state."""
    request = partial(ListJobs, limit=1, newest_first=True, counts=True)
    found = (yield from ask(request, JobPage)).counts
    return JobCounts() if found is None else found


def detail(job: Job | int, context: bool) -> Operation[JobDetail]:
    """All about one job."""
    number = id_of(job)
    return (yield from ask(lambda rid: ShowJob(rid, number, context), JobDetail))


def cancel(jobs: Jobs, kill: bool) -> Operation[Canceled]:
    """Cancel; running ones only with `kill`. An empty selection cancels nothing."""
    whole = Canceled(0, 0)
    for ranges in parts_of(ranges_of_jobs(jobs)):

        def request(rid: int, ranges: tuple[Range, ...] = ranges) -> Cancel:
            return Cancel(rid, ranges, kill)

        part = yield from ask(request, Canceled)
        whole = Canceled(
            part.rid,
            whole.canceled + part.canceled,
            whole.finished + part.finished,
            whole.running + part.running,
            whole.unknown + part.unknown,
        )
    return whole


def clean(failed: bool) -> Operation[int]:
    """Drop finished jobs; how many."""
    return (yield from ask(lambda rid: Clean(rid, failed), Cleaned)).dropped


def workers() -> Operation[tuple[WorkerView, ...]]:
    """All workers."""
    return (yield from ask(ListWorkers, WorkerPage)).workers


def worker(name: str | int) -> Operation[WorkerDetail]:
    """One worker, by id, name or host."""
    text = str(name)
    return (yield from ask(lambda rid: ShowWorker(rid, text), WorkerDetail))


def resources() -> Operation[ResourcePage]:
    """The global resources."""
    return (yield from ask(ListResources, ResourcePage))


def forget_worker(name: str | int) -> Operation[tuple[str, ...]]:
    """Confirm that a lost worker's jobs are dead; lines for people."""
    text = str(name)
    return (yield from ask(lambda rid: ForgetWorker(rid, text), Done)).lines


def backup(path: str | os.PathLike[str]) -> Operation[Any]:
    """A copy of the journal on the server's machine."""
    return (yield from ask(lambda rid: Backup(rid, to_os(os.path.abspath(path))), Done))


def reload() -> Operation[tuple[str, ...]]:
    """Reread the configuration; what changed."""
    return (yield from ask(Reload, Done)).lines


def shutdown(workers: bool, kill: bool) -> Operation[tuple[str, ...]]:
    """End the server; what becomes of jobs."""
    # Not to be repeated: the server that answers next may have been started since.
    return (yield from ask(lambda rid: Shutdown(rid, workers, kill), Done, repeatable=False)).lines


def server_info() -> Operation[ServerState]:
    """About the server itself."""
    return (yield from ask(ServerInfo, ServerState))
