"""`kueue_restart_workers` on hosts of its own: what it mends in one round, what it names, what it leaves alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable

import pexpect
import pyte
import pytest

from tests.cluster.desk import Desk
from tests.cluster.hosts import DESK, HOME
from tests.support.waiting import wait_for

pytestmark = pytest.mark.timeout(300)
TWELVE = [f"rax{number:02d}" for number in range(1, 13)]
CONNECT_SECONDS = 20


def started(row: dict[str, object]) -> bool:
    """Was a worker launched, and does it serve now?"""
    return str(row["done"]).startswith("started in ") and row["connected"] is True and row["error"] is None


def test_one_round_starts_twelve_workers_the_next_changes_nothing_and_another_mends_what_can_be_mended(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk(*TWELVE, supervisor=f"connect_timeout_seconds = {CONNECT_SECONDS}")
    hosts = desk.hosts

    began = time.monotonic()
    rows = desk.rows("--once")
    starting = time.monotonic() - began
    assert all(started(rows[name]) for name in TWELVE), rows
    assert rows["server"]["done"] == "started in screen"
    assert desk.connected() == set(TWELVE)

    began = time.monotonic()
    rows = desk.rows("--once")
    quiet = time.monotonic() - began
    assert not any(row["done"] or row["error"] for row in rows.values()), rows

    without_agent, without_keeper, rebooted = TWELVE[:3], TWELVE[3:6], TWELVE[6]
    off, black_hole, other_key, hanging, well = TWELVE[7:]
    hanging_shell = hosts.write_home("hang", "#!/bin/sh\nexec sleep 600\n", 0o755)
    survivors = {name: (hosts.agents(name), hosts.keepers(name)) for name in TWELVE}
    for name in without_agent:
        hosts.signal(name, "KILL", *hosts.agents(name))
    for name in without_keeper:
        hosts.signal(name, "KILL", *hosts.agents(name), *hosts.keepers(name))
    hosts.kill(rebooted)
    hosts.kill(off)
    hosts.boot(rebooted)
    hosts.cut(black_hole)
    hosts.change_host_key(other_key)
    hosts.set_shell(hanging, f"{HOME}/{hanging_shell.name}")

    began = time.monotonic()
    rows = desk.rows("--once", code=1)
    seconds = time.monotonic() - began
    for name in (*without_agent, *without_keeper, rebooted):
        assert started(rows[name]), rows[name]
    for name in without_agent:
        assert hosts.keepers(name) == survivors[name][1]
    assert rows[well]["done"] is rows[well]["error"] is None
    assert rows[well]["pid"] == survivors[well][0][0]
    assert rows[off]["error"] in ("No route to host", "no answer within 20 s", "Network is unreachable")
    assert rows[black_hole]["error"] == f"no answer within {CONNECT_SECONDS} s"
    assert "host key has CHANGED" in rows[other_key]["error"]
    assert f"ssh-keygen -R {other_key}" in rows[other_key]["error"]
    assert rows[hanging]["error"].startswith("logged in, but no answer within")
    # Three hosts used up that time each. What is over is what a round takes in which nothing is done, on a machine
    # that is all hosts and perhaps busy with other things.
    slowest = max(CONNECT_SECONDS, starting)
    assert seconds < slowest + max(5.0, 2 * quiet), "no host waits for another"
    for name in (black_hole, other_key, hanging):
        assert hosts.agents(name) == survivors[name][0]

    hosts.boot(off)
    hosts.mend(black_hole)
    hosts.set_shell(hanging, "/bin/bash")
    hosts.run(DESK, "ssh-keygen", "-R", other_key)
    hosts.know_hosts()
    rows = desk.rows("--once")
    assert started(rows[off])
    assert not any(row["done"] for name, row in rows.items() if name != off)
    desk.wait_until_connected(set(TWELVE))


def test_a_worker_is_judged_by_its_lock_not_by_the_name_of_a_session(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    hosts.run("rax01", "screen", "-dmS", "kueue_worker", "sleep", "600")

    assert started(desk.rows("--once")["rax01"])  # though a session of that name was there
    (agent,) = hosts.agents("rax01")
    assert hosts.pids("rax01", "sleep"), "somebody's own session is left alone"

    second = hosts.run("rax01", "kueue_worker", check=False)
    assert second.returncode == 2
    assert "runs on this machine already" in second.stderr

    hosts.signal("rax01", "KILL", *hosts.pids("rax01", "screen"))
    sockets = hosts.run("rax01", "screen", "-ls", check=False).stdout
    assert "Dead ???" in sockets
    row = desk.rows("--once")["rax01"]
    assert row["pid"] == agent
    assert row["done"] is None
    assert "Dead ???" not in hosts.run("rax01", "screen", "-ls", check=False).stdout

    hosts.signal("rax01", "STOP", agent)
    assert desk.rows("--status", code=1)["rax01"]["error"] == "the agent does not answer"
    row = desk.rows("--once")["rax01"]
    assert row["done"] == "restarted in screen"
    assert row["pid"] != agent
    assert row["connected"]


def test_a_job_runs_on_while_its_frozen_agent_is_replaced_and_its_workers_are_upgraded_and_drained(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", "rax02", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    desk.rows("--once")
    gate = f"{HOME}/gate"
    for name in desk.names:
        words = ["sh", "-c", f"echo $KUEUE_ATTEMPT >> {HOME}/runs; until [ -e {gate} ]; do sleep 0.1; done"]
        desk.kueue("cmd", "--worker", f"{name}*", *words)
    desk.wait_until("running == 2")
    before = {name: hosts.agents(name) for name in desk.names}

    hosts.signal("rax01", "STOP", *hosts.agents("rax01"))
    assert desk.rows("--once")["rax01"]["done"] == "restarted in screen"
    rows = desk.rows("--upgrade")
    assert all(row["done"] == "restarted in screen" and row["jobs"] == 1 for row in rows.values()), rows
    assert not any(set(hosts.agents(name)) & set(before[name]) for name in desk.names)

    rows = desk.rows("--stop", "--drain")
    assert all(row["done"] == "told to end when its jobs have" for row in rows.values())
    rows = desk.rows("--status")
    assert {row["note"] for row in rows.values() if row["role"] == "worker"} == {"it is ending, 1 job left"}
    rows = desk.rows("--once")
    assert not any(row["done"] for row in rows.values())

    hosts.write_home("gate", "")
    wait_for("the workers have gone", lambda: not any(hosts.agents(name) for name in desk.names))
    jobs = desk.jobs()
    assert [job["state"] for job in jobs] == ["succeeded"] * 2
    assert (hosts.home / "runs").read_text() == "1\n1\n"


def test_stop_ends_workers_and_their_jobs_also_where_only_a_keeper_is_left(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", "rax02", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    desk.rows("--once")
    for name in desk.names:
        desk.kueue("cmd", "--worker", f"{name}*", "sleep", "600")
    desk.wait_until("running == 2")
    hosts.signal("rax02", "KILL", *hosts.agents("rax02"))

    rows = desk.rows("--stop")
    assert rows["rax01"]["done"] == "ended"
    assert rows["rax02"]["done"] == "ended what was left"
    for name in desk.names:
        assert not hosts.agents(name)
        assert not hosts.keepers(name)
        assert not hosts.pids(name, "sleep")
    rows = desk.rows("--stop")
    assert {row["note"] for row in rows.values()} == {"no worker"}


def test_the_server_is_started_before_the_workers_and_a_dead_one_again(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    rows = desk.rows("--status", code=1)
    assert "no server at desk:11236" in rows["server"]["error"]
    assert rows["rax01"]["error"] == "no worker"

    assert desk.rows("--once")["server"]["done"] == "started in screen"
    (server,) = hosts.pids(DESK, "kueue_server")
    hosts.signal(DESK, "KILL", server)
    row = desk.rows("--once")["server"]
    assert row["done"] == "started in screen"
    assert hosts.pids(DESK, "kueue_server") != [server]
    desk.wait_until_connected({"rax01"})

    hosts.run(DESK, "kueue", "shutdown")
    desk.write_config(supervisor="restart_server = false")
    assert "server" not in desk.rows("--once")


def test_agents_follow_a_server_that_has_moved(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20")
    before = desk.rows("--once")["rax01"]["pid"]
    desk.kueue("shutdown")
    desk.write_config(supervisor="connect_timeout_seconds = 20", common="server_port = 11300")
    rows = desk.rows("--once")
    assert rows["server"]["done"] == "started in screen"
    assert rows["rax01"]["done"] is None, "it finds the server by itself"
    desk.wait_until_connected({"rax01"}, seconds=60)
    row = desk.rows("--once")["rax01"]
    assert row["done"] is row["note"] is row["error"] is None
    assert row["pid"] == before


def test_on_a_terminal_the_table_is_filled_in_row_by_row(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk("rax01", supervisor="connect_timeout_seconds = 20\nsleep_minutes_before_recheck = 0.02")
    inside = desk.hosts.inside(DESK, {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"})
    terminal = pexpect.spawn(inside[0], [*inside[1:], "kueue_restart_workers"], encoding="utf-8", timeout=60)
    screen = pyte.Screen(160, 40)
    stream = pyte.Stream(screen)

    def shows(text: str) -> bool:
        with contextlib.suppress(pexpect.TIMEOUT):
            stream.feed(terminal.read_nonblocking(65536, timeout=0.1))
        return any(text in line for line in screen.display)

    try:
        wait_for("the server's row", lambda: shows("desk (server)"), seconds=60)
        wait_for("the worker's row", lambda: shows("started in screen") and shows("rax01"), seconds=60)
        wait_for("a second round", lambda: shows("1 of 1 host well; next look in"), seconds=60)
        assert sum("rax01" in line for line in screen.display) == 1, "one table, kept up to date"
        terminal.sendintr()
        wait_for("it has ended", lambda: not desk.hosts.pids(DESK, "kueue_restart_workers"[:15]))
        with contextlib.suppress(pexpect.EOF):
            shows("")
        assert not any("Traceback" in line for line in screen.display)
    finally:
        terminal.close(force=True)


def test_rounds_at_the_same_time_on_two_machines_start_one_server_and_one_worker_a_host(
    make_desk: Callable[..., Desk],
) -> None:
    desk = make_desk("rax01", "rax02", "rax03", supervisor="connect_timeout_seconds = 20")
    hosts = desk.hosts
    hosts.as_root(DESK, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    together = [
        hosts.start(
            name,
            *("kueue_restart_workers", "--once", "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for name in (DESK, "rax01", DESK)
    ]
    for each in together:
        out, said = each.communicate(timeout=180)
        rows = json.loads(out)
        assert (each.returncode, said) == (0, ""), [row for row in rows if row["error"]]
        workers = [row for row in rows if row["role"] == "worker"]
        # One that another round has just started may be on its way to the server still; then that is said.
        assert all(row["connected"] or row["note"].startswith("not connected") for row in workers), rows
    for name in desk.names:
        assert len(hosts.agents(name)) == 1
    assert len(hosts.pids(DESK, "kueue_server")) == 1
    wait_for("all are connected", lambda: desk.connected() == set(desk.names))
    rows = desk.rows("--once")
    assert not any(row["done"] or row["error"] for row in rows.values()), rows
