"""Jobs enter the table; and the books are made anew when the configuration names other resources."""

from __future__ import annotations

from kueue.job import JobState
from kueue_server.core import tasks
from kueue_server.core.events import JobsSubmitted
from kueue_server.core.pending import Lane
from kueue_server.core.state import State
from kueue_server.core.table import Job


def submitted(state: State, event: JobsSubmitted) -> None:
    """A block of jobs is durable: they are pending from now on, or wait for others."""
    wall = event.wall
    table, pending = state.table, state.pending
    previous = None
    lane: Lane | None = None
    context = ""
    for offset, spec in enumerate(event.specs):
        # Jobs of a block mostly share these; looking them up again would cost more than all the rest.
        if (
            previous is None
            or spec.shape != previous.shape
            or spec.volume != previous.volume
            or spec.queue != previous.queue
            or spec.array != previous.array
            or lane is None
        ):
            lane = tasks.lane_of(state, spec)
        if spec.context != context:
            context = spec.context
        job_id = event.first + offset
        job = Job(
            job_id,
            event.encoded[offset],
            lane,
            context,
            spec.group,
            wall,
            spec.priority,
            spec.restart,
        )
        if spec.key:
            lane.queue.learn(spec.key)
        if spec.waits is None:
            table.add(job)
            pending.push(lane, job.key, state.now)
            state.fresh[lane] = None
        else:
            job.state = JobState.WAITING
            table.add(job)
            state.gates.join(job_id, spec.waits)
        state.outbox.changed(job_id)
        previous = spec
    if event.request:
        state.gates.unpin(event.request)
    if event.whole:
        state.gates.arrive(event.whole, more=event.more)
    state.newest_submitted = max(state.newest_submitted, event.first + len(event.specs) - 1)


def recount(state: State, names: frozenset[str]) -> None:
    """Other resources are global now: count all attempts anew."""
    state.shapes.set_global_names(names)
    state.ledger.reset()
    for job_state in (JobState.OFFERED, JobState.RUNNING):
        for job_id in state.table.by_state[job_state]:
            job = state.table.jobs[job_id]
            worker = state.workers.by_id[job.worker]
            if job_id not in worker.held.get(job.lane.shape, ()):
                state.take(job)
    for worker in state.workers.ordered():
        worker.recount_own()
        for job_id, _ in worker.unconfirmed:
            state.take(state.table.jobs[job_id])
