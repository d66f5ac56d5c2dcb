"""How much memory does the server need for each pending job, at 1,000,000 with commands and directories of their own?

A real server; what counts is the memory that is its own (USS) after the submits, and again after a restart.
"""

from __future__ import annotations

from benchmarks.answers import Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs

SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES = (2_000,)
REPETITIONS = 2
PLOT = "memory of the server"
KB = 1024


def measure(quick: bool) -> Answer:
    """Submit more and more to one server, and look at it after each step."""
    sizes = QUICK_SIZES if quick else SIZES
    largest = sizes[-1]
    empty: list[float] = []
    each: dict[int, list[float]] = {size: [] for size in sizes}
    restarted: list[float] = []
    whole: dict[int, float] = {}
    for _ in range(1 if quick else REPETITIONS):
        with ServerLab() as lab:
            base = lab.memory()
            empty.append(base / KB**2)
            done = 0
            for size in sizes:
                lab.client.submit_many(distinct_jobs(done + 1, size - done))
                done = size
                assert lab.client.counts().pending == size
                used = lab.memory()
                each[size].append((used - base) / KB / size)
                whole[size] = used / KB**2
            lab.restart()
            restarted.append((lab.memory() - base) / KB / largest)
    figures = {size: Figure(f"each of {size:,} jobs", "KB", tuple(each[size])) for size in sizes}
    after = Figure(f"each of {largest:,} jobs, after a restart", "KB", tuple(restarted))
    return Answer(
        figures=[Figure("the server without jobs", "MB", tuple(empty)), *figures.values(), after],
        goals=[Goal(figures[largest], 1.0, "at most"), Goal(after, 1.0, "at most")],
        notes=[f"{len(empty)} repetitions: it is no time that is measured"],
        curves={
            PLOT: {"unique set size": [(0.0, empty[0]), *((float(size), whole[size]) for size in sizes)]}
        },
        axes={PLOT: ("pending jobs", "MB")},
    )
