"""How fast jobs finish lately: for the average run time and the estimate of what remains."""

from __future__ import annotations

from collections import deque

_REMEMBERED = 1000
_LULL_SECONDS = 60.0
_PERIOD_SECONDS = 10.0
_PERIODS = 30


class Pace:
    """Of the last 1,000 attempts that ended by themselves."""

    def __init__(self) -> None:
        self._runs: deque[float] = deque()
        self._sum = 0.0
        self._ends: deque[float] = deque()
        self.total = 0
        """Of all attempts that ended by themselves since the server started."""

    def finished(self, now: float, run_seconds: float) -> None:
        """A job ran so long and finished now."""
        self.total += 1
        lull = max(_LULL_SECONDS, 10 * run_seconds)
        if self._ends and now - self._ends[-1] > lull:
            self._ends.clear()  # nothing to do is not slowness
        self._ends.append(now)
        self._runs.append(run_seconds)
        self._sum += run_seconds
        if len(self._ends) > _REMEMBERED:
            self._ends.popleft()
        if len(self._runs) > _REMEMBERED:
            self._sum -= self._runs.popleft()

    @property
    def average_run_seconds(self) -> float | None:
        """None if nothing finished yet."""
        return max(0.0, self._sum / len(self._runs)) if self._runs else None

    def eta_seconds(self, remaining: int, now: float) -> float | None:
        """When so many jobs will have finished at the recent rate; None if there is none."""
        if not remaining:
            return 0.0
        if len(self._ends) < 2:
            return None
        span = now - self._ends[0]
        return remaining * span / len(self._ends) if span > 0 else None


class Rate:
    """How many attempts ended by themselves in the last minutes; small enough for each of many queues."""

    __slots__ = ("_periods",)

    def __init__(self) -> None:
        self._periods: deque[tuple[int, int]] = deque()  # number of the period, and how many ended in it

    def finished(self, now: float) -> None:
        """One ended now."""
        period = int(now // _PERIOD_SECONDS)
        last = self._periods[-1] if self._periods else (period - 1, 0)
        if last[0] == period:
            self._periods[-1] = (period, last[1] + 1)
            return
        self._periods.append((period, 1))
        while self._periods[0][0] <= period - _PERIODS:
            self._periods.popleft()

    def per_minute(self, now: float) -> float | None:
        """So many a minute, since the first of the last minutes; None if there was none."""
        newest = int(now // _PERIOD_SECONDS)
        recent = [(period, count) for period, count in self._periods if period > newest - _PERIODS]
        if not recent:
            return None
        seconds = max(_PERIOD_SECONDS, now - recent[0][0] * _PERIOD_SECONDS)
        return 60.0 * sum(count for _, count in recent) / seconds
