"""What does an array of 1,000,000 tasks cost the server until they run, and then, held against single jobs?

A real server. A submit is one request of a client that is connected already, and its durable answer. Tasks and single
jobs are then given to workers that end them at once. Both have commands and directories of their own.
"""

from __future__ import annotations

import time

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs

SIZES = (1_000, 100_000, 1_000_000)
QUICK_SIZES = (1_000,)
RUN, QUICK_RUN = 200_000, 2_000
WORKERS, CPUS = 16, 32
SUBMITS = 11
COMMAND, DIRECTORY = ("./simulate", "--seed={n}"), "/data/user/work/{n}"
KB = 1024


def measure(quick: bool) -> Answer:
    """Submit, look, restart, run; then the same number of single jobs."""
    sizes = QUICK_SIZES if quick else SIZES
    run = QUICK_RUN if quick else RUN
    repetitions = 1 if quick else REPETITIONS
    found: dict[str, tuple[str, list[float]]] = {}

    def note(what: str, unit: str, value: float) -> None:
        found.setdefault(what, (unit, []))[1].append(value)

    for _ in range(repetitions):
        for size in sizes:
            with ServerLab() as lab:
                lab.client.counts()
                lab.client.submit_array(COMMAND, range(1, 11), cwd=DIRECTORY)
                memory, journal = lab.memory(), lab.journal_bytes
                for _ in range(SUBMITS):
                    begin = time.perf_counter()
                    lab.client.submit_array(COMMAND, range(1, size + 1), cwd=DIRECTORY)
                    note(f"submit of {size:,} tasks", "ms", 1e3 * (time.perf_counter() - begin))
                used, written = lab.memory() - memory, lab.journal_bytes - journal
                note(f"memory of {size:,} tasks", "KB", used / KB / SUBMITS)
                note(f"journal of {size:,} tasks", "bytes", written / SUBMITS)
                note(f"restart with {SUBMITS} times {size:,} tasks", "s", lab.restart().seconds)
                assert lab.client.counts().pending == 10 + SUBMITS * size
        note("tasks", "1/s", _rate(run, arrays=True))
        note("single jobs", "1/s", _rate(run, arrays=False))
    figures = {name: Figure(name, unit, tuple(values)) for name, (unit, values) in found.items()}
    goals = [Goal(figures[f"submit of {size:,} tasks"], 10, "at most") for size in sizes]
    goals.append(Goal(figures["tasks"], 0.9, "at least", over=figures["single jobs"]))
    return Answer(
        figures=list(figures.values()),
        goals=goals,
        notes=[f"{SUBMITS} submits to each server; a page of memory that is taken is shared out among them"],
    )


def _rate(jobs: int, *, arrays: bool) -> float:
    with ServerLab() as lab:
        if arrays:
            lab.client.submit_array(COMMAND, range(1, jobs + 1), cwd=DIRECTORY)
        else:
            lab.client.submit_many(distinct_jobs(1, jobs))
        done = lab.run_jobs(WORKERS, CPUS, jobs)
        assert lab.client.counts().succeeded == jobs
        return jobs / done.seconds
