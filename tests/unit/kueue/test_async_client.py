"""The asyncio client against the same scripted server: the same promises, side by side on one connection."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import kueue
from kueue import AsyncClient, Client, JobSpec, async_client
from kueue.effects import TRIES
from kueue.errors import (
    AuthenticationError,
    ServerUnreachableError,
    UnknownJobError,
    UsageError,
    WaitTimeoutError,
)
from kueue.wire import link as link_module
from kueue.wire.messages import JobChange, ListWorkers, Shutdown, Submit, Unwatch, Watch
from tests.support.lab import free_port
from tests.support.scripted_clients_server import SECRET, ClientsServer, clients_server


@pytest.fixture
def server() -> Iterator[ClientsServer]:
    with clients_server() as found:
        yield found


@pytest.fixture
async def client(server: ClientsServer) -> AsyncIterator[AsyncClient]:
    async with client_of(server) as found:
        yield found


def client_of(server: ClientsServer, **options: Any) -> AsyncClient:
    options.setdefault("connect_timeout", 10.0)
    return AsyncClient(address=("127.0.0.1", server.port), secret=SECRET, **options)


def specs(number: int) -> Iterator[JobSpec]:
    return (JobSpec(["true", str(index)]) for index in range(number))


async def seen(server: ClientsServer, condition: Any) -> None:
    """Wait, in a thread, for something that the server sees."""
    await asyncio.to_thread(server.until, condition)


async def test_a_job_from_its_submission_to_its_end(server: ClientsServer, client: AsyncClient) -> None:
    job = await client.submit(["./sim", "in.dat"], cpus=3)
    assert server.jobs[1].shape.cpus == 3
    waiting = asyncio.ensure_future(client.wait(job, timeout=20))
    await seen(server, lambda: server.watching == 1)
    server.change(1, "succeeded", return_code=0)
    done = await waiting
    assert (done, done.state, done.return_code) == (job, "succeeded", 0)
    assert (await client.job(job)).command == ("./sim", "in.dat")


async def test_many_tasks_share_one_connection(server: ClientsServer, client: AsyncClient) -> None:
    jobs = [await client.submit(["true"]) for _ in range(20)]
    waits = [asyncio.ensure_future(client.wait(job)) for job in jobs]
    await seen(server, lambda: server.watching == 20)
    answers = await asyncio.gather(*(client.job(job) for job in jobs), client.counts(), client.workers())
    assert list(answers[:20]) == jobs
    for job in reversed(jobs):
        server.change(job.id, "succeeded")
    assert [job.id for job in await asyncio.gather(*waits)] == [job.id for job in jobs]
    assert server.connections == 1


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_lost_connection_makes_no_job_twice(
    server: ClientsServer, client: AsyncClient, moment: str
) -> None:
    lost: set[str] = set()

    def lose(message: Any) -> bool:
        if not isinstance(message, Submit) or message.token in lost:
            return False
        lost.add(message.token)
        return True

    setattr(server, moment, lose)
    counts: list[int] = []
    jobs = await client.submit_many(specs(3000), progress=counts.append)
    assert sorted(server.jobs) == list(range(1, 3001)) == [job.id for job in jobs]
    assert counts == [1000, 2000, 3000]
    assert len({submit.token for submit in server.of(Submit)}) == 3


async def test_jobs_come_as_they_are_completed_over_a_restart(
    server: ClientsServer, client: AsyncClient
) -> None:
    jobs = await client.submit_many(specs(3))
    completed = client.as_completed(jobs, timeout=30)
    server.change(2, "succeeded")
    assert (await anext(completed)).id == 2
    at = server.seq
    await asyncio.to_thread(server.stop)
    server.change(1, "failed")
    await asyncio.to_thread(server.start)
    assert (await anext(completed)).state == "failed"
    assert server.of(Watch)[-1].since == at
    server.change(3, "canceled")
    assert [job.id async for job in completed] == [3]
    await seen(server, lambda: server.watching == 0)


async def test_who_waits_outwaits_the_server_and_keeps_nobody_else_waiting(server: ClientsServer) -> None:
    said: list[str] = []
    async with client_of(server, connect_timeout=0.2, on_retry=said.append) as client:
        await client.submit(["true"])
        waiting = [asyncio.ensure_future(client.wait(1)) for _ in range(100)]
        await seen(server, lambda: server.watching == 100)
        await asyncio.to_thread(server.stop)
        with pytest.raises(ServerUnreachableError):
            await client.counts()
        server.change(1, "succeeded")
        await asyncio.to_thread(server.start)
        assert all([(await one).succeeded for one in waiting])
    assert len([line for line in said if "still waiting" in line]) == 1


async def test_a_timeout_leaves_the_client_usable(server: ClientsServer, client: AsyncClient) -> None:
    await client.submit(["true"])
    with pytest.raises(WaitTimeoutError):
        await client.wait(1, timeout=0.1)
    await seen(server, lambda: server.watching == 0)
    assert (await client.counts()).pending == 1


async def test_a_canceled_wait_ends_its_watch(server: ClientsServer, client: AsyncClient) -> None:
    await client.submit(["true"])
    waiting = asyncio.ensure_future(client.wait(1))
    await seen(server, lambda: server.watching == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gc.collect()
    await seen(server, lambda: server.watching == 0)
    assert (await client.counts()).pending == 1


async def test_a_wait_that_is_over_ends_its_watch(server: ClientsServer, client: AsyncClient) -> None:
    await client.submit(["true"])
    server.change(1, "succeeded")
    assert (await client.wait(1)).succeeded
    await seen(server, lambda: server.watching == 0)


async def test_the_server_is_woken_for_the_end_of_what_was_left_and_not_of_what_is_over(
    server: ClientsServer, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LATE_SECONDS", 3600.0)
    jobs = await client.submit_many(specs(2))
    server.change(1, "succeeded")
    assert (await client.wait(1)).succeeded
    async with client_of(server) as other:
        await other.counts()
    assert server.of(Unwatch) == []
    await client.counts()
    await seen(server, lambda: server.watching == 0)
    async with contextlib.aclosing(client.watch(jobs)) as changes:
        async for _ in changes:
            break
    await seen(server, lambda: server.watching == 0 and len(server.of(Unwatch)) == 2)


async def test_a_loop_that_is_left_ends_its_watch(server: ClientsServer, client: AsyncClient) -> None:
    jobs = await client.submit_many(specs(2))
    server.change(1, "succeeded")
    async for _ in client.as_completed(jobs):
        break
    gc.collect()
    await seen(server, lambda: server.watching == 0)


async def test_listing_output_and_the_rest(server: ClientsServer, client: AsyncClient) -> None:
    await client.submit_many(specs(1500))
    assert [job.id async for job in client.jobs()] == list(range(1, 1501))
    server.outputs["stdout"] = b"x" * 300_000
    assert await client.logs(1) == server.outputs["stdout"]
    followed = [(stream, chunk.data) async for stream, chunk in client.follow(1)]
    assert b"".join(data for stream, data in followed if stream == "stdout") == server.outputs["stdout"]
    assert (await client.cancel([1, 2])).canceled == 2
    assert await client.clean() == 7
    assert (await client.resources()).parallel_jobs == 5
    assert (await client.server_info()).journal == "journal"
    assert await client.shutdown() == ("bye",)


async def test_output_is_followed_over_a_lost_connection(server: ClientsServer, client: AsyncClient) -> None:
    server.outputs["stdout"] = b"one "
    server.output_ends = False
    found = b""
    async for _, chunk in client.follow(1, ("stdout",)):
        found += chunk.data
        if found == b"one ":
            server.outputs["stdout"] += b"two"
            server.output_ends = True
            await asyncio.to_thread(server.drop_connections)
    assert found == b"one two"


async def test_no_is_an_error_of_its_own_kind(client: AsyncClient) -> None:
    with pytest.raises(UnknownJobError):
        await client.job(9)
    with pytest.raises(UsageError):
        await client.submit("true | false")


async def test_a_question_is_asked_again_and_an_order_to_shut_down_is_not(
    server: ClientsServer, client: AsyncClient
) -> None:
    asked: list[Any] = []

    def lose(message: Any) -> bool:
        asked.append(message)
        return len(server.of(ListWorkers)) == 1 or isinstance(message, Shutdown)

    server.before = lose
    assert await client.workers() == ()
    with pytest.raises(ServerUnreachableError):
        await client.shutdown()
    assert len(server.of(Shutdown)) == 1


async def test_a_connection_that_never_holds_is_given_up(server: ClientsServer, client: AsyncClient) -> None:
    server.before = lambda message: True
    with pytest.raises(ServerUnreachableError, match="broke"):
        await client.workers()
    assert len(server.of(ListWorkers)) == TRIES


async def test_a_refused_connection_is_tried_for_a_while(server: ClientsServer) -> None:
    await asyncio.to_thread(server.stop)
    said: list[str] = []
    async with client_of(server, on_retry=said.append) as client:
        asking = asyncio.ensure_future(client.workers())
        while not said:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.start)
        assert await asking == ()
    assert len(said) == 1
    assert "connection refused" in said[0]


async def test_what_will_not_mend_itself_is_not_tried_again(server: ClientsServer) -> None:
    async with AsyncClient(address=("127.0.0.1", server.port), secret="x" * 40, connect_timeout=60) as client:
        with pytest.raises(AuthenticationError, match="shared_secret differs"):
            await client.connect()
    async with AsyncClient(address=("127.0.0.1", free_port()), secret=SECRET) as client:
        with pytest.raises(ServerUnreachableError, match="connection refused"):
            await client.connect()


async def test_closing_twice_or_unconnected_is_nothing(server: ClientsServer) -> None:
    client = client_of(server)
    await client.close()
    await client.connect()
    await client.close()
    await client.close()
    assert await client.workers() == ()
    await client.close()
    assert server.connections == 2


async def test_the_module_s_as_completed_is_for_the_blocking_client(client: AsyncClient) -> None:
    jobs = await client.submit_many(specs(1))
    with pytest.raises(UsageError, match=r"kueue\.Client"):
        kueue.as_completed(jobs)


def test_a_client_may_be_used_in_one_event_loop_after_another(server: ClientsServer) -> None:
    client = client_of(server)

    async def once() -> None:
        assert await client.workers() == ()
        await client.close()

    asyncio.run(once())
    asyncio.run(once())
    assert server.connections == 2


async def test_thousands_of_waits_cost_no_more_than_their_own_messages(
    server: ClientsServer, client: AsyncClient
) -> None:
    jobs = await client.submit_many(specs(3000))
    waits = [asyncio.ensure_future(client.wait(job)) for job in jobs]
    await seen(server, lambda: server.watching == 3000)
    for job in jobs:
        server.changes[job.id] = JobChange(job.id, "succeeded")
    await asyncio.to_thread(server.drop_connections)
    async with asyncio.timeout(30):
        assert [job.id for job in await asyncio.gather(*waits)] == [job.id for job in jobs]


async def test_closing_does_not_wait_for_a_server_that_hangs(
    server: ClientsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_client, "CLOSE_SECONDS", 0.2)
    client = client_of(server)
    await client.workers()
    for link in list(server._links):
        server._loop.call_soon_threadsafe(link.pause_reading)
    await seen(server, lambda: server.connections == 1)
    async with asyncio.timeout(5):
        await client.close()


async def test_both_clients_offer_the_same() -> None:
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(AsyncClient) == names(Client)


async def test_progress_is_a_counter_or_a_function(
    server: ClientsServer, client: AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.submit_many(specs(1500), progress=True)
    assert capsys.readouterr().err == "1500 jobs submitted\n"
    await client.submit_many([], progress=True)
    assert capsys.readouterr().err == ""
