"""From the server's answers on the wire to what the Python API gives back (`results.py`). No I/O."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from kueue.errors import ProtocolError
from kueue.results import (
    Attempt,
    CancelResult,
    Job,
    JobDetails,
    LogPart,
    Resource,
    Resources,
    ServerDetails,
    Worker,
    WorkerDetails,
)
from kueue.wire.codec import from_os
from kueue.wire.messages import (
    AttemptView,
    Canceled,
    Context,
    JobChange,
    JobDetail,
    JobView,
    LogChunk,
    OsString,
    ResourcePage,
    ServerState,
    Stream,
    WorkerDetail,
    WorkerView,
)


def time_of(seconds: float | None) -> datetime.datetime | None:
    """Seconds since the epoch as an aware time."""
    return None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def job_of_view(view: JobView, client: object | None) -> Job:
    """A row of a listing."""
    return Job(
        id=view.id,
        state=view.state,
        command=tuple(map(from_os, view.command)),
        cwd=from_os(view.cwd),
        cpus=view.cpus,
        ram_mb=view.ram_mb,
        job_slots=view.job_slots,
        resources=dict(view.resources),
        name=view.name,
        group=view.group,
        queue=view.queue,
        priority=view.priority,
        worker=view.worker,
        attempt=view.attempt,
        attempts=tuple(map(_attempt_of, view.attempts)),
        restarts=view.restarts,
        return_code=view.return_code,
        signal=view.signal,
        reason=view.reason,
        submitted_at=time_of(view.submitted_at),
        started_at=time_of(view.started_at),
        finished_at=time_of(view.finished_at),
        run_seconds=view.run_seconds,
        cpu_seconds=view.cpu_seconds,
        peak_ram_mb=view.peak_ram_mb,
        stdout_path=_path_of(view.stdout_path),
        stderr_path=_path_of(view.stderr_path),
        submit_host=view.submit_host,
        _client=client,
    )


def job_of_change(change: JobChange, client: object | None) -> Job:
    """What a watch tells."""
    return Job(
        id=change.id,
        state=change.state,
        worker=change.worker,
        attempt=change.attempt,
        return_code=change.return_code,
        signal=change.signal,
        reason=change.reason,
        run_seconds=change.run_seconds,
        cpu_seconds=change.cpu_seconds,
        peak_ram_mb=change.peak_ram_mb,
        _client=client,
    )


def details_of_job(detail: JobDetail, client: object | None) -> JobDetails:
    """The answer to `ShowJob`.

    Raises:
        ProtocolError: its context is none.
    """
    try:
        context = None if detail.context is None else msgspec.json.decode(detail.context, type=Context)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise ProtocolError(f"the server sent an environment that is none: {error}") from None
    return JobDetails(
        job=job_of_view(detail.job, client),
        max_restarts=detail.max_restarts,
        restart=detail.restart,
        time_limit_seconds=detail.time_limit_seconds,
        workers=detail.workers,
        not_workers=detail.not_workers,
        stdout_tail=detail.stdout_tail,
        stderr_tail=detail.stderr_tail,
        context=context,
    )


def cancel_result_of(reply: Canceled) -> CancelResult:
    """The answer to `Cancel`."""
    return CancelResult(reply.canceled, reply.finished, reply.running, reply.unknown)


def log_part_of(stream: Stream, chunk: LogChunk) -> LogPart:
    """A piece of output."""
    return LogPart(
        stream, chunk.data, chunk.attempt, chunk.offset, chunk.tail, chunk.worker, _path_of(chunk.path)
    )


def worker_of(view: WorkerView) -> Worker:
    """A row of the list of workers."""
    common: dict[str, Any] = {
        "id": view.id,
        "name": view.name,
        "host": view.host,
        "version": view.version,
        "state": view.state,
        "cpus": view.capacity.cpus,
        "cpus_free": view.cpus_free,
        "ram_mb": view.capacity.ram_mb,
        "ram_free_mb": view.ram_free_mb,
        "job_slots": view.capacity.job_slots,
        "slots_free": view.slots_free,
        "resources": dict(view.capacity.resources),
        "resources_free": dict(view.resources_free),
        "jobs": view.jobs,
        "held": view.held,
        "unconfirmed": view.unconfirmed,
        "connected_at": time_of(view.connected_at),
        "last_seen_at": time_of(view.last_seen_at),
        "system": view.system,
    }
    status = view.status
    if status is None:
        return Worker(**common)
    return Worker(
        **common,
        load=status.load,
        busy=status.busy,
        ram_used_mb=status.ram_used_mb,
        uptime_seconds=status.uptime_seconds,
        accepting=status.accepting,
        note=status.note,
        keeper_silent_seconds=status.keeper_silent_seconds,
    )


def details_of_worker(detail: WorkerDetail) -> WorkerDetails:
    """The answer to `ShowWorker`."""
    return WorkerDetails(
        worker=worker_of(detail.worker),
        running=detail.running,
        held=detail.held,
        unconfirmed=detail.unconfirmed,
        address=detail.address,
        closed=tuple(map(from_os, detail.closed)),
    )


def resources_of(page: ResourcePage) -> Resources:
    """The answer to `ListResources`."""
    return Resources(
        tuple(Resource(view.name, view.used, view.total, view.jobs) for view in page.resources),
        page.parallel_jobs,
        page.max_parallel_jobs,
    )


def server_details_of(state: ServerState) -> ServerDetails:
    """The answer to `ServerInfo`."""
    return ServerDetails(
        version=state.version,
        journal=state.journal,
        host=state.host,
        pid=state.pid,
        started_at=datetime.datetime.fromtimestamp(state.started_at, datetime.UTC),
        state_dir=from_os(state.state_dir),
        counts=state.counts,
        workers=state.workers,
        journal_error=state.journal_error,
    )


def _attempt_of(view: AttemptView) -> Attempt:
    return Attempt(
        view.attempt,
        view.worker,
        view.end,
        time_of(view.started_at),
        time_of(view.finished_at),
        view.exit_code,
        view.signal,
        view.reason,
    )


def _path_of(path: OsString | None) -> str | None:
    return None if path is None else from_os(path)
