"""Jobs as rows of a table and as a page of details. Pure: what the server said, to lines."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from itertools import islice

from kueue.cli.render.following import following_fields
from kueue.cli.render.table import Cell, Column, Layout, styled
from kueue.durations import format_duration, format_ram
from kueue.text import quoted, visible, visible_block
from kueue.wire.codec import from_os
from kueue.wire.messages import DEFAULT_QUEUE, Context, JobCounts, JobDetail, JobView

STATE_STYLES = {
    "waiting": "dim",
    "pending": "yellow",
    "offered": "cyan",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "canceled": "magenta",
}

MOST_INDICES = 30
"""Characters of them in a row."""


COLUMNS = (
    Column("id", right=True),
    Column("name", least=6, shrink=3, optional=True),
    Column("command", least=12, shrink=2),
    Column("directory", least=8, shrink=1, front=True),
    Column("cpus", right=True),
    Column("ram", right=True),
    Column("resources", least=6, shrink=3, optional=True),
    Column("queue", least=6, shrink=3, optional=True),
    Column("state"),
    Column("worker", least=6, shrink=4, optional=True),
    Column("time", right=True, optional=True),
    Column("note", least=12, shrink=4),
)

NARROW_COLUMNS = (
    Column("id", right=True),
    Column("name", least=6, shrink=3, optional=True),
    Column("command", least=12, shrink=2),
    Column("directory", least=8, shrink=1, front=True),
    Column("queue", least=6, shrink=2, optional=True),
    Column("state"),
    Column("note", least=16, shrink=2),
)
"""On terminals that have no room for more; the note says who has the job, and for how long."""
WIDE_FROM = 120
PART_ROWS = 1000
"""Laid out together."""


def job_lines(
    jobs: Iterable[JobView], now: float, width: int, *, colour: bool, queue: str | None = None
) -> Iterator[str]:
    """The table, of which no more than a part is kept; nothing without jobs. It names queues if not all jobs are in
    `queue`, the one asked for, or in `default`."""
    known = DEFAULT_QUEUE if queue is None else queue
    row, columns = (_narrow_row, NARROW_COLUMNS) if width < WIDE_FROM else (_row, COLUMNS)
    layout = Layout(columns, width, colour=colour)
    named = False
    coming = iter(jobs)
    while part := list(islice(coming, PART_ROWS)):
        named = named or any(job.queue != known for job in part)
        yield from layout.lines([row(job, now, named) for job in part])


def jobs_of(row: JobView) -> int:
    """How many jobs a row stands for."""
    return 1 if row.last is None else row.last - row.id + 1


def _number(job: JobView) -> str:
    """An id with the index in its array, or all that a row stands for."""
    if job.last is None:
        return str(job.id) if job.array_index is None else f"{job.id} [{job.array_index}]"
    indices = job.indices
    if len(indices) > MOST_INDICES:
        indices = indices[:MOST_INDICES].rpartition(",")[0] + ",…"
    return f"{job.id}-{job.last} [{indices}]"


def _row(job: JobView, now: float, has_queues: bool) -> list[Cell]:
    return [
        Cell(_number(job)),
        Cell(visible(job.name)),
        Cell(_command(job)),
        Cell(visible(from_os(job.cwd))),
        Cell(str(job.cpus)),
        Cell(format_ram(job.ram_mb)),
        Cell(_resources(job)),
        Cell(visible(job.queue) if has_queues else ""),
        _state(job),
        Cell(visible(job.worker or "") if job.state != "pending" else ""),
        Cell(_time(job, now)),
        Cell(visible(job.reason.text) if job.reason is not None else ""),
    ]


def _narrow_row(job: JobView, now: float, has_queues: bool) -> list[Cell]:
    return [
        Cell(_number(job)),
        Cell(visible(job.name)),
        Cell(_command(job)),
        Cell(visible(from_os(job.cwd))),
        Cell(visible(job.queue) if has_queues else ""),
        _state(job),
        Cell(note_of(job, now)),
    ]


def note_of(job: JobView, now: float) -> str:
    """Why a job waits or failed; else who has it or had it, and for how long."""
    if job.reason is not None:
        return visible(job.reason.text)
    parts = (visible(job.worker or ""), _time(job, now))
    return ", ".join(part for part in parts if part)


def _command(job: JobView) -> str:
    return quoted([from_os(word) for word in job.command])


def _state(job: JobView) -> Cell:
    text = job.state if job.last is None else f"{job.state} {jobs_of(job)}"
    return Cell(text, STATE_STYLES.get(job.state, ""))


def _resources(job: JobView) -> str:
    return " ".join(name if amount == 1 else f"{name}={amount}" for name, amount in job.resources)


def _time(job: JobView, now: float) -> str:
    if job.run_seconds is not None:
        return format_duration(job.run_seconds)
    if job.state == "running" and job.started_at is not None:
        return format_duration(now - job.started_at)
    return ""


def count_line(counts: JobCounts, shown: int, *, colour: bool) -> str:
    """The footer: how many jobs in which state, how long they take, when it is all over."""
    parts = []
    for state, style in STATE_STYLES.items():
        number = getattr(counts, state)
        if number:
            parts.append(styled(f"{number} {state}", style, colour))
    total = sum(getattr(counts, state) for state in STATE_STYLES)
    if not total:
        return "no jobs"
    noun = "job" if total == 1 else "jobs"
    line = f"{shown} of {total} {noun}: " if shown < total else f"{total} {noun}: "
    line += ", ".join(parts)
    if counts.average_run_seconds is not None:
        line += f"; average run time {format_duration(counts.average_run_seconds)}"
    unfinished = counts.waiting + counts.pending + counts.offered + counts.running
    if unfinished and counts.eta_seconds is not None:
        line += f"; the rest takes about {format_duration(counts.eta_seconds)}"
    return line


def local_time(seconds: float | None) -> str:
    """For people, in the time zone of this machine."""
    if seconds is None:
        return "-"
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")


def detail_lines(detail: JobDetail, now: float, context: Context | None, *, colour: bool) -> list[str]:
    """Everything about one job."""
    job = detail.job
    state = styled(job.state, STATE_STYLES.get(job.state, ""), colour)
    if job.reason is not None:
        state += f": {visible(job.reason.text)}"
    fields: list[tuple[str, str]] = [
        ("job", f"{job.id}" + (f" ({visible(job.name)})" if job.name else "")),
        ("state", state),
        ("command", quoted([from_os(word) for word in job.command])),
        ("directory", visible(from_os(job.cwd))),
        ("needs", _needs(detail)),
    ]
    if job.array is not None:
        fields.append(("array", f"{job.array}, index {job.array_index}"))
    if job.group:
        fields.append(("group", visible(job.group)))
    if job.queue != DEFAULT_QUEUE:
        fields.append(("queue", visible(job.queue)))
    if job.priority:
        fields.append(("priority", str(job.priority)))
    fields.append(("submitted", f"{local_time(job.submitted_at)} on {visible(job.submit_host)}"))
    if job.started_at is not None:
        fields.append(("started", f"{local_time(job.started_at)} on {visible(job.worker or '?')}"))
    if job.finished_at is not None:
        fields.append(("finished", local_time(job.finished_at)))
    if _time(job, now):
        fields.append(("run time", _time(job, now)))
    if job.return_code is not None:
        fields.append(("return code", str(job.return_code)))
    if job.signal is not None:
        fields.append(("signal", str(job.signal)))
    if job.cpu_seconds is not None:
        fields.append(("CPU time", format_duration(job.cpu_seconds)))
    if job.peak_ram_mb is not None:
        fields.append(("peak memory", format_ram(job.peak_ram_mb)))
    fields.append(("restarts", _restarts(detail)))
    if detail.max_retries:
        fields.append(("retries", _retries(detail)))
    if job.rerun_of is not None:
        fields.append(("rerun of", str(job.rerun_of)))
    fields += following_fields(detail)
    if detail.time_limit_seconds is not None:
        fields.append(("time limit", format_duration(detail.time_limit_seconds)))
    fields.append(("stdout", _place(job, "stdout")))
    fields.append(("stderr", _place(job, "stderr")))
    lines = [f"{name + ':':<13} {value}" for name, value in fields]
    if len(job.attempts) > 1 or any(attempt.end not in ("", "exited") for attempt in job.attempts):
        lines.append("attempts:")
        for attempt in job.attempts:
            text = f"  {attempt.attempt}  {visible(attempt.worker)}  {local_time(attempt.started_at)}"
            text += f"  {attempt.end or 'current'}"
            if attempt.reason is not None:
                text += f": {visible(attempt.reason.text)}"
            lines.append(text)
    for name, tail in (("stdout", detail.stdout_tail), ("stderr", detail.stderr_tail)):
        if tail:
            lines.append(f"the end of {name}:")
            text = visible_block(tail.decode(errors="surrogateescape"))
            lines += [f"  {line}" for line in text.splitlines()[-20:]]
    if context is not None:
        lines.append("environment:")
        lines += [f"  {visible(from_os(name))}={visible(from_os(value))}" for name, value in context.env]
    return lines


def _needs(detail: JobDetail) -> str:
    job = detail.job
    text = f"{job.cpus} CPU{'s' if job.cpus != 1 else ''}, {format_ram(job.ram_mb)}"
    if job.job_slots != 1:
        text += f", {job.job_slots} slots"
    if job.resources:
        text += ", " + visible(_resources(job))
    if detail.workers:
        text += ", on " + visible(" ".join(detail.workers))
    if detail.not_workers:
        text += ", not on " + visible(" ".join(detail.not_workers))
    return text


def _restarts(detail: JobDetail) -> str:
    if not detail.restart:
        return "none: at most once"
    return f"{detail.job.restarts} of at most {detail.max_restarts}"


def _retries(detail: JobDetail) -> str:
    text = f"{detail.job.retries} of at most {detail.max_retries}"
    if detail.retry_delay_seconds:
        text += f", {format_duration(detail.retry_delay_seconds)} later"
    if detail.retry_on:
        text += f", on exit {' '.join(map(str, detail.retry_on))}"
    if detail.job.retry_at is not None:
        text += f"; the next at {local_time(detail.job.retry_at)}"
    return text


def _place(job: JobView, stream: str) -> str:
    path = job.stdout_path if stream == "stdout" else job.stderr_path
    if path == "null":
        return "discarded"
    if path is not None:
        return visible(from_os(path))
    return f"kueue logs {job.id} --{stream}"
