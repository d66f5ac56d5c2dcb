"""How long from submit to finished for one `true` when nothing else runs, with Kueue and with others?

In turns; a figure's values are the medians of the rounds. Python peers and Kueue are asked through an open connection;
task-spooler and Slurm by their commands, of which each is a process.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.cluster import Cluster
from benchmarks.peers_in_turns import in_a_place, taking_part

SAMPLES, QUICK_SAMPLES = 50, 5


def measure(quick: bool) -> Answer:
    """A round: Kueue, then each of the others."""
    samples, rounds = (QUICK_SAMPLES, 1) if quick else (SAMPLES, REPETITIONS)
    others, notes = taking_part("latencies", quick)
    medians: dict[str, list[float]] = {name: [] for name in ("kueue", *others)}
    for _ in range(rounds):
        medians["kueue"].append(1000 * statistics.median(_kueue(samples)))
        for name, peer in others.items():

            def latencies(place: Path, of: object = peer.latencies) -> list[float]:
                assert callable(of)
                found: list[float] = of(samples, place)
                return found

            medians[name].append(1000 * statistics.median(in_a_place(latencies)))
    figures = {name: Figure(name, "ms", tuple(values)) for name, values in medians.items()}
    goals = [Goal(figures["kueue"], 1.0, "at most", figures[name]) for name in others]
    return Answer(figures=list(figures.values()), goals=goals, notes=notes)


def _kueue(samples: int) -> list[float]:
    with Cluster() as cluster:
        found = []
        for _ in range(samples):
            begin = time.perf_counter()
            cluster.client.wait(cluster.client.submit(["true"], cwd=cluster.lab.work), 60)
            found.append(time.perf_counter() - begin)
        return found
