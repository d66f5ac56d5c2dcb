"""What is due when: one time for each name, the earliest first. Knows no clock."""

from __future__ import annotations

import heapq

SLACK = 1000
"""The heap is made anew when it has so many more entries than twice what is still to come."""


class Timers:
    """A name has at most one time; setting another replaces it."""

    def __init__(self) -> None:
        self._times: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._times)

    def set(self, name: str, when: float) -> None:
        """Let `name` be due at `when`."""
        heapq.heappush(self._heap, (when, name))  # first: what is only there counts for nothing
        self._times[name] = when
        if len(self._heap) > 2 * len(self._times) + SLACK:
            self._heap = [(when, name) for name, when in self._times.items()]
            heapq.heapify(self._heap)

    def bring_forward(self, name: str, when: float) -> None:
        """Let `name` be due at `when`, unless it is before."""
        if self._times.get(name, when) >= when:
            self.set(name, when)

    def drop(self, name: str) -> None:
        """Let `name` not be due any more."""
        self._times.pop(name, None)

    def next(self) -> float | None:
        """The earliest time; None if there is none."""
        heap, times = self._heap, self._times
        while heap:
            when, name = heap[0]
            if times.get(name) == when:
                return when
            heapq.heappop(heap)
        return None

    def __contains__(self, name: object) -> bool:
        return name in self._times

    def due(self, now: float) -> str | None:
        """The first name whose time has come; it stays until it is dropped or set anew."""
        when = self.next()
        return self._heap[0][1] if when is not None and when <= now else None

    def take_due(self, now: float) -> list[str]:
        """The names whose time has come, earliest first; they are dropped."""
        due = []
        while (when := self.next()) is not None and when <= now:
            name = heapq.heappop(self._heap)[1]
            del self._times[name]
            due.append(name)
        return due
