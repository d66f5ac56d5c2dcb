"""`list-jobs` and `show-job`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer

from kueue.cli import options, shared_options
from kueue.cli.parameters import with_options
from kueue.cli.selecting import EVERYTHING, SELECTOR, Ids, OneId, found_job, one_id, selector_of
from kueue.cli.session import Session, session_of
from kueue.wire.messages import Context, JobCounts, JobView
from kueue.wire.selector import is_open

HEADER_AND_FOOTER_LINES = 4
GLANCE_LINES = 6
"""Around the rows of a glance: a title, the counts in up to two lines, what is left out, why jobs wait, the prompt."""
ROWS_ELSEWHERE = 100
"""Of a glance where there is no terminal."""
MOST_ROWS = 1000


@with_options(*SELECTOR, EVERYTHING)
def list_jobs(
    context: typer.Context,
    jobs: Ids = None,
    num_jobs: Annotated[
        str | None,
        typer.Option("-n", "--num-jobs", metavar="N", help="So many of the newest, whatever their state."),
    ] = None,
    pending: Annotated[bool, typer.Option("-p", "--pending", help="Those that wait.")] = False,
    offered: Annotated[bool, typer.Option("-o", "--offered", help="Those offered to a worker.")] = False,
    running: Annotated[bool, typer.Option("-r", "--running", help="Those that run.")] = False,
    succeeded: Annotated[bool, typer.Option("-s", "--succeeded", help="Those that ended well.")] = False,
    failed: Annotated[bool, typer.Option("-f", "--failed", help="Those that failed.")] = False,
    canceled: Annotated[bool, typer.Option("-c", "--canceled", help="Those that were canceled.")] = False,
    as_json: Annotated[bool, shared_options.JSON] = False,
    *,
    values: dict[str, Any],
) -> int:
    """List jobs: without conditions what runs, failed, is next, finished last; else newest last."""
    session = session_of(context)
    terminal = session.terminal
    flags = {
        "pending": pending,
        "offered": offered,
        "running": running,
        "succeeded": succeeded,
        "failed": failed,
        "canceled": canceled,
    }
    which = selector_of(jobs, values)
    states = dict.fromkeys((*which.states, *(name for name, wanted in flags.items() if wanted)))
    if pending:
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


def show_job(
    context: typer.Context,
    job: OneId,
    as_json: Annotated[bool, shared_options.JSON] = False,
    env: Annotated[bool, typer.Option("--env", help="With its environment.")] = False,
) -> int:
    """Show everything about a job."""
    session = session_of(context)
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
