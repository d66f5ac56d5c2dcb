"""How long is the restart of a server with 1,000,000 jobs in its journal, until it serves?

From the start of the process until a client that was there already has its first answer; the server before was ended
as asked. The file is in the cache of the system, as after any restart of the program alone.
"""

from __future__ import annotations

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs

SIZES = (1_000, 10_000, 100_000, 300_000, 1_000_000)
QUICK_SIZES = (1_000,)
FINISHED_SHARE = 0.2
QUICK_REPETITIONS = 1
WORKERS, CPUS = 16, 32
PLOT = "restart"


def measure(quick: bool) -> Answer:
    """More and more jobs in one journal, restarted several times at each size; at last some have finished."""
    sizes = QUICK_SIZES if quick else SIZES
    repetitions = QUICK_REPETITIONS if quick else REPETITIONS
    figures: dict[int, Figure] = {}
    costs: list[Figure] = []
    with ServerLab() as lab:

        def restarts(what: str) -> Figure:
            taken = [lab.restart() for _ in range(repetitions)]
            costs.append(Figure(f"restart, {what}: CPU time", "s", tuple(each.cpu_seconds for each in taken)))
            return Figure(f"restart, {what}", "s", tuple(each.seconds for each in taken))

        empty = restarts("empty")
        done = 0
        for size in sizes:
            lab.client.submit_many(distinct_jobs(done + 1, size - done))
            done = size
            figures[size] = restarts(f"{size:,} jobs pending")
            assert lab.client.counts().pending == size
        finished = int(done * FINISHED_SHARE)
        lab.run_jobs(WORKERS, CPUS, finished)
        some_finished = restarts(f"{done:,} jobs, {finished:,} of them finished")
        ended = lab.client.counts().succeeded
    largest = figures[done]
    return Answer(
        figures=[empty, *figures.values(), some_finished, *costs],
        goals=[Goal(largest, 15.0, "at most")],
        notes=[f"when some had finished, there were {ended:,} of those"],
        curves={PLOT: {"pending": [(float(size), figure.median) for size, figure in figures.items()]}},
        axes={PLOT: ("jobs in the journal", "s")},
    )
