"""GNU parallel on one machine: it keeps each job's output until it has ended; no records."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import lines, missing_program, time_of

NEEDS_A_CLUSTER = False


def available() -> str | None:
    """Why not."""
    return missing_program("parallel")


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """A line of input a job, which the job does not see."""
    words = ["parallel", "--will-cite", f"-j{slots}", "-N0", "true"]
    env = {"HOME": str(place), "TMPDIR": str(place)}
    return jobs / time_of(words, input=lines(jobs), env=env)
