"""Machines that take a connection, and those that don't: what is found out of them without a log-in."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kueue.config import RestartWorkers
from kueue.supervise.hosts import Host
from kueue.supervise.ssh import Connections, HostError
from tests.support.lab import free_port

Talk = Callable[[asyncio.StreamReader], Awaitable[None]]


async def hang_up(reader: asyncio.StreamReader) -> None:
    """At once."""


async def say_nothing(reader: asyncio.StreamReader) -> None:
    """Until the other one is gone."""
    with contextlib.suppress(ConnectionError):
        await reader.read()


@contextlib.asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[int]:
    """The port of somebody who talks like that."""
    talks = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        await talk(reader)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*[each for each in talks if each])


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Without keys and configuration of whoever runs this."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Connections(RestartWorkers(connect_timeout_seconds=1))


async def failure(connections: Connections, port: int) -> HostError:
    with pytest.raises(HostError) as caught:
        async with connections.machine(Host("127.0.0.1", port), 1.0):
            pass
    return caught.value


@pytest.mark.parametrize("talk", [hang_up, say_nothing])
async def test_one_that_takes_connections_and_nothing_else_is_open(
    talk: Talk, connections: Connections
) -> None:
    async with listening(talk) as port:
        assert await connections.is_open(Host("127.0.0.1", port), 5.0)
        assert not (await failure(connections, port)).shut


async def test_one_that_takes_no_connection_is_shut(connections: Connections) -> None:
    port = free_port()
    assert not await connections.is_open(Host("127.0.0.1", port), 5.0)
    error = await failure(connections, port)
    assert error.shut
    assert str(error) == f"refuses connections to port {port}: is its sshd running?"
    assert not await connections.is_open(Host("no-such-host.invalid", port), 5.0)


async def test_one_behind_another_is_not_knocked_at(tmp_path: Path, connections: Connections) -> None:
    async with listening(hang_up) as port:
        settings = RestartWorkers(jump_host="elsewhere")
        assert not await Connections(settings).is_open(Host("127.0.0.1", port), 5.0)
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text("Host 127.0.0.1\n  ProxyJump elsewhere\n")
        behind = Connections(RestartWorkers())
        assert not await behind.is_open(Host("127.0.0.1", port), 5.0)
        assert await connections.is_open(Host("127.0.0.1", port), 5.0)
