"""What both clients offer, as pairs of a request and how its answer is understood. No I/O.

Each function returns an operation; `Client` runs it, `AsyncClient` awaits it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
    ForgetWorker,
    JobCounts,
    JobDetail,
    JobFilter,
    ListJobs,
    ListResources,
    ListWorkers,
    PauseWorkers,
    Range,
    Reload,
    ResourcePage,
    ResumeWorkers,
    ServerInfo,
    ServerState,
    ShowJob,
    ShowWorker,
    Shutdown,
    Steered,
    WorkerDetail,
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
    reply = yield from ask(lambda rid: ListJobs(rid, limit=1, newest_first=True, counts=True))
    found: JobCounts = reply.counts
    return found


def detail(job: Job | int, context: bool) -> Operation[JobDetail]:
    """All about one job."""
    number = id_of(job)
    return (yield from ask(lambda rid: ShowJob(rid, number, context)))  # type: ignore[no-any-return]


def cancel(jobs: Jobs, kill: bool) -> Operation[Canceled]:
    """Cancel; running ones only with `kill`. An empty selection cancels nothing."""
    whole = Canceled(0, 0)
    for ranges in parts_of(ranges_of_jobs(jobs)):

        def request(rid: int, ranges: tuple[Range, ...] = ranges) -> Cancel:
            return Cancel(rid, ranges, kill)

        part: Canceled = yield from ask(request)
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
    return (yield from ask(lambda rid: Clean(rid, failed))).dropped  # type: ignore[no-any-return]


def workers() -> Operation[tuple[WorkerView, ...]]:
    """All workers."""
    return (yield from ask(ListWorkers)).workers  # type: ignore[no-any-return]


def worker(name: str | int) -> Operation[WorkerDetail]:
    """One worker, by id, name or host."""
    text = str(name)
    return (yield from ask(lambda rid: ShowWorker(rid, text)))  # type: ignore[no-any-return]


def resources() -> Operation[ResourcePage]:
    """The global resources."""
    return (yield from ask(ListResources))  # type: ignore[no-any-return]


def forget_worker(name: str | int) -> Operation[tuple[str, ...]]:
    """Confirm that a lost worker's jobs are dead; lines for people."""
    text = str(name)
    return (yield from ask(lambda rid: ForgetWorker(rid, text))).lines  # type: ignore[no-any-return]


def pause_workers(globs: Iterable[str], kill: bool, reason: str) -> Operation[Steered]:
    """Have workers take no more jobs."""
    named = _globs(globs)
    return (yield from ask(lambda rid: PauseWorkers(rid, named, kill, reason)))  # type: ignore[no-any-return]


def resume_workers(globs: Iterable[str]) -> Operation[Steered]:
    """Have workers take jobs again."""
    named = _globs(globs)
    return (yield from ask(lambda rid: ResumeWorkers(rid, named)))  # type: ignore[no-any-return]


def _globs(globs: Iterable[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)


def backup(path: str | os.PathLike[str]) -> Operation[Any]:
    """A copy of the journal on the server's machine."""
    return (yield from ask(lambda rid: Backup(rid, to_os(os.path.abspath(path)))))


def reload() -> Operation[tuple[str, ...]]:
    """Reread the configuration; what changed."""
    return (yield from ask(Reload)).lines  # type: ignore[no-any-return]


def shutdown(workers: bool, kill: bool) -> Operation[tuple[str, ...]]:
    """End the server; what becomes of jobs."""
    # Not to be repeated: the server that answers next may have been started since.
    reply = yield from ask(lambda rid: Shutdown(rid, workers, kill), repeatable=False)
    lines: tuple[str, ...] = reply.lines
    return lines


def server_info() -> Operation[ServerState]:
    """About the server itself."""
    return (yield from ask(ServerInfo))  # type: ignore[no-any-return]
