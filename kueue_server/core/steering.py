"""People keep workers from taking jobs, and let them take jobs again; and the server does so with a machine on which
everything fails.

A paused worker is offered nothing, and what it has not started is asked back; with `kill` what runs there is ended
and goes back to the queue, by the same durable orders as for superseded attempts, and counts as no loss. A pause
is the worker's by its name and stays until a person ends it, whoever restarts meanwhile.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from kueue.job import JobState
from kueue.wire.messages import Pause, Reason
from kueue_server.core import attempts, distrust, holding
from kueue_server.core.events import PauseRequested, ResumeRequested
from kueue_server.core.instructions import AnswerSteering, DropPause, SavePause
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

MOST_GLOBS = 1000
LONGEST_GLOB = 1000
LONGEST_REASON = 1000
NAMES_SHOWN = 10
REVIEW_SECONDS = 1.0


def pause(state: State, event: PauseRequested) -> None:
    """Let workers take no more jobs, and answer. Nothing is changed if a pattern names none."""
    if len(event.reason) > LONGEST_REASON:
        error = Reason("bad_name", f"the reason is longer than {LONGEST_REASON} characters")
        state.outbox.send(AnswerSteering(event.request, error))
        return
    found = _named(state, event.globs)
    if isinstance(found, Reason):
        state.outbox.send(AnswerSteering(event.request, found))
        return
    ended = failing = left = 0
    for worker in found:
        _keep_from_jobs(state, worker, event.reason)
        if event.kill:
            once = sum(not state.table.jobs[job_id].restart for job_id in worker.running)
            ended, failing = ended + len(worker.running), failing + once
            end_all(state, worker)
        else:
            left += len(worker.running)
            take_back(state, worker)
    lines = [_count_of("paused", found)]
    if ended:
        lines.append(f"{_jobs(ended)} that ran there: back to the queue, without counting a loss")
    if failing:
        lines.append(f"{_jobs(failing)} of them must not start again (--no-restart), and fail")
    if left:
        lines.append(f"{_jobs(left)} there: running on until they have finished")
    state.outbox.send(AnswerSteering(event.request, None, _names_of(found), tuple(lines)))


def resume(state: State, event: ResumeRequested) -> None:
    """Let workers take jobs again, and answer. What was ordered to end still ends."""
    found = _named(state, event.globs)
    if isinstance(found, Reason):
        state.outbox.send(AnswerSteering(event.request, found))
        return
    changed = [worker for worker in found if worker.paused is not None]
    for worker in changed:
        worker.paused = None
        state.streaks.end(worker.id)  # what went on failing meanwhile counts no more
        state.outbox.write(DropPause(worker.id))
        state.wake(worker)
    line = _count_of("resumed", changed) if changed else "none of them was paused"
    state.outbox.send(AnswerSteering(event.request, None, _names_of(changed), (line,)))


def review_failures(state: State) -> None:
    """Pause workers on which everything fails, though it ran elsewhere. On ticks, for jobs that run well elsewhere show
    it after a while only."""
    suspects = distrust.suspects(state)
    if suspects:
        state.judged = state.now
    for worker in distrust.broken(state, suspects):
        why = distrust.story(state, worker)[:LONGEST_REASON]
        state.outbox.log("warning", f"worker {worker.name} is paused: {why}; kueue resume-worker")
        _keep_from_jobs(state, worker, why)
        take_back(state, worker)


def review_at_once(state: State, worker: Worker) -> None:
    """The same when a worker has told of ends: it may fail a hundred jobs a second. To look takes a while, so not each
    time."""
    if worker.paused is None and state.now - state.judged >= REVIEW_SECONDS:
        most = state.limits.worker_pause_after_failures
        if most and state.streaks.of(worker.id, most):
            review_failures(state)


def _keep_from_jobs(state: State, worker: Worker, reason: str) -> None:
    since = state.wall if worker.paused is None else worker.paused.since
    worker.paused = Pause(since, reason)
    worker.drained_for = None
    state.streaks.end(worker.id)  # what failed so far is not to pause it again once a person has resumed it
    state.outbox.write(SavePause(worker.id, since, reason))
    state.workers.refresh(worker, paused=True)
    state.wake(worker)


def take_back(state: State, worker: Worker) -> None:
    """Ask a connected worker for what it has not started."""
    if worker.session is None:
        return
    for job_id in worker.current_jobs():
        job = state.table.jobs[job_id]
        if job.state is JobState.OFFERED and (job_id, job.fence) not in worker.stops:
            holding.retract(state, worker, job, None)


def end_all(state: State, worker: Worker) -> None:
    """Order the end of all that a worker has; one that is away is told when it comes back."""
    for job_id in worker.current_jobs():
        job = state.table.jobs[job_id]
        attempts.order_stop(state, worker, job, job.fence, "superseded")


def _named(state: State, globs: tuple[str, ...]) -> list[Worker] | Reason:
    """The workers whose name, host or id any of the patterns fits, by id; each has to fit one."""
    if not 1 <= len(globs) <= MOST_GLOBS or any(len(glob) > LONGEST_GLOB for glob in globs):
        return Reason("bad_name", f"1 to {MOST_GLOBS} patterns of at most {LONGEST_GLOB} characters")
    workers = state.workers.ordered()
    found: dict[int, Worker] = {}
    for glob in dict.fromkeys(globs):
        fitting = [worker for worker in workers if _fits(worker, glob)]
        if not fitting:
            return Reason("unknown_worker", f"no worker {glob}; nothing was changed")
        found.update((worker.id, worker) for worker in fitting)
    return [found[number] for number in sorted(found)]


def _fits(worker: Worker, glob: str) -> bool:
    return glob == str(worker.id) or fnmatchcase(worker.name, glob) or fnmatchcase(worker.record.host, glob)


def _names_of(workers: list[Worker]) -> tuple[str, ...]:
    return tuple(worker.name for worker in workers)


def _count_of(what: str, workers: list[Worker]) -> str:
    names = _names_of(workers)
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"{what}: {', '.join(names[:NAMES_SHOWN])}{more}"


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
