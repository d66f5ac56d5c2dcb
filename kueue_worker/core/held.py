"""Attempts that wait for room, by arrival; a later one may pass one that does not fit now.

One queue per shape: finding the next that fits looks at one head per shape, however many wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from kueue.resources import Shape


class Held:
    """Keys of waiting attempts."""

    def __init__(self) -> None:
        self._queues: dict[Shape, dict[str, int]] = {}
        self._arrivals = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        """All keys by arrival."""
        entries = [(number, key) for queue in self._queues.values() for key, number in queue.items()]
        return iter([key for _, key in sorted(entries)])

    def add(self, key: str, shape: Shape) -> None:
        """The newest."""
        self._arrivals += 1
        self._queues.setdefault(shape, {})[key] = self._arrivals
        self._count += 1

    def remove(self, key: str, shape: Shape) -> None:
        """It does not wait any more."""
        queue = self._queues[shape]
        del queue[key]
        if not queue:
            del self._queues[shape]
        self._count -= 1

    def only_shape(self) -> Shape | None:
        """The shape of all of them; None if there are several, or none."""
        return next(iter(self._queues)) if len(self._queues) == 1 else None

    def first(self, count: int) -> list[str]:
        """So many keys of the ones that came first, where all are of one shape."""
        return [key for queue in self._queues.values() for key in islice(queue, count)]

    def next_fitting(self, fits: Callable[[Shape], bool]) -> str | None:
        """The one that came first among those whose shape fits."""
        best: tuple[int, str] | None = None
        for shape, queue in self._queues.items():
            key = next(iter(queue))
            head = (queue[key], key)
            if (best is None or head < best) and fits(shape):
                best = head
        return None if best is None else best[1]
