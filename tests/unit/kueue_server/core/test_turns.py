"""Queues with weights: what is handed out is shared as they say, wherever there is a choice."""

from __future__ import annotations

from collections import Counter

import pytest

from kueue.wire.messages import Spec
from kueue_server.core import placement, turns
from kueue_server.core.events import Limits
from kueue_server.core.instructions import Instruction
from kueue_server.core.queues import Queues
from kueue_server.core.state import State
from kueue_server.core.workers import Worker
from tests.support.core_bench import Bench, make_spec, offers


class Busy:
    """Workers that finish what they have, one job after the other; which queue each job was of, in order."""

    def __init__(self, bench: Bench, *cpus: int) -> None:
        self.bench = bench
        self.order: list[str] = []
        self._running: list[tuple[int, int, int]] = []
        for number, count in enumerate(cpus):
            session, result = bench.connect(f"w{number}", count, keeper=f"k{number}")
            self.note(result)
            self.note(bench.status(session, count))

    def note(self, result: list[Instruction]) -> None:
        """Take in what is offered."""
        table = self.bench.core._state.table.jobs
        for session, job, fence in offers(result):
            self.order.append(table[job].lane.queue.name)
            self._running.append((session, job, fence))

    def finish(self, count: int = 1, run: float = 3.0) -> None:
        """The jobs that were handed out first end."""
        for _ in range(count):
            session, *ref = self._running.pop(0)
            self.note(self.bench.finished(session, (ref[0], ref[1]), run=run))


def jobs(queue: str, count: int, **more: object) -> list[Spec]:
    """At most once, so that nothing is handed over ahead."""
    return [make_spec(queue=queue, restart=False, **more)] * count  # type: ignore[arg-type]


def test_without_a_weight_the_order_is_priority_then_id_whatever_the_queue() -> None:
    bench = Bench()
    bench.submit(*jobs("a", 2), *jobs("b", 2), *jobs("c", 1, priority=3))
    busy = Busy(bench, 1)
    busy.finish(4)
    assert busy.order == ["c", "a", "a", "b", "b"]


@pytest.mark.parametrize("weights", [{"a": 3, "b": 1}, {"a": 1, "b": 7}, {"a": 2, "b": 5, "c": 3}])
def test_shares_follow_the_weights(weights: dict[str, int]) -> None:
    bench = Bench()
    for name, weight in weights.items():
        bench.set_queue(name, weight=weight)
    for name in weights:
        bench.submit(*jobs(name, 200))
    busy = Busy(bench, 1, 2)
    busy.finish(137)
    whole = sum(weights.values())
    counts = Counter(busy.order)
    for name, weight in weights.items():
        assert abs(counts[name] - 140 * weight / whole) <= 2, counts
    for start in range(0, 100, 2 * whole):  # nor is anybody kept waiting meanwhile
        assert set(busy.order[start : start + 2 * whole]) == set(weights)


def test_a_queue_without_a_weight_of_its_own_weighs_one() -> None:
    bench = Bench()
    bench.set_queue("a", weight=3)
    bench.submit(*jobs("b", 50), *jobs("default", 50), *jobs("a", 50))
    busy = Busy(bench, 1)
    busy.finish(49)
    assert Counter(busy.order) == {"a": 30, "b": 10, "default": 10}


def test_priority_counts_within_a_queue() -> None:
    bench = Bench()
    bench.set_queue("a", weight=2)
    bench.submit(*jobs("a", 4), *jobs("b", 4, priority=9), *jobs("a", 1, priority=1))
    busy = Busy(bench, 1)
    first = bench.core._state.table.by_state
    assert busy.order == ["b"]
    busy.finish()
    assert busy.order == ["b", "a"]
    assert bench.state(9) == "offered"
    assert first


def test_with_short_jobs_that_are_handed_over_ahead_shares_follow_the_weights_too() -> None:
    bench = Bench()
    bench.set_queue("a", weight=4)
    for name in ("a", "b"):
        bench.submit(*[make_spec(queue=name)] * 300)
    busy = Busy(bench, 2)
    busy.finish(200, run=0.01)
    counts = Counter(busy.order)
    assert len(busy.order) > 205
    assert abs(counts["a"] - 4 * counts["b"]) <= 5, counts


def test_and_with_short_jobs_of_unlike_needs() -> None:
    bench = Bench()
    bench.set_queue("a", weight=4)
    bench.submit(*[make_spec(queue="a")] * 300, *[make_spec(queue="b", ram_mb=200)] * 300)
    busy = Busy(bench, 2)
    busy.finish(200, run=0.01)
    counts = Counter(busy.order)
    assert abs(counts["a"] - 4 * counts["b"]) <= 5, counts


def test_a_queue_that_comes_later_does_not_catch_up() -> None:
    bench = Bench()
    bench.set_queue("a", weight=2)
    bench.submit(*jobs("a", 100))
    busy = Busy(bench, 1)
    busy.finish(40)
    busy.note(bench.submit(*jobs("b", 100)))
    busy.finish(30)
    assert 9 <= busy.order[-30:].count("b") <= 11


def test_a_queue_of_which_nothing_fits_gathers_no_claim_and_keeps_nobody_waiting() -> None:
    bench = Bench(Limits(global_resources=(("lic", 1),)))
    bench.set_queue("a", weight=5)
    bench.submit(*jobs("a", 60, resources={"lic": 1}), *jobs("b", 60))
    busy = Busy(bench, 2)
    assert busy.order == ["a", "b"]
    held = busy._running.pop(0)
    busy.finish(30)
    assert set(busy.order[2:]) == {"b"}
    busy._running.append(held)
    busy.finish(20)
    tail = busy.order[-18:]
    assert 7 <= tail.count("a") <= 12, tail  # one at a time: there is one licence


def test_what_comes_back_unstarted_was_no_share() -> None:
    bench = Bench()
    bench.set_queue("a", weight=3)
    bench.submit(*jobs("a", 10), *jobs("b", 10))
    session, _ = bench.connect(cpus=1)
    state = bench.core._state
    bench.status(session, 1)
    queue = state.queues.by_name["a"]
    before = queue.progress
    bench.released(session, (1, 1))
    bench.status(session, 1, accepting=False)
    assert queue.progress in (before, before - queue.stride)


def test_a_paused_or_full_queue_is_passed_over_where_queues_take_turns() -> None:
    bench = Bench()
    bench.set_queue("a", weight=3)
    bench.set_queue("b", max_running=1)
    bench.pause_queues("c")
    for name in ("a", "b", "c", "default"):
        bench.submit(*jobs(name, 5))
    busy = Busy(bench, 8)
    assert Counter(busy.order) == {"a": 5, "b": 1, "default": 2}


def test_a_wide_job_of_a_queue_whose_turn_it_is_is_not_starved() -> None:
    bench = Bench(Limits(starvation_seconds=5.0))
    bench.set_queue("small", weight=10)
    session, _ = bench.connect(cpus=2)
    bench.submit(*[make_spec(queue="small", restart=False)] * 200)
    bench.status(session, 2)
    bench.submit(make_spec(queue="big", cpus=2))
    running = [(1, 1), (2, 2)]
    for _ in range(40):
        result = bench.finished(session, running.pop(0))
        running += [(job, fence) for _, job, fence in offers(result)]
        bench.pass_time(1, session)
        if bench.state(201) == "offered" or not running:
            break
    assert bench.state(201) == "offered"


def test_a_decision_that_was_cut_short_goes_on_with_the_queue_where_it_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "WIDTH", 10)
    bench = Bench()
    bench.set_queue("a", weight=2)
    wide = [
        make_spec(queue=name, cpus=4, cwd=f"/v{n}/x", volume=f"/v{n}")
        for name in ("a", "b")
        for n in range(25)
    ]
    bench.submit(*wide, make_spec(queue="b", cwd="/w/x", volume="/w"))
    session, _ = bench.connect(cpus=1)
    found = offers(bench.status(session, 1))
    for _ in range(10):
        found += offers(bench.tick(0.1))
    assert [job for _, job, _ in found] == [51]


def test_named_queues_cost_a_decision_nothing_and_paused_ones_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    fits = placement.fits

    def counting(state: State, worker: Worker, lane: object) -> bool:
        compared.append(1)
        return fits(state, worker, lane)  # type: ignore[arg-type]

    bench = Bench()
    bench.checked = False
    for number in range(200):
        bench.submit(make_spec(queue=f"q{number}"))
    bench.pause_queues(*(f"q{number}" for number in range(100)))
    monkeypatch.setattr(placement, "fits", counting)
    session, _ = bench.connect(cpus=1)
    assert offers(bench.status(session, 1))[0][1] == 101
    assert len(compared) == 1


def test_where_queues_take_turns_a_decision_looks_at_each_once() -> None:
    bench = Bench()
    bench.checked = False
    looked: list[str] = []
    due = Queues.due

    def counting(self: Queues, queue: object) -> int:
        looked.append("due")
        return due(self, queue)  # type: ignore[arg-type]

    bench.set_queue("q0", weight=5)
    for number in range(100):
        bench.submit(*jobs(f"q{number}", 3))
    session, _ = bench.connect(cpus=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queues, "due", counting)
        assert len(offers(bench.status(session, 1))) == 1
    assert len(looked) <= 5 * 100


def test_lanes_come_in_the_order_of_their_places() -> None:
    bench = Bench()
    bench.set_queue("b", max_running=100)
    bench.set_queue("c", max_running=100)
    for number, name in enumerate(("a", "b", "c", "b", "a")):
        bench.submit(make_spec(queue=name, ram_mb=100 + number))
    queues = bench.core._state.queues
    found = list(turns.lanes(queues))
    assert [lane.shape.shape.ram_mb for lane in found] == [100, 101, 102, 103, 104]
    assert sorted(found, key=lambda lane: turns.place_of(queues, lane)) == found
    cursor = turns.cursor_of(queues, found[2])
    assert list(turns.lanes(queues, cursor)) == found[2:]
    bench.set_queue("b", weight=2)
    assert sorted(lane.queue.name for lane in turns.lanes(queues)) == ["a", "a", "b", "b", "c"]
