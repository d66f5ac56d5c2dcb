"""An orderly shutdown of a worker's machine: whatever the order of the TERMs, jobs are interrupted, none has failed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import kueue
from tests.support.lab import Lab
from tests.support.waiting import wait_for

PLAIN = "sleep 1000"
EXITS_BADLY = "trap 'exit 7' TERM; sleep 1000 & wait"
ENDS_WELL = "trap 'exit 0' TERM; sleep 1000 & wait"
# Not a pipeline alone: with its `sleep` ended first, it would succeed before the shell hears of anything.
TREE = "(sleep 1000 & wait) & sleep 1000 | cat; sleep 1000"
JOBS = (PLAIN, EXITS_BADLY, TREE, ENDS_WELL)
ROUNDS = 2
LONG_ROUNDS = 15


@pytest.fixture
def host(make_lab: Callable[..., Lab]) -> Lab:
    """A server elsewhere, and a host with one worker."""
    lab = make_lab(
        server="worker_timeout_seconds = 60",
        worker="worker_max_parallel_jobs = 8\njob_kill_grace_seconds = 2",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    lab.start_worker("w1")
    return lab


def submit(lab: Lab, commands: Sequence[str] = JOBS) -> dict[int, str]:
    """One job of each kind, running; what a second attempt does is over at once."""
    with kueue.Client(lab.config) as client:
        jobs = {}
        for command in commands:
            script = f'[ "$KUEUE_ATTEMPT" = 1 ] || exit 0; touch up.$KUEUE_JOB_ID; {command}'
            jobs[int(client.submit(["sh", "-c", script], cwd=lab.work, max_restarts=0).id)] = command
    wait_for("they run", lambda: states(lab, jobs) == {"running"} and _all_up(lab, jobs))
    return jobs


def _all_up(lab: Lab, jobs: dict[int, str]) -> bool:
    return all((lab.work / f"up.{job}").exists() for job in jobs) and len(lab.jobs_processes()) >= 2 * len(
        jobs
    )


def listed(lab: Lab, jobs: dict[int, str]) -> dict[int, dict[str, Any]]:
    return {job["id"]: job for job in lab.json("list-jobs") if job["id"] in jobs}


def states(lab: Lab, jobs: dict[int, str]) -> set[str]:
    return {str(job["state"]) for job in listed(lab, jobs).values()}


def term(processes: list[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def off(lab: Lab) -> None:
    """What init does at last: KILL to whatever is left. The machine is down then."""
    with contextlib.suppress(Exception):
        lab.agents["w1"].wait(10)
    for pid in [*lab.keeper_pids("w1"), *lab.jobs_processes()]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    wait_for("the machine is down", lambda: not lab.keeper_pids("w1"))


def were_interrupted(lab: Lab, jobs: dict[int, str]) -> None:
    """Start the machine again: each runs once more, but for what had ended well; nothing counts as lost."""
    lab.start_worker("w1")
    wait_for("all are done", lambda: states(lab, jobs) == {"succeeded"})
    for number, job in listed(lab, jobs).items():
        ends = [attempt["end"] for attempt in job["attempts"]]
        assert job["restarts"] == 0, (jobs[number], job)  # `max_restarts` is 0: a loss would have failed it
        if jobs[number] == ENDS_WELL:
            assert ends in (["exited"], ["interrupted", "exited"]), job
        else:
            assert ends == ["interrupted", "exited"], (jobs[number], job)


def test_term_to_every_process_in_any_order_interrupts_the_jobs(host: Lab, long_form: bool) -> None:
    chance = random.Random(20)
    for _ in range(LONG_ROUNDS if long_form else ROUNDS):
        jobs = submit(host)
        everyone = [*host.jobs_processes(), *host.keeper_pids("w1"), host.agents["w1"].pid]
        chance.shuffle(everyone)
        term(everyone)
        off(host)
        were_interrupted(host, jobs)


@pytest.mark.parametrize("delay", [0.3, 3.0])
def test_jobs_that_get_their_term_seconds_before_keeper_and_agent_are_interrupted(
    host: Lab, delay: float
) -> None:
    # Later than a second, only an end by TERM tells of a shutdown; an exit code of the job's own is its own.
    jobs = submit(host, JOBS if delay < 1 else (PLAIN, TREE, ENDS_WELL))
    term(host.jobs_processes())
    time.sleep(delay)  # the time between the signals is what is tested
    term([*host.keeper_pids("w1"), host.agents["w1"].pid])
    off(host)
    were_interrupted(host, jobs)


def test_a_success_just_before_the_shutdown_stays_one(host: Lab) -> None:
    with kueue.Client(host.config) as client:
        script = "while [ ! -e go ]; do sleep 0.02; done; echo done >> done"
        number = int(client.submit(["sh", "-c", script], cwd=host.work).id)
    host.wait_state(number, "running")
    (host.work / "go").touch()
    wait_for("it has done its work", lambda: (host.work / "done").exists() and not host.jobs_processes())
    term([*host.keeper_pids("w1"), host.agents["w1"].pid])
    off(host)
    host.start_worker("w1")
    assert host.wait_state(number, "succeeded")["attempt"] == 1
    assert (host.work / "done").read_text() == "done\n"
