"""Jobs enter the table; and the books are made anew when the configuration names other resources."""

from __future__ import annotations

from kueue.job import JobState
from kueue_server.core import tasks
from kueue_server.core.events import JobsSubmitted
from kueue_server.core.jobs import Job
from kueue_server.core.pending import Lane
from kueue_server.core.state import State


def submitted(state: State, event: JobsSubmitted) -> None:
    """A block of jobs came: they are pending from now on, or wait for others."""
    wall = event.wall
    previous = None
    lane: Lane | None = None
    context = ""
    alike: list[Job] = []
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
        job = Job(
            event.first + offset,
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
        if alike and (
            spec.waits is not None
            or lane is not alike[0].lane
            or spec.priority != alike[0].priority
            or spec.group != alike[0].group
        ):
            _enqueue(state, alike)
            alike = []
        if spec.waits is None:
            alike.append(job)
        else:
            job.state = JobState.WAITING
            state.table.add(job)
            state.gates.join(job.id, spec.waits)
            state.outbox.changed(job.id)
        previous = spec
    if alike:
        _enqueue(state, alike)
    if event.request:
        state.gates.unpin(event.request)
    if event.whole:
        state.gates.arrive(event.whole, more=event.more)
    state.newest_submitted = max(state.newest_submitted, event.first + len(event.specs) - 1)


def _enqueue(state: State, jobs: list[Job]) -> None:
    """Put in jobs with ids that follow one another, of one lane, priority and group."""
    first = jobs[0]
    state.table.add_block(jobs)
    state.pending.push_block(first.lane, first.key, len(jobs), state.now)
    state.fresh[first.lane] = None
    state.outbox.changed_block(first.id, len(jobs))


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
