"""What `failing` is told: of attempts as they end, and, when there is a suspect, how such jobs fared elsewhere lately.

That is read from the table, from the last ends backwards and from what runs, so that it costs nothing while all is
well, and a restart of the server forgets none of it. `steering` pauses those who are found broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from kueue.job import End, JobState
from kueue.wire.messages import AttemptView, FinishedAttempt, Reason
from kueue_server.core.failing import QUICK_SECONDS, WELL_SECONDS, Fared, Kind, is_broken
from kueue_server.core.jobs import Job, program_of
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

LATELY_SECONDS = 3600.0
MOST_LOOKS = 500
"""At ends of each of the two lines, and at what runs."""


def note(state: State, worker: Worker, job: Job, end: FinishedAttempt, reason: Reason | None) -> None:
    """The current attempt of a job ended by itself, and this is why it did not succeed (None: it did)."""
    if reason is not None and reason.code == "no_program":
        return  # nobody has it
    worker.tally.add(state.now, succeeded=reason is None)
    most = state.limits.worker_pause_after_failures
    if reason is None or end.run_seconds > QUICK_SECONDS:
        state.streaks.end(worker.id)
    elif most and end.end in (End.EXITED, End.NOT_STARTED):
        state.streaks.failed_at_once(worker.id, kind_of(job), most)
        worker.last_failure = job.id, reason.text


def kind_of(job: Job) -> Kind:
    """Which other jobs may be expected to fare like this one."""
    return Kind(job.lane, job.context, program_of(job).name)


def broken(state: State, suspects: Iterable[Worker]) -> Iterator[Worker]:
    """Those of the suspects whose own fault it is that their last jobs failed."""
    most = state.limits.worker_pause_after_failures
    kinds = {worker: state.streaks.of(worker.id, most) for worker in suspects if most}
    wanted = frozenset[Kind]().union(*kinds.values())
    if wanted:
        fared = _fared(state, wanted)
        for worker, own in kinds.items():
            if own and is_broken(worker.name, own, most, fared):
                yield worker


def suspects(state: State) -> list[Worker]:
    """The workers whose last jobs failed at once, and that may get more."""
    most = state.limits.worker_pause_after_failures
    if not most:
        return []
    workers = state.workers.by_id
    found = [workers[number] for number in state.streaks.suspects(most) if number in workers]
    return [worker for worker in found if worker.paused is None]


def story(state: State, worker: Worker) -> str:
    """Why it is taken for broken, in a line."""
    job, text = worker.last_failure
    most = state.limits.worker_pause_after_failures
    return f"its last {most} jobs failed within seconds, while such jobs ran elsewhere; the last: job {job} ({text})"


# ---------------------------------------------------------------- how such jobs fared


def _fared(state: State, wanted: frozenset[Kind]) -> dict[Kind, Fared]:
    fared = {kind: Fared() for kind in wanted}
    lanes = {kind.lane for kind in wanted}
    since = state.wall - LATELY_SECONDS
    well, since = _last(state, state.retention.newest(), JobState.SUCCEEDED, since)
    failed, since = _last(state, state.retention.lately.newest(), JobState.FAILED, since)
    for job in (*well, *failed):
        if job.lane in lanes and (kind := kind_of(job)) in fared:
            for attempt in job.attempts:
                _count(fared[kind], attempt, since)
    for job, name in _long_running(state):
        if job.lane in lanes and (kind := kind_of(job)) in fared:
            fared[kind].well[name] += 1
    return fared


def _last(state: State, ends: Iterator[int], wanted: JobState, since: float) -> tuple[list[Job], float]:
    """The jobs that ended in a state last, and since when these are all; no longer ago than `since`."""
    found: dict[int, Job] = {}
    looks = 0
    for job_id in islice(ends, MOST_LOOKS):
        looks += 1
        job = state.table.get(job_id)
        if job is None or job.outcome is None:
            continue
        if job.outcome.finished_at < since:
            break
        if job.state is wanted:
            found[job_id] = job
    if looks == MOST_LOOKS and found:
        oldest = min(job.outcome.finished_at for job in found.values() if job.outcome is not None)
        since = max(since, oldest)
    return list(found.values()), since


def _count(fared: Fared, attempt: AttemptView, since: float) -> None:
    if attempt.end not in (End.EXITED.value, End.NOT_STARTED.value) or attempt.finished_at is None:
        return
    if attempt.finished_at < since:
        return
    started = attempt.finished_at if attempt.started_at is None else attempt.started_at
    if attempt.exit_code == 0 or attempt.finished_at - started > WELL_SECONDS:
        fared.well[attempt.worker] += 1
    else:
        fared.badly[attempt.worker] += 1


def _long_running(state: State) -> Iterator[tuple[Job, str]]:
    """Jobs that have not failed at once, on machines that take jobs. That one runs is known up to when its worker was
    heard of last: who is frozen says nothing of ends."""
    looks = 0
    for worker in state.workers.connected():
        silent = worker.status is not None and worker.status.keeper_silent_seconds > 0
        for job_id, started in worker.running.items() if worker.paused is None and not silent else ():
            if looks == MOST_LOOKS or worker.heard - started <= WELL_SECONDS:
                break
            looks += 1
            yield state.table.jobs[job_id], worker.name
