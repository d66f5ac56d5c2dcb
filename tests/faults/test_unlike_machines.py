"""Machines of one lab that do not have the same: a program that only one of them has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.waiting import wait_for

MOUNT = 'mount --bind "$0" "$1" && shift && exec "$@"'


def with_tools(tools: Path, place: Path) -> tuple[str, ...]:
    """Words before a command, which then sees `tools` at `place`, as another machine would."""
    under = ("unshare", "-Urm", "sh", "-c", MOUNT, str(tools), str(place))
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no unprivileged user namespaces here")
    return under


@pytest.fixture
def unlike(make_lab: Callable[..., Lab]) -> Lab:
    """`w1` lacks the program `tool`, which `w2` has in the same place."""
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    place, tools = lab.place / "bin", lab.place / "tools"
    place.mkdir()
    tools.mkdir()
    (tools / "tool").write_text('#!/bin/sh\necho "$KUEUE_WORKER"\n')
    (tools / "tool").chmod(0o755)
    lab.env["PATH"] += f":{place}"
    lab.start_server()
    lab.start_worker("w1")
    lab.start_worker("w2", under=with_tools(tools, place))
    return lab


def test_jobs_of_a_program_that_one_machine_lacks_run_on_the_other(unlike: Lab) -> None:
    for _ in range(20):
        unlike.ok("cmd", "tool")
    wait_for("all ran", lambda: all(job["state"] == "succeeded" for job in unlike.json("list-jobs")), 60)
    jobs = unlike.json("list-jobs")
    assert {job["worker"] for job in jobs} == {"w2"}
    assert {job["attempt"] for job in jobs} == {1}  # a refusal is no attempt


def test_a_program_that_no_machine_has_ends_its_jobs_with_127_and_others_go_on(unlike: Lab) -> None:
    done = unlike.kueue("cmd", "--wait", "nobody_has_it")
    assert (done.returncode, done.stdout) == (127, b"127\n")
    assert b"no nobody_has_it in PATH (2 workers were asked)" in done.stderr
    assert unlike.kueue("cmd", "--wait", "tool").returncode == 0
    # Only a name that fits nobody but w1 is left: it need not wait for w2.
    done = unlike.kueue("cmd", "--wait", "--worker", "w1", "tool")
    assert (done.returncode, done.stdout) == (127, b"127\n")


def test_a_machine_that_is_away_is_waited_for(unlike: Lab) -> None:
    unlike.agents["w2"].kill()
    wait_for("w2 is away", lambda: unlike.worker_state("w2") == "silent")
    number = unlike.ok("cmd", "tool").strip()
    wait_for(
        "w1 has refused it", lambda: (unlike.job(int(number))["reason"] or {}).get("code") == "no_program"
    )
    tools = unlike.place / "tools"
    unlike.start_worker("w2", under=with_tools(tools, unlike.place / "bin"))
    assert unlike.wait_state(int(number), "succeeded")["worker"] == "w2"
