"""Timers: the earliest first, one for each name."""

from __future__ import annotations

import random

from kueue_worker.keeper.timers import SLACK, Timers


def test_what_is_due_comes_in_order_and_once() -> None:
    timers = Timers()
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        timers.set(name, when)
    assert timers.next() == 1.0
    assert timers.take_due(0.5) == []
    assert timers.take_due(2.0) == ["a", "b"]
    assert (timers.next(), len(timers)) == (3.0, 1)
    assert timers.take_due(5.0) == ["c"]
    assert timers.next() is None


def test_another_time_replaces_the_first() -> None:
    timers = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.take_due(2.0) == []
    timers.set("a", 3.0)
    timers.set("a", 3.0)
    assert timers.take_due(9.0) == ["a"]


def test_bringing_forward_puts_nothing_off() -> None:
    timers = Timers()
    timers.bring_forward("a", 3.0)
    timers.bring_forward("a", 5.0)
    assert timers.next() == 3.0
    timers.bring_forward("a", 1.0)
    assert timers.next() == 1.0


def test_dropped_ones_do_not_come_and_leave_nothing() -> None:
    timers = Timers()
    timers.drop("nobody")
    for number in range(100_000):
        timers.set(str(number), 1e9 + number)
        timers.drop(str(number))
        assert len(timers._heap) <= SLACK + 2
    assert timers.next() is None


def test_any_history_is_as_sorting() -> None:
    chance = random.Random(7)
    timers, expected = Timers(), dict[str, float]()
    for _ in range(5000):
        name, when = str(chance.randrange(50)), chance.random()
        if chance.random() < 0.2:
            timers.drop(name)
            expected.pop(name, None)
        else:
            timers.set(name, when)
            expected[name] = when
    assert timers.take_due(0.5) == sorted(
        (n for n, t in expected.items() if t <= 0.5), key=expected.__getitem__
    )
    assert timers.next() == min(t for t in expected.values() if t > 0.5)
