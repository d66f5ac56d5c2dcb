"""What does one group cost in a table of 1,000,000 jobs in 1,000 groups, against a table that has no other?

A real server, over the socket, a group of 1,000 jobs each time: a page of the newest 50, the whole group, a change of
its priority, its cancellation. In the large table each group's jobs are a thousand apart, as when a campaign goes
through its cases in turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs
from kueue import JobSpec, Selector

GROUPS, QUICK_GROUPS = 1_000, 10
MEMBERS, QUICK_MEMBERS = 1_000, 100
ROWS = 50

Verb = Callable[[ServerLab, Selector, int], int]

VERBS: dict[str, Verb] = {
    "a page of the newest 50": lambda lab, which, turn: len(
        list(lab.client.job_views(which=which, newest_first=True, limit=ROWS))
    ),
    "list all of it": lambda lab, which, turn: len(list(lab.client.job_views(which=which))),
    "change its priority": lambda lab, which, turn: lab.client.change(which, priority=turn + 1).changed,
    "cancel it": lambda lab, which, turn: lab.client.cancel(which).canceled,
}
"""What is done to a group; how many jobs that was about."""


def measure(quick: bool) -> Answer:
    """Both tables in turns, another group each time."""
    groups, members = (QUICK_GROUPS, QUICK_MEMBERS) if quick else (GROUPS, MEMBERS)
    repetitions = 1 if quick else REPETITIONS
    tables = {f"{groups * members:,} jobs": groups, f"{members:,} jobs": 1}
    found: dict[str, list[float]] = {}
    with ServerLab() as large:
        large.client.submit_many(_jobs(groups, members))
        for turn in range(repetitions):
            with ServerLab() as small:
                small.client.submit_many(_jobs(1, members, turn))
                for verb, do in VERBS.items():
                    for (table, _), lab in zip(tables.items(), (large, small), strict=True):
                        begin = time.perf_counter()
                        count = do(lab, Selector(group=f"g{turn}"), turn)
                        found.setdefault(f"{verb}, of {table}", []).append(
                            1e3 * (time.perf_counter() - begin)
                        )
                        assert count in (members, min(ROWS, members)), (verb, count)
    figures = {name: Figure(name, "ms", tuple(values)) for name, values in found.items()}
    many, few = tables
    return Answer(
        figures=list(figures.values()),
        goals=[
            Goal(figures[f"{verb}, of {many}"], 1.5, "at most", over=figures[f"{verb}, of {few}"])
            for verb in VERBS
        ],
        notes=[f"{members:,} jobs a group; what a client needs for it is in both"],
    )


def _jobs(groups: int, members: int, first: int = 0) -> Iterator[JobSpec]:
    for number, job in enumerate(distinct_jobs(1, groups * members)):
        yield msgspec.structs.replace(job, group=f"g{first + number % groups}")
