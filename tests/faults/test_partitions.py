"""Links that are cut without a word between server, workers and clients that are on networks of their own.

Deadlines are short by configuration: both sides speak every third of the lease, and take three such intervals
of silence for the other's end.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.network import SERVER, Direction, NetworkLab
from tests.support.gated import gated, go, starts
from tests.support.waiting import wait_for

LEASE_SECONDS = 3.0
LONG_LEASE_SECONDS = 9.0
MakeLab = Callable[..., NetworkLab]


def settings(lease_seconds: float = LEASE_SECONDS) -> dict[str, str]:
    return {
        "server": f"worker_timeout_seconds = {lease_seconds:g}",
        "worker": "worker_max_parallel_jobs = 2",
        "resources": "genus = 1",
    }


def two_workers(make: MakeLab, lease_seconds: float = LEASE_SECONDS) -> NetworkLab:
    lab = make("w1", "w2", **settings(lease_seconds))
    lab.start_server()
    lab.start_worker("w1")
    return lab


def test_a_cut_shorter_than_the_lease_restarts_nothing_and_results_arrive(make_network_lab: MakeLab) -> None:
    lab = two_workers(make_network_lab, LONG_LEASE_SECONDS)
    ending, running = lab.submit(*gated(lab, "a")), lab.submit(*gated(lab, "b"))
    for job in (ending, running):
        lab.wait_state(job, "running")
    lab.start_worker("w2")
    lab.network.cut("w1")
    cut_at = time.monotonic()
    go(lab, "a")
    wait_for("a ends inside the cut", lambda: (lab.work / "a.done").exists())
    assert lab.state_of(ending) == "running"
    time.sleep(max(0.0, cut_at + LONG_LEASE_SECONDS / 3 - time.monotonic()))
    lab.network.mend("w1")
    found = lab.wait_state(ending, "succeeded")
    assert (found["attempt"], found["worker"], found["return_code"]) == (1, "w1", 0)
    assert lab.state_of(running) == "running"
    go(lab, "b")
    assert lab.wait_state(running, "succeeded")["attempt"] == 1
    assert (starts(lab, "a"), starts(lab, "b")) == (["1"], ["1"])
    assert lab.ok("logs", str(ending)) == "ok\n"


def test_a_cut_longer_than_the_lease_starts_jobs_elsewhere_and_the_older_attempt_is_stopped(
    make_network_lab: MakeLab,
) -> None:
    lab = two_workers(make_network_lab)
    again = lab.submit(*gated(lab, "a"))
    once = lab.submit("--no-restart", *gated(lab, "b"))
    for job in (again, once):
        lab.wait_state(job, "running")
    older = {job: set(lab.jobs_processes_of(job)) for job in (again, once)}
    lab.start_worker("w2")
    lab.network.cut("w1")
    wait_for("a starts elsewhere", lambda: len(starts(lab, "a")) == 2)
    assert lab.wait_state(again, "running")["worker"] == "w2"
    found = lab.wait_state(once, "failed")
    assert found["reason"]["code"] == "lost"
    assert older[again] & set(lab.jobs_processes_of(again)), "the worker that is cut off goes on"
    lab.network.mend("w1")
    wait_for("the older attempt's processes are gone", lambda: not older[again] & set(lab.jobs_processes()))
    assert lab.state_of(again) == "running"
    # What was not to be restarted has no newer attempt: it goes on, and its result counts.
    lab.wait_state(once, "running")
    for name in ("a", "b"):
        go(lab, name)
    assert lab.wait_state(again, "succeeded")["worker"] == "w2"
    assert lab.wait_state(once, "succeeded")["worker"] == "w1"
    assert starts(lab, "a") == ["1", "2"]
    assert starts(lab, "b") == ["1"]


def test_a_licence_stays_counted_while_nobody_knows_whether_its_job_has_ended(
    make_network_lab: MakeLab,
) -> None:
    lab = two_workers(make_network_lab)
    holder = lab.submit("--resource", "genus", *gated(lab, "a"))
    lab.wait_state(holder, "running")
    waiting = lab.submit("--resource", "genus", *gated(lab, "b"))
    lab.start_worker("w2")
    lab.network.cut("w1")
    wait_for("the lease is over", lambda: lab.worker_state("w1") == "lost")
    plain = lab.submit("true")
    assert lab.wait_state(plain, "succeeded")["worker"] == "w2", "others are served meanwhile"
    (row,) = lab.json("list-resources")
    assert (row["used"], row["total"]) == (1, 1)
    assert (starts(lab, "a"), starts(lab, "b")) == (["1"], [])
    lab.network.mend("w1")
    # No newer attempt could start, so the one that was cut off is the current one again.
    assert lab.wait_state(holder, "running")["attempt"] == 1
    go(lab, "a")
    go(lab, "b")
    for job in (holder, waiting):
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]


def _cut_one_way(lab: NetworkLab, direction: Direction) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    older = set(lab.jobs_processes())
    lab.start_worker("w2")
    lab.network.cut("w1", direction)
    wait_for("the worker notices by its own deadline", lambda: "no server: silent" in lab.worker_log("w1"))
    wait_for("the server notices", lambda: lab.worker_state("w1") in ("silent", "lost"))
    wait_for("the job starts elsewhere", lambda: len(starts(lab, "a")) == 2)
    lab.network.mend("w1")
    wait_for("the older attempt is ended", lambda: not older & set(lab.jobs_processes()))
    wait_for("its worker is back", lambda: lab.worker_state("w1") == "connected")
    go(lab, "a")
    found = lab.wait_state(job, "succeeded")
    assert (found["worker"], found["attempt"]) == ("w2", 2)
    assert starts(lab, "a") == ["1", "2"]


def test_what_the_server_sends_is_lost(make_network_lab: MakeLab) -> None:
    _cut_one_way(two_workers(make_network_lab), "from server")


def test_what_the_worker_sends_is_lost(make_network_lab: MakeLab) -> None:
    _cut_one_way(two_workers(make_network_lab), "to server")


def test_a_client_that_waits_hears_of_an_end_that_happened_while_it_was_cut_off(
    make_network_lab: MakeLab,
) -> None:
    lab = make_network_lab("w1", "c1", **settings(LONG_LEASE_SECONDS))
    lab.start_server()
    lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    before = lab.connections()
    lab.client_host = "c1"
    waiter = lab.start_client("waiter", "wait-job", str(job))
    lab.client_host = SERVER
    wait_for("it is connected", lambda: lab.connections() > before)
    lab.network.cut("c1")
    go(lab, "a")
    lab.wait_state(job, "succeeded")
    assert waiter.poll() is None
    lab.network.mend("c1")
    assert waiter.wait(60) == 0
