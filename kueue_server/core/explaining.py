"""Why a job waits, at length: what each worker lacks for it now. Worked out only when somebody asks for one job."""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import MAX_ITEMS, Reason, WorkerLacks
from kueue_server.core import sight
from kueue_server.core.closed import Sight
from kueue_server.core.jobs import Job, cwd_of
from kueue_server.core.shapes import KnownShape
from kueue_server.core.state import State
from kueue_server.core.workers import Worker


def explain(state: State, job: Job) -> tuple[WorkerLacks, ...]:
    """Of each worker that has not left, by name, what it lacks for a pending job: nothing, if the job only has to
    wait for something else. At most `MAX_ITEMS` of them, those first that lack least."""
    if job.state is not JobState.PENDING:
        return ()
    found = [
        WorkerLacks(worker.name, tuple(_lacks(state, worker, job)))
        for worker in state.workers.ordered()
        if not worker.left or worker.session is not None
    ]
    found.sort(key=lambda one: (len(one.lacks), one.worker))
    return tuple(found[:MAX_ITEMS])


def _lacks(state: State, worker: Worker, job: Job) -> list[Reason]:
    known = job.lane.shape
    lacks = _misfits(worker, known)
    if worker.session is None:
        lacks.append(Reason("silent", "lost" if worker.lost else "not heard of"))
        return lacks
    if worker.paused is not None:
        reason = worker.paused.reason
        lacks.append(Reason("paused", f"paused: {reason}" if reason else "paused"))
    status = worker.status
    if status is None:
        lacks.append(Reason("draining", "has not said yet what is free"))
    elif not status.accepting:
        lacks.append(
            Reason("draining", f"takes no jobs: {status.note}" if status.note else "takes no jobs now")
        )
    if not lacks and not worker.has_room(known):
        lacks += _shortages(worker, known)
    lacks += _unseen(state, worker, job)
    backoff = worker.backoffs.get(known.number)
    for pause in (worker.respite, backoff):
        if pause is not None and state.now < pause.until:
            seconds = pause.until - state.now
            lacks.append(
                Reason("refused_lately", f"has refused such a job; is asked again in {seconds:.0f} s")
            )
            break
    return lacks


def _misfits(worker: Worker, known: KnownShape) -> list[Reason]:
    """What it never has: size and name."""
    if worker.could_run(known):
        return []
    shape, capacity = known.shape, worker.record.capacity
    has = dict(capacity.resources)
    pairs = [
        ("CPUs", shape.cpus, capacity.cpus),
        ("MB", shape.ram_mb, capacity.ram_mb),
        ("job slots", shape.job_slots, capacity.job_slots),
        *((name, amount, has.get(name, 0)) for name, amount in known.own_needs),
    ]
    lacks = [
        Reason("too_small", f"has {all_} {what}, not {asked}") for what, asked, all_ in pairs if asked > all_
    ]
    if not lacks:
        lacks.append(Reason("not_asked_for", "--worker or --not-worker excludes it"))
    return lacks


def _shortages(worker: Worker, known: KnownShape) -> list[Reason]:
    """What it has, and others are using."""
    shape = known.shape
    free = dict(worker.free_own())
    pairs = [
        ("CPUs", shape.cpus, worker.free_cpus),
        ("MB", shape.ram_mb, int(worker.free_ram_mb)),
        ("job slots", shape.job_slots, worker.free_slots),
        *((name, amount, free.get(name, 0)) for name, amount in known.own_needs),
    ]
    return [
        Reason("busy", f"{left} {what} free, {asked} needed") for what, asked, left in pairs if asked > left
    ]


def _unseen(state: State, worker: Worker, job: Job) -> list[Reason]:
    if sight.of_job(worker, job, state.now) is Sight.OPEN:
        return []
    directory = worker.closed.directory(cwd_of(job), job.lane.volume, state.now)
    if directory is not Sight.OPEN:
        return [Reason("no_directory", "does not see the working directory")]
    if worker.closed.job(job.id, cwd_of(job), job.lane.volume, state.now) is not Sight.OPEN:
        return [Reason("file_timeout", "the place of the program or output does not answer there")]
    return [Reason("no_program", "has not got the program")]
