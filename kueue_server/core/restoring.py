"""From what the journal kept to the core's state, after a restart of the server.

Leases count from now. Whatever was handed out is believed to be where it was until its worker's inventory
says otherwise, and what was unconfirmed stays so.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kueue.job import FINISHED, JobState
from kueue.wire.messages import Pause
from kueue_server.core import queueing, tasks
from kueue_server.core.gates import is_held
from kueue_server.core.jobs import Job, SpecHead
from kueue_server.core.records import Progress, Restored, RestoredJob
from kueue_server.core.retries import delay_of
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

_head_decoder = msgspec.json.Decoder(SpecHead)
_progress_decoder = msgspec.json.Decoder(Progress)


def restore(state: State, restored: Restored, jobs: Iterable[RestoredJob]) -> None:
    """Fill an empty state."""
    for number, record in restored.workers:
        worker = Worker(number, record, state.now)
        worker.restored = True
        state.workers.add(worker)
    queueing.restore(state, restored.queues)
    state.newest_submitted = restored.next_job - 1
    parts = [tasks.restored(state, part) for part in restored.parts]
    finished: list[tuple[float, int, bool]] = []
    for row in jobs:
        job = _job(state, row) if row.spec else _task(state, row)
        if job.state in FINISHED:
            at = job.outcome.finished_at if job.outcome is not None else 0.0
            finished.append((at, job.id, job.state is JobState.FAILED))
    for part in parts:  # when all are there whom they may wait for
        tasks.wait(state, part)
    _recall_finished(state, finished)
    for stop in restored.stops:
        holder = state.workers.by_id.get(stop.worker)
        if holder is not None:
            holder.stops[stop.job, stop.fence] = "canceled" if stop.why == "canceled" else "superseded"
    for pause in restored.pauses:
        paused = state.workers.by_id.get(pause.worker)
        if paused is not None:
            paused.paused = Pause(pause.since, pause.reason)
    state.fresh.clear()


def _recall_finished(state: State, finished: list[tuple[float, int, bool]]) -> None:
    """In which order jobs finished, latent tasks among them."""
    latent = {
        run.first: run
        for part in state.table.parts
        if part.state in FINISHED
        for run in state.table.latent_of(part)
    }
    finished += [(run.part.finished_at, run.first, False) for run in latent.values()]
    for at, job_id, failed in sorted(finished):
        run = latent.get(job_id)
        if run is None:
            state.retention.finished(job_id, failed=failed, now=state.now, age=state.wall - at)
        else:
            state.retention.finished_range(run.first, run.last, now=state.now)


def _task(state: State, row: RestoredJob) -> Job:
    """A task of an array of which something has become: the table has it as its part says."""
    job = state.table.jobs[row.job]
    if job.state is JobState.PENDING:
        state.dequeue(job)
    found = _recall(state, job, row)
    state.table.correct(job, found)
    _take_place(state, job)
    return job


def _job(state: State, row: RestoredJob) -> Job:
    head = _head_decoder.decode(row.spec)
    job = Job(
        row.job,
        row.spec,
        tasks.lane_of(state, head),
        head.context,
        head.group,
        row.submitted_at,
        head.priority,
        head.restart,
    )
    job.state = _recall(state, job, row)
    waits = head.waits if row.progress is None else None
    if waits is not None:
        job.state = JobState.WAITING
    state.table.add(job)
    if head.key:
        job.lane.queue.learn(head.key)
    if waits is not None:
        state.gates.join(job.id, waits)
    else:
        _take_place(state, job)
    return job


def _recall(state: State, job: Job, row: RestoredJob) -> JobState:
    """What had become of a job; the state that it is in from now on."""
    if row.progress is not None:
        progress = _progress_decoder.decode(row.progress)
        for field in Progress.__struct_fields__:
            setattr(job, field, getattr(progress, field))
    state.workers.next_id = max(state.workers.next_id, job.worker + 1)
    if row.state in (JobState.OFFERED, JobState.RUNNING) and job.worker not in state.workers.by_id:
        # Its worker is not in the journal: nobody can claim it.
        job.fence = job.worker = 0
        return JobState.PENDING
    return row.state


def _take_place(state: State, job: Job) -> None:
    """Put a job where its state says that it is."""
    known, worker = job.lane.shape, state.workers.by_id.get(job.worker)
    if job.state is JobState.PENDING:
        state.enqueue(job)
    elif job.state is JobState.WAITING and not is_held(job):
        left = max(0.0, (job.retry_at or 0.0) - state.wall)
        state.retries.add(state.now + min(left, delay_of(job)), job.id)
    elif worker is not None and job.state in (JobState.OFFERED, JobState.RUNNING):
        if job.state is JobState.OFFERED:
            worker.offered[job.id] = state.now + state.limits.job_offer_timeout_seconds
        else:
            # As far as wall clocks can tell, until the worker says it.
            ago = max(0.0, state.wall - job.started_at) if job.started_at is not None else 0.0
            worker.running[job.id] = state.now - ago
        worker.reserve(known)
        state.take(job)
    job.holding = tuple(pair for pair in job.holding if pair[0] in state.workers.by_id)
    for number, fence in job.holding:
        state.workers.by_id[number].unconfirmed[job.id, fence] = None
        job.lane.queue.unconfirmed += 1
        state.take(job)
