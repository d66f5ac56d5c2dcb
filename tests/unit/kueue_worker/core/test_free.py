"""Arithmetic of free resources."""

from __future__ import annotations

import pytest

from kueue.resources import Capacity
from kueue_worker.core.events import Measured
from kueue_worker.core.free import changed_notably, excess, usable, used_by_others, whole_cpus
from kueue_worker.core.standing import Standing


@pytest.mark.parametrize(
    ("total", "others", "scale", "reserved", "ours", "expected"),
    [
        (8, 0, 1.0, 0, 0, 8),  # an idle machine
        (8, 3, 1.0, 0, 0, 5),  # people use three
        (8, 3, 1.0, 4, 4, 5),  # ours keep what they have, one more is free
        (8, 3, 2.0, 4, 4, 4),  # others count double: nothing is free, ours keep what they have
        (8, 8, 1.0, 4, 4, 4),
        (8, 0, 1.0, 2, 5, 5),  # ours use three more than they said
        (8, 0, 1.0, 2, 1, 8),  # ours use less than they said: that stays theirs
        (8, 0, 0.0, 8, 8, 8),
        (2, 0, 1.0, 4, 4, 4),  # a smaller configuration than when the jobs started: never below reserved
    ],
)
def test_usable_is_what_is_free_and_what_is_reserved(
    total: float, others: float, scale: float, reserved: float, ours: float, expected: float
) -> None:
    assert usable(total, others, scale, reserved, excess(ours, reserved)) == expected


def test_differences_never_go_below_zero() -> None:
    assert used_by_others(1.0, 2.0) == 0.0
    assert excess(1.0, 2.0) == 0.0


def test_the_few_percent_of_a_desktop_do_not_cost_a_cpu() -> None:
    assert [whole_cpus(cpus) for cpus in (0.0, 0.1, 0.49, 0.5, 1.2, 1.6)] == [0, 0, 0, 1, 1, 2]


def test_notable_is_a_cpu_or_a_tenth_of_the_memory() -> None:
    old = (4.0, 5000.0)
    assert not changed_notably(old, (4.0, 5999.0), 10000.0)
    assert changed_notably(old, (4.0, 6000.0), 10000.0)
    assert changed_notably(old, (3.0, 5000.0), 10000.0)


CAPACITY = Capacity(cpus=8, ram_mb=1000, job_slots=8)


def sample(used: float, ours: float, ram: float = 0.0, ram_ours: float = 0.0) -> Measured:
    """A measurement."""
    return Measured(used, ours, ram, ram_ours, (0.0, 0.0, 0.0), 1.0)


def standing(dynamic: bool = True) -> Standing:
    """Of a machine with eight CPUs."""
    return Standing(CAPACITY, dynamic=dynamic, cpu_scale=1.0, interval_seconds=60.0, now=0.0)


def test_a_burst_of_short_jobs_that_is_over_does_not_lock_the_machine() -> None:
    machine = standing()
    machine.reserved(8, 0, 0.0)
    machine.reserved(0, 0, 2.0)
    machine.measured(sample(used=8 * 2 / 3, ours=8 * 2 / 3), 3.0)
    assert machine.usable((0, 0)) == (8.0, 1000.0)


def test_a_job_that_uses_more_than_it_said_counts_as_it_does() -> None:
    machine = standing()
    machine.reserved(1, 100, 0.0)
    machine.measured(sample(used=6.0, ours=6.0, ram=400.0, ram_ours=400.0), 3.0)
    # One is reserved, five more are in use: two are left, and the reserved one.
    assert machine.usable((0, 0)) == (3.0, 700.0)


def test_without_the_dynamic_check_everything_is_usable() -> None:
    machine = standing(dynamic=False)
    machine.measured(sample(used=8.0, ours=0.0, ram=900.0), 3.0)
    assert machine.usable((0, 0)) == (8.0, 1000.0)


def test_what_another_journal_s_jobs_have_is_not_usable() -> None:
    machine = standing()
    machine.reserved(3, 100, 0.0)
    machine.measured(sample(0.0, 0.0), 1.0)
    assert machine.usable((3, 100)) == (5.0, 900.0)


def test_the_server_hears_at_once_that_a_silent_keeper_answers_whatever_else_keeps_jobs_away() -> None:
    machine, why, nothing = standing(dynamic=False), "its disk is full", (0, 0)
    first = machine.due(False, why, 12.0, nothing, 1.0)
    assert first is not None
    assert first.keeper_silent_seconds == 12.0
    assert machine.due(False, why, 14.0, nothing, 2.0) is None
    again = machine.due(False, why, 0.0, nothing, 3.0)
    assert again is not None
    assert again.keeper_silent_seconds == 0.0
    assert machine.due(False, why, 0.0, nothing, 4.0) is None
