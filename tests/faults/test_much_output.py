"""Jobs that write much: the cap on output ends the one that writes on and on, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.lab import Lab
from tests.support.waiting import wait_for

ON_AND_ON = "while :; do head -c 65536 /dev/zero; sleep 0.005; done"


@pytest.fixture
def capped(make_lab: Callable[..., Lab]) -> Lab:
    """A worker with room for four, whose jobs may write 2 MB each."""
    lab = make_lab(
        worker="worker_max_parallel_jobs = 4\njob_max_output_mb = 2\njob_kill_grace_seconds = 1",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    lab.start_worker("w1")
    return lab


def _ended_over_the_cap(lab: Lab, number: int) -> None:
    job = lab.wait_state(number, "failed", "succeeded", "pending", "canceled")
    assert job["state"] == "failed"
    assert job["reason"] == {"code": "output_limit", "text": "output over 2 MB"}
    assert [attempt["end"] for attempt in job["attempts"]] == ["output_limit"]
    assert job["restarts"] == 0


def test_a_job_that_writes_on_and_on_is_ended_at_the_cap_and_others_are_not(capped: Lab) -> None:
    modest = capped.submit(
        "sh", "-c", f"head -c 1500000 /dev/zero; while [ ! -e {capped.work}/go ]; do sleep 0.1; done"
    )
    spooled = capped.submit("sh", "-c", ON_AND_ON)
    filed = capped.submit("-o", "out.log", "-e", "out.log", "sh", "-c", f"trap '' TERM; ({ON_AND_ON}) >&2")
    _ended_over_the_cap(capped, spooled)
    _ended_over_the_cap(capped, filed)
    assert "output over 2 MB" in capped.ok("show-job", str(spooled))
    assert (capped.work / "out.log").stat().st_size > 2 * 2**20
    (capped.work / "go").touch()
    assert capped.wait_state(modest, "succeeded")["attempts"][-1]["end"] == "exited"
    wait_for("nothing of them is left", lambda: not capped.jobs_processes())


def test_the_cap_counts_both_streams_together_but_nothing_else_that_a_job_writes(capped: Lab) -> None:
    wait = f"while [ ! -e {capped.work}/go ]; do sleep 0.1; done"
    data = capped.submit("sh", "-c", f"head -c 9000000 /dev/zero > data; {wait}")
    null = capped.submit("-o", "/dev/null", "sh", "-c", f"head -c 9000000 /dev/zero; {wait}")
    both = capped.submit("sh", "-c", f"head -c 1500000 /dev/zero; head -c 1500000 /dev/zero >&2; {wait}")
    _ended_over_the_cap(capped, both)
    (capped.work / "go").touch()
    capped.wait_state(data, "succeeded")
    capped.wait_state(null, "succeeded")


def test_a_new_agent_goes_on_with_the_cap(capped: Lab) -> None:
    job = capped.submit("sh", "-c", f"echo; while [ ! -e {capped.work}/go ]; do sleep 0.1; done; {ON_AND_ON}")
    capped.wait_state(job, "running")
    capped.agents["w1"].kill()
    capped.agents["w1"].wait()
    (capped.work / "go").touch()
    capped.start_worker("w1")
    _ended_over_the_cap(capped, job)


def test_without_a_cap_a_job_writes_as_much_as_it_likes(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="job_max_output_mb = 0")
    lab.start_server()
    lab.start_worker("w1")
    job = lab.submit("sh", "-c", "head -c 9000000 /dev/zero; sleep 3")
    assert lab.wait_state(job, "succeeded", "failed")["state"] == "succeeded"
