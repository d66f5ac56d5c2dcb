"""Reservations, units, and the order in which waiting attempts fit."""

from __future__ import annotations

from kueue.resources import Capacity, Shape
from kueue_worker.core.held import Held
from kueue_worker.core.room import Room


def room() -> Room:
    """Four CPUs, two named GPUs, five counted tokens."""
    capacity = Capacity(4, 1000, 3, (("gpu", 2), ("token", 5)))
    return Room(capacity, {"gpu": ("x", "y")})


def test_each_dimension_limits_on_its_own() -> None:
    there = room()
    assert there.fits(Shape(cpus=4, ram_mb=1000, job_slots=3, resources=(("gpu", 2), ("token", 5))))
    for too_much in (
        Shape(cpus=5),
        Shape(ram_mb=1001),
        Shape(ram_mb=1, job_slots=4),
        Shape(ram_mb=1, resources=(("gpu", 3),)),
        Shape(ram_mb=1, resources=(("token", 6),)),
    ):
        assert not there.fits(too_much)
        assert not there.can_ever_fit(too_much)


def test_global_resources_are_not_counted_here() -> None:
    assert room().fits(Shape(ram_mb=1, resources=(("genus", 1000),)))


def test_units_come_back_in_their_order() -> None:
    there = room()
    one = Shape(ram_mb=1, resources=(("gpu", 1),))
    first, second = there.take(one), there.take(one)
    assert (first, second) == ((("gpu", ("x",)),), (("gpu", ("y",)),))
    assert not there.fits(one)
    there.give_back(one, second)
    there.give_back(one, first)
    assert there.take(one) == (("gpu", ("x",)),)


def test_counted_resources_have_no_units() -> None:
    there = room()
    shape = Shape(ram_mb=1, resources=(("token", 3),))
    assert there.take(shape) == ()
    assert not there.fits(shape)


def test_an_adopted_attempt_may_have_more_than_there_is() -> None:
    there = room()
    shape = Shape(cpus=9, ram_mb=1, resources=(("gpu", 2),))
    there.adopt(shape, (("gpu", ("y", "gone")),))
    assert not there.fits(Shape(cpus=0, ram_mb=1, resources=(("gpu", 1),)))
    assert not there.fits(Shape(ram_mb=1))
    there.give_back(shape, (("gpu", ("y", "gone")),))
    assert there.take(Shape(ram_mb=1, resources=(("gpu", 2),))) == (("gpu", ("x", "y")),)


def test_who_came_first_among_those_that_fit_is_next() -> None:
    held = Held()
    small, big = Shape(cpus=1), Shape(cpus=4)
    held.add("a", big)
    held.add("b", small)
    held.add("c", small)
    assert held.next_fitting(lambda shape: shape == small) == "b"
    assert held.next_fitting(lambda shape: True) == "a"
    held.remove("b", small)
    assert held.next_fitting(lambda shape: shape == small) == "c"
    assert list(held) == ["a", "c"]
    assert held.next_fitting(lambda shape: False) is None


def test_finding_the_next_looks_at_shapes_not_at_jobs() -> None:
    held = Held()
    for number in range(10_000):
        held.add(str(number), Shape(cpus=1 + number % 3))
    asked: list[Shape] = []

    def fits(shape: Shape) -> bool:
        asked.append(shape)
        return False

    assert held.next_fitting(fits) is None
    assert len(asked) == 3
