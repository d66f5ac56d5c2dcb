"""Workers that live, and can't reach a server that answers everybody else: what the supervisor says and does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.desk import Desk
from tests.cluster.hosts import DESK, HOME, ROOT
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(400)
IMPATIENT = """
import sys
from kueue.supervise import cli, perform, plan
plan.ALONE_SECONDS = 8.0
perform.START_SECONDS = 12.0
sys.exit(cli.main())
"""
"""The supervisor, but for how long it waits for an agent to find the server, and for a new one to."""
ASK = "from kueue.supervise.remote import locks; print(max(each['alone_seconds'] for each in locks.agents()))"


def look(desk: Desk) -> dict[str, Any]:
    """The row of rax01, which nothing is done to."""
    done = desk.supervise("--status", "--host", "rax01", "--json", check=False)
    (row,) = json.loads(done.stdout)
    assert (done.returncode == 1) == bool(row["error"]), row
    return dict(row)


def alone_seconds(desk: Desk) -> float:
    """For how long the agent of rax01 has been without a server, as it says itself."""
    return float(desk.hosts.run("rax01", sys.executable, "-c", ASK).stdout)


def test_an_agent_cut_off_from_a_server_that_answers_others_is_named_restarted_and_told_to_be_of_no_use(
    make_desk: Callable[..., Desk], long_form: bool
) -> None:
    desk = make_desk(
        "rax01", "rax02", supervisor="connect_timeout_seconds = 20", server="worker_timeout_seconds = 6"
    )
    hosts = desk.hosts
    if not long_form:
        desk.supervisor = (sys.executable, "-c", IMPATIENT)
    before = {name: row["pid"] for name, row in desk.rows("--once").items()}
    gate = f"{HOME}/gate"
    words = ["sh", "-c", f"echo $KUEUE_ATTEMPT >> {HOME}/runs; until [ -e {gate} ]; do sleep 0.1; done"]
    desk.kueue("cmd", "--worker", "rax01*", *words)
    desk.wait_until("running == 1")

    hosts.part("rax01")
    desk.wait_until_connected({"rax02"}, seconds=60)
    wait_for("the agent has noticed", lambda: alone_seconds(desk), seconds=60)
    row = look(desk)
    assert row["reachable"]
    assert str(row["note"] or row["error"]).startswith(("not connected", "without the server for "))
    assert row["pid"] == before["rax01"]
    assert row["connected"] is False

    wait_for("it is a fault", lambda: "without the server for " in str(look(desk)["error"]), seconds=120)
    assert look(desk)["pid"] == before["rax01"], "a look changes nothing"
    rows = desk.rows("--once", code=1)
    row = rows["rax01"]
    assert row["done"] == "restarted in screen"
    assert row["note"].startswith("before: without the server for ")
    assert row["error"].startswith(f"{DESK}:11236 answers here, but its worker does not get through to it")
    assert row["pid"] not in (None, before["rax01"])
    assert row["jobs"] == 1, "its job runs on"
    assert rows["rax02"]["pid"] == before["rax02"]
    assert rows["rax02"]["done"] is rows["rax02"]["error"] is None

    hosts.unite("rax01")
    desk.wait_until_connected({"rax01", "rax02"}, seconds=60)
    after = desk.rows("--once")["rax01"]
    assert after["done"] is after["error"] is None
    assert after["pid"] == row["pid"]
    hosts.write_home("gate", "")
    desk.wait_until("not unfinished", seconds=60)
    assert [job["state"] for job in desk.jobs()] == ["succeeded"]


def test_agents_that_were_long_without_a_server_are_left_to_find_the_one_that_was_just_started(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    desk.supervisor = (sys.executable, "-c", IMPATIENT)
    hosts = desk.hosts
    before = desk.rows("--once")["rax01"]["pid"]
    hosts.signal(DESK, "KILL", *hosts.pids(DESK, "kueue_server"))
    desk.write_config(supervisor="connect_timeout_seconds = 20\nrestart_server = false")
    # Not a fault while the server is down, however long: so how long it has been is asked of the agent itself.
    wait_for("it is long without one", lambda: alone_seconds(desk) > 9.0, seconds=60)
    row = desk.rows("--once")["rax01"]
    assert row["done"] is row["error"] is None, "there is nothing that a new agent would do better"

    desk.write_config(supervisor="connect_timeout_seconds = 20")
    rows = desk.rows("--once")
    assert rows["server"]["done"] == "started in screen"
    assert rows["rax01"]["done"] is None
    desk.wait_until_connected({"rax01"}, seconds=60)
    assert desk.rows("--status")["rax01"]["pid"] == before


def test_a_server_whose_machine_is_off_costs_the_workers_machines_no_time(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", "rax02")
    for name in desk.names:
        desk.hosts.cut(name)
    desk.write_config(supervisor="connect_timeout_seconds = 12", names="rax01", server_name="rax02")
    began = time.monotonic()
    rows = desk.rows("--once", code=1)
    seconds = time.monotonic() - began
    assert rows["server"]["error"].endswith("no answer within 3 s; no answer within 12 s"), rows
    assert rows["rax01"]["error"] == "no answer within 12 s"
    assert seconds < 2 * 12, "neither waits for the other"


def test_a_host_that_has_long_been_off_has_a_worker_again_as_soon_as_it_is_back(
    make_desk: Callable[..., Desk],
) -> None:
    """Others that fail are tried ever less often: here not again for five minutes."""
    settings = "connect_timeout_seconds = 20\nsleep_minutes_before_recheck = 0.05\nbackoff = 100"
    desk = make_desk("rax01", "rax02", "rax03", supervisor=settings)
    hosts = desk.hosts
    desk.rows("--once")
    off, refusing = "rax02", "rax03"
    hosts.kill(off)
    hosts.signal(refusing, "KILL", *hosts.agents(refusing))
    hosts.change_host_key(refusing)
    log = hosts.home / "supervisor.log"
    with log.open("w") as output:
        supervisor = hosts.start(DESK, "kueue_restart_workers", stdout=output, stderr=subprocess.STDOUT)
    try:
        # By then both have failed at least twice.
        wait_for("some rounds", lambda: log.read_text().count("next look in") >= 5, seconds=120)
        said = log.read_text()
        assert f"{refusing}: its host key has CHANGED" in said
        assert said.count(f"{off}: ") == said.count(f"{refusing}: ") == 1, "one line each, not one a round"
        hosts.run(DESK, "ssh-keygen", "-R", refusing)
        hosts.know_hosts()
        hosts.boot(off)
        wait_for("it is tried", lambda: f"{off}: started in screen" in log.read_text(), seconds=60)
        desk.wait_until_connected({"rax01", off}, seconds=60)
        rounds = log.read_text().count("next look in")
        wait_for("more rounds", lambda: log.read_text().count("next look in") > rounds + 2, seconds=60)
        assert log.read_text().count(f"{refusing}: ") == 1, "that one has to wait"
    finally:
        hosts.signal(DESK, "TERM", *hosts.pids(DESK, "kueue_restart_workers"[:15]))
        code = supervisor.wait(60)
    unit = (ROOT / "examples" / "systemd" / "kueue-restart-workers.service").read_text()
    assert f"SuccessExitStatus={code}\n" in unit, "to be told to end is no failure"
    assert desk.rows("--once")[refusing]["done"] == "started in screen"


def test_more_machines_that_are_off_than_are_looked_at_together_keep_none_of_the_others_waiting(
    make_desk: Callable[..., Desk],
) -> None:
    off, on = [f"rax0{number}" for number in range(1, 6)], ["rax06", "rax07"]
    desk = make_desk(*off, *on, supervisor="connect_timeout_seconds = 60\nmax_parallel_hosts = 2")
    for name in off:
        desk.hosts.cut(name)
    began = time.monotonic()
    supervising = desk.hosts.start(DESK, *desk.supervisor, "--once", stdout=subprocess.DEVNULL)
    try:
        desk.wait_until_connected(set(on), seconds=120)
        assert time.monotonic() - began < 60, "that was after the first that is off had been given up"
        assert supervising.poll() is None
    finally:
        supervising.kill()
        supervising.wait()
