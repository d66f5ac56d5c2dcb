"""`kueue explain` as lines. Pure."""

from __future__ import annotations

from kueue.cli.render.following import shown_ranges
from kueue.cli.render.table import Cell, Column, table
from kueue.text import visible
from kueue.wire.messages import Explanation

COLUMNS = (Column("worker", least=8, shrink=1), Column("lacks", least=20, shrink=3))


def explanation_lines(found: Explanation, width: int, *, colour: bool) -> list[str]:
    """A line about the job, then a table of the workers."""
    job = found.job
    line = f"job {job.id} is {job.state}"
    if job.worker and job.state in ("offered", "running"):
        line += f" on {visible(job.worker)}"
    if job.reason is not None:
        line += f": {visible(job.reason.text)}"
    if found.awaited_ranges and job.awaited > 1:
        line += f": {shown_ranges(found.awaited_ranges)}"
    if job.state != "pending":
        return [line]
    if not found.workers:
        return [line, "the server knows no worker"]
    rows = [
        [
            Cell(visible(worker.worker)),
            Cell("; ".join(visible(reason.text) for reason in worker.lacks), "yellow")
            if worker.lacks
            else Cell("nothing", "green"),
        ]
        for worker in found.workers
    ]
    return [line, "", *table(COLUMNS, rows, width, colour=colour)]
