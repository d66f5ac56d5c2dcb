"""HyperQueue, its server and worker in one process of their own; output files are off, jobs are kept in memory."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import ask_inside, missing_module

NEEDS_A_CLUSTER = True


def available() -> str | None:
    """Why not."""
    return missing_module("hyperqueue")


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """All submitted at once, then waited for."""
    (seconds,) = ask_inside("run_hyperqueue", "throughput", jobs, slots, place=place)
    return jobs / seconds


def latencies(samples: int, place: Path) -> list[float]:
    """One after the other, on an open connection."""
    return ask_inside("run_hyperqueue", "latencies", samples, 1, place=place)
