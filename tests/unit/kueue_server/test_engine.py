"""The engine's one promise: nothing leaves before what was decided earlier is on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from kueue.job import JobState
from kueue_server.core.core import Core
from kueue_server.core.events import Event, Tick, WorkerHeard
from kueue_server.core.instructions import Instruction, JobsChanged, SaveJob
from kueue_server.engine import Engine
from kueue_server.journal.interface import Journal, JournalBrokenError

FAULTY = 13
"""Of this session the core can't handle anything."""


class ScriptedCore:
    """Answers each event with the next list of instructions."""

    is_under_way = False

    def __init__(self, *answers: list[Instruction]) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []

    def handle(self, event: Event, now: float) -> list[Instruction]:
        self.events.append(event)
        if isinstance(event, WorkerHeard) and event.session == FAULTY:
            raise AssertionError("a fault of ours")
        return self.answers.pop(0) if self.answers else []


class SlowJournal:
    """Commits when told to."""

    def __init__(self) -> None:
        self.groups: list[tuple[tuple[Any, ...], Callable[[Any], None]]] = []

    def write(self, writes: Any, done: Callable[[Any], None], *, give_up_when_full: bool) -> None:
        assert not give_up_when_full
        self.groups.append((writes, done))

    def commit(self, error: JournalBrokenError | None = None) -> None:
        self.groups.pop(0)[1](error)


def save(job: int) -> SaveJob:
    return SaveJob(job, JobState.PENDING, b"{}")


def told(job: int) -> JobsChanged:
    return JobsChanged((job,))


class Bench:
    def __init__(self, *answers: list[Instruction]) -> None:
        self.performed: list[Instruction] = []
        self.broken: list[JournalBrokenError] = []
        self.journal = SlowJournal()
        self.core = ScriptedCore(*answers)
        self.engine = Engine(
            cast(Core, self.core),
            cast(Journal, self.journal),
            asyncio.get_running_loop(),
            self.performed.append,
            self.broken.append,
        )

    async def post(self) -> None:
        self.engine.post(Tick(0.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_what_needs_no_journal_leaves_at_once() -> None:
    bench = Bench([told(1)])
    await bench.post()
    assert bench.performed == [told(1)]
    assert bench.journal.groups == []


async def test_nothing_leaves_before_its_write_is_committed() -> None:
    bench = Bench([save(1), told(1)])
    await bench.post()
    assert bench.performed == []
    assert bench.journal.groups[0][0] == (save(1),)
    bench.journal.commit()
    assert bench.performed == [told(1)]


async def test_later_instructions_without_writes_wait_behind_earlier_writes() -> None:
    bench = Bench([save(1), told(1)], [told(2)], [save(3), told(3)])
    for _ in range(3):
        await bench.post()
    assert bench.performed == []
    bench.journal.commit()
    assert bench.performed == [told(1), told(2)]
    bench.journal.commit()
    assert bench.performed == [told(1), told(2), told(3)]


async def test_a_job_counts_as_told_when_the_last_of_its_changes_has_left() -> None:
    bench = Bench([save(1), told(1)], [save(1), told(1), told(2)])
    await bench.post()
    assert not bench.engine.is_told(1)
    assert bench.engine.is_told(2)
    await bench.post()
    bench.journal.commit()
    assert not bench.engine.is_told(1)
    assert not bench.engine.is_told(2)
    bench.journal.commit()
    assert bench.engine.is_told(1)
    assert bench.engine.is_told(2)


async def test_events_of_one_run_of_the_loop_share_one_group() -> None:
    bench = Bench([save(1), told(1)], [save(2), told(2)])
    bench.engine.post(Tick(0.0))
    bench.engine.post(Tick(0.0))
    await asyncio.sleep(0)
    assert [writes for writes, _ in bench.journal.groups] == [(save(1), save(2))]


async def test_what_comes_with_a_write_of_its_own_is_one_commit_with_what_follows_from_it() -> None:
    bench = Bench([save(1), told(1)], [save(2), told(2)])
    heard: list[Any] = []
    block = save(0)
    bench.engine.post(Tick(0.0))
    bench.engine.post_with(Tick(0.0), block, lambda error: heard.append((error, list(bench.performed))))
    await asyncio.sleep(0)
    assert [writes for writes, _ in bench.journal.groups] == [(save(1), block, save(2))]
    assert (heard, bench.performed) == ([], [])
    bench.journal.commit()
    assert heard == [(None, [told(1), told(2)])]


async def test_a_write_that_is_no_news_to_anybody_is_committed_and_told() -> None:
    bench = Bench([])
    heard: list[Any] = []
    bench.engine.post_with(Tick(0.0), save(0), heard.append)
    await asyncio.sleep(0)
    bench.journal.commit()
    assert heard == [None]


@pytest.mark.parametrize("handled", [True, False])
async def test_who_waits_for_a_write_is_told_that_the_journal_broke(handled: bool) -> None:
    bench = Bench([save(1), told(1)])
    heard: list[Any] = []
    error = JournalBrokenError("fsync")
    bench.engine.post_with(Tick(0.0), save(0), heard.append)
    if handled:
        await asyncio.sleep(0)
        bench.journal.commit(error)
    else:
        bench.engine.fail(error)
    assert heard == [error]
    assert (bench.performed, bench.broken) == ([], [error])


@pytest.mark.parametrize("error", [None, JournalBrokenError("fsync")])
async def test_who_stumbles_over_the_news_of_its_write_keeps_it_from_nobody_else(
    error: JournalBrokenError | None,
) -> None:
    bench = Bench([save(1), told(1)])
    heard: list[Any] = []

    def stumbles(error: JournalBrokenError | None) -> None:
        raise KeyError("a fault of ours")

    bench.engine.post_with(Tick(0.0), save(0), stumbles)
    bench.engine.post_with(Tick(0.0), save(2), heard.append)
    await asyncio.sleep(0)
    bench.journal.commit(error)
    assert heard == [error]
    assert bench.performed == ([told(1)] if error is None else [])
    assert bench.broken == ([] if error is None else [error])


async def test_a_broken_journal_ends_everything_and_lets_nothing_out() -> None:
    bench = Bench([save(1), told(1)], [told(2)])
    await bench.post()
    await bench.post()
    error = JournalBrokenError("fsync")
    bench.journal.commit(error)
    assert bench.performed == []
    assert bench.broken == [error]
    await bench.post()
    assert bench.performed == []


async def test_an_instruction_that_raises_does_not_hold_back_the_others() -> None:
    bench = Bench([told(1), told(2)])

    def perform(instruction: Instruction) -> None:
        if instruction == told(1):
            raise OSError("this peer is gone")
        bench.performed.append(instruction)

    bench.engine._perform = perform
    await bench.post()
    assert bench.performed == [told(2)]


async def test_an_event_that_can_not_be_handled_takes_nothing_of_the_others_along() -> None:
    bench = Bench([save(1), told(1)], [save(2), told(2)])
    faults: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))
    for event in (Tick(0.0), WorkerHeard(FAULTY, 0.0), Tick(0.0)):
        bench.engine.post(event)
    for _ in range(4):
        await asyncio.sleep(0)
    assert [str(fault) for fault in faults] == ["a fault of ours"]
    assert len(bench.core.events) == 3
    assert [writes for writes, _ in bench.journal.groups] == [(save(1),), (save(2),)]
    bench.journal.commit()
    bench.journal.commit()
    assert bench.performed == [told(1), told(2)]


async def test_settled_waits_for_the_commit() -> None:
    bench = Bench([save(1), told(1)])
    await bench.post()
    waiting = asyncio.ensure_future(bench.engine.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.journal.commit()
    await waiting
    assert bench.performed == [told(1)]


async def test_a_server_that_slept_learns_of_it_before_it_hears_what_came_meanwhile() -> None:
    bench = Bench()
    bench.engine._last_tick -= 30.0
    bench.engine.post(WorkerHeard(1, 0.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tick, heard = bench.core.events
    assert isinstance(tick, Tick)
    assert tick.late == pytest.approx(29.0, abs=0.5)
    assert isinstance(heard, WorkerHeard)


async def test_a_tick_in_time_is_not_late() -> None:
    bench = Bench()
    bench.engine.tick()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (tick,) = bench.core.events
    assert isinstance(tick, Tick)
    assert tick.late == 0.0
