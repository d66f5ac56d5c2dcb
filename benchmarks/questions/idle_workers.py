"""What do 2,000 and 10,000 connected idle workers cost the server, in CPU time and memory?

Simulated ends with real connections: each sends a heartbeat every 15 s and once a minute says what it can give instead,
as the real agent does on a machine where nothing changes.
"""

from __future__ import annotations

import resource
import time

from benchmarks.answers import Answer, Figure, Goal
from benchmarks.server_lab import ServerLab
from tests.support.simulated_worker import raise_descriptor_limit

COUNTS = (2_000, 10_000)
QUICK_COUNTS = (50,)
SECONDS = 60.0
QUICK_SECONDS = 0.3
SETTLE_SECONDS = 5.0
QUICK_SETTLE_SECONDS = 0.1
REPETITIONS = 1
CPUS = 4
SPARE_DESCRIPTORS = 100
PLOT = "idle workers"


def measure(quick: bool) -> Answer:
    """Each number of workers with a server of its own, watched for a minute."""
    answer = Answer()
    limit = raise_descriptor_limit()
    seconds = QUICK_SECONDS if quick else SECONDS
    points: list[tuple[float, float]] = []
    for count in QUICK_COUNTS if quick else COUNTS:
        if limit not in (resource.RLIM_INFINITY, -1) and limit < count + SPARE_DESCRIPTORS:
            answer.notes.append(f"{count:,} workers: this user may have only {limit:,} open files")
            continue
        shares: list[float] = []
        each: list[float] = []
        for _ in range(REPETITIONS):
            share, memory = _watch(count, seconds, quick)
            shares.append(share)
            each.append(memory)
        cpu = Figure(f"{count:,} idle workers: server's CPU", "% of a core", tuple(shares))
        memory_each = Figure(f"{count:,} idle workers: server's memory for each", "KB", tuple(each))
        answer.figures += [cpu, memory_each]
        points.append((float(count), cpu.median))
        if count == (QUICK_COUNTS if quick else COUNTS)[0]:
            answer.goals += [Goal(cpu, 5.0, "at most"), Goal(memory_each, 40.0, "at most")]
    answer.curves[PLOT] = {"server's CPU": points}
    answer.axes[PLOT] = ("workers", "% of a core")
    answer.notes.append(f"{REPETITIONS} repetition each, an average over {seconds:g} s")
    return answer


def _watch(count: int, seconds: float, quick: bool) -> tuple[float, float]:
    with ServerLab() as lab:
        base = lab.memory()
        with lab.ends(count, CPUS) as ends:
            ends.go()
            time.sleep(QUICK_SETTLE_SECONDS if quick else SETTLE_SECONDS)
            before, begin = lab.cpu(), time.monotonic()
            time.sleep(seconds)
            cost, taken = lab.cpu() - before, time.monotonic() - begin
            assert len(lab.client.workers()) == count
            memory = lab.memory() - base
    return 100 * cost.whole / taken, memory / 1024 / count
