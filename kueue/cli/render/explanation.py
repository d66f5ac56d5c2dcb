"""`kueue explain` as lines. Pure."""

from __future__ import annotations

from kueue.cli.render.following import shown_ranges
from kueue.cli.render.table import Cell, Column, table
from kueue.text import quoted, visible
from kueue.wire.messages import Explanation, JobView

COLUMNS = (Column("worker", least=8, shrink=1), Column("lacks", least=20, shrink=3))


_STATES = {"succeeded": "succeeded", "failed": "failed", "canceled": "was canceled"}


def _remedy(job: JobView) -> list[str]:
    """What a person can do about it, where that is for a person to decide."""
    code = "" if job.reason is None else job.reason.code
    if job.state == "waiting" and code == "held":
        return [f"kueue set-job {job.id} --release lets it go, kueue remove-job {job.id} cancels it"]
    if job.state == "pending" and code == "queue_paused":
        return [f"kueue resume-queue {quoted([job.queue])} lets it go on"]
    return []


def explanation_lines(found: Explanation, width: int, *, colour: bool) -> list[str]:
    """A line about the job, then a table of the workers."""
    job = found.job
    line = f"job {job.id} {_STATES.get(job.state, f'is {job.state}')}"
    if job.worker and job.state in ("offered", "running"):
        line += f" on {visible(job.worker)}"
    if job.reason is not None:
        line += f": {visible(job.reason.text)}"
    if found.awaited_ranges and job.awaited > 1:
        line += f": {shown_ranges(found.awaited_ranges)}"
    remedy = _remedy(job)
    if job.state != "pending":
        return [line, *remedy]
    if not found.workers:
        return [line, *remedy, "the server knows no worker"]
    rows = [
        [
            Cell(visible(worker.worker)),
            Cell("; ".join(visible(reason.text) for reason in worker.lacks), "yellow")
            if worker.lacks
            else Cell("nothing", "green"),
        ]
        for worker in found.workers
    ]
    return [line, *remedy, "", *table(COLUMNS, rows, width, colour=colour)]
