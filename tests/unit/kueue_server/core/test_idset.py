"""Ordered sets of ids, against Python's own sets."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kueue_server.core.idranges import RangeList, merged
from kueue_server.core.idset import IdSet, runs, spans, walk

ids = st.one_of(st.integers(0, 600), st.integers(0, 2**50))


def filled(numbers: set[int]) -> IdSet:
    result = IdSet()
    for number in numbers:
        result.add(number)
    return result


@given(st.lists(st.tuples(st.booleans(), ids)))
def test_it_holds_what_was_added_and_not_discarded(moves: list[tuple[bool, int]]) -> None:
    expected: set[int] = set()
    found = IdSet()
    for add, number in moves:
        if add:
            expected.add(number)
            found.add(number)
        else:
            expected.discard(number)
            found.discard(number)
        assert len(found) == len(expected)
        assert (number in found) == add
    assert list(found) == sorted(expected)
    assert found.first() == min(expected, default=None)
    assert found.last() == max(expected, default=None)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 700))))
def test_blocks_are_added_whole(blocks: list[tuple[int, int]]) -> None:
    expected: set[int] = set()
    found = IdSet()
    for first, count in blocks:
        expected.update(range(first, first + count))
        found.add_block(first, count)
    assert list(found) == sorted(expected)
    assert len(found) == len(expected)


@given(st.sets(ids), st.sets(ids), st.sets(ids), ids, st.none() | ids, st.booleans())
def test_a_walk_sees_what_is_in_the_base_and_in_any_of_the_sets(
    base: set[int], one: set[int], two: set[int], first: int, last: int | None, descending: bool
) -> None:
    found = list(walk(filled(base), (filled(one), filled(two)), first, last, descending=descending))
    expected = {
        number for number in base & (one | two) if number >= first and (last is None or number <= last)
    }
    assert found == sorted(expected, reverse=descending)


def test_a_walk_survives_changes_of_the_set() -> None:
    found = filled(set(range(1000)))
    seen = []
    for number in walk(found, (found,)):
        seen.append(number)
        found.discard(number)
        found.discard(number + 300)
    assert not found
    assert seen == sorted(set(seen))


@given(st.lists(st.tuples(st.integers(-5, 30), st.integers(-5, 30))))
def test_ranges_are_merged(ranges: list[tuple[int, int]]) -> None:
    result = merged(ranges)
    inside = {number for first, last in ranges for number in range(first, last + 1) if number >= 0}
    assert [number for first, last in result for number in range(first, last + 1)] == sorted(inside)
    assert all(result[place][1] + 1 < result[place + 1][0] for place in range(len(result) - 1))


def test_a_range_list_joins_neighbours_and_is_bounded() -> None:
    found = RangeList(2)
    for first, last in ((1, 1), (2, 2), (3, 9), (11, 11), (13, 13), (5, 4)):
        found.add(first, last)
    assert found.ranges() == ((1, 9), (11, 11))


stretches = st.tuples(st.integers(0, 6000), st.integers(1, 5000))


@given(
    st.lists(
        st.tuples(st.sampled_from(["add block", "discard block", "add", "discard"]), stretches), max_size=12
    )
)
def test_large_blocks_come_and_go_as_their_ids_would(moves: list[tuple[str, tuple[int, int]]]) -> None:
    expected: set[int] = set()
    found = IdSet()
    for move, (first, count) in moves:
        block = range(first, first + count)
        if move == "add block":
            if expected.isdisjoint(block):
                expected.update(block)
                found.add_block(first, count)
        elif move == "discard block":
            expected.difference_update(block)
            found.discard_block(block[0], block[-1])
        elif move == "add":
            expected.add(first)
            found.add(first)
        else:
            expected.discard(first)
            found.discard(first)
        assert len(found) == len(expected)
        assert (first in found) == (first in expected)
        assert found.first() == min(expected, default=None)
        assert found.last() == max(expected, default=None)
    assert list(found) == sorted(expected)


blocks = st.lists(stretches, max_size=3)


def of_blocks(chosen: list[tuple[int, int]], holes: set[int]) -> tuple[IdSet, set[int]]:
    found, expected = IdSet(), set[int]()
    for first, count in chosen:
        block = set(range(first, first + count)) - expected
        if len(block) == count:
            found.add_block(first, count)
        else:
            for number in block:
                found.add(number)
        expected |= block
    for number in holes:
        found.discard(number)
    return found, expected - holes


holes = st.sets(st.integers(0, 8000), max_size=30)
ends = st.integers(0, 11_000)


@given(blocks, blocks, blocks, holes, holes, ends, st.none() | ends, st.booleans())
def test_walks_and_runs_see_large_blocks_as_their_ids(
    base: list[tuple[int, int]],
    one: list[tuple[int, int]],
    two: list[tuple[int, int]],
    base_holes: set[int],
    one_holes: set[int],
    first: int,
    last: int | None,
    descending: bool,
) -> None:
    base_ids, base_set = of_blocks(base, base_holes)
    one_ids, one_set = of_blocks(one, one_holes)
    two_ids, two_set = of_blocks(two, set())
    wanted = {
        number
        for number in base_set & (one_set | two_set)
        if number >= first and (last is None or number <= last)
    }
    expected = sorted(wanted, reverse=descending)
    assert list(walk(base_ids, (one_ids, two_ids), first, last, descending=descending)) == expected
    apart_ids, apart_set = of_blocks(one, base_holes)
    seen: list[int] = []
    previous: tuple[int, int, bool] | None = None
    for low, high, inside in spans(
        base_ids, (one_ids, two_ids), apart_ids, first, last, descending=descending
    ):
        ids = range(low, high + 1)
        assert all((number in apart_set) == inside for number in ids)
        seen += reversed(ids) if descending else ids
        if previous is not None and inside and previous[2]:
            assert low - previous[1] > 1 or previous[0] - high > 1, "two runs that are one"
        previous = low, high, inside
    assert seen == expected


def test_a_block_of_a_million_costs_as_little_as_one_of_a_thousand() -> None:
    found = IdSet()
    found.add_block(17, 1_000_000)
    assert (len(found._chunks), len(found._runs)) == (2, 1)
    for number in range(17, 1017):
        found.discard(number)
    assert (len(found), found.first()) == (999_000, 1017)
    assert (len(found._chunks), len(found._runs)) == (2, 1)
    found.discard_block(500_000, 600_000)
    assert (len(found), len(found._chunks), len(found._runs)) == (898_999, 4, 2)


@given(st.sets(st.integers(0, 2000)), st.integers(0, 2100), st.integers(0, 2100))
def test_the_next_id_and_the_number_of_ids_between_two(ids: set[int], first: int, last: int) -> None:
    found = IdSet()
    for number in ids:
        found.add(number)
    assert found.at_or_after(first) == min((number for number in ids if number >= first), default=None)
    assert found.count(first, last) == sum(first <= number <= last for number in ids)


@given(
    st.lists(st.tuples(st.integers(0, 1200), st.integers(1, 700)), max_size=5),
    st.sets(st.integers(0, 2000)),
    st.integers(0, 2000),
    st.integers(0, 2000),
)
def test_runs_are_the_ids_of_several_sets_as_ranges(
    blocks: list[tuple[int, int]], others: set[int], first: int, last: int
) -> None:
    one, other = IdSet(), IdSet()
    for start, width in blocks:
        one.add_block(start, width)
    for number in others:
        other.add(number)
    found = list(runs([one, other], first, last))
    expected = sorted(number for number in {*one, *others} if first <= number <= last)
    assert [number for low, high in found for number in range(low, high + 1)] == expected
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(found))


@given(blocks, blocks, holes, ends, ends)
def test_large_blocks_are_counted_and_found_as_their_ids(
    one: list[tuple[int, int]], two: list[tuple[int, int]], gone: set[int], first: int, last: int
) -> None:
    one_ids, one_set = of_blocks(one, gone)
    two_ids, two_set = of_blocks(two, set())
    assert one_ids.at_or_after(first) == min((number for number in one_set if number >= first), default=None)
    assert one_ids.count(first, last) == sum(first <= number <= last for number in one_set)
    found = list(runs([one_ids, two_ids], first, last))
    expected = sorted(number for number in one_set | two_set if first <= number <= last)
    assert [number for low, high in found for number in range(low, high + 1)] == expected
    assert all(left[1] + 1 < right[0] for left, right in itertools.pairwise(found))
