"""Queues as a table, and as rows of JSON. Pure."""

from __future__ import annotations

from typing import Any

from kueue.cli.render.json_rows import iso
from kueue.cli.render.table import Cell, Column, table
from kueue.durations import format_duration
from kueue.text import visible
from kueue.wire.messages import QueueView

COLUMNS = (
    Column("queue", least=8, shrink=3),
    Column("waiting", right=True, optional=True),
    Column("pending", right=True),
    Column("running", right=True),
    Column("succeeded", right=True),
    Column("failed", right=True),
    Column("canceled", right=True, optional=True),
    Column("per min", right=True),
    Column("rest", right=True),
    Column("weight", right=True),
    Column("at most", right=True),
    Column("state", least=6, shrink=4),
)


def queue_lines(queues: tuple[QueueView, ...], now: float, width: int, *, colour: bool) -> list[str]:
    """The table."""
    return table(COLUMNS, [_row(queue, now) for queue in queues], width, colour=colour)


def _row(queue: QueueView, now: float) -> list[Cell]:
    counts = queue.counts
    started = counts.running + counts.offered
    return [
        Cell(visible(queue.name)),
        Cell(str(counts.waiting) if counts.waiting else ""),
        Cell(str(counts.pending)),
        Cell(f"{started}+{queue.unconfirmed}" if queue.unconfirmed else str(started)),
        Cell(str(counts.succeeded)),
        Cell(str(counts.failed), "red" if counts.failed else ""),
        Cell(str(counts.canceled) if counts.canceled else ""),
        Cell(f"{queue.per_minute:.1f}" if queue.per_minute is not None else "-"),
        Cell(_rest(queue)),
        Cell(str(queue.weight)),
        Cell(str(queue.max_running) if queue.max_running is not None else "-"),
        queue_state(queue, now),
    ]


def _rest(queue: QueueView) -> str:
    unfinished = queue.counts.waiting + queue.counts.pending + queue.counts.offered + queue.counts.running
    if not unfinished or queue.counts.eta_seconds is None:
        return "-"
    return format_duration(queue.counts.eta_seconds)


def queue_state(queue: QueueView, now: float) -> Cell:
    """Does it let jobs start?"""
    if queue.paused is None:
        handed_out = queue.counts.running + queue.counts.offered + queue.unconfirmed
        full = queue.max_running is not None and handed_out >= queue.max_running
        return Cell("full" if full and queue.counts.pending else "open")
    text = f"paused for {format_duration(now - queue.paused.since)}"
    return Cell(f"{text}: {visible(queue.paused.reason)}" if queue.paused.reason else text, "yellow")


def queue_row(queue: QueueView) -> dict[str, Any]:
    """A queue of a list."""
    counts, paused = queue.counts, queue.paused
    return {
        "name": queue.name,
        "waiting": counts.waiting,
        "pending": counts.pending,
        "offered": counts.offered,
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "canceled": counts.canceled,
        "unconfirmed": queue.unconfirmed,
        "per_minute": queue.per_minute,
        "eta_seconds": counts.eta_seconds,
        "weight": queue.weight,
        "max_running": queue.max_running,
        "paused": paused is not None,
        "paused_since": iso(paused.since) if paused is not None else None,
        "pause_reason": paused.reason if paused is not None else None,
    }
