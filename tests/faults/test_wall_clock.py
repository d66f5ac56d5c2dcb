"""Clocks that are set back and forth under running programs: leases, limits, retention and tokens don't mind."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kueue.resources import Shape
from kueue.wire.codec import encode
from kueue.wire.connection import BlockingConnection
from kueue.wire.messages import Command, Context, Failure, Spec, Submit, Submitted
from tests.faults.faked_clock import DAY, YEAR, FakedClock
from tests.faults.gates import gated, go, starts
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for

JUMPS = (-30 * DAY, DAY, 10 * YEAR)
MORE_JUMPS = (-DAY, -10 * YEAR, 3600.0, 0.0)
"""For the long form."""


@pytest.fixture
def clock(tmp_path: Path) -> FakedClock:
    """One that is right, at first."""
    return FakedClock(tmp_path)


def submit_with_token(lab: Lab, token: str) -> int:
    """Submit one job with a token of ours; the first id of the answer."""
    context = encode(Context())
    digest = hashlib.sha256(context).hexdigest()
    spec = Spec(Command(("true",)), str(lab.work), "/", Shape(ram_mb=16), digest)
    connection = BlockingConnection("127.0.0.1", lab.port, SECRET, "0.1.0")
    try:
        connection.send(Submit(1, token, (spec,), (context,)))
        while not isinstance(answer := connection.receive(30), Submitted):
            assert answer is not None
            assert not isinstance(answer, Failure), answer
        return answer.first
    finally:
        connection.close()


def seen_time(lab: Lab) -> float:
    """The wall clock as the server has it: when a job that is submitted now was submitted."""
    text = lab.job(lab.submit("true"))["submitted_at"]
    return datetime.datetime.fromisoformat(text).timestamp()


def test_a_servers_clock_that_jumps_costs_no_lease_no_job_and_no_token(
    make_lab: Callable[..., Lab], clock: FakedClock, long_form: bool
) -> None:
    lab = make_lab(
        server="worker_timeout_seconds = 30\nmaintenance_interval_seconds = 1",
        worker="worker_max_parallel_jobs = 4",
    )
    with clock.shown(lab):
        lab.start_server()
    lab.start_worker("w1")
    running = lab.submit("--time-limit", "1h", *gated(lab, "a"))
    finished = lab.submit("true")
    lab.wait_state(running, "running")
    lab.wait_state(finished, "succeeded")
    first, given = submit_with_token(lab, "kept"), dict[float, int]()
    for jump in (*JUMPS, *MORE_JUMPS) if long_form else JUMPS:
        clock.set(jump)
        assert abs(seen_time(lab) - time.time() - jump) < 60, "the server does not see the jump"
        assert submit_with_token(lab, "kept") == first
        given[jump] = submit_with_token(lab, f"at {jump}")
        assert {earlier: submit_with_token(lab, f"at {earlier}") for earlier in given} == given
        # Three ticks of the server: whatever goes by the clock would have happened.
        seen = lab.server_log()
        time.sleep(2.2)
        assert lab.worker_state("w1") == "connected"
        assert "silent" not in lab.server_log()[len(seen) :]
        rows = {job["id"]: job for job in lab.json("list-jobs")}
        assert rows[running]["state"] == "running"
        assert finished in rows
        assert all(0 <= (job["run_seconds"] or 0) < 600 for job in rows.values())
    go(lab, "a")
    found = lab.wait_state(running, "succeeded")
    assert 0 <= found["run_seconds"] < 3600
    assert starts(lab, "a") == ["1"]


@pytest.mark.parametrize("jump", [-DAY, 10 * YEAR])
def test_a_server_that_starts_with_a_wrong_clock_is_reached_and_takes_its_jobs_back(
    lab: Lab, clock: FakedClock, jump: float
) -> None:
    """Its certificate is made by that clock; nobody's may find it outdated."""
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    finished = lab.submit("true")
    lab.wait_state(finished, "succeeded")
    lab.kill_server()
    clock.set(jump)
    with clock.shown(lab):
        lab.start_server()
    wait_for("the worker is back", lambda: lab.worker_state("w1") == "connected")
    found = lab.job(running)
    assert found["state"] == "running"
    assert 0 <= found["run_seconds"] < 600
    assert lab.state_of(finished) == "succeeded"
    go(lab, "a")
    found = lab.wait_state(running, "succeeded")
    assert found["attempt"] == 1
    assert 0 <= found["run_seconds"] < 3600


def test_an_agents_clock_that_jumps_costs_no_job_and_no_output(
    make_lab: Callable[..., Lab], clock: FakedClock, long_form: bool
) -> None:
    lab = make_lab(
        server="worker_timeout_seconds = 30", worker="worker_max_parallel_jobs = 2\nspool_max_days = 1"
    )
    lab.start_server()
    with clock.shown(lab):
        lab.start_worker("w1")
    for pid in (lab.agents["w1"].pid, *lab.keeper_pids("w1")):
        assert "libfaketime" in Path(f"/proc/{pid}/maps").read_text()
    finished = lab.submit("echo", "kept")
    lab.wait_state(finished, "succeeded")
    running = lab.submit("--time-limit", "1h", *gated(lab, "a"))
    lab.wait_state(running, "running")
    for jump in (*JUMPS, *MORE_JUMPS) if long_form else JUMPS:
        clock.set(jump)
        later = lab.submit("echo", "later")
        found = lab.wait_state(later, "succeeded")
        assert 0 <= found["run_seconds"] < 60
        assert lab.ok("logs", str(finished)) == "kept\n"
    clock.set(10 * YEAR)
    limited = lab.submit("--time-limit", "1s", "sleep", "100")
    clock.set(-DAY)
    assert lab.wait_state(limited, "failed")["reason"]["code"] == "time_limit"
    go(lab, "a")
    assert lab.wait_state(running, "succeeded")["attempt"] == 1


@pytest.mark.parametrize("jump", [-DAY, 10 * YEAR])
def test_a_client_whose_clock_is_wrong_submits_waits_and_lists_as_others_do(
    lab: Lab, clock: FakedClock, jump: float
) -> None:
    clock.set(jump)
    with clock.shown(lab):
        job = lab.submit(*gated(lab, "a"))
        lab.wait_state(job, "running")
        wait_for("it has run for a moment", lambda: lab.job(job)["run_seconds"] > 0.2)
        row = next(line for line in lab.ok("list-jobs").splitlines() if "running" in line)
        worker, amount, unit = row.partition(" running ")[2].split()[:3]
        assert (worker, unit) == ("w1", "s"), "for years, by the clock that is fast"
        assert amount != "0.0", "before it started, by the clock that is slow"
        go(lab, "a")
        lab.ok("wait-job", "--timeout", "30s", str(job))
        assert 0 <= json.loads(lab.ok("show-job", str(job), "--json"))["run_seconds"] < 600
