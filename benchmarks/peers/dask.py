"""Dask distributed: tasks in memory, one worker process with a thread a slot; each runs the command."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import ask_inside, missing_module

NEEDS_A_CLUSTER = True


def available() -> str | None:
    """Why not."""
    return missing_module("distributed")


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """All submitted at once, then waited for."""
    (seconds,) = ask_inside("run_dask", "throughput", jobs, slots, place=place)
    return jobs / seconds


def latencies(samples: int, place: Path) -> list[float]:
    """One after the other, on an open connection."""
    return ask_inside("run_dask", "latencies", samples, 1, place=place)
