"""Columns of the tables, of widths that only the terminal's width decides: nothing jumps while one scrolls. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len

from kueue.cli.render.cluster import busy_style, hour_cell, state_cell
from kueue.cli.render.jobs import STATE_STYLES
from kueue.cli.render.queues import queue_state
from kueue.cli.render.table import Cell, shortened
from kueue.durations import format_duration, format_ram
from kueue.text import quoted, visible
from kueue.wire.codec import from_os
from kueue.wire.messages import JobView, QueueView, ResourceView, WorkerView

__all__ = ["JOBS", "LICENCES", "QUEUES", "WORKERS", "Cell", "Column", "fitted", "line"]


class Column(NamedTuple):
    """`width` columns of the terminal, and of what is left over `share` parts. Left out on terminals narrower than
    `from_width`."""

    title: str
    width: int
    share: int = 0
    right: bool = False
    from_width: int = 0


JOBS = (
    Column("id", 9, right=True),
    Column("state", 9),
    Column("name", 14, from_width=100),
    Column("group", 12, from_width=120),
    Column("queue", 10, from_width=140),
    Column("command", 12, share=3),
    Column("worker", 12),
    Column("time", 9, right=True),
    Column("note", 8, share=2),
)
WORKERS = (
    Column("name", 12, share=2),
    Column("state", 9, share=1),
    Column("cpus", 7, right=True),
    Column("memory", 17, right=True),
    Column("jobs", 7, right=True),
    Column("failed/ok", 9, right=True),
    Column("busy", 4, right=True),
    Column("load", 5, right=True),
    Column("uptime", 10, right=True, from_width=100),
    Column("version", 10, from_width=120),
    Column("note", 4, share=2, from_width=100),
)
QUEUES = (
    Column("queue", 12, share=2),
    Column("pending", 9, right=True),
    Column("running", 9, right=True),
    Column("done", 9, right=True, from_width=100),
    Column("failed", 7, right=True),
    Column("weight", 6, right=True),
    Column("at most", 7, right=True),
    Column("state", 8, share=3),
)
LICENCES = (
    Column("licence", 12, share=1),
    Column("used", 7, right=True),
    Column("total", 7, right=True),
    Column("held by jobs", 12, share=3),
)


def fitted(columns: Sequence[Column], width: int) -> list[tuple[int, Column]]:
    """Position and column of those that are shown, with their widths."""
    shown = [(at, column) for at, column in enumerate(columns) if width >= column.from_width]
    left = max(0, width - sum(column.width + 1 for _, column in shown) + 1)
    shares = sum(column.share for _, column in shown)
    found = []
    for at, column in shown:
        more = left * column.share // shares if shares else 0
        left, shares = left - more, shares - column.share
        found.append((at, column._replace(width=column.width + more)))
    return found


def line(columns: Sequence[tuple[int, Column]], cells: Sequence[Cell]) -> list[Cell]:
    """A row as pieces that follow one another."""
    pieces = []
    for at, column in columns:
        cell = cells[at]
        text = shortened(cell.text, column.width)
        padding = " " * (column.width - cell_len(text))
        pieces.append(Cell((padding + text if column.right else text + padding) + " ", cell.style))
    return pieces


def job_cells(job: JobView, now: float, *, has_names: bool) -> list[Cell]:
    """A job; without a column for names, its name stands for the command."""
    return [
        Cell(str(job.id)),
        Cell(job.state, STATE_STYLES.get(job.state, "")),
        Cell(visible(job.name)),
        Cell(visible(job.group)),
        Cell(visible(job.queue)),
        Cell(command_of(job) if has_names else named_command_of(job)),
        Cell(visible(job.worker or "") if job.state != "pending" else ""),
        Cell(_time(job, now)),
        Cell(visible(job.reason.text) if job.reason is not None else ""),
    ]


def command_of(job: JobView) -> str:
    """As it would be typed."""
    return quoted([from_os(word) for word in job.command])


def named_command_of(job: JobView) -> str:
    """With the job's name before it, if it has one."""
    return f"{visible(job.name)}: {command_of(job)}" if job.name else command_of(job)


def _time(job: JobView, now: float) -> str:
    if job.state == "running" and job.started_at is not None:
        return format_duration(now - job.started_at)
    return "" if job.run_seconds is None else format_duration(job.run_seconds)


def worker_cells(worker: WorkerView) -> list[Cell]:
    """A worker."""
    status, capacity = worker.status, worker.capacity
    used = capacity.cpus - worker.cpus_free
    ram = f"{format_ram(capacity.ram_mb - worker.ram_free_mb)}/{format_ram(capacity.ram_mb)}"
    is_here = worker.state == "connected"
    return [
        Cell(visible(worker.name)),
        state_cell(worker),
        Cell(f"{used:.0f}/{capacity.cpus}" if is_here else "-", busy_style(used / max(1, capacity.cpus))),
        Cell(ram if is_here else "-"),
        Cell(f"{worker.jobs}/{capacity.job_slots}"),
        hour_cell(worker),
        Cell("-") if status is None else Cell(f"{status.busy:.0%}", busy_style(status.busy)),
        Cell("-" if status is None else f"{status.load[0]:.1f}"),
        Cell("-" if status is None else format_duration(status.uptime_seconds)),
        Cell(visible(worker.version)),
        Cell("" if status is None or status.accepting else visible(status.note) or "takes no jobs"),
    ]


def licence_cells(licence: ResourceView) -> list[Cell]:
    """A global resource."""
    style = "red" if licence.used >= licence.total else ""
    jobs = " ".join(map(str, licence.jobs))
    return [Cell(visible(licence.name)), Cell(str(licence.used), style), Cell(str(licence.total)), Cell(jobs)]


def queue_cells(queue: QueueView, now: float) -> list[Cell]:
    """A named queue."""
    counts = queue.counts
    return [
        Cell(visible(queue.name)),
        Cell(str(counts.waiting + counts.pending)),
        Cell(str(counts.offered + counts.running)),
        Cell(str(counts.succeeded)),
        Cell(str(counts.failed), "red" if counts.failed else ""),
        Cell(str(queue.weight)),
        Cell("-" if queue.max_running is None else str(queue.max_running)),
        queue_state(queue, now),
    ]
