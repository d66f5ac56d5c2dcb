"""`pause-worker`, `resume-worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kueue.cli.command import Argument, Option, command, flag
from kueue.cli.session import Session
from kueue.errors import UsageError

if TYPE_CHECKING:
    from kueue.cli.terminal import Terminal
    from kueue.client import Client

WORKERS = Argument("workers", "GLOB...", "Ids, or patterns of names or hosts.", "some")


@command(
    WORKERS,
    flag("drain", ("--drain",), "Wait until its running jobs have finished."),
    flag("kill", ("--kill",), "Send its jobs back to the queue."),
    Option("reason", ("--reason",), "text", "Shown by list-workers.", "TEXT", ""),
)
def pause_worker(session: Session, workers: list[str], drain: bool, kill: bool, reason: str) -> int:
    """Let workers take no more jobs; running ones go on."""
    if drain and kill:
        raise UsageError("either --drain, which lets the jobs finish, or --kill, which ends them")
    with session.connected() as client:
        done = client.pause_workers(workers, kill=kill, reason=reason)
        for line in done.lines:
            session.terminal.say(line)
        if drain:
            for name in done.workers:
                _wait_until_empty(session.terminal, client, name)
    return 0


@command(WORKERS)
def resume_worker(session: Session, workers: list[str]) -> int:
    """Let paused workers take jobs again."""
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
