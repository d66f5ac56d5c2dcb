"""Jobs that do not want to end: canceled, over time, superseded, all of each is ended, and the keeper goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kueue
from tests.faults.observer import Observer
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
def rough(make_lab: Callable[..., Lab]) -> Observer:
    """A worker with room for all stubborn jobs, and short times."""
    lab = make_lab(
        server="worker_timeout_seconds = 3",
        worker=f"worker_max_parallel_jobs = {len(STUBBORN) + 2}\njob_kill_grace_seconds = 1",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    rough = Observer(lab)
    rough.start_worker()
    return rough


def here(lab: Lab) -> dict[int, str]:
    """Living processes in the lab's working directory: those of its jobs, whatever their environment and session."""
    found = {}
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/cwd") == str(lab.work):
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ")
    return found


def submit_all(rough: Observer, time_limit: float | None = None) -> list[int]:
    """All of them, up and in their places. A second attempt of one ends well at once."""
    again = ["sh", "-c", '[ "$KUEUE_ATTEMPT" = 1 ] || exit 0; exec "$@"', "sh"]
    lab = rough.lab
    with kueue.Client(lab.config) as client:
        specs = [
            kueue.JobSpec([*again, *command], name=name, cwd=lab.work, time_limit=time_limit)
            for name, command in STUBBORN.items()
        ]
        jobs = [int(job.id) for job in client.submit_many(specs)]
    wait_for("each is as it is to be", lambda: _is_up(lab), 60)
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


def nothing_is_left_and_the_worker_goes_on(rough: Observer, keeper: list[int]) -> None:
    lab = rough.lab
    wait_for("nothing of them is left", lambda: not here(lab), 60)
    assert lab.keeper_pids("w1") == keeper
    assert rough.wait(rough.submit("true")).state == "succeeded"
    worker = rough.workers()["w1"]
    assert worker.status is not None
    assert (worker.state, worker.jobs, worker.status.accepting) == ("connected", 0, True)
    assert "hangs in the kernel" not in "".join(path.read_text() for path in lab.place.rglob("keeper.log"))


def test_canceled_and_at_their_time_limit_they_are_ended_with_all_that_is_theirs(rough: Observer) -> None:
    keeper = rough.lab.keeper_pids("w1")
    jobs = submit_all(rough)
    rough.cancel(jobs)
    assert {job.state for job in rough.wait_all(jobs)} == {"canceled"}
    nothing_is_left_and_the_worker_goes_on(rough, keeper)
    for job in rough.wait_all(submit_all(rough, 10.0)):
        assert job.reason is not None, job
        assert (job.state, job.reason.code) == ("failed", "time_limit"), job
    nothing_is_left_and_the_worker_goes_on(rough, keeper)


def test_superseded_they_are_ended_before_their_worker_takes_others(rough: Observer) -> None:
    lab = rough.lab
    keeper = lab.keeper_pids("w1")
    jobs = submit_all(rough)
    lab.agents["w1"].kill()  # the keeper and the jobs live on
    lab.agents["w1"].wait()
    rough.start_worker("w2")
    assert {(job.state, job.worker) for job in rough.wait_all(jobs)} == {("succeeded", "w2")}
    assert here(lab)
    rough.start_worker("w1")
    nothing_is_left_and_the_worker_goes_on(rough, keeper)
    assert {job.state for job in rough.jobs(jobs)} == {"succeeded"}


def test_what_a_job_does_to_its_own_session_is_its_own_affair(rough: Observer) -> None:
    lab = rough.lab
    leaves = rough.submit("echo before; (sleep 1000; echo after) & exit 3")
    other = rough.submit("while [ ! -e go ]; do sleep 0.1; done")
    rough.wait(other, "running")
    kills = rough.submit("kill -KILL 0; sleep 1000")
    found = rough.wait(kills)
    assert found.reason is not None
    assert (found.state, found.signal, found.reason.code) == ("failed", 9, "signal")
    assert rough.job(other).state == "running"
    # One that ends before a child that has its output is over, and so is whoever follows it.
    assert rough.wait(leaves).return_code == 3
    assert lab.ok("logs", "-f", str(leaves)) == "before\n"
    assert any(command.startswith("sleep 1000") for command in here(lab).values())  # nobody ends what it left
    (lab.work / "go").touch()
    found = rough.wait(other)
    assert (found.state, found.attempt) == ("succeeded", 1)
    for pid in here(lab):
        os.kill(pid, signal.SIGKILL)
