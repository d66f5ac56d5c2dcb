"""Ordered sets of job ids, as bit masks in chunks.

A million ids that follow one another take some 250 KB, adding and removing cost the same at any size, and a
walk may begin anywhere. Used for the jobs in each state, the groups, and the pending lanes. It knows ids
only, nothing of jobs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

_SHIFT = 8
_SIZE = 1 << _SHIFT
_LOW = _SIZE - 1
_FULL = (1 << _SIZE) - 1


class IdSet:
    """A set of ids ≥ 0 that is walked in order."""

    __slots__ = ("_chunks", "_count", "_keys")

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}
        self._keys: list[int] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return bool(self._chunks.get(number >> _SHIFT, 0) >> (number & _LOW) & 1)

    def add(self, number: int) -> None:
        """Put an id in; nothing happens if it is in already."""
        key = number >> _SHIFT
        bit = 1 << (number & _LOW)
        chunk = self._chunks.get(key)
        if chunk is None:
            self._new_chunk(key)
            self._chunks[key] = bit
            self._count += 1
        elif not chunk & bit:
            self._chunks[key] = chunk | bit
            self._count += 1

    def add_block(self, first: int, count: int) -> None:
        """Put in `count` ids from `first` on."""
        number, end = first, first + count
        while number < end:
            key = number >> _SHIFT
            stop = min(end, (key + 1) << _SHIFT)
            mask = ((1 << (stop - number)) - 1) << (number & _LOW)
            chunk = self._chunks.get(key)
            if chunk is None:
                self._new_chunk(key)
                chunk = 0
            self._count += (mask & ~chunk).bit_count()
            self._chunks[key] = chunk | mask
            number = stop

    def discard(self, number: int) -> None:
        """Take an id out; nothing happens if it is not in."""
        key = number >> _SHIFT
        chunk = self._chunks.get(key, 0)
        bit = 1 << (number & _LOW)
        if not chunk & bit:
            return
        self._count -= 1
        chunk ^= bit
        if chunk:
            self._chunks[key] = chunk
        else:
            del self._chunks[key]
            del self._keys[bisect_left(self._keys, key)]

    def first(self) -> int | None:
        """The lowest id, None if there is none."""
        if not self._keys:
            return None
        key = self._keys[0]
        chunk = self._chunks[key]
        return (key << _SHIFT) + (chunk & -chunk).bit_length() - 1

    def last(self) -> int | None:
        """The highest id, None if there is none."""
        if not self._keys:
            return None
        key = self._keys[-1]
        return (key << _SHIFT) + self._chunks[key].bit_length() - 1

    def at_or_after(self, number: int) -> int | None:
        """The lowest id that is not below `number`, None if there is none."""
        key = number >> _SHIFT
        low = number & _LOW
        chunk = self._chunks.get(key, 0) >> low << low
        if not chunk:
            place = bisect_right(self._keys, key)
            if place == len(self._keys):
                return None
            key = self._keys[place]
            chunk = self._chunks[key]
        return (key << _SHIFT) + (chunk & -chunk).bit_length() - 1

    def count(self, first: int, last: int) -> int:
        """How many there are from `first` to `last`, both included."""
        if last < first:
            return 0
        low, high = first >> _SHIFT, last >> _SHIFT
        chunks = self._chunks
        keys = self._keys[bisect_left(self._keys, low) : bisect_right(self._keys, high)]
        found = sum([chunks[key].bit_count() for key in keys])
        found -= (chunks.get(low, 0) & ((1 << (first & _LOW)) - 1)).bit_count()
        return found - (chunks.get(high, 0) >> ((last & _LOW) + 1)).bit_count()

    def __iter__(self) -> Iterator[int]:
        return walk(self, (self,))

    def _new_chunk(self, key: int) -> None:
        if self._keys and key < self._keys[-1]:
            insort(self._keys, key)
        else:
            self._keys.append(key)


def walk(
    base: IdSet,
    any_of: Sequence[IdSet],
    first: int = 0,
    last: int | None = None,
    *,
    descending: bool = False,
) -> Iterator[int]:
    """The ids that are in `base` and in any of the other sets, from `first` to `last`, both included.

    Whole chunks are compared at once, so ids that don't match cost next to nothing. The sets may change
    during the walk; an id that comes or goes meanwhile may or may not be seen.
    """
    first = max(first, 0)
    keys = base._keys
    if sum(len(ids._keys) for ids in any_of) < len(keys):
        keys = sorted({key for ids in any_of for key in ids._keys})
    low = bisect_left(keys, first >> _SHIFT)
    high = len(keys) if last is None else bisect_right(keys, last >> _SHIFT)
    chosen = keys[low:high]
    if descending:
        chosen.reverse()
    for key in chosen:
        mask = 0
        for ids in any_of:
            mask |= ids._chunks.get(key, 0)
        mask &= base._chunks.get(key, 0)
        start = key << _SHIFT
        if first > start:
            mask &= _FULL << (first - start)
        if last is not None and last < start + _LOW:
            mask &= (1 << (last - start + 1)) - 1 if last >= start else 0
        if descending:
            while mask:
                top = mask.bit_length() - 1
                yield start + top
                mask ^= 1 << top
        else:
            while mask:
                bit = mask & -mask
                yield start + bit.bit_length() - 1
                mask ^= bit


def runs(any_of: Sequence[IdSet], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The ids that are in any of the sets, from `first` to `last`, as ranges in order."""
    low, high = first >> _SHIFT, last >> _SHIFT
    keys: set[int] = set()
    for ids in any_of:
        keys.update(ids._keys[bisect_left(ids._keys, low) : bisect_right(ids._keys, high)])
    run: tuple[int, int] | None = None
    for key in sorted(keys):
        mask = 0
        for ids in any_of:
            mask |= ids._chunks.get(key, 0)
        start = key << _SHIFT
        if key == low:
            mask &= _FULL << (first - start) & _FULL
        if key == high:
            mask &= (1 << (last - start + 1)) - 1
        while mask:
            begin = (mask & -mask).bit_length() - 1
            rest = ~(mask >> begin)
            width = (rest & -rest).bit_length() - 1
            mask &= ~(((1 << width) - 1) << begin)
            if run is not None and run[1] + 1 == start + begin:
                run = (run[0], start + begin + width - 1)
                continue
            if run is not None:
                yield run
            run = (start + begin, start + begin + width - 1)
    if run is not None:
        yield run


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
