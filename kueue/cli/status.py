"""`kueue status`: one screen about the whole; without a server, how far one got on the way to it."""

from __future__ import annotations

import time

from kueue import __version__
from kueue.address import is_local, resolve_address
from kueue.cli.command import command, flag
from kueue.cli.render import status as render
from kueue.cli.session import Session
from kueue.errors import KueueError, ServerUnreachableError
from kueue.file_systems import FileSystem, file_system_of
from kueue.probing import SECONDS, probe
from kueue.wire.codec import from_os
from kueue.wire.dialing import place


@command(flag("check", ("--check",), "Try each step on the way to the server, and time it."))
def status(session: Session, check: bool) -> int:
    """Show the whole on one screen, with what wants attention."""
    terminal, config = session.terminal, session.config
    colour = terminal.colour
    host, port = resolve_address(config)
    cluster, error = _cluster(session, place(host, port))
    here = render.Here(
        config.path,
        str(config.state_place),
        _file_system(str(config.state_place)),
        _is_here(cluster, str(config.state_place)) if cluster is not None else is_local(config),
        __version__,
    )
    now = time.time()
    terminal.print(render.here_lines(here, colour=colour))
    if cluster is not None:
        terminal.print(render.cluster_lines(cluster, now, colour=colour))
    if check or cluster is None:
        terminal.print([f"on the way to {place(host, port)}:"])
        steps = []
        for step in probe(host, port, config.shared_secret, __version__, SECONDS):
            steps.append(step)
            terminal.print(render.step_lines([step], colour=colour))
        if cluster is None and steps[-1].succeeded:
            terminal.say(f"kueue: {error}")
    found = render.warnings(here, cluster, now)
    if found:
        terminal.print(["warnings:", *(f"  {line}" for line in found)])
    if cluster is None and is_local(config):
        terminal.print(["kueue up starts a local server and worker"])
    return 0 if cluster is not None else ServerUnreachableError.exit_code


def _cluster(session: Session, address: str) -> tuple[render.Cluster | None, KueueError | None]:
    try:
        with session.client(patience=0.0) as client:
            info, workers = client.server_info(), client.workers()
            return render.Cluster(address, info, workers, client.resources(), client.queues()), None
    except KueueError as error:
        return None, error


def _is_here(cluster: render.Cluster, state_dir: str) -> bool:
    """Is the journal where this machine's configuration has its state? (On a shared home it seems so anywhere.)"""
    return from_os(cluster.server.state_dir).startswith(state_dir)


def _file_system(path: str) -> FileSystem | None:
    try:
        return file_system_of(path)
    except OSError:
        return None
