"""The indices of arrays: what people write, what positions mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.errors import UsageError
from kueue.indices import (
    MAX_TASKS,
    Step,
    count_of,
    fault_of_indices,
    index_at,
    parse_indices,
    part_of,
    steps_of,
    text_of,
)

steps = st.builds(
    lambda first, count, step: (first, first + (count - 1) * step, step if count > 1 else 1),
    st.integers(0, 1000),
    st.integers(1, 20),
    st.integers(1, 9),
)
arrays = st.lists(steps, min_size=1, max_size=6).map(tuple)


def listed(found: tuple[Step, ...]) -> list[int]:
    return [index for first, last, step in found for index in range(first, last + 1, step)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("1-10:4", [1, 5, 9]),
        ("1-3, 20,30-32", [1, 2, 3, 20, 30, 31, 32]),
        ("5-5:3", [5]),
    ],
)
def test_what_people_write_is_understood(text: str, expected: list[int]) -> None:
    found = parse_indices(text)
    assert listed(found) == expected
    assert fault_of_indices(found) is None


@pytest.mark.parametrize("text", ["", "a", "1-", "-3", "3-1", "1-9:0", "1,,2", "1:2", "1-2-3", "²", "1" * 17])
def test_what_can_not_be_meant_is_refused_with_the_part_that_is_wrong(text: str) -> None:
    with pytest.raises(UsageError, match="--array"):
        parse_indices(text)


@given(arrays)
def test_positions_count_and_text_agree_with_the_list_of_indices(found: tuple[Step, ...]) -> None:
    expected = listed(found)
    assert count_of(found) == len(expected)
    assert [index_at(found, position) for position in range(len(expected))] == expected
    assert listed(parse_indices(text_of(found))) == expected
    with pytest.raises(IndexError):
        index_at(found, len(expected))


@given(arrays, st.integers(0, 60), st.integers(0, 60))
def test_a_part_has_the_indices_of_its_positions(found: tuple[Step, ...], start: int, length: int) -> None:
    part = tuple(part_of(found, start, start + length))
    assert listed(part) == listed(found)[start : start + length + 1]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_any_numbers_become_steps_in_their_order(numbers: list[int]) -> None:
    found = steps_of(numbers)
    assert listed(found) == numbers
    assert fault_of_indices(found) is None


def test_a_range_is_one_step_however_long() -> None:
    assert steps_of(range(1, 10**6, 2)) == ((1, 999_999, 2),)
    assert steps_of(range(5, 6)) == ((5, 5, 1),)
    assert steps_of("1-3") == ((1, 3, 1),)


@pytest.mark.parametrize("wrong", [[1.5], ["1"], [True]])
def test_what_is_no_number_is_refused(wrong: list[object]) -> None:
    with pytest.raises(UsageError, match="whole number"):
        steps_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ((3, 1, 1),),
        ((-1, 1, 1),),
        ((1, 2**60, 1),),
        ((1, 10, 4),),
        ((1, 3, 0),),
        ((1, 1 + MAX_TASKS, 1),),
        ((1, 1, 1),) * 1001,
    ],
)
def test_a_peer_that_sends_indices_that_can_not_be_is_told_so(wrong: tuple[Step, ...]) -> None:
    assert fault_of_indices(wrong) is not None
