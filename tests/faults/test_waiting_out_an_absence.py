"""Commands that wait for jobs, over an absence of the server that is longer than any other command tries."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.gated import gated, go
from tests.support.lab import Lab
from tests.support.waiting import wait_for

AWAY = b"the server is away since"


def errors(lab: Lab, name: str) -> bytes:
    return (lab.place / f"{name}.err").read_bytes()


def _says_so(lab: Lab, name: str) -> bool:
    return AWAY in errors(lab, name)


def connections(lab: Lab) -> int:
    """How many the server has: its own sockets at its port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{lab.port:04X}") and row[3] == "01" for row in rows)


def test_every_command_that_waits_says_once_that_the_server_is_away_and_goes_on(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2", client="connect_timeout_seconds = 2")
    lab.start_server()
    lab.start_worker("w1")
    failed = lab.submit("false")
    lab.wait_state(failed, "failed")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    waits = {
        "wait": lab.start_client("wait", "wait-job", str(job)),
        "follow": lab.start_client("follow", "logs", "-f", str(job)),
        "cmd": lab.start_client("cmd", "cmd", "--wait", *gated(lab, "b")),
        "interrupt": lab.start_client("interrupt", "wait-job", str(job)),
    }
    wait_for("b runs", lambda: (lab.work / "b.starts").exists())
    wait_for("they are connected", lambda: connections(lab) == len(waits) + 1)
    waits["timeout"] = lab.start_client("timeout", "wait-job", "--timeout", "10s", str(failed), str(job))
    # Not only connected: it has asked, and heard.
    wait_for("it waits, too", lambda: b"job %d failed" % failed in errors(lab, "timeout"))
    lab.kill_server()
    for name in ("wait", "follow", "cmd", "interrupt"):
        wait_for(f"{name} says so", partial(_says_so, lab, name))
    assert lab.kueue("list-jobs").returncode == 3, "other commands give up as ever"
    assert waits["timeout"].wait(30) == 124
    waits["interrupt"].send_signal(signal.SIGINT)
    assert waits["interrupt"].wait(30) == 130
    go(lab, "a")
    go(lab, "b")
    lab.start_server()
    for name in ("wait", "follow", "cmd"):
        assert waits[name].wait(60) == 0, errors(lab, name)
        assert errors(lab, name).count(AWAY) == 1
    assert (lab.place / "follow.out").read_bytes() == b"ok\n"
    assert (lab.place / "cmd.out").read_bytes() == b"0\n"


def test_waits_end_when_somebody_has_ended_the_local_server(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(client="connect_timeout_seconds = 1")
    lab.start_server()
    lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    waits = {
        "wait": (lab.start_client("wait", "wait-job", str(job)), 3),
        "follow": (lab.start_client("follow", "cmd", "--follow", *gated(lab, "b")), 125),
    }
    wait_for("both run", lambda: (lab.work / "a.starts").exists() and (lab.work / "b.starts").exists())
    wait_for("they are connected", lambda: connections(lab) == len(waits) + 1)
    lab.ok("shutdown")
    for name, (process, code) in waits.items():
        assert process.wait(30) == code
        assert b"the local server was ended; kueue up starts it again" in errors(lab, name)
    lab.start_server()
    for job in (1, 2):
        go(lab, "ab"[job - 1])
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
