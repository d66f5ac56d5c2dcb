"""Reruns, changes and selections over the real server, its journal and its protocol: durable, once, in portions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import kueue_server.reruns
from kueue import AsyncClient, JobSpec, Selector
from kueue.errors import RequestError, UsageError
from kueue.wire.changes import Changes
from kueue.wire.messages import Rerun
from tests.hostile.peers import Peer, Served, dial, serving

COUNT = 2500


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


async def canceled(client: AsyncClient, count: int = COUNT) -> None:
    """So many jobs of a group that are over."""
    jobs = await client.submit_many(JobSpec(["true", str(n)], group="g", ram_mb=1) for n in range(count))
    assert len(jobs) == count
    assert (await client.cancel(Selector(group="g"))).canceled == count


async def rerun(served: Served, token: str, *, twice: bool = False) -> list[tuple[int, int]]:
    """By the bare protocol; with `twice`, asked again before the first answer."""
    found = []
    async with await dial(served.port) as peer:
        await peer.authenticate("client")
        for rid in (1, 2) if twice else (1,):
            peer.send(Rerun(rid, token, Selector(group="g"), Changes(group="h")))
        for rid in (1, 2) if twice else (1,):
            answer = await _answer(peer, rid)
            found.append((answer["first"], answer["count"]))
    return found


async def _answer(peer: Peer, rid: int) -> dict[str, int]:
    answer = await peer.read_until_rid(rid)
    assert answer["type"] == "reran", answer
    return answer


async def test_thousands_are_run_again_as_one_block_that_survives_a_restart(
    served: Served, tmp_path: Path
) -> None:
    async with served.client() as client:
        await canceled(client)
        new = await client.rerun(Selector(group="g"), ram_mb=2, group="h")
        assert new.ranges == ((COUNT + 1, 2 * COUNT),)
        found = await client.select(Selector(group="h"))
        assert (found.ranges, found.counts.pending) == (new.ranges, COUNT)
        views = [view async for view in client.job_views(which=Selector(group="h"))]
        assert [view.rerun_of for view in views] == list(range(1, COUNT + 1))
        assert {view.ram_mb for view in views} == {2}
        assert views[6].command == ("true", "6")
        detail = await client.detail(COUNT + 1, context=True)
        old = await client.detail(1, context=True)
        assert detail.context == old.context != None  # noqa: E711
        await client.clean()
        assert (await client.detail(COUNT + 1, context=True)).context == old.context
    served.check()


async def test_a_repeated_rerun_is_one(served: Served) -> None:
    async with served.client() as client:
        await canceled(client)
        assert await rerun(served, "t", twice=True) == [(COUNT + 1, COUNT)] * 2
        assert await rerun(served, "t") == [(COUNT + 1, COUNT)]
        assert (await client.select(Selector(group="h"))).counts.pending == COUNT
        with pytest.raises(AssertionError, match="token_reused"):
            await rerun_differently(served, "t")


async def rerun_differently(served: Served, token: str) -> None:
    async with await dial(served.port) as peer:
        await peer.authenticate("client")
        peer.send(Rerun(1, token, Selector(group="g")))
        await _answer(peer, 1)


async def test_what_has_not_finished_is_counted_and_an_empty_rerun_makes_nothing(served: Served) -> None:
    async with served.client() as client:
        await client.submit(["true"], group="g", ram_mb=1)
        new = await client.rerun(Selector(group="g"))
        assert (len(new), [warning.code for warning in new.warnings]) == (0, ["not_finished"])
        assert (await client.submit(["true"], ram_mb=1)).id == 2


async def test_more_than_can_be_written_at_once_are_refused_and_nothing_is_made(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kueue_server.reruns, "MOST_JOBS", 1000)
    async with served.client() as client:
        await canceled(client, 1001)
        with pytest.raises(RequestError, match="more than 1000 jobs"):
            await client.rerun(Selector(group="g"))
        assert len(await client.rerun(range(1, 1001))) == 1000


async def test_nothing_is_changed_by_a_selector_that_says_nothing(served: Served) -> None:
    async with served.client() as client:
        await client.submit(["true"], group="g", ram_mb=1)
        for change in (
            client.cancel(Selector()),
            client.change(Selector(), priority=1),
            client.rerun(Selector()),
            client.clean_selected(Selector()),
            client.cancel(Selector(states=("nosuch",))),
            client.change(Selector(group="g")),
            client.change(Selector(group="g"), resources={"nosuch": 1}),
        ):
            with pytest.raises(UsageError):
                await change
        assert (await client.counts()).pending == 1


async def test_changes_of_thousands_are_durable_when_they_are_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        jobs = await client.submit_many(
            JobSpec(["true"], group="g", ram_mb=1, env={"A": "b"}) for _ in range(COUNT)
        )
        await client.cancel(jobs[0])
        done = await client.change(Selector(group="g"), ram_mb=7, priority=3, resources={})
        assert (done.changed, done.finished) == (COUNT - 1, 1)
        served.check()
    async with serving(tmp_path) as served, served.client() as client:
        views = [view async for view in client.job_views(which=Selector(group="g"))]
        assert [(view.ram_mb, view.priority) for view in views] == [(1, 0)] + [(7, 3)] * (COUNT - 1)
        served.check()


async def test_others_are_served_while_a_verb_goes_through_the_table(served: Served) -> None:
    async def is_seen_half_done(round_: int) -> bool:
        await client.submit_many(JobSpec(["true"], group=f"g{round_}", ram_mb=1) for _ in range(20_000))
        verb = asyncio.ensure_future(client.cancel(Selector(group=f"g{round_}")))
        seen: list[int] = []
        while not verb.done():
            seen.append((await other.counts()).canceled - 20_000 * round_)
        assert (await verb).canceled == 20_000
        return any(0 < canceled < 20_000 for canceled in seen)

    async with served.client() as client, served.client() as other:
        for round_ in range(6):  # we may be too slow to see it, but not each time
            if await is_seen_half_done(round_):
                return
        pytest.fail("all was done in one step")
