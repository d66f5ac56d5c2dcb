"""Jobs enter the table; and the books are made anew when the configuration names other resources."""

from __future__ import annotations

from kueue.job import JobState
from kueue_server.core import tasks
from kueue_server.core.events import JobsSubmitted
from kueue_server.core.pending import Queue
from kueue_server.core.state import State
from kueue_server.core.table import Job


def submitted(state: State, event: JobsSubmitted) -> None:
    """A block of jobs is durable: they are pending from now on."""
    wall = event.wall
    table, pending = state.table, state.pending
    previous = None
    queue: Queue | None = None
    context = ""
    for offset, spec in enumerate(event.specs):
        # Jobs of a block mostly share these; looking them up again would cost more than all the rest.
        if (
            previous is None
            or spec.shape != previous.shape
            or spec.volume != previous.volume
            or spec.array != previous.array
            or queue is None
        ):
            queue = tasks.queue_of(state, spec)
        if spec.context != context:
            context = spec.context
        job_id = event.first + offset
        job = Job(
            job_id,
            event.encoded[offset],
            queue,
            context,
            spec.group,
            wall,
            spec.priority,
            spec.restart,
        )
        table.add(job)
        pending.push(queue, job.key, state.now)
        state.fresh[queue] = None
        state.outbox.changed(job_id)
        previous = spec


def recount(state: State, names: frozenset[str]) -> None:
    """Other resources are global now: count all attempts anew."""
    state.shapes.set_global_names(names)
    state.ledger.reset()
    for job_state in (JobState.OFFERED, JobState.RUNNING):
        for job_id in state.table.by_state[job_state]:
            job = state.table.jobs[job_id]
            worker = state.workers.by_id[job.worker]
            if job_id not in worker.held.get(job.queue.shape, ()):
                state.take(job)
    for worker in state.workers.ordered():
        worker.recount_own()
        for job_id, _ in worker.unconfirmed:
            state.take(state.table.jobs[job_id])
