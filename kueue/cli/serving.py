"""`up`, `down`, `backup`, `shutdown`, `reload`, `forget-worker`."""

from __future__ import annotations

from kueue.cli.cluster import ONE_WORKER
from kueue.cli.command import Argument, command, flag
from kueue.cli.session import Session

ONE_PROGRAM = (
    flag("server_only", ("--server-only",), "Only the server."),
    flag("worker_only", ("--worker-only",), "Only the worker."),
)


@command(*ONE_PROGRAM)
def up(session: Session, server_only: bool, worker_only: bool) -> int:
    """Start what belongs on this machine: worker and server."""
    from kueue.programs_here import start

    start(session.config, session.terminal.say, server_only=server_only, worker_only=worker_only)
    return 0


@command(flag("kill", ("--kill",), "Interrupt running jobs; they start again later."), *ONE_PROGRAM)
def down(session: Session, kill: bool, server_only: bool, worker_only: bool) -> int:
    """End what up has started on this machine."""
    from kueue.programs_here import stop

    say = session.terminal.say

    def ask() -> None:
        with session.client(patience=0.0) as client:
            for line in client.shutdown(workers=True, kill=kill):
                say(line)

    stop(session.config, say, kill=kill, server_only=server_only, worker_only=worker_only, ask=ask)
    return 0


@command(Argument("path", "PATH", "A new file on the server's machine."))
def backup(session: Session, path: str) -> int:
    """Copy the journal while the server serves."""
    with session.connected() as client:
        client.backup(path)
    return 0


@command(
    flag("workers", ("--workers",), "The workers too, when their jobs have ended."),
    flag("kill", ("--kill",), "With --workers: interrupt running jobs."),
)
def shutdown(session: Session, workers: bool, kill: bool) -> int:
    """End the server; running jobs go on."""
    with session.connected() as client:
        for line in client.shutdown(workers=workers, kill=kill and workers):
            session.terminal.say(line)
    return 0


@command()
def reload(session: Session) -> int:
    """Have the server reread licences and limits."""
    with session.connected() as client:
        session.terminal.print(client.reload())
    return 0


@command(ONE_WORKER)
def forget_worker(session: Session, worker: str) -> int:
    """Confirm that the jobs of a lost worker are dead."""
    with session.connected() as client:
        for line in client.forget_worker(worker):
            session.terminal.say(line)
    return 0
