"""`pause-worker`, `resume-worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kueue.cli.session import session_of
from kueue.errors import UsageError

if TYPE_CHECKING:
    from kueue.cli.terminal import Terminal
    from kueue.client import Client

Globs = Annotated[list[str], typer.Argument(metavar="GLOB...", help="Ids, or patterns of names or hosts.")]


def pause_worker(
    context: typer.Context,
    workers: Globs,
    drain: Annotated[
        bool, typer.Option("--drain", help="Wait until its running jobs have finished.")
    ] = False,
    kill: Annotated[bool, typer.Option("--kill", help="Send its jobs back to the queue.")] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Shown by list-workers.")] = "",
) -> int:
    """Let workers take no more jobs; running ones go on."""
    if drain and kill:
        raise UsageError("either --drain, which lets the jobs finish, or --kill, which ends them")
    session = session_of(context)
    with session.connected() as client:
        done = client.pause_workers(workers, kill=kill, reason=reason)
        for line in done.lines:
            session.terminal.say(line)
        if drain:
            for name in done.workers:
                _wait_until_empty(session.terminal, client, name)
    return 0


def resume_worker(context: typer.Context, workers: Globs) -> int:
    """Let paused workers take jobs again."""
    session = session_of(context)
    with session.connected() as client:
        for line in client.resume_workers(workers).lines:
            session.terminal.say(line)
    return 0


def _wait_until_empty(terminal: Terminal, client: Client, worker: str) -> None:
    """Watch the jobs that it has until it has none; what it had not started is being asked back."""
    while True:
        detail = client.worker(worker)
        jobs = (*detail.running, *detail.held)
        if not jobs:
            terminal.say(f"{worker} has no jobs any more")
            return
        for job in jobs:
            for change in client.watch(job):
                if change.worker != worker or change.state not in ("running", "offered"):
                    break
