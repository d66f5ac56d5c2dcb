"""Two servers for one journal, on one machine or on several that share its directory: one of them serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.support.lab import Lab
from tests.support.waiting import wait_for


def refused(lab: Lab, *arguments: str, **env: str) -> str:
    """What a server says that does not start."""
    server = subprocess.run(
        [sys.executable, "-m", "kueue_server", *arguments],
        env={**lab.env, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert server.returncode == 2, server.stderr
    (line,) = server.stderr.splitlines()
    return line


def put_lock(lab: Lab, age: float) -> None:
    """As a server on another machine has left it."""
    path = lab.state / "server" / "lock"
    holder = {"host": "ralab29", "pid": 4711, "boot_id": "another", "ticks": 5, "token": "theirs"}
    path.write_text(json.dumps(holder))
    os.utime(path, (time.time() - age,) * 2)


def test_a_second_server_on_the_same_machine_is_refused_and_harms_nobody(lab: Lab) -> None:
    server = lab.server_process
    assert server is not None
    for arguments in ((), ("--take-over",)):
        assert f"in use: a kueue_server on this machine has it open (pid {server.pid})" in refused(
            lab, *arguments
        )
    assert lab.kueue("cmd", "--wait", "true").returncode == 0
    assert json.loads((lab.state / "server" / "lock").read_text())["pid"] == server.pid


def test_one_that_was_killed_needs_no_person_s_word(lab: Lab) -> None:
    job = lab.submit("true")
    lab.wait_state(job, "succeeded")
    lab.kill_server()
    lab.start_server()
    assert lab.job(job)["state"] == "succeeded"


def test_a_journal_of_another_machine_s_server_is_left_alone_until_a_person_says_that_it_has_ended(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    lab.start_server()
    assert lab.submit("true") == 1
    lab.kill_server()
    journal = lab.state / "server" / "journal.sqlite"
    before = journal.read_bytes()
    put_lock(lab, 10)
    for arguments in ((), ("--take-over",)):
        said = refused(lab, *arguments)
        assert re.search(r"in use by a kueue_server on ralab29 \(pid 4711\), which said so \d+ s ago", said)
    put_lock(lab, 1000)
    assert "--take-over" in refused(lab)
    assert journal.read_bytes() == before
    lab.start_server("--take-over")
    assert lab.job(1)["state"] == "pending"


def test_an_orderly_end_leaves_no_lock(lab: Lab) -> None:
    lab.ok("shutdown")
    assert lab.server_process is not None
    lab.server_process.wait(30)
    assert not (lab.state / "server" / "lock").exists()


def test_a_server_on_a_machine_that_server_name_does_not_name_says_what_to_do(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab()
    text = lab.config.read_text()
    lab.config.write_text(text.replace('server_name = "127.0.0.1"', 'server_name = "192.0.2.7"'))
    said = refused(lab)
    assert said.startswith('kueue_server: server_name is "192.0.2.7", and this machine is ')
    assert "start it there, or set server_name" in said
    assert not (lab.state / "server").exists()
    lab.start_server("--any-host")
    lab.config.write_text(text)
    assert lab.kueue("cmd", "true").returncode == 0


@pytest.mark.timeout(120)
def test_who_has_been_taken_over_ends_at_once_without_another_write(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    code = (
        "import sys, kueue_server.guard as guard; guard.REWRITE_SECONDS = 0.2;"
        "from kueue_server.daemon import main; sys.exit(main())"
    )
    lab.env["PYTHONPATH"] = os.pathsep.join(sys.path)
    server = subprocess.Popen(
        [sys.executable, "-c", code], env=lab.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for("it serves", lab.is_listening)
    assert lab.submit("true") == 1

    def has_ended() -> bool:
        put_lock(lab, 0)
        return server.poll() is not None

    wait_for("it has ended", has_ended)
    _, said = server.communicate()
    assert server.returncode == 1
    assert "a kueue_server on ralab29 has taken the journal over; this one ends at once" in said
    wal = lab.state / "server" / "journal.sqlite-wal"
    assert wal.stat().st_size  # as after a kill: nothing was tidied up
