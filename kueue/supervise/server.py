"""Keeps the server alive: asks it as a client does, and launches it on its machine if nobody answers there."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from kueue.address import is_local
from kueue.async_client import AsyncClient
from kueue.config import Config, RestartWorkers
from kueue.errors import ConfigError, KueueError, ServerUnreachableError
from kueue.supervise.hosts import Host
from kueue.supervise.perform import ANSWER_SECONDS, START_SECONDS, Row, why_not
from kueue.supervise.programs import SERVER, Programs
from kueue.supervise.seen import Launched, Seen, SeenServer
from kueue.supervise.sent import encoded
from kueue.supervise.ssh import Connections, HostError
from kueue.text import visible
from kueue.wire.dialing import failure_to_connect, place
from kueue.wire.messages import ServerState

ASK_SECONDS = 3.0
"""How long the server has for its answer."""
SERVES_SECONDS = 10.0
"""How long a server that has come up may take until it answers us."""


async def ask(config: Config) -> ServerState | KueueError:
    """How the server is, or why it does not serve us."""
    common = config.common_settings
    try:
        # A client would try for a while where nobody listens; here that is an answer.
        async with asyncio.timeout(ASK_SECONDS):
            _, writer = await asyncio.open_connection(common.server_name, common.server_port)
        writer.close()
    except (OSError, UnicodeError, OverflowError) as error:
        where = place(common.server_name, common.server_port)
        return failure_to_connect(error, where, ASK_SECONDS, None)
    try:
        async with AsyncClient(config=config.for_clients, connect_timeout=ASK_SECONDS) as client:
            return await client.server_info()
    except KueueError as error:
        return error


def seconds_up(since: float | None) -> float:
    """For how long the server serves; for ever, if that is not known, or its clock is ahead of ours."""
    up = math.inf if since is None else time.time() - since
    return up if up >= 0 else math.inf


def is_to_be_kept(config: Config, settings: RestartWorkers) -> bool:
    """Is the server the supervisor's business? One on "localhost" is not: that means another one everywhere."""
    return settings.restart_server and not is_local(config.for_clients)


def host_of(config: Config, hosts: Sequence[Host]) -> Host:
    """The server's machine, with port and account if it is one of the list."""
    name = config.common_settings.server_name
    return next((host for host in hosts if host.name.lower() == name.lower()), Host(name))


class ServerKeeper:
    """Looks after the server on `host`."""

    def __init__(
        self, connections: Connections, programs: Programs, config: Config, host: Host, look_seconds: float
    ) -> None:
        self._connections = connections
        self._programs = programs
        self._config = config
        self._host = host
        self._look_seconds = look_seconds

    async def keep(self, *, change: bool) -> Row:
        """The server's row. With `change`, it is started where no process of it lives."""
        row = Row(self._host.label, is_server=True)
        told = await ask(self._config)
        if isinstance(told, ServerState):
            return replace(row, reachable=True, since=told.started_at)
        if not isinstance(told, ServerUnreachableError) or not change:
            return replace(row, error=visible(str(told)))
        try:
            return await self._start(row)
        except (HostError, ConfigError) as problem:
            return replace(row, tried=True, error=f"{visible(str(told))}; {problem}")

    async def _start(self, row: Row) -> Row:
        words = self._programs.launch(SERVER, seconds=START_SECONDS, await_connection=False)
        until = time.monotonic() + self._look_seconds
        async with self._connections.machine(self._host, self._look_seconds) as machine:
            row = replace(row, reachable=True, tried=True)
            order = encoded("look", **self._programs.look(SERVER))
            seen = await machine.ask(order, Seen, max(0.5, until - time.monotonic()))
            if seen.server is not None:
                return await self._answering(row, seen.server)
            told = await machine.ask(encoded("launch", **words), Launched, START_SECONDS + ANSWER_SECONDS)
        if told.server is None:
            return replace(row, error=why_not(told, "the server"))
        return await self._answering(replace(row, done=f"started in {told.tool}"), told.server)

    async def _answering(self, row: Row, server: SeenServer) -> Row:
        """Wait for the answer of a server whose process lives."""
        row = replace(row, since=server.since)
        until = time.monotonic() + SERVES_SECONDS
        while not isinstance(told := await ask(self._config), ServerState):
            if time.monotonic() > until:
                return replace(row, error=f"its process (pid {server.pid}) lives, but {visible(str(told))}")
            await asyncio.sleep(0.2)
        return row
