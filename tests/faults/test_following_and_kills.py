"""The server killed at the N-th sync or write of its journal while jobs wait for others, and their results are cleaned.

What is promised (G13): a job that waits for others starts only when each of them has succeeded; none waits for ever.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable

import pytest

from kueue import Client, JobSpec
from kueue.errors import ServerUnreachableError
from tests.faults.dying import client_of, files_of, journal_of
from tests.faults.strace import kill_at
from tests.faults.test_verbs_and_kills import SHORT
from tests.support.lab import Lab
from tests.support.waiting import wait_for

LINKS = 8
FOLLOWERS = 5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_server_killed_at_any_write_lets_nobody_go_too_early_and_forgets_nobody(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    runs = lab.work / "runs"
    runs.touch()
    with client_of(lab) as client:
        chain = _submit(lab, client)
    lab.start_worker("w1")
    lab.kill_server()
    died = 0
    for number in range(2, 40) if long_form else SHORT[call]:
        under = kill_at(call, number, files_of(journal_of(lab)), lab.place / f"trace.{number}")
        server = lab.start_server(under=under, may_die=True)
        with contextlib.suppress(ServerUnreachableError), client_of(lab) as client:
            client.clean(failed=True)
        wait_for(
            "the server died or all is over",
            lambda: server.poll() is not None or str(chain[-1]) in runs.read_text().split(),  # noqa: B023
            seconds=60,
        )
        died += server.poll() == -signal.SIGKILL
        lab.kill_server()
    assert died
    lab.start_server()
    lab.kueue("wait-job", str(chain[-1]), timeout=120)
    with client_of(lab) as client:
        counts = client.counts()
        held = [view for view in client.job_views() if view.state == "waiting"]
        assert (counts.pending, counts.running, len(held)) == (0, 0, 2)
        assert {view.reason.code for view in held if view.reason is not None} == {"held"}
    assert [int(job) for job in runs.read_text().split()] == chain, (
        "who followed the failure ran, or out of order"
    )


def _submit(lab: Lab, client: Client) -> list[int]:
    """Jobs that follow one that fails, and a chain, at the end of which is one that waits for all; its ids."""
    noted = ["sh", "-c", f"sleep 0.05; echo $KUEUE_JOB_ID >> {lab.work}/runs"]
    bad = client.submit(["sh", "-c", "exit 3"], cwd=lab.work)
    after_bad = client.submit_many([JobSpec(noted, cwd=lab.work, after=bad)] * FOLLOWERS)
    client.submit_many([JobSpec(noted, cwd=lab.work, after=[bad], on_failure="hold")] * 2)
    further = client.submit_many([JobSpec(noted, cwd=lab.work, after=after_bad)] * FOLLOWERS)
    chain = [client.submit(noted, cwd=lab.work).id]
    while len(chain) < LINKS:
        chain.append(client.submit(noted, cwd=lab.work, after=chain[-1]).id)
    chain.append(client.submit(noted, cwd=lab.work, after=chain, after_any=[bad, *after_bad, *further]).id)
    return chain
