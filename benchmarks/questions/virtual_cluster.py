"""How busy does the scheduler keep 1,000 workers of 32 CPUs with 1,000,000 jobs of 1 to 60 s?

In virtual time, with the server's real core. "Ideal" is first come, first served without any delay: no scheduler that
does not know run times does better in that order, and at the end most CPUs wait for the last jobs in any case. A second
run has licences and wide jobs mixed in; there utilisation is that of the time in which jobs waited.
"""

from __future__ import annotations

import gc
import math
import random

from benchmarks.answers import Answer, Figure, Goal
from benchmarks.virtual_time import Task, VirtualCluster, first_come_first_served
from kueue_server.core.events import Limits
from tests.support.core_bench import make_spec

WORKERS, CPUS, JOBS = 1_000, 32, 1_000_000
QUICK_WORKERS, QUICK_CPUS, QUICK_JOBS = 20, 8, 2_000
SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
WIDTHS = ((1, 90), (4, 7), (16, 2), (32, 1))
"""CPUs of a job of the mixed run, and how many of a hundred have so many."""
LICENSED_SHARE = 0.05
SPARE_LICENCES = 1.25
"""Times as many as are in use on average when all CPUs are busy: they are scarce, but not the limit."""
SEED = 4


def measure(quick: bool) -> Answer:
    """One run each: nothing random is in them, and they take minutes."""
    workers, cpus, jobs = (QUICK_WORKERS, QUICK_CPUS, QUICK_JOBS) if quick else (WORKERS, CPUS, JOBS)
    answer = Answer()
    gc.disable()  # nothing of all this is garbage before the end
    try:
        _measure_plain(answer, workers, cpus, jobs)
        _measure_mixed(answer, workers, cpus, jobs)
    finally:
        gc.enable()
    answer.notes.append("one run each: times are virtual, and the jobs are drawn from a fixed seed")
    return answer


def _measure_plain(answer: Answer, workers: int, cpus: int, jobs: int) -> None:
    chance = random.Random(SEED)
    spec = make_spec("./simulate", cwd="/data/work", volume="/data")
    tasks: list[Task] = [(spec, chance.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)) for _ in range(jobs)]
    cluster = VirtualCluster(workers, cpus, Limits(), tasks)
    cluster.run()
    seconds = [taken for _, taken in tasks]
    ideal = Figure("ideal makespan", "s", (first_come_first_served(workers * cpus, seconds),))
    share = Figure("ideal makespan over ours", "", (ideal.median / cluster.makespan,))
    known = sum(seconds) / (workers * cpus) / cluster.makespan
    answer.figures += [
        ideal,
        Figure("makespan", "s", (cluster.makespan,)),
        share,
        Figure("CPUs busy over the whole makespan", "share", (known,)),
        *_figures("jobs of one CPU", cluster, workers * cpus),
    ]
    answer.goals.append(Goal(share, 0.97, "at least"))


def _measure_mixed(answer: Answer, workers: int, cpus: int, jobs: int) -> None:
    chance = random.Random(SEED)
    widths = [(width, weight) for width, weight in WIDTHS if width <= cpus]
    total = workers * cpus
    tasks: list[Task] = []
    work = licensed = 0.0
    for width in chance.choices([w for w, _ in widths], [weight for _, weight in widths], k=jobs):
        resources = {"genus": 1} if chance.random() < LICENSED_SHARE else None
        spec = make_spec("./simulate", cwd="/data/work", volume="/data", cpus=width, resources=resources)
        seconds = chance.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
        tasks.append((spec, seconds))
        work += width * seconds
        licensed += seconds if resources else 0.0
    licences = math.ceil(SPARE_LICENCES * licensed / (work / total))
    cluster = VirtualCluster(workers, cpus, Limits(global_resources=(("genus", licences),)), tasks)
    cluster.run()
    name = "licences and wide jobs mixed in"
    figures = _figures(name, cluster, total)
    answer.figures += [
        *figures,
        Figure(f"{name}: makespan", "s", (cluster.makespan,)),
        Figure(f"{name}: CPUs busy over the whole makespan", "share", (work / total / cluster.makespan,)),
    ]
    answer.goals.append(Goal(figures[0], 0.97, "at least"))
    answer.notes.append(
        f"{name}: {jobs:,} jobs; of a hundred {', '.join(f'{n} have {w} CPUs' for w, n in widths)};"
        f" {LICENSED_SHARE:.0%} need one of {licences:,} licences"
    )


def _figures(name: str, cluster: VirtualCluster, cpus: int) -> list[Figure]:
    busy = cluster.queued_busy / (cpus * cluster.queued_seconds)
    return [
        Figure(f"{name}: CPUs busy until the last job started", "share", (busy,)),
        Figure(f"{name}: decisions", "1/s", (cluster.offered / cluster.core_seconds,)),
    ]
