"""`list-queues`, `pause-queue`, `resume-queue`, `set-queue`, `remove-queue`."""

from __future__ import annotations

import sys
import time

from kueue.cli import options
from kueue.cli.command import JSON, Argument, Option, command, flag
from kueue.cli.listing import print_json_list
from kueue.cli.session import Session
from kueue.errors import UsageError

QUEUES = Argument("queues", "QUEUE...", "Names of queues.", "some")
ONE_QUEUE = Argument("queue", "QUEUE", "Name of the queue.")


@command(JSON)
def list_queues(session: Session, as_json: bool) -> int:
    """List the queues."""
    terminal = session.terminal
    with session.connected() as client:
        queues = client.queues()
    from kueue.cli.render.queues import queue_lines, queue_row

    if as_json:
        print_json_list(map(queue_row, queues))
    else:
        terminal.print(queue_lines(queues, time.time(), terminal.width, colour=terminal.colour))
    return 0


@command(QUEUES, Option("reason", ("--reason",), "text", "Shown by list-queues.", "TEXT", ""))
def pause_queue(session: Session, queues: list[str], reason: str) -> int:
    """Let no job of these queues start; running ones go on."""
    with session.connected() as client:
        for line in client.pause_queues(queues, reason=reason):
            session.terminal.say(line)
    return 0


@command(QUEUES)
def resume_queue(session: Session, queues: list[str]) -> int:
    """Let jobs of paused queues start again."""
    with session.connected() as client:
        for line in client.resume_queues(queues):
            session.terminal.say(line)
    return 0


@command(
    ONE_QUEUE,
    Option("weight", ("--weight",), "text", "Its share: 1 (as usual) to 1000.", "N"),
    Option("max_running", ("--max-running",), "text", "So many of its jobs at the same time; or none.", "N"),
)
def set_queue(session: Session, queue: str, weight: str | None, max_running: str | None) -> int:
    """Set the weight of a queue, or how many of its jobs may run."""
    if weight is None and max_running is None:
        raise UsageError("what is to be set? --weight N, --max-running N")
    limit = 0 if max_running == "none" else options.amount(max_running, "--max-running", 0)
    share = options.amount(weight, "--weight", 1)
    with session.connected() as client:
        for line in client.set_queue(queue, weight=share, max_running=limit):
            session.terminal.say(line)
    return 0


@command(
    ONE_QUEUE,
    flag("cancel", ("--cancel",), "Cancel its jobs, also those that run."),
    flag("yes", ("-y", "--yes"), "Don't ask."),
)
def remove_queue(session: Session, queue: str, cancel: bool, yes: bool) -> int:
    """Drop a queue, with its finished jobs."""
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
