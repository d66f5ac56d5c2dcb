"""Every message of the protocol in every state of a session: it is taken, or costs its sender, and nobody else.

Messages and their fields are found in the unions of the protocol: a new one is tried here from its first day.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kueue import AsyncClient, Job
from kueue.job import End
from kueue.resources import Capacity
from kueue.wire.messages import (
    AttemptRef,
    ClientMessage,
    FinishedAttempt,
    Heartbeat,
    Inventory,
    Leaving,
    RefusedAttempt,
    Register,
    Report,
    RunningAttempt,
    ServerInfo,
    Shutdown,
    Status,
    SystemInfo,
    ToClient,
    Unwatch,
    WorkerMessage,
)
from tests.hostile.peers import OURS, Peer, Served, dial, kinds, sample, serving, tags_of

PROBE = 4_000_000
"""No job and no request has this number."""


class GoodWorker:
    """A worker that has job 1 and says so, whatever others do."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.fence = 0

    async def run_a_job(self, client: AsyncClient) -> Job:
        await self.peer.authenticate("worker")
        await register(self.peer, "good")
        self.peer.send(Status(usable_cpus=4.0, usable_ram_mb=1000.0))
        job = await client.submit(["true"], ram_mb=1)
        (offered,) = (await self.peer.read_until("offer"))["jobs"]
        self.fence = offered["fence"]
        self.peer.send(Report(started=(RunningAttempt(job.id, self.fence, 1, 0.0),)))
        await answers(self.peer)
        return job


class Scene:
    """A server, a worker with a running job and a client who must both notice nothing."""

    def __init__(self, served: Served, client: AsyncClient, worker: GoodWorker, job: Job) -> None:
        self.served = served
        self.client = client
        self.worker = worker
        self.job = job

    async def is_unharmed(self) -> None:
        """The others are served, and the books agree."""
        self.served.check()
        seen = await self.client.detail(self.job)
        assert (seen.job.state, seen.job.worker, seen.job.attempt) == ("running", "good", 1)
        await answers(self.worker.peer)


@pytest.fixture
async def scene(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Scene]:
    """Eleven jobs: the first one runs, no worker has room for the others."""
    async with serving(tmp_path) as served, served.client() as client, await dial(served.port) as peer:
        worker = GoodWorker(peer)
        job = await worker.run_a_job(client)
        for _ in range(10):
            await client.submit(["true"], ram_mb=999, cpus=100)
        yield Scene(served, client, worker, job)
    failures = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert not failures


async def register(peer: Peer, name: str = "bad") -> str:
    """From authenticated to a worker that is ready; the journal's id."""
    journal = await welcome(peer, name)
    peer.send(Inventory(journal))
    return journal


async def welcome(peer: Peer, name: str = "bad") -> str:
    """From authenticated to registered, the inventory is missing."""
    capacity = Capacity(4, 1000, 4)
    peer.send(
        Register(name, socket.gethostname(), "0.1.0", f"keeper of {name}", "boot", capacity, SystemInfo())
    )
    return str((await peer.read_until("welcome"))["journal"])


async def answers(peer: Peer) -> None:
    """A worker's session lives: the end of an attempt that never was is acknowledged."""
    end = FinishedAttempt(PROBE, 1, 1, End.EXITED, exit_code=0)
    peer.send(Report(finished=(end,)))
    await peer.read_until("acknowledge", attempts=[[PROBE, 1]])


def every_message() -> Iterator[tuple[str, msgspec.Struct]]:
    """Each message of the protocol in its least and in its fullest form."""
    for tag, kind in kinds().items():
        for full in (False, True):
            yield tag, sample(kind, full=full)


def test_all_kinds_of_messages_are_found() -> None:
    found = kinds()
    assert {"client_proof", "submit", "report", "offer", "watch_state", "heartbeat"} <= found.keys()
    assert len(found) == len({*found.values()}) > 40


# ---------------------------------------------------------------- before anybody is authenticated


@pytest.mark.parametrize("proved", [False, True], ids=["before the proof", "before the versions"])
async def test_without_authentication_every_message_ends_in_silence(scene: Scene, proved: bool) -> None:
    for tag, message in every_message():
        if proved and tag == "versions":
            continue
        async with await dial(scene.served.port) as peer:
            if proved:
                await peer.prove("worker")
            else:
                await peer.challenge()
            peer.send(message, Heartbeat())
            assert await peer.rest() == b"", tag
    await scene.is_unharmed()


# ---------------------------------------------------------------- clients


async def test_a_client_s_every_message_is_answered_and_every_other_ends_its_connection(scene: Scene) -> None:
    for tag, message in every_message():
        if isinstance(message, Shutdown):
            continue  # does what it says
        async with await dial(scene.served.port) as peer:
            await peer.authenticate("client")
            peer.send(message)
            if tag not in tags_of(ClientMessage):
                assert b'"rid"' not in await peer.rest(), tag
                continue
            if not isinstance(message, Unwatch | Heartbeat):
                answer = await peer.read_until_rid(7)
                assert answer["type"] in tags_of(ToClient), (tag, answer)
            peer.send(ServerInfo(PROBE))
            assert (await peer.read_until_rid(PROBE))["type"] == "server_state", tag
    await scene.is_unharmed()


async def test_a_shutdown_in_the_midst_of_requests_answers_them_and_ends(scene: Scene) -> None:
    async with await dial(scene.served.port) as peer:
        await peer.authenticate("client")
        peer.send(ServerInfo(1), Shutdown(2), ServerInfo(3))
        assert [(await peer.read_until_rid(rid))["type"] for rid in (1, 3)] == ["server_state"] * 2


# ---------------------------------------------------------------- workers


async def connected(scene: Scene, peer: Peer) -> str:
    """Authenticated."""
    await peer.authenticate("worker")
    return ""


async def registered(scene: Scene, peer: Peer) -> str:
    """Welcome, the inventory is missing."""
    await peer.authenticate("worker")
    return await welcome(peer)


async def half_inventory(scene: Scene, peer: Peer) -> str:
    """A part of the inventory has come."""
    journal = await registered(scene, peer)
    peer.send(Inventory(journal, held=(AttemptRef(PROBE, 1),), more=True))
    return journal


async def ready(scene: Scene, peer: Peer) -> str:
    """The inventory was taken."""
    await peer.authenticate("worker")
    return await register(peer)


async def draining(scene: Scene, peer: Peer) -> str:
    """Told to leave, and takes nothing more."""
    journal = await ready(scene, peer)
    await answers(peer)
    (session,) = [s for s in scene.served.server.desk.workers.values() if s.name == "bad"]
    session.leave(kill=False)
    await peer.read_until("leave")
    peer.send(Status(usable_cpus=0.0, usable_ram_mb=0.0, accepting=False))
    return journal


async def of_another_version(scene: Scene, peer: Peer) -> str:
    """Ready, and speaks the frozen subset only."""
    await peer.authenticate("worker", (OURS[1] + 8, OURS[1] + 9))
    return await register(peer)


WHILE_READY = tags_of(WorkerMessage) - {"register", "inventory"}
TAKEN: dict[Callable[[Scene, Peer], Awaitable[str]], set[str]] = {
    connected: {"register", "heartbeat", "leaving"},
    registered: {"inventory", "heartbeat", "leaving"},
    half_inventory: {"inventory", "heartbeat", "leaving"},
    ready: WHILE_READY,
    draining: WHILE_READY,
    of_another_version: kinds().keys() - {"register", "inventory"},
}
"""What is not out of turn, by the state of the session. All else ends it."""


@pytest.mark.parametrize("state", TAKEN, ids=lambda state: state.__name__)
async def test_a_worker_s_message_is_taken_in_turn_and_out_of_turn_ends_its_session(
    scene: Scene, state: Callable[[Scene, Peer], Awaitable[str]]
) -> None:
    for tag, message in every_message():
        async with await dial(scene.served.port) as peer:
            journal = await state(scene, peer)
            if isinstance(message, Inventory) and state in (registered, half_inventory):
                message = msgspec.structs.replace(message, journal=journal, more=False)
            peer.send(message)
            if tag not in TAKEN[state] or tag == "leaving":
                peer.send(Report(finished=(FinishedAttempt(PROBE, 1, 1, End.EXITED),)))
                assert b"acknowledge" not in await peer.rest(), tag
                continue
            if state is connected:
                if not isinstance(message, Register):
                    journal = await welcome(peer)
                else:
                    journal = (await peer.read_until("welcome"))["journal"]
            if state in (connected, registered, half_inventory) and not isinstance(message, Inventory):
                peer.send(Inventory(journal))
            await answers(peer)
        await scene.is_unharmed()


async def test_after_its_good_bye_nothing_of_a_worker_counts(scene: Scene) -> None:
    for tag, message in every_message():
        async with await dial(scene.served.port) as peer:
            await ready(scene, peer)
            await answers(peer)
            peer.send(
                Leaving(jobs_stay=True), message, Report(finished=(sample(FinishedAttempt, full=True),))
            )
            assert b"acknowledge" not in await peer.rest(), tag
    await scene.is_unharmed()


# ---------------------------------------------------------------- reports about jobs in every state


async def test_a_worker_that_reports_another_s_attempt_changes_no_job(scene: Scene) -> None:
    job, guessed = scene.job.id, scene.worker.fence ^ 1
    about: list[Callable[[int], dict[str, Any]]] = [
        lambda n: {"started": (RunningAttempt(n, guessed, 1, 0.0),)},
        lambda n: {"finished": (FinishedAttempt(n, guessed, 1, End.EXITED, exit_code=0),)},
        lambda n: {"refused": (RefusedAttempt(n, guessed, "no_directory"),)},
        lambda n: {"released": (AttemptRef(n, guessed),)},
        lambda n: {"kept": (AttemptRef(n, guessed),)},
    ]
    done = await scene.client.submit(["true"])
    await scene.client.cancel(done)
    before = [found async for found in scene.client.jobs()]
    async with await dial(scene.served.port) as peer:
        await ready(scene, peer)
        for number in (job, job + 1, done.id, PROBE, 0, 2**63 - 1):  # running, pending, canceled, none
            for report in about:
                peer.send(Report(**report(number)))
        await answers(peer)
    assert [found async for found in scene.client.jobs()] == before
    await scene.is_unharmed()


async def test_a_second_worker_of_a_name_gets_neither_the_name_nor_the_jobs(scene: Scene) -> None:
    async with await dial(scene.served.port) as thief:
        await thief.authenticate("worker")
        capacity = Capacity(4, 1000, 4)
        thief.send(Register("good", "host", "0.1.0", "another keeper", "boot", capacity, SystemInfo()))
        journal = (await thief.read_until("welcome"))["journal"]
        attempt = RunningAttempt(scene.job.id, scene.worker.fence ^ 1, 1, 0.0)
        thief.send(Inventory(journal, running=(attempt,)))
        assert (await thief.read_until("refuse"))["reason"]["code"] == "name_in_use"
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, ssl.SSLError):
            while True:
                assert (await thief.read())["type"] != "offer"
    await scene.is_unharmed()
