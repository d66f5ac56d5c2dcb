"""How many `true` jobs a second does Kueue run, against others that run jobs?

In turns, each with as many slots as cores, from the first submit until the last end is known; setting up does not
count. What each does for a job differs (module docstrings of `benchmarks/peers` say how): Kueue's journal is on disk,
its connections are encrypted and outputs are kept.
"""

from __future__ import annotations

import time

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.cluster import CORES, Cluster
from benchmarks.peers_in_turns import in_a_place, taking_part
from kueue.job_spec import JobSpec

JOBS, QUICK_JOBS = 2_000, 40
FEWER = {"slurm": 100}
"""Of those that would take minutes."""


def measure(quick: bool) -> Answer:
    """A round: Kueue, then each of the others."""
    jobs, rounds = (QUICK_JOBS, 1) if quick else (JOBS, REPETITIONS)
    others, notes = taking_part("jobs_per_second", quick)
    speeds: dict[str, list[float]] = {name: [] for name in ("kueue", *others)}
    for _ in range(rounds):
        speeds["kueue"].append(_kueue(jobs))
        for name, peer in others.items():
            count = min(jobs, FEWER.get(name, jobs))
            speed = in_a_place(lambda place, p=peer, c=count: p.jobs_per_second(c, CORES, place))  # type: ignore[misc]
            speeds[name].append(speed)
    figures = {name: Figure(name, "jobs/s", tuple(values)) for name, values in speeds.items()}
    notes += [
        f"{name}: {count} jobs a round, others {jobs}" for name, count in FEWER.items() if name in others
    ]
    goals = [Goal(figures["kueue"], 1.0, "at least", figures[name]) for name in others]
    return Answer(figures=list(figures.values()), goals=goals, notes=notes)


def _kueue(jobs: int) -> float:
    with Cluster() as cluster:
        specs = [JobSpec(["true"], cwd=cluster.lab.work) for _ in range(jobs)]
        begin = time.monotonic()
        ended = sum(job.succeeded for job in cluster.client.as_completed(cluster.client.submit_many(specs)))
        seconds = time.monotonic() - begin
    assert ended == jobs, f"of {jobs} jobs {ended} succeeded"
    return jobs / seconds
