"""How long from submit to finished for one `true` on an idle cluster, above what the command itself takes?

Through the Python client on a connection that is open already: durable submit, offer, start, end, journal, and the
client told. In turns with the same command by os.posix_spawn. What is over is what Kueue takes.
"""

from __future__ import annotations

import os
import statistics
import time

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.bare_loops import program_of
from benchmarks.cluster import Cluster

SAMPLES, QUICK_SAMPLES = 300, 20
MEDIAN_GOAL_MS, P99_GOAL_MS = 5.0, 15.0


def measure(quick: bool) -> Answer:
    """Rounds of samples; one figure's values are the rounds' medians, the other's their 99th percentiles."""
    samples, rounds = (QUICK_SAMPLES, 1) if quick else (SAMPLES, REPETITIONS)
    own, medians, worst = [], [], []
    with Cluster() as cluster:
        for _ in range(rounds):
            by_itself, through = _round(cluster, samples)
            command = statistics.median(by_itself)
            own.append(command)
            medians.append(statistics.median(through) - command)
            worst.append(statistics.quantiles(through, n=100)[98] - command)
    median = Figure("submit to finished, above the command itself, median", "ms", tuple(medians))
    p99 = Figure("the same, 99th percentile", "ms", tuple(worst))
    return Answer(
        figures=[median, p99, Figure("the command by os.posix_spawn", "ms", tuple(own))],
        goals=[Goal(median, MEDIAN_GOAL_MS, "at most"), Goal(p99, P99_GOAL_MS, "at most")],
        notes=[f"{rounds} rounds of {samples} jobs, one at a time"],
    )


def _round(cluster: Cluster, samples: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the command by itself, and through the cluster."""
    program = program_of("true")
    client = cluster.client
    by_itself, through = [], []
    for _ in range(samples):
        begin = time.perf_counter()
        os.waitpid(os.posix_spawn(program, ["true"], os.environ), 0)
        between = time.perf_counter()
        job = client.wait(client.submit(["true"], cwd=cluster.lab.work), 60)
        end = time.perf_counter()
        assert job.succeeded, job
        by_itself.append(1000 * (between - begin))
        through.append(1000 * (end - between))
    return by_itself, through
