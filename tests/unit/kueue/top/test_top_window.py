"""The window against a table of which everything is known: whatever one does, what is seen is what is there."""

from __future__ import annotations

import random

import pytest

from kueue.top.window import LEAST_PAGE, MOST_ROWS, Window
from kueue.wire.messages import JobChange, JobView, Selector

HEIGHT = 20


def view(job: int, state: str = "pending") -> JobView:
    return JobView(job, state, ("true",), "/", 1, 1)


class Table:
    """Jobs by id, and a window on them. `looks` is after how many ids the server ends a page."""

    def __init__(self, ids: range | list[int], looks: int = 10_000) -> None:
        self.ids = sorted(ids)
        self.looks = looks
        self.window = Window()
        self.window.resize(HEIGHT)
        self.pages = 0
        self.tell()

    def tell(self) -> None:
        """The server tells of its ends."""
        self.window.table_is(*((self.ids[0], self.ids[-1]) if self.ids else (0, 0)))

    def step(self) -> bool:
        """One page, if one is needed."""
        fetch = self.window.need()
        if fetch is None:
            return False
        self.pages += 1
        every = fetch.selector.exit_code  # a stand-in for any condition
        ids = self.ids[::-1] if fetch.newest_first else self.ids
        if fetch.cursor is not None:
            cursor = fetch.cursor
            ids = [job for job in ids if (job < cursor if fetch.newest_first else job > cursor)]
        looked = ids[: self.looks]
        rows = [job for job in looked if every is None or job % every == 0][: fetch.limit]
        last = rows[-1] if len(rows) == fetch.limit else looked[-1] if looked else 0
        more = bool(ids) and last != ids[-1]
        self.window.take(fetch, [view(job) for job in rows], last if more else None, 0.0)
        return True

    def settle(self) -> None:
        """All that is needed."""
        for _ in range(10_000):
            if not self.step():
                return
        pytest.fail("there is no end of pages")

    def wanted(self) -> list[int]:
        """All rows in their order."""
        every = self.window.selector.exit_code
        found = [job for job in self.ids if every is None or job % every == 0]
        return found[::-1] if self.window.newest_first else found

    def check(self) -> None:
        """What is held is a part of the whole, without gaps, and what is seen is as much as fits."""
        held = [job.id for job in self.window.items]
        whole = self.wanted()
        if held:
            start = whole.index(held[0])
            assert held == whole[start : start + len(held)]
        assert len(held) <= MOST_ROWS
        assert len(self.window.visible()) == min(HEIGHT, len(whole))
        assert self.window.current is None or self.window.current in self.window.visible()


@pytest.mark.parametrize("newest_first", [True, False])
def test_both_ends_of_a_million_cost_a_few_pages(newest_first: bool) -> None:
    table = Table(range(1, 1_000_001))
    if not newest_first:
        table.window.turn_round()
    table.settle()
    table.check()
    first, last = (1_000_000, 1) if newest_first else (1, 1_000_000)
    assert table.window.visible()[0].id == first
    table.window.end()
    table.settle()
    table.check()
    assert table.window.visible()[-1].id == last == (table.window.current or view(0)).id
    table.window.home()
    table.settle()
    assert (table.window.current or view(0)).id == first
    table.window.jump(0.5)
    table.settle()
    table.check()
    assert abs(table.window.visible()[0].id - 500_000) < 100
    assert table.pages <= 12


def test_whoever_scrolls_through_everything_misses_nothing_and_holds_little() -> None:
    table = Table(range(1, 5001))
    table.settle()
    seen: dict[int, None] = {}
    for _ in range(5001 // (HEIGHT - 1) + 2):
        seen.update((job.id, None) for job in table.window.visible())
        table.window.page(1)
        table.settle()
        table.check()
    assert list(seen) == list(range(5000, 0, -1))
    assert table.pages < 5000 / LEAST_PAGE + 5
    for _ in range(5001 // (HEIGHT - 1) + 2):
        table.window.page(-1)
        table.settle()
        table.check()
    assert table.window.visible()[0].id == 5000


def test_new_jobs_are_followed_only_by_who_stands_at_the_top() -> None:
    table = Table(range(1, 101))
    table.settle()
    assert table.window.is_following
    table.ids += range(101, 2001)
    table.tell()
    table.settle()
    table.check()
    assert table.window.visible()[0].id == 2000
    table.window.move(1)
    before = table.window.visible()
    table.ids += [2001, 2002]
    table.tell()
    table.settle()
    assert table.window.visible() == before
    table.window.home()
    table.settle()
    assert table.window.visible()[0].id == 2002


def test_a_search_for_rare_jobs_goes_on_until_the_view_is_full_or_all_was_seen() -> None:
    table = Table(range(1, 20_001), looks=500)
    table.window.filter(Selector(exit_code=1999))
    table.step()
    assert table.window.searched_up_to == 19_501
    table.settle()
    table.check()
    assert table.window.searched_up_to is None
    assert len(table.window.items) == 10
    table.ids += range(20_001, 22_001)
    pages = table.pages
    table.tell()
    table.settle()
    table.check()
    assert len(table.window.items) == 11
    assert table.pages - pages <= 5  # only what is new was looked through


def test_a_page_that_nobody_wants_any_more_is_forgotten() -> None:
    table = Table(range(1, 1001))
    old = table.window.need()
    assert old is not None
    table.window.filter(Selector(exit_code=7))
    table.window.take(old, [view(5)], None, 0.0)
    assert table.window.items == []
    table.settle()
    table.check()


def test_a_first_page_may_come_before_the_ends_of_the_table_are_told() -> None:
    table = Table(range(1, 1001))
    table.window.newest = table.window.oldest = 0
    fetch = table.window.need()
    assert fetch is not None
    table.tell()
    table.window.take(fetch, [view(job) for job in range(1000, 900, -1)], 901, 0.0)
    table.settle()
    table.check()
    assert table.window.visible()[0].id == 1000
    assert table.pages == 1  # that there is nothing newer


def test_a_reload_keeps_the_view_and_the_selection() -> None:
    table = Table(range(1, 1001))
    table.settle()
    table.window.page(10)
    table.settle()
    table.window.move(-3)
    before, current = table.window.visible(), table.window.current
    table.window.reload()
    table.settle()
    table.check()
    assert (table.window.visible(), table.window.current) == (before, current)


def test_changes_are_shown_and_a_job_that_is_gone_leaves() -> None:
    table = Table(range(1, 101))
    table.settle()
    assert table.window.apply(JobChange(100, "running", "w1", 1), 50.0)
    job = table.window.items[0]
    assert (job.state, job.worker, job.started_at) == ("running", "w1", 50.0)
    assert table.window.apply(JobChange(100, "failed", "w1", 1, 2, run_seconds=3.0), 53.0)
    assert (table.window.items[0].return_code, table.window.items[0].run_seconds) == (2, 3.0)
    table.window.move(3)
    current = table.window.current
    assert table.window.apply(JobChange(100, "unknown"), 60.0)
    assert table.window.current == current
    assert table.window.items[0].id == 99
    assert not table.window.apply(JobChange(1000, "running"), 60.0)


def test_sorted_jobs_stay_as_they_are_until_the_order_is_by_id_again() -> None:
    table = Table(range(1, 101))
    table.settle()
    states = [view(job, "failed" if job % 10 == 0 else "pending") for job in table.ids]
    table.window.sort(states, "state", 0.0)
    assert [job.id for job in table.window.items[:11]] == [*range(100, 0, -10), 99]
    table.ids += [101]
    table.tell()
    assert table.window.need() is None
    table.window.reload()
    table.window.end()
    table.window.home()
    assert table.window.need() is None
    table.window.by_id()
    table.settle()
    table.check()
    assert table.window.visible()[0].id == 101


@pytest.mark.parametrize("seed", range(30))
def test_whatever_one_does_what_is_seen_is_what_is_there(seed: int) -> None:
    chance = random.Random(seed)
    table = Table(sorted(chance.sample(range(1, 5000), chance.choice((0, 5, 300, 3000)))), looks=700)
    for _ in range(60):
        window = table.window
        match chance.randrange(10):
            case 0:
                window.home()
            case 1:
                window.end()
            case 2:
                window.jump(chance.random())
            case 3:
                window.filter(Selector(exit_code=chance.choice((None, 3, 100))))
            case 4:
                window.turn_round()
            case 5:
                window.reload()
            case 6:
                newest = table.ids[-1] if table.ids else 0
                table.ids += range(newest + 1, newest + 1 + chance.choice((1, 50, 500)))
                table.tell()
            case 7:
                window.scroll(chance.choice((-3, 3)))
            case _:
                window.page(chance.choice((-1, 1, 1)))
        for _ in range(chance.randrange(3)):
            table.step()
        if chance.random() < 0.5:
            table.settle()
            table.check()
    table.settle()
    table.check()
