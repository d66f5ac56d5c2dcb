"""`list-queues`, `pause-queue`, `resume-queue`, `set-queue`, `remove-queue`."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from kueue.cli import options, shared_options
from kueue.cli.listing import print_json_list
from kueue.cli.session import session_of
from kueue.errors import UsageError

Names = Annotated[list[str], typer.Argument(metavar="QUEUE...", help="Names of queues.")]
Name = Annotated[str, typer.Argument(metavar="QUEUE", help="Name of the queue.")]


def list_queues(context: typer.Context, as_json: Annotated[bool, shared_options.JSON] = False) -> int:
    """List the queues."""
    session = session_of(context)
    terminal = session.terminal
    with session.connected() as client:
        queues = client.queues()
    from kueue.cli.render.queues import queue_lines, queue_row

    if as_json:
        print_json_list(map(queue_row, queues))
    else:
        terminal.print(queue_lines(queues, time.time(), terminal.width, colour=terminal.colour))
    return 0


def pause_queue(
    context: typer.Context,
    queues: Names,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown by list-queues.")] = "",
) -> int:
    """Let no job of these queues start; running ones go on."""
    session = session_of(context)
    with session.connected() as client:
        for line in client.pause_queues(queues, reason=reason):
            session.terminal.say(line)
    return 0


def resume_queue(context: typer.Context, queues: Names) -> int:
    """Let jobs of paused queues start again."""
    session = session_of(context)
    with session.connected() as client:
        for line in client.resume_queues(queues):
            session.terminal.say(line)
    return 0


def set_queue(
    context: typer.Context,
    queue: Name,
    weight: Annotated[
        str | None, typer.Option("--weight", metavar="N", help="Its share: 1 (as usual) to 1000.")
    ] = None,
    max_running: Annotated[
        str | None,
        typer.Option("--max-running", metavar="N", help="So many of its jobs at the same time; or none."),
    ] = None,
) -> int:
    """Set the weight of a queue, or how many of its jobs may run."""
    if weight is None and max_running is None:
        raise UsageError("what is to be set? --weight N, --max-running N")
    limit = 0 if max_running == "none" else options.amount(max_running, "--max-running", 0)
    share = options.amount(weight, "--weight", 1)
    session = session_of(context)
    with session.connected() as client:
        for line in client.set_queue(queue, weight=share, max_running=limit):
            session.terminal.say(line)
    return 0


def remove_queue(
    context: typer.Context,
    queue: Name,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel its jobs, also those that run.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Don't ask.")] = False,
) -> int:
    """Drop a queue, with its finished jobs."""
    session = session_of(context)
    with session.connected() as client:
        if not yes:
            found = [view for view in client.queues() if view.name == queue]
            question = f"remove queue {queue}"
            if found:
                counts = found[0].counts
                finished = counts.succeeded + counts.failed + counts.canceled
                unfinished = counts.waiting + counts.pending + counts.offered + counts.running
                if cancel and unfinished:
                    question += f", cancel {unfinished} of its jobs"
                if finished:
                    question += f", drop {finished} finished jobs from the list"
            if not _agreed(question):
                session.terminal.say("nothing was changed")
                return 1
        for line in client.remove_queue(queue, cancel=cancel):
            session.terminal.say(line)
    return 0


def _agreed(question: str) -> bool:
    """Ask.

    Raises:
        UsageError: there is nobody to be asked.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"to {question}, give -y: there is no terminal to ask on")
    sys.stdout.flush()
    sys.stderr.write(f"{question}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
