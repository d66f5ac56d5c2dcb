"""How many attempts of a worker ended well within the last hour, and how many did not. The time is told."""

from __future__ import annotations

from collections import deque

import msgspec

HOUR_SECONDS = 3600.0
_PART_SECONDS = 60.0


class _Part(msgspec.Struct):
    since: float
    succeeded: int = 0
    failed: int = 0


class Tally:
    """Counted by the minute, so that an hour takes little memory."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque()

    def add(self, now: float, *, succeeded: bool) -> None:
        """One more has ended."""
        parts = self._parts
        if not parts or now - parts[-1].since >= _PART_SECONDS:
            self._expire(now)
            parts.append(_Part(now))
        if succeeded:
            parts[-1].succeeded += 1
        else:
            parts[-1].failed += 1

    def counts(self, now: float) -> tuple[int, int]:
        """Succeeded and failed."""
        self._expire(now)
        return sum(part.succeeded for part in self._parts), sum(part.failed for part in self._parts)

    def _expire(self, now: float) -> None:
        while self._parts and now - self._parts[0].since >= HOUR_SECONDS:
            self._parts.popleft()
