"""The real server over real TCP, TLS and SQLite, with peers that behave and peers that don't."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kueue import AsyncClient, __version__
from kueue.config import Config, load_config
from kueue.errors import RequestError, UnknownJobError, UsageError
from kueue.job import End
from kueue.resources import Capacity
from kueue.wire import link as link_module
from kueue.wire.link import Link, connect
from kueue.wire.messages import (
    Acknowledge,
    AttemptRef,
    FetchLog,
    FinishedAttempt,
    Heartbeat,
    Inventory,
    LogData,
    Offer,
    Register,
    Report,
    RunningAttempt,
    Status,
    Stop,
    SystemInfo,
    Welcome,
)
from kueue_server.journal.store import open_journal
from kueue_server.server import Server

SECRET = "a-secret-for-tests-only-0123456789abcdef"


class Running:
    """A server in this process, and who talks to it."""

    def __init__(self, config: Config, place: Path) -> None:
        self.config = config
        self.place = place
        self.port = 0
        self.server: Server
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        journal = open_journal(self.place / "journal.sqlite", asyncio.get_running_loop())
        self.server = Server(self.config, journal, lambda: self.config)
        (self.port,) = await self.server.start([("127.0.0.1", self.port)])
        self.task = asyncio.ensure_future(self.server.run())

    async def stop(self) -> None:
        self.server.stop()
        await self.task

    def client(self, patience: float = 0.0) -> AsyncClient:
        return AsyncClient(address=("127.0.0.1", self.port), secret=SECRET, connect_timeout=patience)


class Worker:
    """A scripted worker."""

    def __init__(self, name: str = "w1") -> None:
        self.name = name
        self.link: Link
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = asyncio.Event()

    def on_message(self, message: Any) -> None:
        if not isinstance(message, Heartbeat):
            self.inbox.put_nowait(message)

    def on_closed(self, error: BaseException | None) -> None:
        self.closed.set()

    async def get(self, kind: type) -> Any:
        async with asyncio.timeout(10):
            message = await self.inbox.get()
        assert isinstance(message, kind), message
        return message

    async def connect(self, port: int) -> None:
        self.link = await connect(
            "127.0.0.1", port, role="worker", secret=SECRET, version=__version__, handler=self
        )

    async def register(self, port: int, *, cpus: int = 4, **inventory: Any) -> Welcome:
        await self.connect(port)
        capacity = Capacity(cpus, 1000, cpus)
        self.link.send(
            Register(self.name, socket.gethostname(), __version__, "keeper", "boot", capacity, SystemInfo())
        )
        welcome: Welcome = await self.get(Welcome)
        self.link.send(Inventory(welcome.journal, **inventory))
        self.link.send(Status(usable_cpus=cpus, usable_ram_mb=1000))
        return welcome


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """A server on a free port with one licence."""
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f'[common_settings]\nshared_secret = "{SECRET}"\n[global_resources]\ngenus = 1\n')
    running = Running(load_config(path), tmp_path)
    await running.start()
    yield running
    await running.stop()


async def until(what: str, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)
    assert condition(), what


async def test_the_life_of_a_job_over_the_wire(running: Running) -> None:
    worker = Worker()
    await worker.register(running.port)
    async with running.client() as client:
        job = await client.submit(["./sim", "x"], ram_mb=10, cpus=2)
        offer: Offer = await worker.get(Offer)
        (offered,) = offer.jobs
        assert offered.job == job.id
        assert msgspec.json.decode(offered.spec)["payload"]["argv"] == ["./sim", "x"]
        assert len(offer.contexts) == 1
        worker.link.send(Report(started=(RunningAttempt(job.id, offered.fence, 1, 0.0),)))
        end = FinishedAttempt(
            job.id, offered.fence, 1, End.EXITED, exit_code=3, run_seconds=1.5, stdout_tail=b"out\xff"
        )
        worker.link.send(Report(finished=(end,)))
        done = await client.wait(job, timeout=10)
        assert (done.state, done.return_code, done.run_seconds) == ("failed", 3, 1.5)
        (ref,) = (await worker.get(Acknowledge)).attempts
        assert (ref.job, ref.fence) == (job.id, offered.fence)
        assert (await client.detail(job)).stdout_tail == b"out\xff"
        second = await client.submit(["./sim", "y"], ram_mb=10)
        again: Offer = await worker.get(Offer)
        assert again.jobs[0].job == second.id
        assert again.contexts == ()  # this session has had it
    worker.link.close()


async def test_a_worker_is_woken_for_offers_and_not_for_acknowledgements(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LATE_SECONDS", 3600.0)
    worker = Worker()
    await worker.register(running.port)
    async with running.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        (offered,) = (await worker.get(Offer)).jobs
        end = FinishedAttempt(job.id, offered.fence, 1, End.EXITED, exit_code=0)
        worker.link.send(Report(finished=(end,)))
        assert (await client.wait(job, timeout=10)).succeeded
        await client.counts()
        assert worker.inbox.empty()
        await client.submit(["true"], ram_mb=1)
        assert (await worker.get(Acknowledge)).attempts == (AttemptRef(job.id, offered.fence),)
        await worker.get(Offer)
    worker.link.close()


async def test_a_message_out_of_turn_ends_that_peer_only(running: Running) -> None:
    good, bad = Worker("good"), Worker("bad")
    await good.register(running.port)
    await bad.connect(running.port)
    bad.link.send(Report())
    await bad.closed.wait()
    async with running.client() as client:
        await client.submit(["true"], ram_mb=1)
        await good.get(Offer)
    good.link.close()


async def test_an_inventory_of_another_journal_is_not_taken(running: Running) -> None:
    worker = Worker()
    await worker.connect(running.port)
    worker.link.send(Register("w", "h", "1", "k", "b", Capacity(1, 1, 1), SystemInfo()))
    await worker.get(Welcome)
    worker.link.send(Inventory("another-journal"))
    await worker.closed.wait()
    async with running.client() as client:
        assert await client.workers() == ()


async def test_a_journal_older_than_what_a_worker_remembers_is_said_and_the_worker_kept_out(
    running: Running,
) -> None:
    worker = Worker()
    await worker.register(running.port, highest_job=50)
    refusal = await worker.inbox.get()
    assert refusal.reason.code == "older_journal"
    assert "--restored" in refusal.reason.text
    await worker.closed.wait()


async def test_output_comes_from_the_worker_and_its_end_from_the_server_when_that_is_away(
    running: Running,
) -> None:
    worker = Worker()
    await worker.register(running.port)
    async with running.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        (offered,) = (await worker.get(Offer)).jobs
        end = FinishedAttempt(job.id, offered.fence, 1, End.EXITED, exit_code=0, stdout_tail=b"the end")
        worker.link.send(Report(finished=(end,)))
        await client.wait(job, timeout=10)
        await worker.get(Acknowledge)
        reading = asyncio.ensure_future(client.logs(job))
        fetch: FetchLog = await worker.get(FetchLog)
        worker.link.send(LogData(fetch.rid, 0, b"all of it, the end", 18, at_end=True))
        assert await reading == b"all of it, the end"
        reading = asyncio.ensure_future(client.logs(job))
        await worker.get(FetchLog)
        worker.link.abort()  # it dies before it answers
        assert await reading == b"the end"
        assert await client.logs(job) == b"the end"


async def test_what_cannot_be_is_refused_with_a_reason(running: Running) -> None:
    async with running.client() as client:
        with pytest.raises(UsageError, match="genus"):
            await client.submit(["true"], resources={"genius": 1})
        with pytest.raises(UsageError, match="1 in all"):
            await client.submit(["true"], resources={"genus": 2})
        with pytest.raises(UnknownJobError):
            await client.detail(77)
        with pytest.raises(RequestError):
            await client.worker("nobody")
        job = await client.submit(["true"])
        with pytest.raises(RequestError, match="not started"):
            await client.logs(job)
        canceled = await client.cancel([job.id, 99])
        assert (canceled.canceled, canceled.unknown) == (1, ((99, 99),))
        assert (await client.wait(job, timeout=10)).state == "canceled"
        assert await client.clean() == 1
        assert (await client.wait(job, timeout=10)).state == "unknown"


async def test_a_cancel_of_an_offered_job_stops_it_on_the_worker(running: Running) -> None:
    worker = Worker()
    await worker.register(running.port)
    async with running.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        (offered,) = (await worker.get(Offer)).jobs
        await client.cancel(job)
        stop: Stop = await worker.get(Stop)
        assert [(ref.job, ref.fence) for ref in stop.attempts] == [(job.id, offered.fence)]
        assert (await client.wait(job, timeout=10)).state == "canceled"
    worker.link.close()


async def test_after_a_restart_of_the_server_the_client_goes_on_waiting(running: Running) -> None:
    async with running.client(patience=10.0) as client:
        job = await client.submit(["true"], ram_mb=1)
        waiting = asyncio.ensure_future(client.wait(job, timeout=30))
        await asyncio.sleep(0)
        await running.stop()
        await running.start()
        worker = Worker()
        await worker.register(running.port)
        (offered,) = (await worker.get(Offer)).jobs
        end = FinishedAttempt(job.id, offered.fence, 1, End.EXITED, exit_code=0)
        worker.link.send(Report(finished=(end,)))
        assert (await waiting).state == "succeeded"
        worker.link.close()


async def test_a_full_disk_refuses_submits_and_recovers(running: Running) -> None:
    journal: Any = running.server.journal
    async with running.client() as client:
        await client.submit(["true"])
        with journal._writer.lock:
            used = journal._connection.execute("PRAGMA page_count").fetchone()[0]
            journal._connection.execute(f"PRAGMA max_page_count = {used}")
        with pytest.raises(RequestError) as caught:
            await client.submit(["x" * 100_000])
        assert caught.value.code == "journal_full"
        with journal._writer.lock:
            journal._connection.execute("PRAGMA max_page_count = 1000000")
        assert (await client.submit(["true"])).id > 1
        assert (await client.counts()).pending == 2


async def test_a_thousand_watchers_of_one_job_are_all_told(running: Running) -> None:
    async with running.client() as client:
        job = await client.submit(["true"])
        waiting = [asyncio.ensure_future(client.wait(job, timeout=30)) for _ in range(1000)]
        await until("all watch", lambda: len(running.server.hub._all) == 1000)
        await client.cancel(job)
        assert {(await one).state for one in waiting} == {"canceled"}
        await until("nobody watches", lambda: not running.server.hub._all)


async def test_two_lives_number_their_changes_differently_though_the_clock_stands(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    await running.stop()
    numbers = set()
    for _ in range(3):
        await running.start()
        numbers.add(running.server.hub.seq)
        await running.stop()
    await running.start()
    assert len(numbers) == 3


async def test_who_looks_on_hears_of_the_whole_and_again_after_a_restart(running: Running) -> None:
    async with running.client(patience=5.0) as client:
        states = client.watch_cluster(details=True)
        first = await anext(states)
        assert first is not None
        assert (first.newest, first.workers) == (0, ())
        assert [resource.name for resource in first.resources or ()] == ["genus"]
        await client.submit(["true"])
        second = await anext(states)
        assert second is not None
        assert (second.newest, second.counts.pending) == (1, 1)
        await running.stop()
        assert await anext(states) is None
        await running.start()
        async with asyncio.timeout(10):
            again = await anext(states)
        assert again is not None
        assert (again.newest, again.resources) == (1, first.resources)
        await states.aclose()
        await until("nobody looks on", lambda: not running.server.overview._all)
