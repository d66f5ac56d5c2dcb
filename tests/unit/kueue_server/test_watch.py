"""Watchers: a snapshot, then each change, and what happens to the slow and the returning ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from kueue.wire.link import Link
from kueue.wire.messages import MAX_ITEMS, JobChange, Range, Watch, WatchState
from kueue_server.watch import MAX_QUEUED_BYTES, MAX_REMEMBERED_IDS, WatchHub


class FakeLink:
    """Keeps what was sent; `queued_bytes` is set by the test."""

    def __init__(self) -> None:
        self.sent: list[WatchState] = []
        self.queued_bytes = 0

    def send(self, message: WatchState) -> None:
        self.sent.append(message)


class Table:
    """A table of jobs by state."""

    def __init__(self, jobs: dict[int, str]) -> None:
        self.jobs = jobs
        self.untold: set[int] = set()
        self.hub = WatchHub(
            self.change_of, self.ids_of, lambda job: job not in self.untold, first_seq=100, journal="j"
        )

    def change_of(self, job: int) -> JobChange:
        return JobChange(job, self.jobs.get(job, "unknown"))

    def ids_of(self, ranges: tuple[Range, ...]) -> Iterator[int]:
        return (job for job in sorted(self.jobs) if any(a <= job <= b for a, b in ranges))

    def watch(self, link: FakeLink, *ranges: Range, rid: int = 1, since: int | None = None) -> None:
        self.hub.watch(cast(Link, link), Watch(rid, ranges, since))

    def change(self, job: int, state: str) -> None:
        self.jobs[job] = state
        self.hub.changed((job,))


def states(link: FakeLink) -> list[tuple[int, str]]:
    return [(change.id, change.state) for message in link.sent for change in message.jobs]


def test_a_watch_begins_with_a_snapshot_and_goes_on_with_changes_of_its_jobs_only() -> None:
    table, link = Table({1: "pending", 2: "pending", 3: "pending"}), FakeLink()
    table.watch(link, (1, 2))
    assert states(link) == [(1, "pending"), (2, "pending")]
    table.change(3, "running")
    table.change(2, "running")
    assert states(link)[2:] == [(2, "running")]


def test_the_first_message_of_a_watch_names_the_journal_and_no_later_one_does() -> None:
    table, link = Table({1: "pending"}), FakeLink()
    table.watch(link, (1, 1))
    table.change(1, "running")
    table.watch(link, (1, 1), since=table.hub.seq)
    assert [message.journal for message in link.sent] == ["j", "", "j"]


def test_ranges_of_a_wide_watch_may_be_in_any_order_overlap_and_be_none() -> None:
    table, link = Table({}), FakeLink()
    table.watch(link, (900, 1000), (50, 60), (1, 100), (70, 40), (-5, 2))
    for job in (1, 55, 100, 101, 899, 900, 1000, 1001, 0):
        table.change(job, "running")
    assert [job for job, _ in states(link)] == [1, 55, 100, 900, 1000, 0]


def test_who_ends_a_watch_or_leaves_is_told_nothing_and_others_are() -> None:
    table, link, other = Table({}), FakeLink(), FakeLink()
    for rid, ranges in ((1, (1, 1)), (2, (1, 1000)), (3, (2, 2))):
        table.watch(link, ranges, rid=rid)
    table.watch(other, (1, 1000))
    table.hub.unwatch(cast(Link, link), 2)
    table.change(1, "running")
    assert [message.rid for message in link.sent if message.jobs] == [1]
    table.hub.drop(cast(Link, link))
    table.change(2, "running")
    assert [message.rid for message in link.sent if message.jobs] == [1]
    assert states(other) == [(1, "running"), (2, "running")]


def test_a_wide_watch_is_told_like_a_narrow_one() -> None:
    table, link = Table({5: "pending"}), FakeLink()
    table.watch(link, (1, 10**9))
    table.change(5, "running")
    table.change(2 * 10**9, "running")
    assert states(link) == [(5, "pending"), (5, "running")]


def test_a_state_that_a_crash_may_still_undo_is_not_told() -> None:
    table, link = Table({1: "pending", 2: "pending"}), FakeLink()
    table.jobs[1] = "canceled"
    table.untold = {1}
    table.watch(link, (1, 2))
    assert states(link) == [(2, "pending")]
    table.hub.changed((1, 2))
    assert states(link)[1:] == [(2, "pending")]
    table.untold = set()
    table.hub.changed((1,))
    assert states(link)[2:] == [(1, "canceled")]


def test_sequence_numbers_grow_with_each_change() -> None:
    table, link = Table({1: "pending"}), FakeLink()
    table.watch(link, (1, 1))
    table.change(1, "running")
    table.change(1, "succeeded")
    assert [message.seq for message in link.sent] == [100, 101, 102]


def test_a_returning_watcher_gets_only_what_changed_since() -> None:
    table, first, second = Table({1: "pending", 2: "pending"}), FakeLink(), FakeLink()
    table.watch(first, (1, 2))
    table.change(1, "running")
    since = first.sent[-1].seq
    table.hub.drop(cast(Link, first))
    table.change(2, "running")
    table.watch(second, (1, 2), since=since)
    assert states(second) == [(2, "running")]


def test_a_watcher_of_an_earlier_run_of_the_server_gets_a_snapshot() -> None:
    table, link = Table({1: "pending", 2: "pending"}), FakeLink()
    table.watch(link, (1, 2), since=99)
    assert states(link) == [(1, "pending"), (2, "pending")]


def test_a_watcher_that_was_away_too_long_gets_a_snapshot() -> None:
    table, link = Table({1: "pending"}), FakeLink()
    since = table.hub.seq
    table.hub.changed(tuple(range(10, 10 + MAX_REMEMBERED_IDS)))
    table.hub.changed((5,))
    table.watch(link, (1, 1), since=since)
    assert states(link) == [(1, "pending")]


def test_a_large_snapshot_comes_in_parts_and_pauses_for_a_slow_reader() -> None:
    table, link = Table(dict.fromkeys(range(2 * MAX_ITEMS + 1), "pending")), FakeLink()
    link.queued_bytes = MAX_QUEUED_BYTES
    table.watch(link, (0, 10**6))
    assert link.sent == []
    table.change(0, "running")
    link.queued_bytes = 0
    table.hub.resume_unsent()
    assert [(len(message.jobs), message.more) for message in link.sent[:3]] == [
        (MAX_ITEMS, True),
        (MAX_ITEMS, True),
        (1, True),  # what changed meanwhile is still to come
    ]
    assert states(link)[-1] == (0, "running")
    assert not link.sent[-1].more


def test_only_the_last_part_of_a_large_change_lets_a_watcher_remember_its_number() -> None:
    table, link = Table({}), FakeLink()
    table.watch(link, (1, 10**6))
    table.hub.changed(tuple(range(1, 2 * MAX_ITEMS + 2)))
    assert [(len(message.jobs), message.more) for message in link.sent[1:]] == [
        (MAX_ITEMS, True),
        (MAX_ITEMS, True),
        (1, False),
    ]


def test_a_slow_watcher_loses_changes_and_gets_a_fresh_snapshot() -> None:
    table, link = Table({1: "pending", 2: "pending"}), FakeLink()
    table.watch(link, (1, 2))
    link.queued_bytes = MAX_QUEUED_BYTES + 1
    for state in ("offered", "running", "succeeded"):
        table.change(1, state)
    assert len(link.sent) == 1
    link.queued_bytes = 0
    table.hub.resume_unsent()
    assert link.sent[1].resync
    assert states(link)[2:4] == [(1, "succeeded"), (2, "pending")]
    table.change(2, "running")
    assert states(link)[-1] == (2, "running")


def test_nothing_is_sent_after_unwatch() -> None:
    table, link = Table({1: "pending"}), FakeLink()
    table.watch(link, (1, 1), rid=7)
    table.watch(link, (1, 1), rid=8)
    table.hub.unwatch(cast(Link, link), 7)
    table.change(1, "running")
    assert [message.rid for message in link.sent] == [7, 8, 8]
    table.hub.drop(cast(Link, link))
    table.change(1, "succeeded")
    assert len(link.sent) == 3
