"""The server killed at the N-th sync or write of its journal while jobs are changed, run again and tried again.

What is promised: a `set-job` or `rerun-job` that was answered is done, also after a `kill -9`; one that was repeated
after a lost answer is done once (G9); a job that fails by its own exit code is tried exactly as often as asked (G10).
"""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from kueue import JobSpec, Selector
from kueue.errors import ServerUnreachableError
from tests.faults.dying import client_of, files_of, journal_of
from tests.faults.strace import kill_at
from tests.support.lab import Lab
from tests.support.waiting import wait_for

SHORT = {"fdatasync": (2, 5), "pwrite64": (3, 12, 40)}
COUNT = 30


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_changes_and_reruns_that_were_answered_survive_and_none_is_done_by_halves(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab()
    lab.start_server()
    with client_of(lab) as client:
        client.submit_many(JobSpec(["true"], group="old") for _ in range(COUNT))
        client.cancel(Selector(group="old"))
        client.submit_many(JobSpec(["true"], group="new") for _ in range(COUNT))
    lab.kill_server()
    priority, reruns = 0, 0
    for number in range(2, 30) if long_form else SHORT[call]:
        under = kill_at(call, number, files_of(journal_of(lab)), lab.place / f"trace.{number}")
        server = lab.start_server(under=under, may_die=True)
        asked = priority
        try:
            with client_of(lab) as client:
                for _ in range(100):
                    asked = priority + 1
                    assert client.change(Selector(group="new"), priority=asked % 1000).changed == COUNT
                    priority = asked
                    assert len(client.rerun(Selector(group="old"), group="again")) == COUNT
                    reruns += 1
        except ServerUnreachableError:
            pass
        assert server.wait(10) == -signal.SIGKILL

        lab.start_server()
        with client_of(lab) as client:
            found = {view.priority for view in client.job_views(which=Selector(group="new"))}
            assert found in ({priority % 1000}, {asked % 1000}), f"{priority} was promised, {asked} asked for"
            (now,) = found
            priority = now
            whole, rest = divmod(client.select(Selector(group="again")).counts.pending, COUNT)
            assert rest == 0, "a rerun was done by halves"
            assert whole in (reruns, reruns + 1), f"{reruns} reruns were promised, there are {whole}"
            reruns = whole
        lab.kill_server()
    assert priority > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_server_killed_at_any_write_tries_each_job_as_often_as_asked(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    runs = lab.work / "runs"
    runs.touch()
    submitted = 0
    with client_of(lab) as client:
        submitted = len(
            client.submit_many(
                JobSpec(
                    ["sh", "-c", f"echo $KUEUE_JOB_ID $KUEUE_ATTEMPT >> {runs}; sleep 0.1; exit 3"],
                    cwd=lab.work,
                    retries=3,
                    retry_delay=delay,
                )
                for delay in (0, 0.1) * 4
            )
        )
    lab.kill_server()
    died = 0
    for number in range(2, 40) if long_form else SHORT[call]:
        under = kill_at(call, number, files_of(journal_of(lab)), lab.place / f"trace.{number}")
        server = lab.start_server(under=under, may_die=True)
        # On a busy machine many ends share one commit, and all may be over before there were so many.
        wait_for(
            "the server died or all has been tried",
            lambda: server.poll() is not None or len(runs.read_text().splitlines()) == 4 * submitted,  # noqa: B023
            seconds=60,
        )
        died += server.poll() == -signal.SIGKILL
        lab.kill_server()
    assert died
    lab.start_server()
    lab.kueue("wait-job", f"1-{submitted}", timeout=120)
    for job in lab.json("list-jobs"):
        assert (job["state"], job["retries"], job["attempt"], job["restarts"]) == ("failed", 3, 4, 0)
    ran = sorted(runs.read_text().splitlines())
    assert ran == sorted(f"{job} {attempt}" for job in range(1, submitted + 1) for attempt in range(1, 5))
