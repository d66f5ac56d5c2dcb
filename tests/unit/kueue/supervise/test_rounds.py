"""A supervisor that stays: when it tries which machine, by a clock that stands in for the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest

from kueue.config import RestartWorkers, load_config
from kueue.supervise import rounds
from kueue.supervise.hosts import Host
from kueue.supervise.pauses import JITTER
from kueue.supervise.perform import Row
from kueue.supervise.plan import Wish
from kueue.supervise.rounds import Cluster, keep_on
from kueue.supervise.ssh import Connections
from tests.support.lab import SECRET

WELL, BAD = Host("rax11"), Host("rax12")
INTERVAL = 600.0
ROUND_SECONDS = 3.0
LONGEST = INTERVAL + ROUND_SECONDS + rounds.TOGETHER_SECONDS
"""Where another's round is in the way."""


class EnoughError(Exception):
    """Thrown out of a supervisor that would stay for ever."""


class Days:
    """A cluster of two machines. `row` says how the bad one is at a time, `until` when it has been seen enough."""

    def __init__(self, row: Callable[[float], Row], until: float) -> None:
        self.now = 0.0
        self.tried: dict[Host, list[float]] = {WELL: [], BAD: []}
        self.knocked: list[float] = []
        self._row = row
        self._until = until

    async def one_round(
        self,
        cluster: Cluster,
        wish: Wish,
        on_row: Callable[[Row], None],
        hosts: Sequence[Host],
        shut: Sequence[Host],
    ) -> list[Row]:
        assert wish is Wish.KEEP
        assert not set(hosts) & set(shut)
        self.knocked += [self.now for _ in shut]
        bad = self._row(self.now)
        opened = [host for host in shut if not bad.shut]
        for host in (*hosts, *opened):
            self.tried[host].append(self.now)
        self.now += ROUND_SECONDS
        return [bad if host == BAD else Row(host.label, reachable=True) for host in (*hosts, *opened)]

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds
        if self.now > self._until:
            raise EnoughError

    async def pass_by(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, backoff: float = 2.0) -> None:
        """Supervise until it is over."""
        file = tmp_path / "config.toml"
        file.touch(0o600)
        file.write_text(f'[common_settings]\nshared_secret = "{SECRET}"\n')
        settings = RestartWorkers(sleep_minutes_before_recheck=INTERVAL / 60, backoff=backoff)
        config = load_config(file, create=False)
        monkeypatch.setattr(rounds, "one_round", self.one_round)
        with pytest.raises(EnoughError):
            await keep_on(
                Cluster(config, settings, (WELL, BAD)),
                lambda row: None,
                lambda rows, seconds: None,
                lambda: self.now,
                self.sleep,
            )


def pauses(times: Sequence[float]) -> list[float]:
    """From the end of one try to the beginning of the next."""
    return [after - before - ROUND_SECONDS for before, after in pairwise(times)]


async def test_one_that_fails_is_tried_at_growing_intervals_that_jitter_and_as_ever_when_it_is_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    well_again = 20_000.0

    def row(now: float) -> Row:
        return Row(BAD.label, error="" if now >= well_again else "it takes none of our keys")

    days = Days(row, until=60_000.0)
    await days.pass_by(monkeypatch, tmp_path)
    waits = pauses(days.tried[BAD])
    failing = [wait for wait, time in zip(waits, days.tried[BAD], strict=False) if time < well_again]
    assert len(failing) >= 5
    for number, wait in enumerate(failing):
        ideal = INTERVAL * 2**number
        # One that is due within a second is taken along.
        assert ideal * (1 - JITTER) - rounds.TOGETHER_SECONDS <= wait <= ideal * (1 + JITTER), (number, wait)
    assert len({round(wait / INTERVAL / 2**number, 4) for number, wait in enumerate(failing)}) > 1, (
        "it jitters"
    )
    assert waits[len(failing) :]
    assert all(wait <= LONGEST for wait in waits[len(failing) :]), "back at once to the usual interval"
    assert all(wait <= LONGEST for wait in pauses(days.tried[WELL])), "which the other has had all the time"
    assert not days.knocked


async def test_one_that_was_off_for_days_is_tried_as_soon_as_it_is_open_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_again = 3 * 86400.0

    def row(now: float) -> Row:
        return Row(BAD.label, shut=now < on_again, error="No route to host" if now < on_again else "")

    days = Days(row, until=4 * 86400.0)
    await days.pass_by(monkeypatch, tmp_path)
    first = min(time for time in days.tried[BAD] if time >= on_again)
    assert first - on_again <= INTERVAL + ROUND_SECONDS
    assert all(wait <= LONGEST for wait in pauses([time for time in days.tried[BAD] if time >= on_again]))
    full = [time for time in days.tried[BAD] if time < on_again]
    assert len(full) < 15, "between, there is no more than a knock"
    assert len(days.knocked) > 300


async def test_without_backoff_all_have_the_same_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    days = Days(lambda now: Row(BAD.label, error="no"), until=20_000.0)
    await days.pass_by(monkeypatch, tmp_path, backoff=1.0)
    assert all(wait <= INTERVAL * (1 + JITTER) for wait in pauses(days.tried[BAD]))


class Places:
    """Machines, some of them off: to try one of those takes until `give_up`. `behind` are reached through others."""

    def __init__(self, off: Sequence[Host], behind: Sequence[Host] = ()) -> None:
        self.give_up = asyncio.Event()
        self.done: list[Host] = []
        self.at_once = self.most_at_once = 0
        self._off = set(off)
        self._behind = set(behind)

    async def is_open(self, host: Host, seconds: float) -> bool | None:
        return None if host in self._behind else host not in self._off

    async def perform(self, host: Host) -> None:
        if host in self._off:
            await self.give_up.wait()
        else:
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            await asyncio.sleep(0)
            self.at_once -= 1
        self.done.append(host)

    async def round(self, hosts: Sequence[Host], most: int) -> None:
        await rounds._side_by_side(self.perform, hosts, cast(Connections, self), (), most)


async def test_however_many_machines_are_off_the_others_have_their_turn() -> None:
    off = [Host(f"off{number}") for number in range(100)]
    behind = [Host(f"behind{number}") for number in range(3)]
    awake = [*(Host(f"on{number}") for number in range(20)), *behind]
    places = Places(off, behind)
    running = asyncio.ensure_future(places.round([*off, *awake], 8))
    async with asyncio.timeout(20):
        while len(places.done) < len(awake):  # noqa: ASYNC110 (there is nothing that tells)
            await asyncio.sleep(0.001)
    assert set(places.done) == set(awake)
    assert places.most_at_once <= 8
    places.give_up.set()
    await running
    assert set(places.done) == {*off, *awake}


async def test_where_there_are_few_machines_nobody_is_knocked_at_before() -> None:
    places = Places([])
    places.is_open = None  # type: ignore[method-assign, assignment]
    hosts = [Host(f"on{number}") for number in range(8)]
    await places.round(hosts, 8)
    assert set(places.done) == set(hosts)
