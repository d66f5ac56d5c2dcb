"""Who looks on: the whole at first, then each second's changes, and what happens to the slow."""

from __future__ import annotations

from typing import cast

import msgspec

from kueue.wire.link import Link
from kueue.wire.messages import ClusterState, WatchCluster
from kueue_server.core.events import Limits
from kueue_server.overview import MAX_QUEUED_BYTES, MOST_AT_ONCE, Overview
from tests.support.core_bench import Bench, make_spec


class FakeLink:
    """Keeps what was sent; `queued_bytes` is set by the test."""

    def __init__(self) -> None:
        self.sent: list[ClusterState] = []
        self.queued_bytes = 0

    def send(self, message: ClusterState) -> None:
        self.sent.append(message)

    def taken(self) -> list[ClusterState]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent


class Onlooker:
    """A bench with one who looks on."""

    def __init__(self, details: bool = False, limits: Limits | None = None) -> None:
        self.bench = Bench(limits)
        self.bench.checked = False
        self.overview = Overview(self.bench.core, lambda: None)
        self.link = FakeLink()
        self.watch(details)

    def watch(self, details: bool) -> None:
        self.overview.watch(cast(Link, self.link), WatchCluster(1, details), self.bench.time)

    def told(self) -> list[ClusterState]:
        """What a second brings."""
        self.overview.tick(self.bench.time)
        return self.link.taken()


def test_the_whole_is_told_at_once_and_then_only_when_it_changed() -> None:
    one = Onlooker()
    (first,) = one.link.taken()
    assert (first.rid, first.newest, first.counts.pending) == (1, 0, 0)
    assert one.told() == []
    one.bench.submit(make_spec(), make_spec())
    (second,) = one.told()
    assert (second.oldest, second.newest, second.counts.pending) == (1, 2, 2)


def test_cpus_in_use_and_ended_attempts_are_counted() -> None:
    one = Onlooker()
    one.bench.submit(make_spec())
    worker = one.bench.worker("w1", 4)
    one.bench.started(worker, (1, 1))
    state = one.told()[-1]
    assert (state.cpus, state.cpus_used, state.ended) == (4, 1.0, 0)
    one.bench.finished(worker, (1, 1))
    state = one.told()[-1]
    assert (state.cpus_used, state.ended, state.counts.succeeded) == (0.0, 1, 1)


def test_only_workers_that_changed_are_told_again_and_forgotten_ones_are_named() -> None:
    one = Onlooker(details=True)
    first, second = one.bench.worker("w1"), one.bench.worker("w2")
    (state,) = [message for message in one.told() if message.workers]
    assert [worker.name for worker in state.workers] == ["w1", "w2"]
    one.bench.hear(first)
    assert one.told() == []
    one.bench.disconnect(second, leaving=True)
    (state,) = one.told()
    assert [(worker.name, worker.state) for worker in state.workers] == [("w2", "leaving")]
    one.bench.forget("w2")
    (state,) = one.told()
    assert state.gone == (2,)


def test_without_details_no_worker_and_no_resource_is_told() -> None:
    one = Onlooker()
    one.bench.worker("w1")
    assert all(not state.workers and state.resources is None for state in [*one.link.sent, *one.told()])


def test_resources_are_told_again_when_one_changed() -> None:
    limits = msgspec.structs.replace(Limits(), global_resources=(("lic", 2),))
    one = Onlooker(details=True, limits=limits)
    (first,) = one.link.taken()
    assert first.resources is not None
    assert [(found.name, found.used, found.total) for found in first.resources] == [("lic", 0, 2)]
    one.bench.submit(make_spec())
    assert [state.resources for state in one.told()] == [None]
    one.bench.set_limits(msgspec.structs.replace(limits, global_resources=()))
    assert one.told()[-1].resources == ()


def test_many_workers_come_in_several_messages() -> None:
    one = Onlooker()
    for number in range(MOST_AT_ONCE + 1):
        one.bench.connect(f"w{number}")
    one.told()
    one.watch(details=True)
    first, second = one.link.taken()
    assert (len(first.workers), first.more) == (MOST_AT_ONCE, True)
    assert (len(second.workers), second.more) == (1, False)


def test_a_slow_reader_misses_seconds_and_nothing_else() -> None:
    one = Onlooker()
    one.link.taken()
    one.link.queued_bytes = MAX_QUEUED_BYTES + 1
    one.bench.submit(make_spec())
    assert one.told() == []
    one.link.queued_bytes = 0
    assert one.told()[-1].newest == 1


def test_who_has_left_is_told_nothing() -> None:
    one = Onlooker()
    one.link.taken()
    one.overview.unwatch(cast(Link, one.link), 1)
    one.bench.submit(make_spec())
    assert one.told() == []
    one.watch(details=False)
    one.link.taken()
    one.overview.drop(cast(Link, one.link))
    one.bench.submit(make_spec())
    assert one.told() == []
