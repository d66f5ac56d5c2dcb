"""Programs that are stopped (SIGSTOP) for longer than every deadline and then go on, as after a suspend."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from tests.support.gated import gated, go, starts
from tests.support.lab import Lab
from tests.support.waiting import wait_for

LEASE_SECONDS = 3.0
SETTINGS = {
    "server": f"worker_timeout_seconds = {LEASE_SECONDS:g}",
    "worker": "worker_max_parallel_jobs = 1",
}


@contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        wait_for(f"process {pid} stands still", partial(_is_stopped, pid))
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"T"


def test_a_server_that_was_frozen_past_the_lease_takes_nobody_for_lost(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(**SETTINGS)
    server = lab.start_server()
    lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.start_worker("w2")
    ending = lab.submit("--no-restart", *gated(lab, "b"))
    lab.wait_state(ending, "running")
    with frozen(server.pid):
        go(lab, "b")
        wait_for("b ends while the server stands still", lambda: (lab.work / "b.done").exists())
        time.sleep(2.5 * LEASE_SECONDS)
    found = lab.wait_state(ending, "succeeded")
    assert found["attempt"] == 1
    wait_for("w1 is there", lambda: lab.worker_state("w1") == "connected")
    wait_for("w2 is there", lambda: lab.worker_state("w2") == "connected")
    assert lab.state_of(job) == "running"
    assert "is lost" not in lab.server_log()
    assert "the server itself was held up" in lab.server_log()
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert (starts(lab, "a"), starts(lab, "b")) == (["1"], ["1"])


def test_an_agent_that_was_frozen_past_its_lease_stops_what_is_not_its_own_before_it_takes_more(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(**SETTINGS)
    lab.start_server()
    agent = lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    older = set(lab.jobs_processes())
    with frozen(agent.pid):
        wait_for("its lease is over", lambda: lab.worker_state("w1") == "lost")
        lab.start_worker("w2")
        wait_for("the job starts elsewhere", lambda: len(starts(lab, "a")) == 2)
        assert older & set(lab.jobs_processes()), "the keeper has let it run on"
        # More work for w1, whose only slot is taken by the older attempt.
        script = 'test -z "$OLDER" || for pid in $OLDER; do kill -0 $pid && echo $pid; done; true'
        alone = lab.submit("--worker", "w1", "env", f"OLDER={' '.join(map(str, older))}", "sh", "-c", script)
    wait_for("the older attempt is ended", lambda: not older & set(lab.jobs_processes()))
    assert lab.wait_state(alone, "succeeded")["worker"] == "w1"
    assert lab.ok("logs", str(alone)) == "", "the older attempt was still there"
    go(lab, "a")
    found = lab.wait_state(job, "succeeded")
    assert (found["worker"], found["attempt"]) == ("w2", 2)
    assert starts(lab, "a") == ["1", "2"]


def test_an_agent_that_was_frozen_for_less_than_its_lease_keeps_its_job(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(server="worker_timeout_seconds = 9", worker="worker_max_parallel_jobs = 1")
    lab.start_server()
    agent = lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.start_worker("w2")
    with frozen(agent.pid):
        go(lab, "a")
        wait_for("it ends while the agent stands still", lambda: (lab.work / "a.done").exists())
        assert lab.state_of(job) == "running"
        time.sleep(3)
    found = lab.wait_state(job, "succeeded")
    assert (found["worker"], found["attempt"]) == ("w1", 1)
    assert starts(lab, "a") == ["1"]


def test_a_frozen_keeper_is_shown_and_offered_nothing_until_it_goes_on(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    (keeper,) = lab.keeper_pids("w1")
    with frozen(keeper):
        go(lab, "a")
        wait_for("it ends while the keeper stands still", lambda: (lab.work / "a.done").exists())
        wait_for("it is shown", lambda: "has not answered for" in lab.ok("show-worker", "w1"))
        waiting = lab.submit("sh", "-c", f"touch {lab.work}/ran")
        assert lab.kueue("wait-job", "--timeout", "2s", str(waiting)).returncode == 124
        assert not (lab.work / "ran").exists()
        assert lab.state_of(waiting) == "pending"
        assert lab.state_of(running) == "running"
    assert lab.wait_state(running, "succeeded")["attempt"] == 1
    assert lab.wait_state(waiting, "succeeded")["attempt"] == 1
    wait_for("it is shown no more", lambda: "has not answered" not in lab.ok("show-worker", "w1"))
    assert starts(lab, "a") == ["1"]


def test_everything_frozen_at_once_goes_on_as_if_nothing_had_been(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(**SETTINGS)
    server = lab.start_server()
    agents = [lab.start_worker("w1")]
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    agents.append(lab.start_worker("w2"))  # it would get the job if w1 were given up
    waiter = lab.start_client("waiter", "wait-job", str(job))
    with frozen(server.pid, *(agent.pid for agent in agents), *lab.keeper_pids()):
        time.sleep(2.5 * LEASE_SECONDS)
    wait_for("the server notices", lambda: "the server itself was held up" in lab.server_log())
    time.sleep(LEASE_SECONDS)  # by then somebody would have been given up
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert waiter.wait(30) == 0
    assert (lab.place / "waiter.err").read_bytes() == b""
    assert starts(lab, "a") == ["1"]
    for said in ("is lost", "is silent", "is away"):
        assert said not in lab.server_log()
    for name in ("w1", "w2"):
        assert "no server" not in lab.worker_log(name)
