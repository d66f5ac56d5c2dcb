"""What does the worker itself cost while 50 long jobs run on it?

CPU time of agent and keeper over a window in which nothing starts and nothing ends, as a share of one core, and
the memory that is theirs alone.
"""

from __future__ import annotations

import time

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.cluster import Cluster, Cpu
from kueue.job_spec import JobSpec
from tests.support.waiting import wait_for

JOBS = 50
WINDOW_SECONDS, QUICK_WINDOW_SECONDS = 60.0, 1.0
CPU_GOAL_PERCENT, MEMORY_GOAL_MB = 0.5, 60.0
SETTLING_SECONDS = 5.0
MEBIBYTE = 2**20


def measure(quick: bool) -> Answer:
    """Windows one after the other, after the jobs have started and all of that is over."""
    window, windows = (QUICK_WINDOW_SECONDS, 1) if quick else (WINDOW_SECONDS, REPETITIONS)
    used: list[Cpu] = []
    agent_mb, keeper_mb = [], []
    with Cluster(slots=JOBS) as cluster:
        client = cluster.client
        client.submit_many(
            [JobSpec(["sleep", "3600"], cpus=0, ram_mb=16, cwd=cluster.lab.work) for _ in range(JOBS)]
        )
        wait_for("all jobs run", lambda: client.counts().running == JOBS)
        if not quick:
            time.sleep(SETTLING_SECONDS)
        for _ in range(windows):
            before = cluster.cpu()
            time.sleep(window)
            used.append(cluster.cpu() - before)
            agent_mb.append(cluster.agent.memory_full_info().uss / MEBIBYTE)
            keeper_mb.append(cluster.keeper.memory_full_info().uss / MEBIBYTE)
        client.cancel(range(1, JOBS + 2), kill=True)
    agent = [100 * cpu.agent / window for cpu in used]
    keeper = [100 * cpu.keeper / window for cpu in used]
    both = [a + k for a, k in zip(agent, keeper, strict=True)]
    memory = [a + k for a, k in zip(agent_mb, keeper_mb, strict=True)]
    cpu_figure = Figure("CPU of agent and keeper", "% of a core", tuple(both))
    memory_figure = Figure("memory of agent and keeper", "MB", tuple(memory))
    return Answer(
        figures=[
            cpu_figure,
            Figure("CPU of the agent", "% of a core", tuple(agent)),
            Figure("CPU of the keeper", "% of a core", tuple(keeper)),
            memory_figure,
            Figure("memory of the agent", "MB", tuple(agent_mb)),
            Figure("memory of the keeper", "MB", tuple(keeper_mb)),
        ],
        goals=[
            Goal(cpu_figure, CPU_GOAL_PERCENT, "at most"),
            Goal(memory_figure, MEMORY_GOAL_MB, "at most"),
        ],
        notes=[f"windows of {window:g} s; CPU times come in steps of 10 ms; memory is USS"],
    )
