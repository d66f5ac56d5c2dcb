"""Ranges of ids as peers name them and answers tell them: put in order, joined, cut, collected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive ranges of ids as given by a peer, in order, none overlapping, none below 0."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        first = max(first, 0)
        if last < first:
            continue
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], last))
        else:
            result.append((first, last))
    return result


def without(ranges: Sequence[tuple[int, int]], taken: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of ordered ranges without the ids of others, which are ordered, too, and within them."""
    rest = iter(taken)
    cut = next(rest, None)
    for first, last in ranges:
        while cut is not None and cut[0] <= last:
            if first < cut[0]:
                yield first, cut[0] - 1
            first = cut[1] + 1
            cut = next(rest, None)
        if first <= last:
            yield first, last


class RangeList:
    """Collects ascending ids or ranges into inclusive ranges, at most `limit`; the rest is left out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._ranges: list[tuple[int, int]] = []

    def add(self, first: int, last: int) -> None:
        """Add the ids from `first` to `last`, all above those before."""
        if last < first:
            return
        if self._ranges and self._ranges[-1][1] + 1 == first:
            self._ranges[-1] = (self._ranges[-1][0], last)
        elif len(self._ranges) < self._limit:
            self._ranges.append((first, last))

    def takes(self, number: int) -> bool:
        """Is there room for this id, which is above those before?"""
        return len(self._ranges) < self._limit or bool(self._ranges and self._ranges[-1][1] + 1 == number)

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What was collected."""
        return tuple(self._ranges)
