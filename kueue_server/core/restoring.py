"""From what the journal kept to the core's state, after a restart of the server.

Leases count from now. Whatever was handed out is believed to be where it was until its worker's inventory
says otherwise, and what was unconfirmed stays so.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kueue.job import FINISHED, JobState
from kueue.wire.messages import Pause
from kueue_server.core import queueing
from kueue_server.core.closed import path_bytes
from kueue_server.core.gates import is_held
from kueue_server.core.records import Progress, Restored, RestoredJob
from kueue_server.core.retries import delay_of
from kueue_server.core.state import State
from kueue_server.core.table import Job, SpecHead
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
    finished: list[tuple[float, int, bool]] = []
    for row in jobs:
        job = _job(state, row)
        if job.state in FINISHED:
            at = job.outcome.finished_at if job.outcome is not None else 0.0
            finished.append((at, job.id, job.state is JobState.FAILED))
    for at, job_id, failed in sorted(finished):
        state.retention.finished(job_id, failed=failed, now=state.now, age=state.wall - at)
    for stop in restored.stops:
        holder = state.workers.by_id.get(stop.worker)
        if holder is not None:
            holder.stops[stop.job, stop.fence] = "canceled" if stop.why == "canceled" else "superseded"
    for pause in restored.pauses:
        paused = state.workers.by_id.get(pause.worker)
        if paused is not None:
            paused.paused = Pause(pause.since, pause.reason)
    state.fresh.clear()


def _job(state: State, row: RestoredJob) -> Job:
    head = _head_decoder.decode(row.spec)
    job = Job(
        row.job,
        row.spec,
        state.pending.lane(head.queue, head.shape, path_bytes(head.volume)),
        head.context,
        head.group,
        row.submitted_at,
        head.priority,
        head.restart,
    )
    job.state = row.state
    if row.progress is not None:
        progress = _progress_decoder.decode(row.progress)
        for field in Progress.__struct_fields__:
            setattr(job, field, getattr(progress, field))
    state.workers.next_id = max(state.workers.next_id, job.worker + 1)
    worker = state.workers.by_id.get(job.worker)
    if job.state in (JobState.OFFERED, JobState.RUNNING) and worker is None:
        # Its worker is not in the journal: nobody can claim it.
        job.state = JobState.PENDING
        job.fence = job.worker = 0
    if row.progress is None and head.waits is not None:
        job.state = JobState.WAITING
    state.table.add(job)
    if head.key:
        job.lane.queue.learn(head.key)
    known = job.lane.shape
    if job.state is JobState.PENDING:
        state.enqueue(job)
    elif row.progress is None and head.waits is not None:
        state.gates.join(job.id, head.waits)
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
    return job
