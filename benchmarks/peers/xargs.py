"""`xargs -P`: no queue, no records, no output files; all jobs of one process on one machine."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import lines, missing_program, time_of

NEEDS_A_CLUSTER = False


def available() -> str | None:
    """Why not."""
    return missing_program("xargs")


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """A line of input a job."""
    return jobs / time_of(["xargs", f"-P{slots}", "-n1", "true"], input=lines(jobs))
