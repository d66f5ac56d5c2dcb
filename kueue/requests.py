"""What both clients offer, as pairs of a request and how its answer is understood. No I/O.

Each function returns an operation; `Client` runs it, `AsyncClient` awaits it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from kueue.errors import UsageError
from kueue.job import JobState
from kueue.job_encoding import changes_of
from kueue.job_handle import Job, SubmittedJobs
from kueue.job_spec import ChangeOptions
from kueue.operations import Operation, ask, parts_of, ranges_of
from kueue.wire.codec import to_os
from kueue.wire.messages import (
    Backup,
    Cancel,
    Canceled,
    Change,
    Changed,
    Clean,
    Cleaned,
    Done,
    Explain,
    Explanation,
    ForgetWorker,
    JobCounts,
    JobDetail,
    JobPage,
    JobsSelected,
    ListJobs,
    ListResources,
    ListWorkers,
    PauseWorkers,
    Range,
    Reason,
    Reload,
    Reran,
    Rerun,
    ResourcePage,
    ResumeWorkers,
    SelectJobs,
    Selector,
    ServerInfo,
    ServerState,
    ShowJob,
    ShowWorker,
    Shutdown,
    Steered,
    WorkerDetail,
    WorkerPage,
    WorkerView,
)

Jobs = Job | int | Iterable[Job | int] | JobsSelected


def ranges_of_jobs(jobs: Jobs) -> tuple[Range, ...]:
    """Ranges of ids of a job, an id, or any iterable of them."""
    if isinstance(jobs, SubmittedJobs | JobsSelected):
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


def filter_of(
    which: Selector | None, states: Sequence[str], jobs: Jobs | None, group: str | None
) -> Selector:
    """For listings."""
    if which is not None:
        if states or jobs is not None or group is not None:
            raise UsageError("a Selector says all about which jobs; give either it or ids, states and group")
        return which
    ranges = () if jobs is None else ranges_of_jobs(jobs)
    return Selector(ranges=ranges, states=tuple(states), group=group)


def page(which: Selector, newest_first: bool, cursor: int | None, limit: int) -> Operation[JobPage]:
    """One page of jobs, without their earlier attempts."""
    request = partial(ListJobs, filter=which, newest_first=newest_first, cursor=cursor, limit=limit)
    return (yield from ask(request, JobPage))


def glance(rows: int) -> Operation[JobPage]:
    """The rows that tell most of the whole table, with counts; a server that doesn't know of it gives the newest,
    and no `left_out`."""
    request = partial(ListJobs, newest_first=True, limit=rows, counts=True, glance=True, arrays=True)
    return (yield from ask(request, JobPage))


def select(which: Selector) -> Operation[JobsSelected]:
    """All that a selector names now."""
    ranges: list[Range] = []
    counts: dict[str, int] = {}
    cursor: int | None = None
    while True:

        def page(rid: int, at: int | None = cursor) -> SelectJobs:
            return SelectJobs(rid, which, at)

        part = yield from ask(page, JobsSelected)
        for fresh in part.ranges:
            if ranges and ranges[-1][1] + 1 == fresh[0]:
                ranges[-1] = (ranges[-1][0], fresh[1])
            else:
                ranges.append(fresh)
        for state in JobState:
            counts[state.value] = counts.get(state.value, 0) + getattr(part.counts, state.value)
        cursor = part.cursor
        if cursor is None:
            return JobsSelected(part.rid, tuple(ranges), JobCounts(**counts), None, part.newest)


def counts() -> Operation[JobCounts]:
    """The table by state."""
    request = partial(ListJobs, limit=1, newest_first=True, counts=True)
    found = (yield from ask(request, JobPage)).counts
    return JobCounts() if found is None else found


def detail(job: Job | int, context: bool) -> Operation[JobDetail]:
    """All about one job."""
    number = id_of(job)
    return (yield from ask(lambda rid: ShowJob(rid, number, context), JobDetail))


def explain(job: Job | int) -> Operation[Explanation]:
    """Why a job waits."""
    number = id_of(job)
    return (yield from ask(lambda rid: Explain(rid, number), Explanation))


def cancel(jobs: Jobs | Selector, kill: bool) -> Operation[Canceled]:
    """Cancel; running ones only with `kill`. No ids cancel nothing; a selector without a condition is refused
    unless it says `everything`."""
    if isinstance(jobs, Selector):
        return (yield from ask(lambda rid: Cancel(rid, (), kill, jobs), Canceled))
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


def clean(which: Selector | None, failed: bool) -> Operation[Cleaned]:
    """Drop finished jobs; how many, and how many of the selected stay."""
    return (yield from ask(lambda rid: Clean(rid, failed, which), Cleaned))


def rerun(jobs: Jobs | Selector, options: ChangeOptions) -> Operation[tuple[list[Range], list[Reason]]]:
    """Run finished jobs again: ranges of the new ids, and what the asker should know."""
    changes = changes_of(options)
    ranges: list[Range] = []
    warnings: dict[Reason, None] = {}
    unfinished = refused = 0
    for which in _selectors(jobs):
        token = secrets.token_hex(16)

        def request(rid: int, token: str = token, which: Selector = which) -> Rerun:
            return Rerun(rid, token, which, changes)

        part = yield from ask(request, Reran)
        if part.count:
            ranges.append((part.first, part.first + part.count - 1))
        warnings.update(dict.fromkeys(part.warnings))
        unfinished += part.unfinished
        refused += part.refused
        if part.reason is not None:
            warnings[part.reason] = None
    if unfinished:
        warnings[Reason("not_finished", f"not run again, for they have not finished: {unfinished}")] = None
    if refused:
        warnings[Reason("refused", f"not run again, for they can't be so: {refused}")] = None
    return ranges, list(warnings)


def change(jobs: Jobs | Selector, options: ChangeOptions) -> Operation[Changed]:
    """Change jobs that have not started."""
    changes = changes_of(options)
    whole = Changed(0, 0)
    for which in _selectors(jobs):

        def request(rid: int, which: Selector = which) -> Change:
            return Change(rid, which, changes)

        part = yield from ask(request, Changed)
        whole = Changed(
            part.rid,
            whole.changed + part.changed,
            whole.started + part.started,
            whole.finished + part.finished,
            whole.refused + part.refused,
            whole.reason or part.reason,
        )
    return whole


def _selectors(jobs: Jobs | Selector) -> Iterator[Selector]:
    """One, or as many as the ranges of these ids need."""
    if isinstance(jobs, Selector):
        yield jobs
    else:
        for ranges in parts_of(ranges_of_jobs(jobs)):
            yield Selector(ranges=ranges)


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


def pause_workers(globs: Iterable[str], kill: bool, reason: str) -> Operation[Steered]:
    """Have workers take no more jobs."""
    named = _globs(globs)
    return (yield from ask(lambda rid: PauseWorkers(rid, named, kill, reason), Steered))


def resume_workers(globs: Iterable[str]) -> Operation[Steered]:
    """Have workers take jobs again."""
    named = _globs(globs)
    return (yield from ask(lambda rid: ResumeWorkers(rid, named), Steered))


def _globs(globs: Iterable[str]) -> tuple[str, ...]:
    return (globs,) if isinstance(globs, str) else tuple(globs)


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
