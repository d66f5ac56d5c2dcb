"""`list-jobs` and `show-job`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from kueue.cli import options
from kueue.cli.command import JSON, Option, command, flag
from kueue.cli.selecting import EVERYTHING, IDS, ONE_ID, SELECTOR, found_job, one_id, selector_of
from kueue.cli.session import Session
from kueue.wire.messages import Context, JobCounts, JobView
from kueue.wire.selector import is_open

HEADER_AND_FOOTER_LINES = 4
GLANCE_LINES = 6
"""Around the rows of a glance: a title, the counts in up to two lines, what is left out, why jobs wait, the prompt."""
ROWS_ELSEWHERE = 100
"""Of a glance where there is no terminal."""
MOST_ROWS = 1000


STATES = (
    flag("pending", ("-p", "--pending"), "Those that wait."),
    flag("offered", ("-o", "--offered"), "Those offered to a worker."),
    flag("running", ("-r", "--running"), "Those that run."),
    flag("succeeded", ("-s", "--succeeded"), "Those that ended well."),
    flag("failed", ("-f", "--failed"), "Those that failed."),
    flag("canceled", ("-c", "--canceled"), "Those that were canceled."),
)


@command(
    IDS,
    Option("num_jobs", ("-n", "--num-jobs"), "text", "So many of the newest, whatever their state.", "N"),
    *STATES,
    JSON,
    *SELECTOR,
    EVERYTHING,
)
def list_jobs(session: Session, jobs: list[str], num_jobs: str | None, as_json: bool, **values: Any) -> int:
    """List jobs: without conditions what runs, failed, is next, finished last; else newest last."""
    terminal = session.terminal
    which = selector_of(jobs, values)
    wanted = (option.parameter for option in STATES if values[option.parameter])
    states = dict.fromkeys((*which.states, *wanted))
    if values["pending"]:
        states["waiting"] = None  # for a retry, or for other jobs
    which = msgspec.structs.replace(which, states=tuple(states))
    limit = options.amount(num_jobs, "--num-jobs", 1)
    if limit is None and not as_json and is_open(which) and not which.everything:
        return _at_a_glance(session)
    if limit is None and terminal.is_interactive and not as_json:
        limit = max(1, terminal.height - HEADER_AND_FOOTER_LINES)
    with session.connected() as client:
        if limit is None:
            found = client.job_views(which=which, arrays=True)
        else:
            newest = list(client.job_views(which=which, newest_first=True, limit=limit, arrays=True))
            found = iter(newest[::-1])
        if as_json:
            from kueue.cli.render.json_rows import job_row

            print_json_list(job_row(job) for job in found)
            return 0
        from kueue.cli.render.jobs import count_line, job_lines, jobs_of

        shown = 0

        def counted() -> Iterator[JobView]:
            nonlocal shown
            for job in found:
                shown += jobs_of(job)
                yield job

        now, width = time.time(), terminal.width
        terminal.print(job_lines(counted(), now, width, colour=terminal.colour, queue=which.queue))
        terminal.print([count_line(client.counts(), shown, colour=terminal.colour)])
    return 0


def _at_a_glance(session: Session) -> int:
    """The rows that tell most, as many as fit."""
    from kueue.cli.render.glance import left_out_line, waits_line
    from kueue.cli.render.jobs import count_line, job_lines, jobs_of

    terminal = session.terminal
    rows = terminal.height - GLANCE_LINES if terminal.is_interactive else ROWS_ELSEWHERE
    with session.connected() as client:
        page = client.glance(min(max(1, rows), MOST_ROWS))
    counts = page.counts or JobCounts()
    jobs = list(page.jobs if page.left_out is not None else page.jobs[::-1])
    terminal.print(job_lines(jobs, time.time(), terminal.width, colour=terminal.colour))
    lines = [count_line(counts, sum(map(jobs_of, jobs)), colour=terminal.colour)]
    if page.left_out is not None:
        left = left_out_line(page.left_out, terminal.width)
        waits = waits_line(page.waits, counts, terminal.width, colour=terminal.colour)
        lines += [line for line in (left, waits) if line is not None]
    terminal.print(lines)
    return 0


@command(ONE_ID, JSON, flag("env", ("--env",), "With its environment."))
def show_job(session: Session, job: str, as_json: bool, env: bool) -> int:
    """Show everything about a job."""
    given = one_id(job)
    with session.connected() as client:
        detail = client.detail(found_job(client, given), context=env)
    found = None
    if detail.context is not None:
        import msgspec

        found = msgspec.json.decode(detail.context, type=Context)
    if as_json:
        from kueue.cli.render.json_rows import job_object

        print_json(job_object(detail, found))
        return 0
    from kueue.cli.render.jobs import detail_lines

    terminal = session.terminal
    terminal.print(detail_lines(detail, time.time(), found, colour=terminal.colour))
    return 0


def print_json(value: object) -> None:
    """One object."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_json_list(rows: object) -> None:
    """A list, row by row as they come."""
    separator = "["
    for row in rows:  # type: ignore[attr-defined]
        sys.stdout.write(separator + "\n" + json.dumps(row))
        separator = ","
    sys.stdout.write("[]\n" if separator == "[" else "\n]\n")
