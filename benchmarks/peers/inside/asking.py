"""How the scripts here are asked, and answer: `throughput JOBS SLOTS` or `latencies SAMPLES SLOTS`."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

WARM_UP = 3


class Cluster(Protocol):
    """A peer that is up."""

    def run(self, jobs: int) -> None:
        """Submit so many at once and wait until all have ended."""


def answer(start: Callable[[int], AbstractContextManager[Cluster]]) -> None:
    """Start the peer with so many slots, ask it, and print seconds as JSON. Its first jobs don't count."""
    what, count, slots = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with contextlib.redirect_stdout(sys.stderr), start(slots) as cluster:
        for _ in range(WARM_UP):
            cluster.run(1)
        sizes = [count] if what == "throughput" else [1] * count
        found = []
        for size in sizes:
            begin = time.perf_counter()
            cluster.run(size)
            found.append(time.perf_counter() - begin)
    print(json.dumps(found), flush=True)


def run_true(number: int = 0) -> int:
    """The job, for peers that run functions; its output goes nowhere. `close_fds`: then it is a plain vfork."""
    return subprocess.call(["true"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
