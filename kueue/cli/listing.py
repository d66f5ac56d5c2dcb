"""`list-jobs` and `show-job`."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any

import msgspec
import typer

from kueue.cli import options, shared_options
from kueue.cli.parameters import with_options
from kueue.cli.selecting import EVERYTHING, SELECTOR, Ids, selector_of
from kueue.cli.session import session_of
from kueue.wire.messages import Context

HEADER_AND_FOOTER_LINES = 4


@with_options(*SELECTOR, EVERYTHING)
def list_jobs(
    context: typer.Context,
    jobs: Ids = None,
    num_jobs: Annotated[
        str | None,
        typer.Option("-n", "--num-jobs", metavar="N", help="So many of the newest (default: what fits)."),
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
    """List jobs, newest last."""
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
    which = msgspec.structs.replace(which, states=tuple(states))
    limit = options.amount(num_jobs, "--num-jobs", 1)
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

        shown = list(found)
        counts = client.counts()
        if shown:
            terminal.print(job_lines(shown, time.time(), terminal.width, colour=terminal.colour))
        terminal.print([count_line(counts, sum(map(jobs_of, shown)), colour=terminal.colour)])
    return 0


def show_job(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="ID", help="The job.")],
    as_json: Annotated[bool, shared_options.JSON] = False,
    env: Annotated[bool, typer.Option("--env", help="With its environment.")] = False,
) -> int:
    """Show everything about a job."""
    session = session_of(context)
    number = options.job_id(job)
    with session.connected() as client:
        detail = client.detail(number, context=env)
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
