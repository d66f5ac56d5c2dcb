"""Thousands of workers that come back within a second of a server's restart, and a client in between.

The workers are simulated ends in a process of their own, on real sockets with real TLS. The long form prints
its figures and holds the server to them; the short one only to the outcome.
"""

from __future__ import annotations

import os
import resource
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


def connected(client: Client) -> int:
    return sum(worker.state == "connected" for worker in client.workers())


@pytest.mark.timeout(600)
def test_all_workers_are_back_soon_after_a_restart_and_a_submit_gets_through(
    make_lab: Callable[..., Lab], long_form: bool
) -> None:
    count = LONG_WORKERS if long_form else SHORT_WORKERS
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < count + 100:
        pytest.skip(f"a process may not have {count + 100} open files here")
    lab = make_lab()
    lab.start_server()
    workers = subprocess.Popen(
        [
            *("nice", "-n", "10", sys.executable, "-m", "tests.support.simulated_worker"),
            *("--port", str(lab.port), "--count", str(count), "--pause", "1"),
        ],
        cwd=ROOT,
        env={**os.environ, "SECRET": SECRET},
    )
    try:
        with client_of(lab) as client:
            wait_for("all are connected", lambda: connected(client) == count, 300)
        lab.kill_server()
        lab.start_server()
        listening = time.monotonic()
        submits: list[float] = []
        while True:
            with client_of(lab) as client:
                before = time.monotonic()
                client.submit(["true"], ram_mb=1)
                submits.append(time.monotonic() - before)
                back = connected(client)
            took = time.monotonic() - listening
            if back == count or took > 10 * ALL_BACK_SECONDS:
                break
            assert workers.poll() is None
        assert back == count
        with client_of(lab) as client:
            list(client.as_completed(range(1, len(submits) + 1), timeout=60))
            states = client.counts()
        assert states.succeeded == len(submits)
        if long_form:
            print(
                f"\n{count} workers back after {took:.1f} s; {len(submits)} submits in that time, each with a "
                f"new connection: {min(submits):.3f} to {max(submits):.3f} s"
            )
            assert took <= ALL_BACK_SECONDS
            assert max(submits) <= SUBMIT_SECONDS
    finally:
        workers.kill()
        workers.wait()
