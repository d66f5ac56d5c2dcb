"""`up`, `down`, `backup`, `shutdown`, `reload`, `forget-worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from kueue.cli.session import session_of

ServerOnly = Annotated[bool, typer.Option("--server-only", help="Only the server.")]
WorkerOnly = Annotated[bool, typer.Option("--worker-only", help="Only the worker.")]


def up(context: typer.Context, server_only: ServerOnly = False, worker_only: WorkerOnly = False) -> int:
    """Start what belongs on this machine: worker and server."""
    from kueue.programs_here import start

    session = session_of(context)
    start(session.config, session.terminal.say, server_only=server_only, worker_only=worker_only)
    return 0


def down(
    context: typer.Context,
    kill: Annotated[
        bool, typer.Option("--kill", help="Interrupt running jobs; they start again later.")
    ] = False,
    server_only: ServerOnly = False,
    worker_only: WorkerOnly = False,
) -> int:
    """End what up has started on this machine."""
    from kueue.programs_here import stop

    session = session_of(context)
    say = session.terminal.say

    def ask() -> None:
        with session.client(patience=0.0) as client:
            for line in client.shutdown(workers=True, kill=kill):
                say(line)

    stop(session.config, say, kill=kill, server_only=server_only, worker_only=worker_only, ask=ask)
    return 0


def backup(
    context: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="A new file on the server's machine.")],
) -> int:
    """Copy the journal while the server serves."""
    session = session_of(context)
    with session.connected() as client:
        client.backup(path)
    return 0


def shutdown(
    context: typer.Context,
    workers: Annotated[
        bool, typer.Option("--workers", help="The workers too, when their jobs have ended.")
    ] = False,
    kill: Annotated[bool, typer.Option("--kill", help="With --workers: interrupt running jobs.")] = False,
) -> int:
    """End the server; running jobs go on."""
    session = session_of(context)
    with session.connected() as client:
        for line in client.shutdown(workers=workers, kill=kill and workers):
            session.terminal.say(line)
    return 0


def reload(context: typer.Context) -> int:
    """Have the server reread licences and limits."""
    session = session_of(context)
    with session.connected() as client:
        session.terminal.print(client.reload())
    return 0


def forget_worker(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(metavar="ID", help="Its id, name, or host.")],
) -> int:
    """Confirm that the jobs of a lost worker are dead."""
    session = session_of(context)
    with session.connected() as client:
        for line in client.forget_worker(worker):
            session.terminal.say(line)
    return 0
