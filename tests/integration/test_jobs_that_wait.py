"""Jobs that wait for others, over the real server, its journal and its protocol: who is meant, once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kueue import AsyncClient, JobSpec, Selector
from kueue.errors import KueueError
from kueue.predecessors import Predecessors
from kueue.resources import Shape
from kueue.wire.messages import Command, Spec, Submit, SubmitArray, Waits
from tests.hostile.peers import Served, dial, serving

CONTEXT = b'{"env":[]}'
COUNT = 1500


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as found:
        yield found


def spec(group: str = "", waits: Waits | None = None) -> Spec:
    digest = hashlib.sha256(CONTEXT).hexdigest()
    return Spec(Command(("true",)), "/tmp", "/tmp", Shape(1, 1), digest, group=group, waits=waits)


async def waits_of(client: AsyncClient, job: int) -> Waits:
    detail = await client.detail(job)
    assert detail.waits is not None
    return detail.waits


async def test_a_group_has_all_that_was_submitted_before_however_soon_it_is_asked(served: Served) -> None:
    async with await dial(served.port) as peer, served.client() as client:
        await peer.authenticate("client")
        for block in range(4):
            peer.send(Submit(block, f"t{block}", (spec("g"),) * 1000, (CONTEXT,)))
            await asyncio.sleep(0)
        answers = [await peer.read_until_rid(block) for block in range(4)]
        waits = Waits(select=(Selector(group="g"), Selector(last=True)))
        peer.send(Submit(9, "t9", (spec(waits=waits),) * 3, (CONTEXT,)))
        answer = await peer.read_until_rid(9)
        assert [one["first"] for one in (*answers, answer)] == [1, 1001, 2001, 3001, 4001]
        assert await waits_of(client, 4002) == Waits(((1, 4000),))
        assert (await client.counts()).waiting == 3
    served.check()


async def test_a_submit_that_is_repeated_while_its_selectors_are_looked_up_is_one(served: Served) -> None:
    async with await dial(served.port) as peer, served.client() as client:
        await client.submit_many(JobSpec(["true"], group="g", name=str(n), ram_mb=1) for n in range(COUNT))
        await peer.authenticate("client")
        waits = Waits(select_any=(Selector(name="*7"),))
        for rid in (1, 2):
            peer.send(Submit(rid, "t", (spec(waits=waits),), (CONTEXT,)))
        first, second = await peer.read_until_rid(1), await peer.read_until_rid(2)
        assert (first["first"], second["first"]) == (COUNT + 1, COUNT + 1)
        peer.send(Submit(3, "t", (spec(waits=waits),), (CONTEXT,)))
        assert (await peer.read_until_rid(3))["first"] == COUNT + 1
        assert len((await waits_of(client, COUNT + 1)).after_any) == COUNT // 10
        assert (await client.counts()).waiting == 1
    served.check()


async def test_what_names_nobody_is_refused_and_leaves_nothing(served: Served) -> None:
    async with served.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        nobody = Selector(group="nobody")
        wishes: list[Predecessors] = [2, [job, 5, (7, 9)], nobody, [job, Selector(states=("failed",))]]
        for after in wishes:
            with pytest.raises(KueueError, match="waited for"):
                await client.submit(["true"], after=after)
        assert (await client.submit(["true"], ram_mb=1, after=job)).id == 2
    served.check()


async def test_a_scattered_set_that_many_are_to_wait_for_is_refused_with_what_to_do(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kueue_server.submissions.MAX_AWAITED_RANGES", 1000)
    async with served.client() as client:
        await client.submit_many(JobSpec(["true"], group="g" if n % 2 else "h", ram_mb=1) for n in range(100))
        followers = [JobSpec(["true"], after=Selector(group="g"), ram_mb=1)] * 30
        with pytest.raises(KueueError, match="let one job wait for them"):
            await client.submit_many(followers)
        assert len(await client.submit_many(followers[:20])) == 20
        await client.cancel(Selector(group="g"))
        assert (await client.counts()).canceled == 70
    served.check()


async def test_all_wait_for_the_same_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, served.client() as client:
        jobs = await client.submit_many([JobSpec(["true"], ram_mb=1)] * COUNT)
        await client.submit_many([JobSpec(["true"], ram_mb=1, after=jobs)] * COUNT)
        last = await client.submit(["true"], ram_mb=1, after_any=(COUNT + 1,))
    async with serving(tmp_path) as served, served.client() as client:
        assert (await client.counts()).waiting == COUNT + 1
        assert (await client.detail(last.id - 1)).job.awaited == COUNT
        await client.cancel(jobs[3])
        await client.wait(last.id - 1)
        assert (await client.counts()).canceled == COUNT + 1
        assert (await client.counts()).pending == COUNT
        served.check()


async def test_those_that_are_run_again_together_wait_for_each_other_as_before(served: Served) -> None:
    async with served.client() as client:
        jobs = [await client.submit(["true"], group="g", ram_mb=1)]
        for _ in range(3):
            jobs.append(await client.submit(["true"], group="g", ram_mb=1, after=jobs, after_any=jobs[:1]))
        await client.cancel(jobs[0])
        await client.wait(jobs[3])
        new = await client.rerun([jobs[0], jobs[2], jobs[3]])
        assert new.ranges == ((5, 7),)
        assert (await client.detail(5)).waits is None
        assert await waits_of(client, 6) == Waits(((5, 5),), ((5, 5),))
        assert await waits_of(client, 7) == Waits(((5, 6),), ((5, 5),))
        assert (await client.detail((await client.rerun([jobs[3]]))[0])).waits is None
    served.check()


async def test_a_long_chain_is_run_again_in_many_blocks(tmp_path: Path) -> None:
    count = 2300
    async with serving(tmp_path) as served, served.client() as client:
        first = await client.submit(["true"], group="g", ram_mb=1)
        rest = await client.submit_many([JobSpec(["true"], group="g", ram_mb=1, after=first)] * (count - 2))
        await client.submit(["true"], group="g", ram_mb=1, after=rest)
        await client.cancel(first)
        await client.wait(count)
        assert (await client.rerun(Selector(group="g"))).ranges == ((count + 1, 2 * count),)
        assert await waits_of(client, 2 * count) == Waits(((count + 2, 2 * count - 1),))
        assert (await client.counts()).waiting == count - 1
        served.check()
    async with serving(tmp_path) as served, served.client() as client:
        assert (await client.counts()).waiting == count - 1
        served.check()


async def test_an_array_waits_for_a_group_and_is_told_of_its_end_once_whatever_is_repeated(
    served: Served,
) -> None:
    async with await dial(served.port) as peer, served.client() as client:
        await client.submit_many(JobSpec(["true"], group="g", ram_mb=1) for _ in range(3))
        await peer.authenticate("client")
        array = spec(waits=Waits(select=(Selector(group="g"),)))
        for rid in (1, 2):
            peer.send(SubmitArray(rid, "t", array, ((1, 100_000, 1),), (CONTEXT,)))
        answers = [await peer.read_until_rid(rid) for rid in (1, 2)]
        assert [(one["first"], one["count"]) for one in answers] == [(4, 100_000)] * 2
        assert await waits_of(client, 77_777) == Waits(((1, 3),))
        await client.cancel(2)
        await client.wait(100_003)
        counts = await client.counts()
        assert (counts.canceled, counts.pending, counts.waiting) == (100_001, 2, 0)
        peer.send(SubmitArray(3, "u", spec(waits=Waits(((9_999_999, 9_999_999),))), ((1, 2, 1),), (CONTEXT,)))
        refused = await peer.read_until_rid(3)
        assert refused["reason"]["code"] == "unknown_job"
    served.check()
