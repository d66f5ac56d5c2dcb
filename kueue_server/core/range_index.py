"""Things that are about ranges of ids, found by any id in them.

A range is kept as the few aligned blocks of 1, 2, 4, 8 … ids that it is made of, so one of a hundred thousand ids
costs some thirty entries, one of a single id just one. It knows nothing of jobs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_LEVEL_BITS = 6


class RangeIndex(Generic[T]):
    """`T` is anything hashable but a dict."""

    __slots__ = ("_blocks", "_levels")

    def __init__(self) -> None:
        # Mostly a block has one thing; a dict for it alone would be larger than all the rest.
        self._blocks: dict[int, T | dict[T, None]] = {}
        self._levels: dict[int, int] = {}

    def __len__(self) -> int:
        """Of entries, for what it costs."""
        return sum(len(found) if isinstance(found, dict) else 1 for found in self._blocks.values())

    def add(self, first: int, last: int, thing: T) -> None:
        """Put a thing in for the ids from `first` to `last`; once for each id."""
        for key in _blocks(first, last):
            found = self._blocks.get(key)
            if found is None:
                self._blocks[key] = thing
                level = key & _LEVEL_MASK
                self._levels[level] = self._levels.get(level, 0) + 1
            elif isinstance(found, dict):
                found[thing] = None
            elif found is not thing:
                self._blocks[key] = {found: None, thing: None}

    def discard(self, first: int, last: int, thing: T) -> None:
        """Take out what was put in for these very ids; nothing happens if it is not in."""
        for key in _blocks(first, last):
            found = self._blocks.get(key)
            if isinstance(found, dict):
                found.pop(thing, None)
                if found:
                    continue
            elif found is not thing:
                continue
            del self._blocks[key]
            level = key & _LEVEL_MASK
            self._levels[level] -= 1
            if not self._levels[level]:
                del self._levels[level]

    def at(self, number: int) -> list[T]:
        """All whose ids this one is among."""
        things: list[T] = []
        for level in sorted(self._levels):
            self._append(number >> level << _LEVEL_BITS | level, things)
        return things

    def exactly(self, number: int) -> list[T]:
        """Those that are about this id as a range, or the end of one, by itself."""
        things: list[T] = []
        self._append(number << _LEVEL_BITS, things)
        return things

    def _append(self, key: int, things: list[T]) -> None:
        found = self._blocks.get(key)
        if isinstance(found, dict):
            things += found
        elif found is not None:
            things.append(found)


_LEVEL_MASK = (1 << _LEVEL_BITS) - 1


def _blocks(first: int, last: int) -> Iterator[int]:
    while first <= last:
        level = (last - first + 1).bit_length() - 1
        if first:
            level = min(level, (first & -first).bit_length() - 1)
        yield first >> level << _LEVEL_BITS | level
        first += 1 << level
