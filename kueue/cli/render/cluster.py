"""Workers and resources as tables and pages. Pure."""

from __future__ import annotations

from kueue.cli.render.jobs import local_time
from kueue.cli.render.table import Cell, Column, styled, table
from kueue.durations import format_duration, format_ram
from kueue.text import visible
from kueue.wire.codec import from_os
from kueue.wire.messages import ResourcePage, WorkerDetail, WorkerView

WORKER_COLUMNS = (
    Column("id", right=True),
    Column("name", least=8, shrink=3),
    Column("system", least=6, shrink=1, optional=True),
    Column("cpus", right=True),
    Column("MHz", right=True, optional=True),
    Column("memory", right=True),
    Column("jobs", right=True),
    Column("failed/ok", right=True, optional=True, keep=1),
    Column("busy", right=True),
    Column("load 1/5/15", shrink=2, least=4),
    Column("uptime", right=True),
    Column("version", shrink=2, least=4),
    Column("state", least=9, shrink=4),
)
STATE_STYLES = {"connected": "green", "silent": "yellow", "lost": "red", "leaving": "yellow"}


def busy_style(share: float) -> str:
    """Green below a quarter, yellow below three quarters, red above."""
    return "green" if share < 0.25 else "yellow" if share < 0.75 else "red"


def worker_lines(workers: tuple[WorkerView, ...], width: int, *, colour: bool) -> list[str]:
    """The table."""
    return table(WORKER_COLUMNS, [_worker_row(worker) for worker in workers], width, colour=colour)


def _worker_row(worker: WorkerView) -> list[Cell]:
    status, system = worker.status, worker.system
    used = worker.capacity.cpus - worker.cpus_free
    share = used / worker.capacity.cpus if worker.capacity.cpus else 0.0
    busy = status.busy if status is not None else 0.0
    jobs = f"{worker.jobs}/{worker.capacity.job_slots}"
    return [
        Cell(str(worker.id)),
        Cell(visible(worker.name)),
        Cell(visible(system.os)),
        Cell(f"{used:.0f}/{worker.capacity.cpus}", busy_style(share)),
        Cell(f"{system.cpu_mhz:.0f}" if system.cpu_mhz else ""),
        Cell(
            f"{format_ram(worker.capacity.ram_mb - worker.ram_free_mb)}/{format_ram(worker.capacity.ram_mb)}"
        ),
        Cell(jobs, busy_style(worker.jobs / worker.capacity.job_slots if worker.capacity.job_slots else 0.0)),
        hour_cell(worker),
        Cell(f"{busy:.0%}", busy_style(busy)) if status is not None else Cell("-"),
        Cell(" ".join(f"{load:.1f}" for load in status.load) if status is not None else "-"),
        Cell(format_duration(status.uptime_seconds) if status is not None else "-"),
        Cell(visible(worker.version)),
        state_cell(worker),
    ]


def hour_cell(worker: WorkerView) -> Cell:
    """Attempts that failed and that succeeded within the last hour; red where more than half failed."""
    failed, succeeded = worker.hour_failed, worker.hour_succeeded
    if not failed and not succeeded:
        return Cell("")
    return Cell(f"{failed}/{succeeded}", "red" if failed > succeeded else "")


def state_cell(worker: WorkerView) -> Cell:
    """A pause comes before being connected, for it is what keeps jobs away."""
    if worker.paused is None:
        return Cell(worker.state, STATE_STYLES.get(worker.state, ""))
    state = "paused" if worker.state == "connected" else f"{worker.state}, paused"
    return Cell(f"{state}: {visible(worker.paused.reason)}" if worker.paused.reason else state, "yellow")


def worker_detail_lines(detail: WorkerDetail, *, colour: bool) -> list[str]:
    """Everything about one worker."""
    worker, system, status = detail.worker, detail.worker.system, detail.worker.status
    capacity = worker.capacity
    fields = [
        ("worker", f"{worker.id}: {visible(worker.name)}"),
        ("state", styled(worker.state, STATE_STYLES.get(worker.state, ""), colour)),
        *(
            [("paused", f"since {local_time(worker.paused.since)} {visible(worker.paused.reason)}".rstrip())]
            if worker.paused is not None
            else []
        ),
        ("host", f"{visible(worker.host)} ({visible(detail.address)})"),
        ("system", visible(f"{system.os}, {system.kernel}, {system.machine}, Python {system.python}")),
        ("processor", visible(f"{system.cpus} × {system.cpu_model}, {system.cpu_mhz:.0f} MHz")),
        ("version", visible(worker.version)),
        ("CPUs", f"{worker.cpus_free:g} of {capacity.cpus} free"),
        ("memory", f"{format_ram(worker.ram_free_mb)} of {format_ram(capacity.ram_mb)} free"),
        ("slots", f"{worker.slots_free} of {capacity.job_slots} free"),
    ]
    free = dict(worker.resources_free)
    for name, amount in capacity.resources:
        fields.append((visible(name), f"{free.get(name, 0)} of {amount} free"))
    if status is not None:
        fields.append(("load", " ".join(f"{load:.2f}" for load in status.load) + f", {status.busy:.0%} busy"))
        fields.append(("uptime", format_duration(status.uptime_seconds)))
        if not status.accepting:
            fields.append(("takes no jobs", visible(status.note or "it did not say why")))
        if status.keeper_silent_seconds:
            fields.append(("keeper", f"has not answered for {format_duration(status.keeper_silent_seconds)}"))
    if worker.hour_failed or worker.hour_succeeded:
        fields.append(
            ("last hour", f"{worker.hour_failed} attempts failed, {worker.hour_succeeded} succeeded")
        )
    fields.append(("connected", local_time(worker.connected_at)))
    fields.append(("last seen", local_time(worker.last_seen_at)))
    for name, jobs in (
        ("running", detail.running),
        ("held", detail.held),
        ("unconfirmed", detail.unconfirmed),
    ):
        if jobs:
            fields.append((name, " ".join(map(str, jobs))))
    if detail.closed:
        fields.append(("does not see", visible(" ".join(map(from_os, detail.closed)))))
    return [f"{name + ':':<14} {value}" for name, value in fields]


RESOURCE_COLUMNS = (
    Column("resource", least=8, shrink=2),
    Column("used", right=True),
    Column("total", right=True),
    Column("held by jobs", least=8, shrink=1),
)


def resource_lines(page: ResourcePage, width: int, *, colour: bool) -> list[str]:
    """The table, and the limit of parallel jobs if there is one."""
    rows = []
    for resource in page.resources:
        style = "red" if resource.used >= resource.total else ""
        held = " ".join(map(str, resource.jobs))
        cells = [Cell(visible(resource.name)), Cell(str(resource.used), style), Cell(str(resource.total))]
        rows.append([*cells, Cell(held)])
    lines = table(RESOURCE_COLUMNS, rows, width, colour=colour) if rows else ["no global resources"]
    if page.max_parallel_jobs is not None:
        lines.append(f"{page.parallel_jobs} of at most {page.max_parallel_jobs} jobs run in parallel")
    return lines
