"""What does one scheduling decision cost with 1,000,000 pending jobs, against 1,000?

In three worlds: all jobs in one directory; each job in a directory of its own; the same, but the asking worker
sees none of these. A decision is the real core's whole step from a worker's "I have room" to the offer.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.filled_core import FilledCore

SIZES = (1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (100, 1_000)
DECISIONS = 500
QUICK_DECISIONS = 50
PLOT = "a scheduling decision"
UNSEEN = 3
"""Directories that the worker does not see, each with a third of the jobs below it. One more, and the server would
close their whole volume for this worker, and look at no job at all."""

WORLDS: dict[str, Callable[[int], str]] = {
    "one directory": lambda number: "/data/work",
    "a directory a job": lambda number: f"/data/work/{number}",
    "none seen": lambda number: f"/data/lab/project{number % UNSEEN}/{number}",
}


def measure(quick: bool) -> Answer:
    """Time decisions in turns: each size once, then each size again."""
    answer = Answer(axes={PLOT: ("pending jobs", "µs")})
    answer.notes.append(
        "median over the decisions of a repetition; the sizes take turns decision by decision, so the caches are"
        " as cold for the small as for the large"
    )
    for world, directory_of in WORLDS.items():
        _measure_world(answer, world, directory_of, quick)
    return answer


def _measure_world(answer: Answer, world: str, directory_of: Callable[[int], str], quick: bool) -> None:
    sizes = QUICK_SIZES if quick else SIZES
    decisions = QUICK_DECISIONS if quick else DECISIONS
    gc.disable()  # as in the server, where what is there is frozen; these cores are not garbage
    try:
        cores = {size: FilledCore(size, directory_of) for size in sizes}
        gc.collect()
        gc.freeze()
        if world == "none seen":
            for core in cores.values():
                for _ in range(UNSEEN):
                    core.refuse("/data/lab")
        medians: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(REPETITIONS):
            taken: dict[int, list[float]] = {size: [] for size in sizes}
            for _ in range(decisions):
                for size, core in cores.items():
                    taken[size].append(core.decision_seconds() * 1e6)
            for size in sizes:
                medians[size].append(statistics.median(taken[size]))
    finally:
        gc.unfreeze()
        gc.enable()
    figures = {size: Figure(f"{world}, {size:,} jobs", "µs", tuple(medians[size])) for size in sizes}
    answer.figures.extend(figures.values())
    answer.goals.append(Goal(figures[sizes[-1]], 1.5, "at most", over=figures[sizes[0]]))
    answer.curves.setdefault(PLOT, {})[world] = [(float(n), figures[n].median) for n in sizes]
