"""Versions that meet: an upgrade under running programs, older and newer sides, and what a mismatch costs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.gates import gated, go, starts
from tests.faults.other_versions import install, programs_of
from tests.support.lab import Lab
from tests.support.waiting import wait_for

FAR = (3, 4)
"""Protocol versions that have none in common with ours."""


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """An installation whose protocol is too new for ours."""
    return install(tmp_path / "far", version="3.0.0", protocol=FAR)


def agent_leaves(lab: Lab, name: str = "w1") -> None:
    """SIGUSR2: the agent ends, keeper and jobs stay."""
    lab.agents[name].send_signal(signal.SIGUSR2)
    assert lab.agents[name].wait(30) == 0


def server_ends(lab: Lab) -> None:
    """In order."""
    assert lab.server_process is not None
    lab.server_process.terminate()
    assert lab.server_process.wait(30) == 0


@pytest.mark.parametrize("upgraded", ["server", "worker", "client"])
def test_a_side_of_the_next_version_works_with_the_others(lab: Lab, tmp_path: Path, upgraded: str) -> None:
    following = install(tmp_path / "following", version="0.2.0", protocol=(1, 2), keeper=2)
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    with programs_of(lab, following):
        if upgraded == "server":
            server_ends(lab)
            lab.start_server()
        elif upgraded == "worker":
            agent_leaves(lab)
            lab.start_worker("w1")
        if upgraded != "client":
            lab.env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        later = lab.submit("sh", "-c", "echo later")
        lab.ok("wait-job", str(later))
        assert lab.ok("logs", str(later)) == "later\n"
        go(lab, "a")
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]


def test_a_client_of_another_version_is_told_which_side_to_upgrade(lab: Lab, far: Path) -> None:
    with programs_of(lab, far):
        done = lab.kueue("list-jobs")
    assert done.returncode == 3
    assert b"the server is Kueue 0.1.0, too old for this client (3.0.0): upgrade the server" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_results_arrive_though_the_upgraded_server_speaks_no_version_of_the_worker(
    lab: Lab, far: Path
) -> None:
    job = lab.submit(*gated(lab, "a"))
    ended = lab.submit(*gated(lab, "b"))
    lab.wait_state(job, "running")
    lab.wait_state(ended, "running")
    server_ends(lab)
    go(lab, "b")
    wait_for("b ends while the server is away", lambda: (lab.work / "b.done").exists())
    with programs_of(lab, far):
        lab.start_server()
        assert lab.wait_state(ended, "succeeded")["return_code"] == 0
        assert lab.state_of(job) == "running"
        assert lab.ok("logs", str(ended)) == "ok\n"  # the end of it came with the report
        fresh = lab.submit("true")
        go(lab, "a")
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
        # Nothing new for a worker of another version; it says what is wrong, once, and is back when that is.
        assert lab.state_of(fresh) == "pending"
        text = "this worker is Kueue 0.1.0, too old for the server (3.0.0): upgrade the worker"
        wait_for("the worker says so", lambda: text in lab.worker_log("w1"))
        assert lab.worker_log("w1").count(text) == 1
        assert lab.agents["w1"].poll() is None
        assert "the worker is Kueue 0.1.0, too old for this server (3.0.0)" in lab.server_log()
        agent_leaves(lab)
        lab.start_worker("w1")
        lab.wait_state(fresh, "succeeded")
    assert starts(lab, "a") == starts(lab, "b") == ["1"]


@pytest.mark.parametrize("newer", ["server", "worker"])
def test_a_worker_of_another_version_that_has_nothing_to_tell_ends_with_the_sentence(
    make_lab: Callable[..., Lab], far: Path, newer: str
) -> None:
    lab = make_lab()
    if newer == "server":
        with programs_of(lab, far):
            lab.start_server()
        agent = lab.start_worker("w1", wait=False)
        text = "this worker is Kueue 0.1.0, too old for the server (3.0.0): upgrade the worker"
    else:
        lab.start_server()
        with programs_of(lab, far):
            agent = lab.start_worker("w1", wait=False)
        text = "the server is Kueue 0.1.0, too old for this worker (3.0.0): upgrade the server"
    assert agent.wait(30) == 3
    assert text in lab.worker_log("w1")
    wait_for("its keeper ends, too", lambda: not lab.keeper_pids("w1"))


def test_a_newer_agent_delivers_what_ran_and_then_ends_with_the_sentence(lab: Lab, far: Path) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    agent_leaves(lab)
    with programs_of(lab, far):
        agent = lab.start_worker("w1", wait=False)
        wait_for("it says so", lambda: "upgrade the server" in lab.worker_log("w1"))
    assert lab.state_of(job) == "running"
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert agent.wait(30) == 3


def test_a_canceled_job_is_stopped_on_a_worker_of_another_version(lab: Lab, far: Path) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    server_ends(lab)
    with programs_of(lab, far):
        lab.start_server()
        wait_for("the worker is back", lambda: lab.worker_state("w1") == "connected")
        lab.ok("remove-job", "--kill", str(job))
        lab.wait_state(job, "canceled")
        wait_for("its processes are gone", lambda: not lab.jobs_processes())
