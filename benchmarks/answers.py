"""What a benchmark answers: figures with their spread, and ratios with the goal that each is held against.

Machines are shared and noisy, so a time by itself says little: what is compared is measured in turns, in one
run, and the ratio of the medians is the result.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Literal

REPETITIONS = 5
"""Fewest repetitions of what takes seconds at most."""


@dataclass(frozen=True)
class Figure:
    """Something that was measured several times, e.g. `Figure("jobs", "1/s", (812.0, 806.5, 820.1))`."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is quoted."""
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """Least and most."""
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class Goal:
    """A figure, or the ratio of two (`over` is the divisor), and what it should be."""

    of: Figure
    limit: float
    sense: Literal["at least", "at most"]
    over: Figure | None = None

    @property
    def value(self) -> float:
        """Of the medians."""
        return self.of.median / self.over.median if self.over is not None else self.of.median

    @property
    def reached(self) -> bool:
        """Is it?"""
        return self.value >= self.limit if self.sense == "at least" else self.value <= self.limit


@dataclass
class Answer:
    """Of one question. `curves`: name of a plot → name of a line → points, for costs that grow with something
    (first element of a point); `axes`: name of a plot → what x and y are. `notes` are lines for people: what was
    skipped and why, where the time goes."""

    figures: list[Figure] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)
    axes: dict[str, tuple[str, str]] = field(default_factory=dict)
