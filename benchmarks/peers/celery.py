"""Celery with redis as broker and for results; each task runs the command."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import ask_inside, missing_module, missing_program

NEEDS_A_CLUSTER = True


def available() -> str | None:
    """Why not."""
    return missing_module("celery") or missing_program("redis-server")


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """All submitted at once, then waited for."""
    (seconds,) = ask_inside("run_celery", "throughput", jobs, slots, place=place)
    return jobs / seconds


def latencies(samples: int, place: Path) -> list[float]:
    """One after the other, on an open connection."""
    return ask_inside("run_celery", "latencies", samples, 1, place=place)
