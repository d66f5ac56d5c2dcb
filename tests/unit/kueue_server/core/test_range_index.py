"""Things found by ids in the ranges they are about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kueue_server.core.range_index import RangeIndex

Spans = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 90)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=12,
)


@given(Spans, st.data())
def test_each_id_leads_to_the_things_whose_range_it_is_in(
    spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    index: RangeIndex[int] = RangeIndex()
    for thing, (first, last) in enumerate(spans):
        index.add(first, last, thing)
    gone = data.draw(st.sets(st.sampled_from(range(len(spans))))) if spans else set()
    for thing in gone:
        index.discard(*spans[thing], thing)
    for number in range(400):
        expected = [
            thing
            for thing, (first, last) in enumerate(spans)
            if first <= number <= last and thing not in gone
        ]
        assert sorted(index.at(number)) == expected
        assert set(index.exactly(number)) <= set(expected)
    for thing, span in enumerate(spans):
        index.discard(*span, thing)
    assert len(index) == 0
    assert index.at(5) == []


def test_a_wide_range_costs_a_few_entries_and_one_id_costs_one() -> None:
    index: RangeIndex[str] = RangeIndex()
    index.add(7, 7, "one")
    assert len(index) == 1
    index.add(3, 1_000_002, "wide")
    assert len(index) < 45
    assert sorted(index.at(7)) == ["one", "wide"]
    assert index.exactly(7) == ["one"]
    assert index.at(1_000_003) == []


def test_what_is_not_in_is_discarded_without_a_word() -> None:
    index: RangeIndex[str] = RangeIndex()
    index.add(1, 4, "a")
    index.discard(1, 4, "b")
    index.discard(5, 5, "a")
    assert index.at(2) == ["a"]
