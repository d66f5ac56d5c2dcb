"""An orderly shutdown of a worker's machine: whatever the order of the TERMs, jobs are interrupted, none has failed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence

import pytest

import kueue
from kueue.wire.messages import JobView
from tests.faults.observer import Observer
from tests.support.lab import Lab
from tests.support.waiting import wait_for

# None of the first three may succeed if what its shell waits for is ended before the shell hears of anything.
PLAIN = "sleep 1000"
EXITS_BADLY = "trap 'exit 7' TERM; sleep 1000 & wait; exit 7"
ENDS_WELL = "trap 'exit 0' TERM; sleep 1000 & wait"
TREE = "(sleep 1000 & wait) & sleep 1000 | cat; sleep 1000"
JOBS = (PLAIN, EXITS_BADLY, TREE, ENDS_WELL)
ROUNDS = 2
LONG_ROUNDS = 15


@pytest.fixture
def host(make_lab: Callable[..., Lab]) -> Observer:
    """A server elsewhere, and a host with one worker."""
    lab = make_lab(
        server="worker_timeout_seconds = 60",
        worker="worker_max_parallel_jobs = 8\njob_kill_grace_seconds = 2",
        client="job_default_cpus = 0",
    )
    lab.start_server()
    host = Observer(lab)
    host.start_worker()
    return host


def submit(host: Observer, commands: Sequence[str] = JOBS) -> dict[int, str]:
    """One job of each kind, running; what a second attempt does is over at once."""
    with kueue.Client(host.lab.config) as client:
        jobs = {}
        for command in commands:
            script = f'[ "$KUEUE_ATTEMPT" = 1 ] || exit 0; touch up.$KUEUE_JOB_ID; {command}'
            jobs[int(client.submit(["sh", "-c", script], cwd=host.lab.work, max_restarts=0).id)] = command
    host.wait_all(jobs, ["running"])
    wait_for("all are up", lambda: _all_up(host.lab, jobs))
    return jobs


def _all_up(lab: Lab, jobs: dict[int, str]) -> bool:
    there = all((lab.work / f"up.{job}").exists() for job in jobs)
    return there and len(lab.jobs_processes()) >= 2 * len(jobs) + (2 if TREE in jobs.values() else 0)


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


def were_interrupted(found: list[JobView], jobs: dict[int, str]) -> None:
    """Each ran once more, but for what had ended well; nothing counts as lost."""
    for job in found:
        ends = [attempt.end for attempt in job.attempts]
        assert job.state == "succeeded", (jobs[job.id], job)
        assert job.restarts == 0, (jobs[job.id], job)  # `max_restarts` is 0: a loss would have failed it
        if jobs[job.id] == ENDS_WELL:
            assert ends in (["exited"], ["interrupted", "exited"]), job
        else:
            assert ends == ["interrupted", "exited"], (jobs[job.id], job)


def comes_up(host: Observer, jobs: dict[int, str]) -> None:
    """The machine is on again."""
    host.start_worker()
    were_interrupted(host.wait_all(jobs), jobs)


def test_term_to_every_process_in_any_order_interrupts_the_jobs(host: Observer, long_form: bool) -> None:
    lab = host.lab
    chance = random.Random(20)
    for _ in range(LONG_ROUNDS if long_form else ROUNDS):
        jobs = submit(host)
        everyone = [*lab.jobs_processes(), *lab.keeper_pids("w1"), lab.agents["w1"].pid]
        chance.shuffle(everyone)
        term(everyone)
        off(lab)
        comes_up(host, jobs)


@pytest.mark.parametrize("delay", [0.3, 3.0])
def test_jobs_that_get_their_term_seconds_before_keeper_and_agent_are_interrupted(
    host: Observer, delay: float
) -> None:
    lab = host.lab
    # Later than a second, only an end by TERM tells of a shutdown; an exit code of the job's own is its own.
    jobs = submit(host, JOBS if delay < 1 else (PLAIN, TREE, ENDS_WELL))
    term(lab.jobs_processes())
    time.sleep(delay)  # the time between the signals is what is tested
    term([*lab.keeper_pids("w1"), lab.agents["w1"].pid])
    off(lab)
    comes_up(host, jobs)


def test_only_the_keeper_is_told_and_the_agent_never(host: Observer, long_form: bool) -> None:
    for _ in range(LONG_ROUNDS if long_form else 1):
        jobs = submit(host)
        term([*host.lab.keeper_pids("w1"), *host.lab.jobs_processes()])
        were_interrupted(host.wait_all(jobs, seconds=30), jobs)


def test_a_success_just_before_the_shutdown_stays_one(host: Observer) -> None:
    lab = host.lab
    number = host.submit("while [ ! -e go ]; do sleep 0.02; done; echo done >> done")
    host.wait(number, "running")
    (lab.work / "go").touch()
    wait_for("it has done its work", lambda: (lab.work / "done").exists() and not lab.jobs_processes())
    term([*lab.keeper_pids("w1"), lab.agents["w1"].pid])
    off(lab)
    host.start_worker()
    assert host.wait(number, "succeeded").attempt == 1
    assert (lab.work / "done").read_text() == "done\n"
