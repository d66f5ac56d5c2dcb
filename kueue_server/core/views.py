"""What people see of jobs, workers and resources: rows and details, made from the records when asked for.

Reads the state and changes nothing.
"""

from __future__ import annotations

import msgspec

from kueue.job import FINISHED, JobState
from kueue.output_names import OutputNames
from kueue.wire.messages import (
    MAX_ITEMS,
    AttemptView,
    JobChange,
    JobCounts,
    JobDetail,
    JobView,
    OsString,
    QueueView,
    RawBytes,
    Reason,
    ResourceView,
    Spec,
    WorkerDetail,
    WorkerView,
)
from kueue_server.core.awaited import awaited_ranges, shown_waits
from kueue_server.core.closed import path_bytes, path_os_string
from kueue_server.core.jobs import Job, spec_of
from kueue_server.core.queues import Queue
from kueue_server.core.state import State
from kueue_server.core.table import JobTable, reason_of
from kueue_server.core.waiting import WhyWaiting
from kueue_server.core.workers import Worker

S = JobState


class LogPlace(msgspec.Struct, frozen=True):
    """Where the output of an attempt is. `session` is None while that worker is away. Paths are None for the
    worker's spool and `"null"` where output is discarded. `fence` is 0 for attempts before the last."""

    worker: int
    worker_name: str
    session: int | None
    fence: int
    attempt: int
    finished: bool
    stdout_path: OsString | None
    stderr_path: OsString | None


# ---------------------------------------------------------------- jobs


def job_view(state: State, job: Job, spec: Spec, why: WhyWaiting, now: float, *, attempts: bool) -> JobView:
    """A row of a listing."""
    shape = spec.shape
    outcome = job.outcome if job.state in FINISHED else None
    reason = job.reason
    if job.state is S.PENDING:
        reason = why.reason(job)
    elif job.state is S.WAITING and reason is None:
        reason = why.awaited.reason(job)
    run_seconds = None
    if outcome is not None:
        run_seconds = outcome.run_seconds if job.attempt else None
    elif job.state is S.RUNNING:
        run_seconds = max(0.0, now - state.workers.by_id[job.worker].running[job.id])
    stdout_path, stderr_path = spec.stdout, spec.stderr
    if stdout_path is not None or stderr_path is not None or outcome is not None:
        names = _names(job, spec, job.attempt, worker_name(state, job), state)
        reported = (outcome.stdout_path, outcome.stderr_path) if outcome is not None else (None, None)
        stdout_path = _path(spec, stdout_path, names, reported[0])
        stderr_path = _path(spec, stderr_path, names, reported[1])
    return JobView(
        id=job.id,
        state=job.state.value,
        command=spec.payload.argv,
        cwd=spec.cwd,
        cpus=shape.cpus,
        ram_mb=shape.ram_mb,
        job_slots=shape.job_slots,
        resources=shape.resources,
        name=spec.name,
        group=spec.group,
        queue=spec.queue,
        priority=spec.priority,
        worker=worker_name(state, job),
        attempt=job.attempt,
        attempts=_attempts(state, job) if attempts else (),
        restarts=job.losses,
        return_code=outcome.exit_code if outcome is not None else None,
        signal=outcome.signal if outcome is not None else None,
        reason=reason,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=outcome.finished_at if outcome is not None else None,
        run_seconds=run_seconds,
        cpu_seconds=outcome.cpu_seconds if outcome is not None and job.attempt else None,
        peak_ram_mb=outcome.peak_ram_mb if outcome is not None and job.attempt else None,
        stdout_path=stdout_path,
        stderr_path=stderr_path,
        submit_host=spec.submit_host,
        retries=job.retries,
        retry_at=job.retry_at,
        rerun_of=spec.rerun_of,
        array=spec.array,
        array_index=spec.array_index,
        awaited=why.awaited.number(job) if job.state is S.WAITING else 0,
    )


def job_detail(state: State, job: Job, now: float) -> JobDetail:
    """All about a job but what the journal has: tails and context."""
    spec = spec_of(job)
    return JobDetail(
        rid=0,
        job=job_view(state, job, spec, WhyWaiting(state), now, attempts=True),
        max_restarts=spec.max_restarts,
        restart=spec.restart,
        time_limit_seconds=spec.time_limit_seconds,
        workers=spec.shape.workers,
        not_workers=spec.shape.not_workers,
        max_retries=spec.max_retries,
        retry_delay_seconds=spec.retry_delay_seconds or 0.0,
        retry_on=spec.retry_on,
        waits=shown_waits(spec.waits),
        awaited_ranges=awaited_ranges(state, job),
    )


def job_change(state: State, job: Job) -> JobChange:
    """What waiting people look at."""
    outcome = job.outcome if job.state in FINISHED else None
    if outcome is None or not job.attempt:
        return JobChange(job.id, job.state.value, worker_name(state, job), job.attempt, reason=job.reason)
    return JobChange(
        job.id,
        job.state.value,
        worker_name(state, job),
        job.attempt,
        outcome.exit_code,
        outcome.signal,
        job.reason,
        outcome.run_seconds,
        outcome.cpu_seconds,
        outcome.peak_ram_mb,
    )


def task_change(table: JobTable, number: int) -> JobChange:
    """The same of a latent task."""
    part = table.parts.of(number)
    assert part is not None, f"task {number} is latent, and of no array"
    return JobChange(number, part.state.value, reason=reason_of(part))


def worker_name(state: State, job: Job) -> str | None:
    """The worker that has the job, or had it when it finished."""
    if job.state in (S.OFFERED, S.RUNNING):
        return state.workers.by_id[job.worker].name
    if job.state in FINISHED and job.attempts:
        return job.attempts[-1].worker
    return None


def _attempts(state: State, job: Job) -> tuple[AttemptView, ...]:
    if job.state not in (S.OFFERED, S.RUNNING):
        return job.attempts
    name = state.workers.by_id[job.worker].name
    return (*job.attempts, AttemptView(job.attempt, name, started_at=job.started_at))


def _names(job: Job, spec: Spec, attempt: int, worker: str | None, state: State) -> OutputNames | None:
    """What is in the names of output files; None while there is no attempt."""
    if not attempt or worker is None:
        return None
    known = state.workers.by_name.get(worker)
    host = "" if known is None else known.record.host
    return OutputNames(job.id, spec.name, spec.group, attempt, host, spec.array_index or 0)


def _path(
    spec: Spec, asked: OsString | None, names: OutputNames | None, reported: OsString | None = None
) -> OsString | None:
    """Where output goes: as asked for, below the working directory; else as the worker reported."""
    if asked is None or (reported is not None and b"%" in path_bytes(asked)):
        return reported
    if asked == "null":
        return asked
    if names is not None:
        asked = names.fill(asked) or asked
    path = path_bytes(asked)
    if path.startswith(b"/"):
        return asked
    if isinstance(asked, RawBytes) or isinstance(spec.cwd, RawBytes):
        return path_os_string(path_bytes(spec.cwd).rstrip(b"/") + b"/" + path)
    return f"{spec.cwd.rstrip('/')}/{asked}"


def log_place(state: State, job_id: int, attempt: int | None) -> LogPlace | Reason:
    """Where the output of an attempt is to be had; None means the current or last one."""
    job = state.table.look(job_id)
    if job is None:
        return Reason("unknown_job", f"no job {job_id}")
    known = {view.attempt: view for view in _attempts(state, job)}
    if not known:
        return Reason("not_started", f"job {job_id} has not started ({job.state.value})")
    number = max(known) if attempt is None else attempt
    view = known.get(number)
    if view is None:
        return Reason("unknown_attempt", f"job {job_id} has no attempt {number}; the last is {max(known)}")
    worker = state.workers.by_name.get(view.worker)
    spec = spec_of(job)
    names = _names(job, spec, number, view.worker, state)
    return LogPlace(
        worker=worker.id if worker is not None else 0,
        worker_name=view.worker,
        session=worker.session if worker is not None else None,
        fence=job.fence if number == job.attempt else 0,
        attempt=number,
        finished=bool(view.end),
        stdout_path=_path(spec, spec.stdout, names),
        stderr_path=_path(spec, spec.stderr, names),
    )


# ---------------------------------------------------------------- workers and resources


def worker_state(worker: Worker) -> str:
    """`connected`, `leaving` (it left on purpose, and nothing of ours is left there), `silent` or `lost`."""
    if worker.session is not None:
        return "connected"
    if worker.left:
        return "leaving"
    return "lost" if worker.lost else "silent"


def worker_view(worker: Worker, now: float) -> WorkerView:
    """A row of the list of workers."""
    connected = worker.session is not None
    succeeded, failed = worker.tally.counts(now)
    return WorkerView(
        id=worker.id,
        name=worker.name,
        host=worker.record.host,
        version=worker.record.version,
        state=worker_state(worker),
        capacity=worker.record.capacity,
        cpus_free=float(worker.free_cpus) if connected else 0.0,
        ram_free_mb=worker.free_ram_mb if connected else 0.0,
        slots_free=worker.free_slots if connected else 0,
        resources_free=tuple(worker.free_own()) if connected else (),
        jobs=len(worker.running),
        held=len(worker.offered) + worker.held_count,
        unconfirmed=len(worker.unconfirmed),
        connected_at=worker.connected_at if connected else None,
        last_seen_at=worker.last_seen_at,
        system=worker.record.system,
        status=worker.status,
        paused=worker.paused,
        hour_succeeded=succeeded,
        hour_failed=failed,
    )


def cpus(state: State) -> tuple[int, float]:
    """CPUs of the connected workers, and how many of them are in use."""
    connected = [worker for worker in state.workers.by_id.values() if worker.session is not None]
    whole = sum(worker.record.capacity.cpus for worker in connected)
    return whole, float(whole - sum(worker.free_cpus for worker in connected))


def worker_detail(worker: Worker, now: float) -> WorkerDetail:
    """All about a worker."""
    held = [*worker.offered, *(job for jobs in worker.held.values() for job in jobs)]
    return WorkerDetail(
        rid=0,
        worker=worker_view(worker, now),
        running=tuple(sorted(worker.running)[:MAX_ITEMS]),
        held=tuple(sorted(held)[:MAX_ITEMS]),
        unconfirmed=tuple(sorted({job for job, _ in worker.unconfirmed})[:MAX_ITEMS]),
        address=worker.address,
        closed=tuple(path_os_string(path) for path in worker.closed.paths()),
    )


def queues(state: State, now: float) -> tuple[QueueView, ...]:
    """The queues, by name."""
    return tuple(_queue_view(queue, now) for _, queue in sorted(state.queues.by_name.items()))


def _queue_view(queue: Queue, now: float) -> QueueView:
    rate = queue.rate.per_minute(now)
    unfinished = queue.unfinished
    eta = 0.0 if not unfinished else 60.0 * unfinished / rate if rate and queue.handed_out else None
    counts = {state.value: queue.counts[state.place] for state in JobState}
    return QueueView(
        queue.name,
        JobCounts(**counts, eta_seconds=eta),
        queue.weight,
        queue.max_running,
        queue.paused,
        queue.unconfirmed,
        rate,
    )


def find_worker(state: State, text: str) -> int | Reason:
    """The worker of this id or name, or on this host if that is the only one."""
    if text.isdecimal() and text.isascii() and len(text) < 19 and int(text) in state.workers.by_id:
        return int(text)
    worker = state.workers.by_name.get(text)
    if worker is not None:
        return worker.id
    on_host = [worker for worker in state.workers.ordered() if worker.record.host == text]
    if len(on_host) == 1:
        return on_host[0].id
    if on_host:
        names = ", ".join(worker.name for worker in on_host)
        return Reason("unknown_worker", f"several workers are on {text}: {names}")
    return Reason("unknown_worker", f"no worker {text}")


def resources(state: State) -> tuple[ResourceView, ...]:
    """The global resources, by name."""
    ledger = state.ledger
    return tuple(
        ResourceView(
            name,
            ledger.used.get(name, 0),
            total,
            tuple(sorted(ledger.holders.get(name, ()))[:MAX_ITEMS]),
        )
        for name, total in sorted(ledger.totals.items())
    )
