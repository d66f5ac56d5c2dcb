"""task-spooler (`tsp`): a queue in memory on one machine, output of each job in a file; a process a submit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import missing_program, time_of

NEEDS_A_CLUSTER = False
PROGRAM = "tsp"
MOST_REMEMBERED = "100000"


def available() -> str | None:
    """Why not."""
    return missing_program(PROGRAM)


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """One `tsp true` after the other; then it is waited for the last."""
    with _server(place, slots) as env:
        begin = time.perf_counter()
        for _ in range(jobs):
            _spawn([PROGRAM, "true"], env)
        for number in range(max(0, jobs - slots), jobs):  # they start in order: earlier ones have ended
            _spawn([PROGRAM, "-w", str(number)], env)
        return jobs / (time.perf_counter() - begin)


def latencies(samples: int, place: Path) -> list[float]:
    """`tsp -f true`: it returns when the job has ended."""
    with _server(place, 1) as env:
        found = []
        for _ in range(samples):
            begin = time.perf_counter()
            _spawn([PROGRAM, "-f", "true"], env)
            found.append(time.perf_counter() - begin)
        return found


@contextlib.contextmanager
def _server(place: Path, slots: int) -> Iterator[dict[str, str]]:
    env = {"TS_SOCKET": str(place / "socket"), "TMPDIR": str(place), "TS_MAXFINISHED": MOST_REMEMBERED}
    time_of([PROGRAM, "-S", str(slots)], env=env)  # starts it, too
    try:
        yield {**os.environ, **env}
    finally:
        time_of([PROGRAM, "-K"], env=env)


def _spawn(words: list[str], env: dict[str, str]) -> None:
    null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    _, status = os.waitpid(os.posix_spawnp(words[0], words, env, file_actions=null), 0)
    if status:
        raise subprocess.CalledProcessError(status, words)
