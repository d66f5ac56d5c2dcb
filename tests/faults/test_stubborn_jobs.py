"""Jobs that do not want to end: canceled, over time, superseded, all of each is ended, and the keeper goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kueue
from tests.support.lab import Lab
from tests.support.waiting import wait_for

DAEMON = """
import os, time
if os.fork():
    time.sleep(1000)
os.setsid()
if os.fork():
    os._exit(0)
time.sleep(1000)
"""
RUNNER = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    while True:
        time.sleep(1000)
while True:
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(0.03)
"""
ZOMBIES = """
import os, signal, time
for _ in range(100):
    if not os.fork():
        os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(1000)
"""
STUBBORN = {
    "ignores TERM": ["sh", "-c", "trap '' TERM; while :; do sleep 0.2; done"],
    "a daemon out of its session": [sys.executable, "-c", DAEMON],
    "out of its session, its environment dropped": [
        "sh",
        "-c",
        "trap '' TERM; env -i setsid sh -c \"trap '' TERM; sleep 1000; sleep 1000\" & wait; sleep 1000",
    ],
    "a new process and session every 30 ms": [sys.executable, "-c", RUNNER],
    "stopped": ["sh", "-c", "kill -STOP $$; sleep 1000"],
    "ends before a child that ignores TERM and has its output": [
        "sh",
        "-c",
        "(trap '' TERM; sleep 1000) & wait",
    ],
    "kills its own group, but for a child": [
        "sh",
        "-c",
        "trap 'kill -KILL 0' TERM; setsid sleep 1000 & wait; wait",
    ],
    "traced": ["strace", "-f", "-o", "/dev/null", "sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"],
    "makes zombies": [sys.executable, "-c", ZOMBIES],
}


@pytest.fixture
def rough(make_lab: Callable[..., Lab]) -> Lab:
    """A worker with room for all stubborn jobs, and short times."""
    lab = make_lab(
        server="worker_timeout_seconds = 3",
        worker=f"worker_max_parallel_jobs = {len(STUBBORN) + 2}\njob_kill_grace_seconds = 1",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    lab.start_worker("w1")
    return lab


def here(lab: Lab) -> dict[int, str]:
    """Living processes in the lab's working directory: those of its jobs, whatever their environment and session."""
    found = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == str(lab.work):
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
    return found


def submit_all(lab: Lab, time_limit: float | None = None) -> list[int]:
    """All of them, up and in their places. A second attempt of one ends well at once."""
    again = ["sh", "-c", '[ "$KUEUE_ATTEMPT" = 1 ] || exit 0; exec "$@"', "sh"]
    with kueue.Client(lab.config) as client:
        specs = [
            kueue.JobSpec([*again, *command], name=name, cwd=lab.work, time_limit=time_limit)
            for name, command in STUBBORN.items()
        ]
        jobs = [int(job.id) for job in client.submit_many(specs)]
    wait_for("each is as it is to be", lambda: _is_up(lab))
    return jobs


def _is_up(lab: Lab) -> bool:
    states = []
    for pid in here(lab):
        with contextlib.suppress(OSError):
            states.append(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1])
    commands = list(here(lab).values())
    return (
        b"T" in states
        and sum(command.startswith("sleep 1000") for command in commands) >= 4
        and sum(DAEMON in command for command in commands) == 2
        and sum(RUNNER in command for command in commands) >= 2
        and sum(ZOMBIES in command for command in commands) == 1
    )


def ended(lab: Lab, jobs: list[int]) -> list[dict[str, Any]]:
    """These jobs, as soon as each has ended somehow."""
    lab.kueue("wait-job", *map(str, jobs), timeout=90)
    return [job for job in lab.json("list-jobs") if job["id"] in jobs]


def nothing_is_left_and_the_worker_goes_on(lab: Lab, keeper: list[int]) -> None:
    wait_for("nothing of them is left", lambda: not here(lab), 60)
    assert lab.keeper_pids("w1") == keeper
    assert lab.kueue("cmd", "--wait", "true").returncode == 0
    (worker,) = (worker for worker in lab.json("list-workers") if worker["name"] == "w1")
    assert (worker["state"], worker["jobs"], worker["accepting"]) == ("connected", 0, True)
    assert "hangs in the kernel" not in "".join(path.read_text() for path in lab.place.rglob("keeper.log"))


def test_canceled_they_are_ended_with_all_that_is_theirs(rough: Lab) -> None:
    keeper = rough.keeper_pids("w1")
    jobs = submit_all(rough)
    rough.ok("remove-job", "--kill", *map(str, jobs))
    assert {job["state"] for job in ended(rough, jobs)} == {"canceled"}
    nothing_is_left_and_the_worker_goes_on(rough, keeper)


def test_at_their_time_limit_they_are_ended_with_all_that_is_theirs(rough: Lab) -> None:
    keeper = rough.keeper_pids("w1")
    jobs = submit_all(rough, 10.0)
    for job in ended(rough, jobs):
        assert (job["state"], job["reason"]["code"]) == ("failed", "time_limit"), job["name"]
    nothing_is_left_and_the_worker_goes_on(rough, keeper)


def test_superseded_they_are_ended_before_their_worker_takes_others(rough: Lab) -> None:
    keeper = rough.keeper_pids("w1")
    jobs = submit_all(rough)
    rough.agents["w1"].kill()  # the keeper and the jobs live on
    rough.agents["w1"].wait()
    rough.start_worker("w2")
    assert {(job["state"], job["worker"]) for job in ended(rough, jobs)} == {("succeeded", "w2")}
    assert here(rough)
    rough.start_worker("w1")
    nothing_is_left_and_the_worker_goes_on(rough, keeper)
    assert {job["state"] for job in ended(rough, jobs)} == {"succeeded"}


def test_a_job_that_ends_before_a_child_with_its_output_has_ended(rough: Lab) -> None:
    job = rough.submit("sh", "-c", "echo before; (sleep 1000; echo after) & exit 3")
    assert rough.wait_state(job, "failed")["return_code"] == 3
    assert rough.ok("logs", "-f", str(job)) == "before\n"
    assert here(rough)  # what a job leaves in the background is its own affair
    for pid in here(rough):
        os.kill(pid, signal.SIGKILL)


def test_a_job_that_kills_its_own_session_has_failed_by_a_signal_and_harms_no_other(rough: Lab) -> None:
    other = rough.submit("sh", "-c", "sleep 3")
    job = rough.submit("sh", "-c", "kill -KILL 0; sleep 1000")
    found = rough.wait_state(job, "failed", "pending", "succeeded")
    assert (found["state"], found["signal"], found["reason"]["code"]) == ("failed", 9, "signal")
    assert rough.wait_state(other, "succeeded")["attempt"] == 1
