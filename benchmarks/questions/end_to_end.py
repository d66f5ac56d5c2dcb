"""How many `true` jobs a second run from submit to the last end, against what this machine can start at all?

One server, one worker with as many slots as cores, durable journal, TLS, outputs kept. Measured from the submit of
all in bulk until the client has been told of each end. In turns with it: the keeper's bare loop with the same flags
and files, and a loop of os.posix_spawn in two processes that keeps nothing.
"""

from __future__ import annotations

import time
from dataclasses import fields

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.bare_loops import keeper_loop, spawn_loop
from benchmarks.cluster import CORES, Cluster, Cpu
from benchmarks.places import new_place
from kueue.job_spec import JobSpec

JOBS, QUICK_JOBS = 10_000, 60
SPAWNING_PROCESSES = 2


def measure(quick: bool) -> Answer:
    """In turns: the cluster, the keeper's bare loop, the bare spawn loop."""
    jobs, rounds = (QUICK_JOBS, 1) if quick else (JOBS, REPETITIONS)
    speeds: dict[str, list[float]] = {"kueue": [], "keeper": [], "spawn": []}
    parts: list[Cpu] = []
    bare_own, bare_children = [], []
    with Cluster() as cluster:
        for _ in range(rounds):
            before = cluster.cpu()
            speeds["kueue"].append(jobs / _run(cluster, jobs))
            parts.append(cluster.cpu() - before)
            took = keeper_loop(jobs, CORES, new_place())
            speeds["keeper"].append(jobs / took.seconds)
            bare_own.append(1000 * took.own_cpu / jobs)
            bare_children.append(1000 * took.children_cpu / jobs)
            speeds["spawn"].append(jobs / spawn_loop(jobs, SPAWNING_PROCESSES).seconds)
    kueue = Figure("Kueue, end to end", "jobs/s", tuple(speeds["kueue"]))
    keeper = Figure("the keeper's bare loop", "jobs/s", tuple(speeds["keeper"]))
    spawn = Figure("os.posix_spawn in two processes", "jobs/s", tuple(speeds["spawn"]))
    budget = [
        Figure(
            f"CPU of the {part.name}", "ms/job", tuple(1000 * getattr(cpu, part.name) / jobs for cpu in parts)
        )
        for part in fields(Cpu)
    ]
    return Answer(
        figures=[
            kueue,
            keeper,
            spawn,
            *budget,
            Figure("CPU of the keeper's bare loop", "ms/job", tuple(bare_own)),
            Figure("CPU of what it starts", "ms/job", tuple(bare_children)),
        ],
        goals=[Goal(kueue, 0.85, "at least", keeper), Goal(kueue, 0.6, "at least", spawn)],
        notes=[f"{jobs:,} jobs a round; the server keeps those of earlier rounds, too"],
    )


def _run(cluster: Cluster, jobs: int) -> float:
    """Seconds from the submit to the last end that the client is told of."""
    client = cluster.client
    specs = [JobSpec(["true"], cwd=cluster.lab.work) for _ in range(jobs)]
    begin = time.monotonic()
    ended = sum(job.succeeded for job in client.as_completed(client.submit_many(specs)))
    seconds = time.monotonic() - begin
    assert ended == jobs, f"of {jobs} jobs {ended} succeeded"
    return seconds
