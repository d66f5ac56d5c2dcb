"""A person keeps machines from taking jobs: `pause-worker`, `resume-worker`, with real programs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.lab import Lab
from tests.support.waiting import wait_for


@pytest.fixture
def two(make_lab: Callable[..., Lab]) -> Lab:
    """Two workers of one slot each."""
    lab = make_lab(worker="worker_max_parallel_jobs = 1\njob_kill_grace_seconds = 1")
    lab.start_server()
    lab.start_worker("w1")
    lab.start_worker("w2")
    return lab


def on(lab: Lab, worker: str, *command: str) -> int:
    """A job that this worker has started."""
    number = lab.submit("--worker", worker, *command)
    lab.wait_state(number, "running")
    return number


def test_a_paused_worker_takes_nothing_until_it_is_resumed_whatever_restarts(two: Lab) -> None:
    said = two.kueue("pause-worker", "w1", "--reason", "new disk")
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"paused: w1\n")
    jobs = [two.submit("true") for _ in range(5)]
    for job in jobs:
        assert two.wait_state(job, "succeeded")["worker"] == "w2"
    two.kill_server()
    two.agents["w1"].kill()
    two.agents["w1"].wait()
    two.start_server()
    two.start_worker("w1")
    (row,) = [row for row in two.json("list-workers") if row["name"] == "w1"]
    assert (row["state"], row["paused"], row["pause_reason"]) == ("connected", True, "new disk")
    assert row["paused_since"] is not None
    assert "paused: new disk" in two.ok("list-workers")
    assert "new disk" in two.ok("show-worker", "w1")
    waiting = two.kueue("cmd", "--worker", "w1", "touch", "ran")
    assert b"every worker that fits is paused (w1: new disk)" in waiting.stderr
    assert two.job(6)["reason"]["code"] == "paused"
    assert two.kueue("resume-worker", "w*").stderr == b"resumed: w1\n"
    assert two.wait_state(6, "succeeded")["worker"] == "w1"
    (row,) = [row for row in two.json("list-workers") if row["name"] == "w1"]
    assert (row["paused"], row["paused_since"], row["pause_reason"]) == (False, None, None)


def test_kill_sends_what_runs_back_without_counting_a_loss(two: Lab) -> None:
    script = 'test "$KUEUE_WORKER" = w2 || sleep 1000'
    two.kueue("pause-worker", "w2")
    again = two.submit("--max-restarts", "0", "sh", "-c", script)
    two.wait_state(again, "running")
    two.kueue("resume-worker", "w2")
    said = two.kueue("pause-worker", "w1", "--kill", "--reason", "hot")
    assert said.stderr.splitlines()[1] == b"1 job that ran there: back to the queue, without counting a loss"
    found = two.wait_state(again, "succeeded")
    assert (found["worker"], found["restarts"], found["attempt"]) == ("w2", 0, 2)
    assert found["attempts"][0]["reason"]["code"] == "paused"


def test_drain_waits_until_the_last_job_there_has_finished(two: Lab) -> None:
    job = on(two, "w1", "sh", "-c", "until test -e go; do sleep 0.02; done")
    waiting = subprocess.Popen(
        [sys.executable, "-m", "kueue", "pause-worker", "w1", "--drain"],
        env=two.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for("it is paused", lambda: any(row["paused"] for row in two.json("list-workers")))
    assert two.job(job)["state"] == "running"
    assert waiting.poll() is None
    (two.work / "go").touch()
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert said.splitlines()[-1] == b"w1 has no jobs any more"
    assert two.job(job)["state"] == "succeeded"


def test_what_cannot_be_meant_is_said(two: Lab) -> None:
    unknown = two.kueue("pause-worker", "w1", "nobody")
    assert (unknown.returncode, unknown.stderr) == (1, b"kueue: no worker nobody; nothing was changed\n")
    assert not any(row["paused"] for row in two.json("list-workers"))
    both = two.kueue("pause-worker", "w1", "--drain", "--kill")
    assert both.returncode == 2
    assert b"either --drain" in both.stderr
