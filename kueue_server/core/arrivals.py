"""Workers come, go, and come back: registration, inventory, the end of a session.

The inventory is the truth about what a worker has. What it lists and what is current is adopted; what it
lists and nobody wants any more gets a stop order; what the server believed to be there and is not listed
never started, or died with its keeper.
"""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import AttemptRef, Reason, RunningAttempt
from kueue_server.core import attempts, holding, queueing, steering
from kueue_server.core.events import WorkerConnected, WorkerDisconnected
from kueue_server.core.instructions import CloseSession, SaveWorker
from kueue_server.core.jobs import Job
from kueue_server.core.records import WorkerRecord, encoded_record
from kueue_server.core.state import State
from kueue_server.core.workers import AttemptKey, Worker

S = JobState

_LAST_SEEN_SECONDS = 3600.0
"""How exactly the journal knows when a worker was seen last."""
_MISSED_HEARTBEATS = 3


def heartbeat_deadline(worker_timeout_seconds: float) -> float:
    """Silence after which a connection counts as dead: three heartbeats."""
    return _MISSED_HEARTBEATS * min(15.0, worker_timeout_seconds / 3)


def connected(state: State, event: WorkerConnected) -> None:
    """A worker registered and sent its inventory."""
    record = WorkerRecord(
        name=event.name,
        host=event.host,
        version=event.version,
        keeper=event.keeper,
        boot=event.boot,
        capacity=event.capacity,
        system=event.system,
        last_seen_at=event.wall,
    )
    worker = state.workers.by_name.get(event.name)
    same_keeper = same_boot = False
    if worker is None:
        worker = Worker(state.workers.next_id, record, state.now)
        state.workers.add(worker)
        _save(state, worker)
    else:
        same_boot = worker.record.boot == event.boot
        same_keeper = same_boot and worker.record.keeper == event.keeper
        if worker.session is not None:
            silence = state.now - worker.heard
            if not same_keeper and silence < heartbeat_deadline(state.limits.worker_timeout_seconds):
                state.outbox.send(CloseSession(event.session, _name_in_use(worker)))
                state.outbox.log(
                    "warning", f"a second worker named {event.name}, from {event.address}, was refused"
                )
                return
            state.outbox.send(CloseSession(worker.session, None))
            part(state, worker)
        old = worker.record
        worker.set_record(record)
        if _differs(old, record):
            _save(state, worker)
    state.workers.attach(worker, event.session)
    worker.address = event.address
    worker.connected_at = event.wall
    worker.last_seen_at = event.wall
    worker.heard = state.now
    worker.lost = worker.left = worker.restored = False
    worker.backoffs.clear()
    worker.respite = None
    if not same_boot:
        worker.closed.clear()
        worker.lacks.clear()
        worker.cursors.clear()
    capacity = event.capacity
    state.outbox.log(
        "info",
        f"worker {event.name} is connected: {capacity.cpus} CPUs, {capacity.ram_mb} MB; "
        f"{len(event.running)} jobs run there",
    )
    _take_inventory(state, worker, event, same_keeper)
    if worker.paused is not None:
        steering.take_back(state, worker)
    elif worker.session is not None:
        queueing.take_back(state, worker.current_jobs())


def disconnected(state: State, event: WorkerDisconnected) -> None:
    """A session ended. Nothing is requeued at once, unless the worker left and said so."""
    worker = state.workers.by_session.get(event.session)
    if worker is None:
        return
    worker.last_seen_at = event.wall
    part(state, worker)
    if event.leaving:
        for job_id in [*worker.offered, *(job for jobs in worker.held.values() for job in jobs)]:
            attempts.give_back(state, worker, state.table.jobs[job_id])
        worker.left = not worker.running
    record = worker.record
    if event.wall - record.last_seen_at > _LAST_SEEN_SECONDS:
        worker.set_record(with_last_seen(record, event.wall))
        _save(state, worker)


def part(state: State, worker: Worker) -> None:
    """The worker has no session any more; its attempts stay its own until its lease ends."""
    state.workers.detach(worker)
    worker.status = None
    worker.drained_for = None
    for job_id in list(worker.retracting):
        holding.settle(state, worker, job_id)
    for job_id in list(worker.running):
        job = state.table.jobs[job_id]
        if worker.stops.get((job_id, job.fence)) == "canceled":
            attempts.cancel_at_once(state, worker, job)


def _save(state: State, worker: Worker) -> None:
    state.outbox.write(SaveWorker(worker.id, worker.name, encoded_record(worker.record)))


def with_last_seen(record: WorkerRecord, wall: float) -> WorkerRecord:
    """The same record, seen at another time."""
    return WorkerRecord(
        record.name,
        record.host,
        record.version,
        record.keeper,
        record.boot,
        record.capacity,
        record.system,
        wall,
    )


def _differs(old: WorkerRecord, new: WorkerRecord) -> bool:
    """Whether the journal must be told."""
    if new.last_seen_at - old.last_seen_at > _LAST_SEEN_SECONDS:
        return True
    return with_last_seen(old, 0.0) != with_last_seen(new, 0.0)


def _name_in_use(worker: Worker) -> Reason:
    where = worker.address or worker.record.host
    return Reason("name_in_use", f"a worker named {worker.name} is connected already, from {where}")


# ---------------------------------------------------------------- the inventory


def _take_inventory(state: State, worker: Worker, event: WorkerConnected, same_keeper: bool) -> None:
    listed: set[AttemptKey] = set()
    for end in event.finished:
        listed.add((end.job, end.fence))
        attempts.finish(state, worker, end)
    # The longest-running first: `Worker.running` is kept in the order of starts.
    for running in sorted(event.running, key=lambda attempt: -attempt.started_ago):
        listed.add((running.job, running.fence))
        adopt_running(state, worker, running)
    held = [ref for ref in event.held if (ref.job, ref.fence) not in listed]
    for ref in held:
        listed.add((ref.job, ref.fence))
        _adopt_held(state, worker, ref)
    _demote_held(state, worker, held)
    _miss(state, worker, listed, same_keeper)
    state.wake(worker)


def adopt_running(state: State, worker: Worker, running: RunningAttempt) -> None:
    """A worker says that an attempt runs: in its inventory, or as it starts."""
    ref = AttemptRef(running.job, running.fence)
    job = state.table.get(running.job)
    if job is None:
        assert worker.session is not None
        state.outbox.stop(worker.session, ref, "canceled")
        return
    if not _is_current(worker, job, running.fence):
        attempts.haunt(state, worker, job, running.fence, "superseded", reserves=True)
    elif job.state in (S.OFFERED, S.PENDING) or job.failed_as_lost:
        why = worker.stops.get((job.id, running.fence))
        attempts.start(state, worker, job, max(0.0, running.started_ago))
        if why is not None:  # that it is current again makes the order to end it no less so
            attempts.order_stop(state, worker, job, running.fence, why)
    elif job.state is S.RUNNING:
        attempts.runs_since(state, worker, job, max(0.0, running.started_ago))
        _repeat_stop(state, worker, ref)
    elif job.state is S.CANCELED:
        attempts.haunt(state, worker, job, running.fence, "canceled", reserves=True)
    else:
        attempts.haunt(state, worker, job, running.fence, "superseded", reserves=True)


def _adopt_held(state: State, worker: Worker, ref: AttemptRef) -> None:
    job = state.table.get(ref.job)
    if job is None:
        assert worker.session is not None
        state.outbox.stop(worker.session, ref, "canceled")
    elif not _is_current(worker, job, ref.fence):
        attempts.haunt(state, worker, job, ref.fence, "superseded", reserves=False)
    elif job.state is S.PENDING or job.failed_as_lost:
        attempts.adopt_held(state, worker, job)
    elif job.state is S.OFFERED:
        _repeat_stop(state, worker, ref)
        if job.id in worker.offered:
            worker.offered[job.id] = state.now + state.limits.job_offer_timeout_seconds
    elif job.state is S.CANCELED:
        attempts.haunt(state, worker, job, ref.fence, "canceled", reserves=False)
    elif job.state is not S.RUNNING:
        attempts.haunt(state, worker, job, ref.fence, "superseded", reserves=False)


def _is_current(worker: Worker, job: Job, fence: int) -> bool:
    return job.fence == fence and job.worker == worker.id


def _repeat_stop(state: State, worker: Worker, ref: AttemptRef) -> None:
    why = worker.stops.get((ref.job, ref.fence))
    if why is not None and worker.session is not None:
        state.outbox.stop(worker.session, ref, why)


def _demote_held(state: State, worker: Worker, held: list[AttemptRef]) -> None:
    """After a restart nobody knows which offers were held: those beyond the worker's capacity were."""
    capacity = worker.record.capacity
    for ref in reversed(held):
        if (
            worker.reserved_cpus <= capacity.cpus
            and worker.reserved_ram_mb <= capacity.ram_mb
            and worker.reserved_slots <= capacity.job_slots
        ):
            return
        job = state.table.get(ref.job)
        if (
            job is not None
            and job.id in worker.offered
            and job.restart
            and holding.may_hold(state, worker, job.lane.shape)
        ):
            attempts.demote(state, worker, job)


def _miss(state: State, worker: Worker, listed: set[AttemptKey], same_keeper: bool) -> None:
    """What the server believed to be on the worker and is not."""
    for job_id in worker.current_jobs():
        job = state.table.jobs[job_id]
        key = (job_id, job.fence)
        if key in listed:
            continue
        if job.state is S.RUNNING:
            attempts.lose(state, worker, job, counts=True, may_live=False)
        elif same_keeper and worker.stops.get(key) != "canceled":
            attempts.give_back(state, worker, job)
        else:
            attempts.lose(state, worker, job, counts=False, may_live=False)
    for key in [key for key in worker.unconfirmed if key not in listed]:
        attempts.confirm(state, worker, *key, state.table.get(key[0]))
    for key in [key for key in worker.stops if key not in listed]:
        attempts.confirm(state, worker, *key, state.table.get(key[0]))
