"""What many short jobs cost in system calls, counted: a guard of speed that no busy machine can disturb.

Each count stands for something dear: a sync of the journal, a frame, a turn of the keeper's. Under `strace` the
programs are slower, so less goes together than in reality: these are upper bounds.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kueue import Client, JobSpec
from tests.support.lab import Lab
from tests.support.waiting import wait_for

JOBS = 600


@contextmanager
def counted(pid: int, file: Path) -> Iterator[dict[str, int]]:
    """System calls of a process and all its threads meanwhile, by name; filled in at the end. Jobs that it
    starts are not followed."""
    said = file.with_suffix(".err")
    with said.open("wb") as errors:
        threads = [word for thread in Path(f"/proc/{pid}/task").iterdir() for word in ("-p", thread.name)]
        tracer = subprocess.Popen(["strace", "-c", "-o", str(file), *threads], stderr=errors)
        attached = len(threads) // 2
        wait_for("strace is attached", lambda: said.read_text().count("attached") == attached)
        counts: dict[str, int] = {}
        yield counts
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    for line in file.read_text().splitlines():
        found = re.match(r" *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?([a-z]\w+)$", line)
        if found is not None and found[2] != "total":
            counts[found[2]] = int(found[1])


def run_jobs(lab: Lab) -> None:
    """Many jobs that end at once, submitted together, followed to their ends."""
    job = JobSpec(["true"], cwd=lab.work, cpus=0, ram_mb=1)
    with Client(lab.config) as client:
        jobs = client.submit_many([job] * JOBS)
        assert sum(1 for _ in client.as_completed(jobs)) == JOBS


@pytest.fixture
def busy(make_lab: Callable[..., Lab]) -> Lab:
    """A server and a worker with two job slots, both warm."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    lab.kueue("cmd", "--wait", "true")
    return lab


def test_the_server_syncs_its_journal_for_many_jobs_at_once(busy: Lab, tmp_path: Path) -> None:
    assert busy.server_process is not None
    with counted(busy.server_process.pid, tmp_path / "counts") as calls:
        run_jobs(busy)
    assert 0 < calls["fdatasync"] < 0.9 * JOBS
    assert calls["write"] < 2 * JOBS  # frames to worker and client, and wake-ups of the own loop
    assert sum(calls.values()) < 25 * JOBS


def test_the_agent_tells_of_many_jobs_at_once(busy: Lab, tmp_path: Path) -> None:
    with counted(busy.agents["w1"].pid, tmp_path / "counts") as calls:
        run_jobs(busy)
    assert 0 < calls["write"] < 0.9 * JOBS  # frames to the server
    assert calls["sendto"] < 1.5 * JOBS  # frames to the keeper
    assert sum(calls.values()) < 25 * JOBS


def test_the_keeper_starts_and_ends_a_job_with_few_calls(busy: Lab, tmp_path: Path) -> None:
    (pid,) = busy.keeper_pids("w1")
    with counted(pid, tmp_path / "counts") as calls:
        run_jobs(busy)
    assert calls["clone3"] == JOBS
    assert calls["openat"] < 2.5 * JOBS  # the two files of output
    assert calls["sendto"] < 1.5 * JOBS  # frames to the agent
    assert sum(calls.values()) < 38 * JOBS
