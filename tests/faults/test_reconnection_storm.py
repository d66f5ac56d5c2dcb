"""Thousands of workers that come back within a second of a server's restart, and a client in between.

The workers are simulated ends in a process of their own, on real sockets with real TLS. The long form prints
its figures and holds the server to them; the short one only to the outcome.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kueue import Client
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for

SHORT_WORKERS, LONG_WORKERS = 200, 2000
ALL_BACK_SECONDS = 30.0
SUBMIT_SECONDS = 1.0
ROOT = Path(__file__).resolve().parents[2]


def client_of(lab: Lab) -> Client:
    return Client(address=("127.0.0.1", lab.port), secret=SECRET, connect_timeout=30)


@pytest.mark.timeout(300)
def test_all_workers_are_back_soon_after_a_restart_and_a_submit_gets_through(
    make_lab: Callable[..., Lab], long_form: bool
) -> None:
    count = LONG_WORKERS if long_form else SHORT_WORKERS
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 100:
        pytest.skip(f"a process may not have {count + 100} open files here")
    lab = make_lab()
    lab.start_server()
    simulator = [sys.executable, "-m", "tests.support.simulated_worker", "--port", str(lab.port)]
    workers = subprocess.Popen(
        ["nice", "-n", "10", *simulator, "--count", str(count), "--pause", "1"],
        cwd=ROOT,
        env={**os.environ, "SECRET": SECRET},
    )
    try:
        until_all_are_connected(lab, count)
        lab.kill_server()
        server = lab.start_server()
        took, submits = until_all_are_connected(lab, count)
        assert workers.poll() is None
        with client_of(lab) as client:
            newest = max(job.id for job in client.jobs())
            list(client.as_completed(range(1, newest + 1), timeout=60))
            states = client.counts()
        assert states.succeeded == newest >= len(submits)
        if long_form:
            print(
                f"\n{count} workers back after {took:.1f} s of which the server worked "
                f"{cpu_seconds(server.pid):.1f} s; {len(submits)} submits meanwhile, each with a new connection:"
                f" {statistics.median(submits):.3f} s in the middle, {max(submits):.3f} s at most"
            )
            assert took <= ALL_BACK_SECONDS
            assert max(submits) <= SUBMIT_SECONDS
    finally:
        workers.kill()
        workers.wait()


def until_all_are_connected(lab: Lab, count: int) -> tuple[float, list[float]]:
    """How long that takes, and how long the submits take that are made meanwhile, all in seconds."""
    begin = time.monotonic()
    submits: list[float] = []

    def all_are_connected() -> bool:
        """Asking is no small thing with thousands of workers: it is done once in a second or so."""
        for _ in range(10 if submits else 1):
            before = time.monotonic()
            with client_of(lab) as client:
                client.submit(["true"], ram_mb=1)
                submits.append(time.monotonic() - before)
            time.sleep(0.05)
        with client_of(lab) as client:
            return sum(worker.state == "connected" for worker in client.workers()) == count

    wait_for(f"{count} workers are connected", all_are_connected, 120)
    return time.monotonic() - begin, submits


def cpu_seconds(pid: int) -> float:
    """Of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
