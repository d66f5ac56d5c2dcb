"""Clients that have the secret and begin more than anybody needs: they are told so, or wait; others notice nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kueue import JobSpec
from kueue.effects import TRIES
from kueue.errors import ServerUnreachableError
from kueue.wire.codec import encode
from kueue.wire.messages import (
    Cancel,
    Canceled,
    ClusterState,
    Failure,
    LogChunk,
    ReadLog,
    Selector,
    ServerInfo,
    ServerState,
    Watch,
    WatchCluster,
    WatchState,
)
from kueue_server import overview, unanswered, watch
from kueue_server.clients import Clients
from kueue_server.core import verbs
from tests.hostile.raw_peers import CheckedServer, RawPeer, honest_worker


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[CheckedServer]:
    """One whose core is checked, and is well at the end."""
    served = CheckedServer(tmp_path)
    await served.start()
    yield served
    await served.stop()
    assert served.faults == []


@contextlib.asynccontextmanager
async def peer_of(server: CheckedServer) -> AsyncIterator[RawPeer]:
    peer = RawPeer()
    await peer.connect(server.port, "client")
    try:
        yield peer
    finally:
        peer.close()


async def last(peer: RawPeer, rid: int) -> Any:
    """The answer for this one, once it is there."""
    return await peer.until(lambda told: next((m for m in told if m.rid == rid), None))


async def others_are_served(server: CheckedServer) -> None:
    async with server.client() as client:
        asked = time.monotonic()
        assert (await client.server_info()).workers == 0
        assert time.monotonic() - asked < 10


async def test_a_client_has_only_so_many_watches_and_may_end_some_for_others(server: CheckedServer) -> None:
    wide = watch.MOST_WIDE_WATCHES
    async with peer_of(server) as peer:
        for rid in range(1, wide + 2):
            peer.send(encode(Watch(rid, ((1, watch.INDEXED_IDS + 1),))))
        assert isinstance(await last(peer, wide), WatchState)
        refused = await last(peer, wide + 1)
        assert isinstance(refused, Failure)
        assert refused.reason.code == "too_many_watches"
        peer.send(encode(Watch(wide + 2, ((1, 1),))))  # few jobs are another matter
        assert isinstance(await last(peer, wide + 2), WatchState)
        peer.send({"type": "unwatch", "rid": 1})
        peer.send(encode(Watch(wide + 3, ((1, watch.INDEXED_IDS + 1),))))
        assert isinstance(await last(peer, wide + 3), WatchState)
        await others_are_served(server)
        async with peer_of(server) as another:
            another.send(encode(Watch(1, ((1, 1000),))))
            assert isinstance(await last(another, 1), WatchState)


async def test_a_client_watches_only_so_many_ranges(
    server: CheckedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MOST_RANGES", 25_000)
    ranges = tuple((first, first) for first in range(1, 20_000, 2))
    many = watch.MOST_RANGES // len(ranges)
    async with peer_of(server) as peer:
        for rid in range(1, many + 2):
            peer.send(encode(Watch(rid, ranges)))
            told = await last(peer, rid)
        assert isinstance(told, Failure)
        assert told.reason.code == "too_many_watches"
        assert sum(isinstance(message, Failure) for message in peer.told) == 1
        await others_are_served(server)


async def test_a_client_looks_on_only_so_many_times(server: CheckedServer) -> None:
    async with peer_of(server) as peer:
        for rid in range(1, overview.MOST_OF_ONE + 2):
            peer.send(encode(WatchCluster(rid)))
        assert isinstance(await last(peer, overview.MOST_OF_ONE), ClusterState)
        refused = await last(peer, overview.MOST_OF_ONE + 1)
        assert isinstance(refused, Failure)
        assert refused.reason.code == "too_many_watches"


async def test_a_client_that_asks_for_cancels_without_end_waits_and_others_get_theirs(
    server: CheckedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbs stand in one line: who fills it would have everybody wait."""
    monkeypatch.setattr(verbs, "PORTION", 5)
    async with server.client() as client, peer_of(server) as peer:
        await client.submit_many([JobSpec(["true"]) for _ in range(20)])
        line = server.server.core._state.verbs
        longest = 0
        for rid in range(1, 161):
            peer.send(encode(Cancel(rid, (), True, Selector(name=f"no such {rid}"))))
        asked = asyncio.ensure_future(client.cancel([1]))
        while not asked.done():
            longest = max(longest, len(line))
            await asyncio.sleep(0)
        assert asked.result().canceled == 1
        assert unanswered.MOST_CHANGES // 2 < longest <= unanswered.MOST_CHANGES + 1
        assert isinstance(await last(peer, 160), Canceled)
        assert len(peer.told) == 160


async def test_a_client_waits_for_output_of_only_so_many_jobs(server: CheckedServer) -> None:
    most = unanswered.MOST_LOG_WAITS
    async with server.client() as client, peer_of(server) as peer:
        async with honest_worker(server.port, finishing=False):  # one that doesn't answer for logs either
            job = await client.submit(["true"])
            async for change in client.watch(job):
                if change.state == "running":
                    break
            for rid in range(1, most + 2):
                peer.send(encode(ReadLog(rid, job.id, "stdout", wait_seconds=60.0)))
            refused = await last(peer, most + 1)
            assert isinstance(refused, Failure)
            assert refused.reason.code == "too_many_waits"
            peer.send(encode(ServerInfo(most + 2)))
            assert isinstance(await last(peer, most + 2), ServerState)
        assert isinstance(await last(peer, most), LogChunk)
        peer.send(encode(ReadLog(most + 3, job.id, "stdout", wait_seconds=60.0)))
        assert isinstance(await last(peer, most + 3), LogChunk)


async def test_a_peer_that_connects_without_end_keeps_no_worker_out_and_takes_nothing_from_who_is_there(
    server: CheckedServer,
) -> None:
    room = server.server._clients = Clients(20)
    async with contextlib.AsyncExitStack() as stack, server.client() as honest:
        job = await honest.submit(["true"])
        waiting = asyncio.ensure_future(honest.wait(job))
        peers = [await stack.enter_async_context(peer_of(server)) for _ in range(60)]
        async with asyncio.timeout(10):
            await asyncio.gather(*[peer.closed.wait() for peer in peers[19:]])
        assert len(room) == 20
        await stack.enter_async_context(honest_worker(server.port))
        assert (await waiting).state == "succeeded"
        assert not any(peer.closed.is_set() for peer in peers[:19])
        peers[0].close()
        assert (await honest.server_info()).workers == 1


async def test_more_waiters_than_there_is_room_for_do_not_chase_each_other_away(
    server: CheckedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = server.server._clients = Clients(10)
    accepted = 0
    add = room.add

    def counted(session: Any) -> bool:
        nonlocal accepted
        accepted += 1
        return add(session)

    monkeypatch.setattr(room, "add", counted)
    async with contextlib.AsyncExitStack() as stack:
        honest = [await stack.enter_async_context(server.client()) for _ in range(12)]
        job = await honest[0].submit(["true"])
        waiting = [asyncio.ensure_future(each.wait(job)) for each in honest]
        _, left = await asyncio.wait(waiting[:1], timeout=2.0)  # they would go on for ever
        assert left
        await stack.enter_async_context(honest_worker(server.port))
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert sum(isinstance(each, ServerUnreachableError) for each in found) == 2
        assert accepted <= 10 + 2 * TRIES
