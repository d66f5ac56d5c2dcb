"""The documented JSON of jobs, workers and resources (`docs/json.md`). Pure."""

from __future__ import annotations

import datetime
from typing import Any

from kueue.wire.codec import from_os
from kueue.wire.messages import (
    AttemptView,
    Context,
    Explanation,
    JobDetail,
    JobView,
    OsString,
    Reason,
    ResourceView,
    Waits,
    WorkerDetail,
    WorkerView,
)


def iso(seconds: float | None) -> str | None:
    """ISO 8601 in UTC with milliseconds."""
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _text(value: OsString | None) -> str | None:
    """A path or argument; bytes that are not UTF-8 as U+DC80…U+DCFF, as Python's `surrogateescape` has it."""
    return None if value is None else from_os(value)


def _reason(reason: Reason | None) -> dict[str, str] | None:
    return None if reason is None else {"code": reason.code, "text": reason.text}


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "worker": attempt.worker,
        "end": attempt.end or None,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
        "return_code": attempt.exit_code,
        "signal": attempt.signal,
        "reason": _reason(attempt.reason),
    }


def job_row(job: JobView) -> dict[str, Any]:
    """A job of a list."""
    return {
        "id": job.id,
        "name": job.name,
        "group": job.group,
        "queue": job.queue,
        "state": job.state,
        "command": [from_os(word) for word in job.command],
        "cwd": _text(job.cwd),
        "cpus": job.cpus,
        "ram_mb": job.ram_mb,
        "job_slots": job.job_slots,
        "resources": dict(job.resources),
        "priority": job.priority,
        "worker": job.worker,
        "attempt": job.attempt,
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "restarts": job.restarts,
        "return_code": job.return_code,
        "signal": job.signal,
        "reason": _reason(job.reason),
        "submitted_at": iso(job.submitted_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "run_seconds": job.run_seconds,
        "cpu_seconds": job.cpu_seconds,
        "peak_ram_mb": job.peak_ram_mb,
        "stdout_path": _text(job.stdout_path),
        "stderr_path": _text(job.stderr_path),
        "submit_host": job.submit_host,
        "retries": job.retries,
        "retry_at": iso(job.retry_at),
        "rerun_of": job.rerun_of,
        "array": job.array,
        "array_index": job.array_index,
        "last": job.last,
        "indices": job.indices or None,
        "awaited": job.awaited,
    }


def job_object(detail: JobDetail, context: Context | None) -> dict[str, Any]:
    """`show-job`: a row and what only the one job's page has."""
    row = job_row(detail.job)
    row |= {
        "max_restarts": detail.max_restarts,
        "restart": detail.restart,
        "max_retries": detail.max_retries,
        "retry_delay_seconds": detail.retry_delay_seconds,
        "retry_on": list(detail.retry_on),
        "time_limit_seconds": detail.time_limit_seconds,
        "workers": list(detail.workers),
        "not_workers": list(detail.not_workers),
        "stdout_tail": _tail(detail.stdout_tail),
        "stderr_tail": _tail(detail.stderr_tail),
    }
    waits = detail.waits or Waits()
    row |= {
        "after": [list(ids) for ids in waits.after],
        "after_any": [list(ids) for ids in waits.after_any],
        "on_failure": waits.on_failure if detail.waits is not None else None,
        "awaited_ranges": [list(ids) for ids in detail.awaited_ranges],
    }
    if context is not None:
        row["environment"] = {from_os(name): from_os(value) for name, value in context.env}
    return row


def _tail(data: bytes | None) -> str | None:
    return None if data is None else data.decode(errors="surrogateescape")


def explanation_object(found: Explanation) -> dict[str, Any]:
    """`explain`."""
    return {
        "job": found.job.id,
        "state": found.job.state,
        "reason": _reason(found.job.reason),
        "workers": [
            {"name": worker.worker, "lacks": [_reason(reason) for reason in worker.lacks]}
            for worker in found.workers
        ],
        "awaited_ranges": [list(ids) for ids in found.awaited_ranges],
    }


def worker_row(worker: WorkerView) -> dict[str, Any]:
    """A worker of a list."""
    status, free = worker.status, dict(worker.resources_free)
    return {
        "id": worker.id,
        "name": worker.name,
        "host": worker.host,
        "version": worker.version,
        "state": worker.state,
        "paused": worker.paused is not None,
        "paused_since": iso(worker.paused.since) if worker.paused is not None else None,
        "pause_reason": worker.paused.reason if worker.paused is not None else None,
        "cpus": worker.capacity.cpus,
        "cpus_free": worker.cpus_free,
        "ram_mb": worker.capacity.ram_mb,
        "ram_free_mb": worker.ram_free_mb,
        "job_slots": worker.capacity.job_slots,
        "job_slots_free": worker.slots_free,
        "resources": {
            name: {"total": amount, "free": free.get(name, 0)} for name, amount in worker.capacity.resources
        },
        "jobs": worker.jobs,
        "held": worker.held,
        "unconfirmed": worker.unconfirmed,
        "failed_last_hour": worker.hour_failed,
        "succeeded_last_hour": worker.hour_succeeded,
        "load": list(status.load) if status is not None else None,
        "busy": status.busy if status is not None else None,
        "accepting": status.accepting if status is not None else None,
        "note": status.note if status is not None else None,
        "keeper_silent_seconds": status.keeper_silent_seconds if status is not None else None,
        "uptime_seconds": status.uptime_seconds if status is not None else None,
        "connected_at": iso(worker.connected_at),
        "last_seen_at": iso(worker.last_seen_at),
        "system": {
            "os": worker.system.os,
            "kernel": worker.system.kernel,
            "machine": worker.system.machine,
            "cpu_model": worker.system.cpu_model,
            "cpu_mhz": worker.system.cpu_mhz,
            "cpus": worker.system.cpus,
            "ram_mb": worker.system.ram_mb,
            "python": worker.system.python,
        },
    }


def worker_object(detail: WorkerDetail) -> dict[str, Any]:
    """`show-worker`."""
    return worker_row(detail.worker) | {
        "address": detail.address,
        "running": list(detail.running),
        "held_jobs": list(detail.held),
        "unconfirmed_jobs": list(detail.unconfirmed),
        "unseen_directories": [from_os(path) for path in detail.closed],
    }


def resource_row(resource: ResourceView) -> dict[str, Any]:
    """A global resource."""
    return {
        "name": resource.name,
        "used": resource.used,
        "total": resource.total,
        "jobs": list(resource.jobs),
    }
