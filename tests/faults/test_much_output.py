"""Jobs that write much: the cap on output ends the one that writes on and on, and only files grow."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

import kueue
from tests.faults.observer import Observer
from tests.support.lab import Lab
from tests.support.waiting import wait_for

ON_AND_ON = "while :; do head -c 65536 /dev/zero; sleep 0.005; done"
WAITS = "while [ ! -e go ]; do sleep 0.1; done"
JOBS, LONG_JOBS = 200, 10_000
SPOOL_MB = 50
MB = 2**20
MOST_GROWTH_MB = 8.0
MOST_GROWTH_A_JOB_MB = 0.002
"""The server remembers jobs that are over, and how each ended; no output of theirs."""


def start(make_lab: Callable[..., Lab], worker: str) -> Observer:
    """A server, and a worker with room for five."""
    lab = make_lab(
        worker=f"worker_max_parallel_jobs = 5\njob_kill_grace_seconds = 1\n{worker}",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    found = Observer(lab)
    found.start_worker()
    return found


def _is_ended_over_the_cap(capped: Observer, number: int) -> None:
    job = capped.wait(number, "failed", "succeeded", "pending", "canceled")
    assert job.reason is not None, job
    assert (job.state, job.reason.code, job.reason.text) == ("failed", "output_limit", "output over 2 MB")
    assert [attempt.end for attempt in job.attempts] == ["output_limit"]
    assert job.restarts == 0


def test_a_job_that_writes_on_and_on_is_ended_at_the_cap_and_others_are_not(
    make_lab: Callable[..., Lab],
) -> None:
    capped = start(make_lab, "job_max_output_mb = 2")
    lab = capped.lab
    modest = capped.submit(f"head -c 1500000 /dev/zero; {WAITS}")
    data = capped.submit(f"head -c 9000000 /dev/zero > data; {WAITS}")
    null = capped.submit(f"head -c 9000000 /dev/zero; {WAITS}", out="/dev/null")
    later = capped.submit(f"echo; while [ ! -e later ]; do sleep 0.1; done; {ON_AND_ON}")
    spooled = capped.submit(ON_AND_ON)
    _is_ended_over_the_cap(capped, spooled)
    assert "output over 2 MB" in lab.ok("show-job", str(spooled))
    # Both streams count together, whether they are one file or two.
    both = capped.submit(f"head -c 1500000 /dev/zero; head -c 1500000 /dev/zero >&2; {WAITS}")
    _is_ended_over_the_cap(capped, both)
    filed = lab.submit("-o", "out.log", "-e", "out.log", "sh", "-c", f"trap '' TERM; ({ON_AND_ON}) >&2")
    _is_ended_over_the_cap(capped, filed)
    assert (lab.work / "out.log").stat().st_size > 2 * MB
    # A new agent goes on with the cap.
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    (lab.work / "later").touch()
    capped.start_worker()
    _is_ended_over_the_cap(capped, later)
    (lab.work / "go").touch()
    for job in capped.wait_all([modest, data, null]):
        assert (job.state, job.attempts[-1].end) == ("succeeded", "exited")
    wait_for("nothing of them is left", lambda: not lab.jobs_processes())


@pytest.mark.timeout(3600)
def test_the_output_of_many_jobs_makes_no_process_grow_and_stays_within_the_spools_bounds(
    make_lab: Callable[..., Lab], long_form: bool
) -> None:
    count = LONG_JOBS if long_form else JOBS
    many = start(make_lab, f"job_max_output_mb = 0\nspool_max_mb = {SPOOL_MB}")
    lab = many.lab
    # Without a cap a job writes as much as it likes; this one runs longer than from one look to the next.
    large = many.submit("head -c 9000000 /dev/zero; sleep 3")
    assert lab.server_process is not None
    processes = {
        "server": psutil.Process(lab.server_process.pid),
        "agent": psutil.Process(lab.agents["w1"].pid),
        "keeper": psutil.Process(lab.keeper_pids("w1")[0]),
    }
    (spool,) = lab.place.rglob("keeper.log")
    samples: list[dict[str, float]] = []
    done, largest, began = 0, 0.0, time.monotonic()
    with kueue.Client(lab.config) as client:
        for _ in range(10):
            specs = [
                kueue.JobSpec(["head", "-c", str(MB), "/dev/zero"], cwd=lab.work) for _ in range(count // 10)
            ]
            jobs = client.submit_many(specs)
            for job in client.as_completed(jobs):
                done += job.succeeded
            samples.append({name: process.memory_info().rss / MB for name, process in processes.items()})
            largest = max(largest, _size_mb(spool.parent))
    assert done == count
    assert many.wait(large).state == "succeeded"
    first, last = samples[1], samples[-1]  # by then everything has been used once
    seconds = time.monotonic() - began
    print(f"{count} jobs in {seconds:.0f} s; spool at most {largest:.0f} MB; MB: {first} -> {last}")
    for name in processes:
        growth = last[name] - first[name]
        assert growth < MOST_GROWTH_MB + (MOST_GROWTH_A_JOB_MB * count if name == "server" else 0), samples
    if long_form:
        # What is written within two minutes may be over the bound, and no more.
        assert largest < SPOOL_MB + 120 * count / seconds
        wait_for("the spool is tidied", lambda: _size_mb(spool.parent) <= SPOOL_MB + 1, 90)
    else:
        lab.agents["w1"].kill()  # a new agent tidies up soon
        lab.agents["w1"].wait()
        many.start_worker()
        wait_for("the spool is tidied", lambda: _size_mb(spool.parent) <= SPOOL_MB + 1, 60)
        newest = many.wait(many.submit("echo it is there")).id
        assert lab.ok("logs", str(newest)) == "it is there\n"


def _size_mb(place: Path) -> float:
    """Of the outputs; files and directories may vanish meanwhile."""
    total = 0
    for directory, _, names in os.walk(place):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(f"{directory}/{name}").st_size if name.endswith(".out") else 0
    return total / MB
