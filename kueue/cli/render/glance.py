"""What stands below the rows of a glance: what is not shown, and why jobs wait. Pure."""

from __future__ import annotations

from kueue.cli.render.table import shortened, styled
from kueue.text import visible
from kueue.wire.messages import JobCounts, LeftOut, WaitGroup

MOST_HOLDERS = 10
"""Jobs that the server names of each group."""


def left_out_line(left: LeftOut, width: int) -> str | None:
    """How many jobs of each kind are not among the rows; None if all are."""
    kinds = (
        (left.running, "running"),
        (left.failed, "failed within a day"),
        (left.pending, "pending"),
        (left.finished, "succeeded or canceled"),
        (left.failed_before, "failed before"),
    )
    parts = [f"{number} {kind}" for number, kind in kinds if number > 0]
    return shortened(f"not shown: {', '.join(parts)}", width) if parts else None


def waits_line(waits: tuple[WaitGroup, ...], counts: JobCounts, width: int, *, colour: bool) -> str | None:
    """Why jobs wait, the most frequent reason first; None if none does."""
    parts = [_group(group) for group in waits]
    total = counts.pending + counts.waiting
    if not parts or not total:
        return None
    line = f"{total} wait{'s' if total == 1 else ''}: {', '.join(parts)}"
    return styled(shortened(line, width), "yellow", colour)


def _group(group: WaitGroup) -> str:
    text = f"{'about ' if group.about else ''}{group.count} {visible(group.reason.text)}"
    if group.jobs:
        more = " …" if len(group.jobs) >= MOST_HOLDERS else ""
        noun = "job" if len(group.jobs) == 1 else "jobs"
        text += f" ({noun} {' '.join(map(str, group.jobs))}{more})"
    return text
