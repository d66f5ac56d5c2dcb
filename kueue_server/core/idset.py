"""Ordered sets of job ids: bit masks in chunks, and runs of chunks that are full.

A million ids that follow one another take some 250 KB, or next to nothing if they came as a block (an array of jobs)
and none of them has gone yet; adding and removing cost the same at any size, and a walk may begin anywhere. Used
for the jobs in each state, the groups, and the pending lanes. It knows ids only, nothing of jobs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence

_SHIFT = 8
_SIZE = 1 << _SHIFT
_LOW = _SIZE - 1
_FULL = (1 << _SIZE) - 1
_LEAST_RUN = 4
"""Chunks that are worth a run of their own."""
_NO_KEY = 2**62
"""Above the key of any chunk."""


class IdSet:
    """A set of ids ≥ 0 that is walked in order."""

    __slots__ = ("_chunks", "_count", "_keys", "_runs")

    def __init__(self) -> None:
        self._chunks: dict[int, int] = {}
        self._keys: list[int] = []  # of the chunks
        self._runs: list[
            tuple[int, int]
        ] = []  # first and last key of chunks that are full, and not in `_chunks`
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks.get(number >> _SHIFT)
        if chunk is None:
            return bool(self._runs) and self._run_of(number >> _SHIFT) is not None
        return bool(chunk >> (number & _LOW) & 1)

    def add(self, number: int) -> None:
        """Put an id in; nothing happens if it is in already."""
        key = number >> _SHIFT
        bit = 1 << (number & _LOW)
        chunk = self._chunks.get(key)
        if chunk is None:
            if self._runs and self._run_of(key) is not None:
                return
            self._new_chunk(key)
            self._chunks[key] = bit
            self._count += 1
        elif not chunk & bit:
            self._chunks[key] = chunk | bit
            self._count += 1

    def add_block(self, first: int, count: int) -> None:
        """Put in `count` ids from `first` on, of which none is in; a large block costs no more than a small one."""
        low, high = -(-first >> _SHIFT), (first + count) >> _SHIFT  # the chunks that it fills
        if high - low < _LEAST_RUN:
            self._add_bits(first, first + count)
            return
        self._add_bits(first, low << _SHIFT)
        self._add_bits(high << _SHIFT, first + count)
        insort(self._runs, (low, high - 1))
        self._count += (high - low) << _SHIFT

    def _add_bits(self, number: int, end: int) -> None:
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
        chunk = self._chunks.get(key)
        if chunk is None:
            if not self._runs or not self._open(key):
                return
            chunk = _FULL
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

    def discard_block(self, first: int, last: int) -> None:
        """Take out the ids from `first` to `last`; the cost follows what they take in memory, not their number."""
        if last < first:
            return
        low, high = -(-first >> _SHIFT), ((last + 1) >> _SHIFT) - 1  # the chunks that are emptied
        for key in {first >> _SHIFT, last >> _SHIFT}:
            self._open(key)
        if low <= high:
            self._cut_runs(low, high)
            start, stop = bisect_left(self._keys, low), bisect_right(self._keys, high)
            for key in self._keys[start:stop]:
                self._count -= self._chunks.pop(key).bit_count()
            del self._keys[start:stop]
        for number, end in (
            ((first, last + 1),) if high < low else ((first, low << _SHIFT), ((high + 1) << _SHIFT, last + 1))
        ):
            self._discard_bits(number, end)

    def _cut_runs(self, low: int, high: int) -> None:
        """Take the chunks from `low` to `high` out of the runs."""
        left: list[tuple[int, int]] = []
        for first, last in self._runs:
            cut_first, cut_last = max(first, low), min(last, high)
            if cut_last < cut_first:
                left.append((first, last))
                continue
            self._count -= (cut_last - cut_first + 1) << _SHIFT
            if first < cut_first:
                left.append((first, cut_first - 1))
            if cut_last < last:
                left.append((cut_last + 1, last))
        self._runs = left

    def _discard_bits(self, number: int, end: int) -> None:
        while number < end:
            stop = min(end, ((number >> _SHIFT) + 1) << _SHIFT)
            key = number >> _SHIFT
            chunk = self._chunks.get(key, 0)
            gone = ((1 << (stop - number)) - 1) << (number & _LOW) & chunk
            if gone:
                self._count -= gone.bit_count()
                if chunk == gone:
                    del self._chunks[key]
                    del self._keys[bisect_left(self._keys, key)]
                else:
                    self._chunks[key] = chunk ^ gone
            number = stop

    def first(self) -> int | None:
        """The lowest id, None if there is none."""
        if self._runs and (not self._keys or self._runs[0][0] < self._keys[0]):
            return self._runs[0][0] << _SHIFT
        if not self._keys:
            return None
        key = self._keys[0]
        chunk = self._chunks[key]
        return (key << _SHIFT) + (chunk & -chunk).bit_length() - 1

    def last(self) -> int | None:
        """The highest id, None if there is none."""
        if self._runs and (not self._keys or self._runs[-1][1] > self._keys[-1]):
            return (self._runs[-1][1] << _SHIFT) + _LOW
        if not self._keys:
            return None
        key = self._keys[-1]
        return (key << _SHIFT) + self._chunks[key].bit_length() - 1

    def at_or_after(self, number: int) -> int | None:
        """The lowest id that is not below `number`, None if there is none."""
        key = number >> _SHIFT
        low = number & _LOW
        chunk = self._at(key, False)[0] >> low << low
        if not chunk:
            key += 1
            chunk, until = self._at(key, False)
            if not chunk:
                key = until + 1
                if until >= _NO_KEY:
                    return None
                chunk = self._at(key, False)[0]
        return (key << _SHIFT) + (chunk & -chunk).bit_length() - 1

    def count(self, first: int, last: int) -> int:
        """How many there are from `first` to `last`, both included."""
        if last < first:
            return 0
        low, high = first >> _SHIFT, last >> _SHIFT
        chunks = self._chunks
        keys = self._keys[bisect_left(self._keys, low) : bisect_right(self._keys, high)]
        found = sum([chunks[key].bit_count() for key in keys])
        found += sum(max(0, min(end, high) - max(begin, low) + 1) for begin, end in self._runs) << _SHIFT
        found -= (self._at(low, False)[0] & ((1 << (first & _LOW)) - 1)).bit_count()
        return found - (self._at(high, False)[0] >> ((last & _LOW) + 1)).bit_count()

    def __iter__(self) -> Iterator[int]:
        return walk(self, (self,))

    def _new_chunk(self, key: int) -> None:
        if self._keys and key < self._keys[-1]:
            insort(self._keys, key)
        else:
            self._keys.append(key)

    def _run_of(self, key: int) -> int | None:
        """The place of the run that has this chunk."""
        place = bisect_right(self._runs, (key, _NO_KEY)) - 1
        return place if place >= 0 and self._runs[place][1] >= key else None

    def _open(self, key: int) -> bool:
        """Take a full chunk out of its run, if it is in one, and make it one like others."""
        place = self._run_of(key)
        if place is None:
            return False
        first, last = self._runs[place]
        self._runs[place : place + 1] = [
            run for run in ((first, key - 1), (key + 1, last)) if run[0] <= run[1]
        ]
        self._new_chunk(key)
        self._chunks[key] = _FULL
        return True

    def _at(self, key: int, descending: bool) -> tuple[int, int]:
        """The bits of a chunk, and the last one on the way up (or down) that has just the same, as far as one can
        tell; an empty one is followed by empty ones, a full one by full ones."""
        chunk = self._chunks.get(key)
        if chunk is not None:
            return chunk, key
        place = bisect_right(self._runs, (key, _NO_KEY)) - 1
        if place >= 0 and self._runs[place][1] >= key:
            return _FULL, self._runs[place][0] if descending else self._runs[place][1]
        at = bisect_left(self._keys, key)
        if descending:
            below = self._runs[place][1] + 1 if place >= 0 else 0
            return 0, max(below, self._keys[at - 1] + 1 if at else 0)
        above = self._runs[place + 1][0] - 1 if place + 1 < len(self._runs) else _NO_KEY
        return 0, min(above, self._keys[at] - 1 if at < len(self._keys) else _NO_KEY)


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
    for low, high, mask in _masks(base, any_of, max(first, 0), last, descending=descending):
        for key in range(high, low - 1, -1) if descending else range(low, high + 1):
            start, left = key << _SHIFT, mask
            if descending:
                while left:
                    top = left.bit_length() - 1
                    yield start + top
                    left ^= 1 << top
            else:
                while left:
                    bit = left & -left
                    yield start + bit.bit_length() - 1
                    left ^= bit


def spans(
    base: IdSet,
    any_of: Sequence[IdSet],
    apart: IdSet,
    first: int = 0,
    last: int | None = None,
    *,
    descending: bool = False,
) -> Iterator[tuple[int, int, bool]]:
    """The same ids as `walk`, in ranges of such as are in `apart` and such as are not: first, last, and which. Those
    of the former are as long as can be."""
    now: tuple[int, int] | None = None
    masks = _masks(base, any_of, max(first, 0), last, descending=descending)
    for low, high, inside in _cut(masks, apart, descending):
        if inside and now is not None and (now[1] + 1 == low or high + 1 == now[0]):
            now = (min(low, now[0]), max(high, now[1]))
            continue
        if now is not None:
            yield (*now, True)
        now = (low, high) if inside else None
        if not inside:
            yield low, high, False
    if now is not None:
        yield (*now, True)


def _cut(
    masks: Iterator[tuple[int, int, int]], apart: IdSet, descending: bool
) -> Iterator[tuple[int, int, bool]]:
    for low, high, mask in masks:
        key, end, step = (high, low - 1, -1) if descending else (low, high + 1, 1)
        while key != end:
            bits, same = apart._at(key, descending)
            same = max(same, low) if descending else min(same, high)
            if mask == _FULL and bits in (0, _FULL):  # all of them are full
                bottom, top = min(key, same), max(key, same)
                yield bottom << _SHIFT, (top << _SHIFT) + _LOW, bits == _FULL
                key = same + step
                continue
            pieces = [*_pieces(key, mask & bits, True), *_pieces(key, mask & ~bits, False)]
            yield from sorted(pieces, reverse=descending)
            key += step


def _pieces(key: int, mask: int, inside: bool) -> Iterator[tuple[int, int, bool]]:
    """The ranges of ids of a chunk's bits."""
    start = key << _SHIFT
    while mask:
        low = (mask & -mask).bit_length() - 1
        filled = mask >> low
        length = (filled + 1 & ~filled).bit_length() - 1
        yield start + low, start + low + length - 1, inside
        mask &= ~(((1 << length) - 1) << low)


def _masks(
    base: IdSet, any_of: Sequence[IdSet], first: int, last: int | None, *, descending: bool
) -> Iterator[tuple[int, int, int]]:
    """First and last key of chunks that have the same bits in common, and these; never none."""
    if base._runs or any(ids._runs for ids in any_of):
        found = _masks_with_runs(base, any_of, first, last, descending=descending)
    else:
        found = _masks_of_chunks(base, any_of, first, last, descending=descending)
    for low, high, mask in found:
        start = low << _SHIFT
        if low == high:
            if first > start:
                mask &= _FULL << (first - start)
            if last is not None and last < start + _LOW:
                mask &= (1 << (last - start + 1)) - 1 if last >= start else 0
        if mask:
            yield low, high, mask


def _masks_of_chunks(
    base: IdSet, any_of: Sequence[IdSet], first: int, last: int | None, *, descending: bool
) -> Iterator[tuple[int, int, int]]:
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
            mask |= _bits(ids, key)
        mask &= _bits(base, key)
        yield key, key, mask


def _bits(ids: IdSet, key: int) -> int:
    chunk = ids._chunks.get(key)
    if chunk is None:  # a run may have come meanwhile
        return _FULL if ids._runs and ids._run_of(key) is not None else 0
    return chunk


def _masks_with_runs(
    base: IdSet, any_of: Sequence[IdSet], first: int, last: int | None, *, descending: bool
) -> Iterator[tuple[int, int, int]]:
    ends = [ids.last() or 0 for ids in any_of]
    top = min(max(ends, default=0), base.last() or 0)
    if last is not None:
        top = min(top, last)
    low, high = first >> _SHIFT, top >> _SHIFT
    if high < low or top < first:
        return
    # The outermost chunks may be cut: they are looked at by themselves.
    edges = {low, high}
    key, step = (high, -1) if descending else (low, 1)
    while low <= key <= high:
        mask, same = base._at(key, descending)
        if mask:
            found = 0
            for ids in any_of:
                bits, until = ids._at(key, descending)
                found |= bits
                same = max(same, until) if descending else min(same, until)
            mask &= found
        if key in edges:
            same = key
        same = max(same, low + 1) if descending and key != low else same
        same = min(same, high - 1) if not descending and key != high else same
        if mask:
            yield min(key, same), max(key, same), mask
        key = same + step


def runs(any_of: Sequence[IdSet], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The ids that are in any of the sets, from `first` to `last`, as ranges in order."""
    last = min(last, max((ids.last() or 0 for ids in any_of), default=0))
    low, key, high = first >> _SHIFT, first >> _SHIFT, last >> _SHIFT
    run: tuple[int, int] | None = None
    while key <= high and first <= last:
        mask, same = 0, high - 1
        for ids in any_of:
            bits, until = ids._at(key, False)
            mask |= bits
            same = min(same, until)
        if key in (low, high):  # cut, maybe
            same = key
            start = key << _SHIFT
            mask &= _FULL << max(0, first - start) & _FULL & ((1 << min(_SIZE, last - start + 1)) - 1)
        whole = mask == _FULL
        found = (
            [(key << _SHIFT, (same << _SHIFT) + _LOW)]
            if whole
            else [one[:2] for one in _pieces(key, mask, True)]
        )
        for begin, end in found:
            if run is not None and run[1] + 1 == begin:
                run = (run[0], end)
                continue
            if run is not None:
                yield run
            run = (begin, end)
        key = same + 1 if whole or not mask else key + 1
    if run is not None:
        yield run
