"""What a selector names, condition by condition, and that nobody waits for a large table."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kueue.wire.messages import RawBytes, Selector, Spec
from kueue.wire.selector import fault_of
from kueue_server.core import selection
from kueue_server.core.events import JobsSubmitted
from tests.support.core_bench import Bench, make_spec


def named(bench: Bench, selector: Selector) -> list[int]:
    """All ids, whatever the portions."""
    found: list[int] = []
    cursor: int | None = None
    while True:
        part = bench.core.select(selector, cursor, 1000, bench.wall)
        found += [number for first, last in part.ranges for number in range(first, last + 1)]
        assert sum(part.counts.values()) == sum(last - first + 1 for first, last in part.ranges)
        cursor = part.cursor
        if cursor is None:
            return found


def spec(ram_mb: int = 100, **fields: Any) -> Spec:
    return msgspec.structs.replace(make_spec(ram_mb=ram_mb), **fields)


@pytest.fixture
def bench() -> Bench:
    """1 ran on w1-a and failed with 3, 2 runs on w2-b, 3 and 4 wait, 5 is canceled. Shapes differ, so that nothing
    is handed out ahead."""
    bench = Bench()
    bench.submit(
        spec(name="synth-a", group="tapeout", cwd="/data/a"),
        spec(101, name="synth-b", group="tapeout", cwd="/data/a/deep"),
        spec(102, name="other", group="tapeout", cwd="/data/ab"),
        spec(102, cwd=RawBytes(b"/data/\xff/x")),
        spec(102, name="synth-c"),
    )
    bench.cancel((5, 5))
    one = bench.worker("w1-a", 1)
    bench.started(one, (1, 1))
    bench.status(one, 0)
    bench.finished(one, (1, 1), code=3)
    bench.disconnect(one, leaving=True)
    two = bench.worker("w2-b", 1)
    bench.started(two, (2, bench._fence))
    bench.status(two, 0)
    return bench


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        (Selector(), [1, 2, 3, 4, 5]),
        (Selector(ranges=((2, 3), (5, 9))), [2, 3, 5]),
        (Selector(last=True), [5]),
        (Selector(ranges=((1, 1),), last=True), [1, 5]),
        (Selector(group="tapeout"), [1, 2, 3]),
        (Selector(states=("failed", "canceled")), [1, 5]),
        (Selector(name="synth-*"), [1, 2, 5]),
        (Selector(name=""), [4]),
        (Selector(cwd="/data/a"), [1, 2]),
        (Selector(cwd="/data/a/"), [1, 2]),
        (Selector(cwd=RawBytes(b"/data/\xff")), [4]),
        (Selector(cwd="/"), [1, 2, 3, 4, 5]),
        (Selector(worker="w1-*"), [1]),
        (Selector(worker="w2"), [2]),
        (Selector(worker="w*"), [1, 2]),
        (Selector(exit_code=3), [1]),
        (Selector(exit_code=0), []),
        (Selector(exit_code=3, states=("pending",)), []),
        (Selector(group="tapeout", name="synth-*", states=("running",)), [2]),
    ],
    ids=str,
)
def test_conditions_hold_together(bench: Bench, selector: Selector, wanted: list[int]) -> None:
    assert named(bench, selector) == wanted


def test_since_goes_by_the_last_that_happened_to_a_job(bench: Bench) -> None:
    bench.time += 1000
    bench.submit(make_spec())
    bench.time += 100
    assert named(bench, Selector(since_seconds=50)) == []
    assert named(bench, Selector(since_seconds=150)) == [6]
    bench.finished(2, (2, 2))
    assert named(bench, Selector(since_seconds=50)) == [2]
    assert named(bench, Selector(since_seconds=5000)) == [1, 2, 3, 4, 5, 6]


def test_a_large_table_is_looked_through_in_portions_and_nothing_is_left_out() -> None:
    bench = Bench()
    bench.checked = False
    block = [spec(name="rare" if number % 997 == 0 else "usual") for number in range(1000)]
    encoded = tuple(map(msgspec.json.encode, block))
    for number in range(20):
        bench.handle(JobsSubmitted(1 + 1000 * number, tuple(block), encoded, bench.wall))
    found = named(bench, Selector(name="rare"))
    assert len(found) == 40
    part = bench.core.select(Selector(name="rare"), None, 1000, bench.wall)
    assert part.cursor is not None
    assert part.cursor <= selection.PORTION
    rows, cursor = bench.core.page(Selector(name="never"), False, None, 10, False, bench.time, bench.wall)
    assert rows == []
    assert cursor is not None
    part = bench.core.select(Selector(name="rare"), None, 3, bench.wall)
    assert len(part.ranges) == 3
    assert bench.core.select(Selector(name="rare"), part.cursor, 1000, bench.wall).ranges[0][0] == found[3]


@pytest.mark.parametrize(
    ("selector", "code"),
    [
        (Selector(), "bad_selector"),
        (Selector(everything=True), None),
        (Selector(group="a"), None),
        (Selector(last=True), None),
        (Selector(states=("runing",)), "bad_selector"),
        (Selector(name="x" * 1001), "bad_selector"),
        (Selector(cwd="here"), "bad_selector"),
        (Selector(cwd="/" + "x" * 9000), "bad_selector"),
        (Selector(since_seconds=-1.0), "bad_selector"),
        (Selector(ranges=((1, 1),) * 10_001), "too_many_ranges"),
    ],
    ids=lambda value: str(value)[:80],
)
def test_a_selector_that_can_not_be_meant_is_told(selector: Selector, code: str | None) -> None:
    fault = fault_of(selector, changes=True)
    assert (fault and fault[0]) == code
    assert fault_of(Selector()) is None
