"""The server killed at the N-th sync or write of its journal while the tasks of arrays start, end and are canceled.

What is promised: an array that was answered is there, and whole (G1, G2); each of its tasks has its own index and
ends as any job does (G3, G4), and a cancel or a clean that was answered is done (G9).
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

import pytest

from kueue import Client, Selector
from kueue.errors import ServerUnreachableError
from tests.faults.dying import client_of, files_of, journal_of
from tests.faults.strace import kill_at
from tests.support.lab import Lab
from tests.support.waiting import wait_for

SHORT = {"fdatasync": (6, 11), "pwrite64": (25, 60)}
SIZE = 2000
FIRST_CANCELED = 21


def any_left(client: Client) -> bool:
    return any(client.job_views(arrays=True, limit=1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_arrays_survive_a_server_that_is_killed_at_any_write(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    runs = lab.work / "runs"
    runs.touch()
    lab.kill_server()
    arrays: dict[int, bool] = {}  # first id -> was the cancel of its end answered?
    for number in range(4, 60, 3) if long_form else SHORT[call]:
        under = kill_at(call, number, files_of(journal_of(lab)), lab.place / f"trace.{number}")
        server = lab.start_server(under=under, may_die=True)
        try:
            with client_of(lab) as client:
                for _ in range(30):
                    code = f"echo $KUEUE_JOB_ID $KUEUE_ARRAY_INDEX {{n}} >> {runs}"
                    jobs = client.submit_array(["sh", "-c", code], range(1, 2 * SIZE, 2), cwd=lab.work)
                    first = jobs[0].id
                    arrays[first] = False
                    client.cancel(range(first + FIRST_CANCELED - 1, first + SIZE))
                    arrays[first] = True
        except ServerUnreachableError:
            pass
        wait_for("the server dies", lambda: server.poll() is not None, seconds=60)  # noqa: B023
        assert server.returncode == -signal.SIGKILL
    assert arrays
    lab.start_server()
    with client_of(lab) as client:
        for first in {row.array or 0 for row in client.job_views(arrays=True)}:
            client.cancel(range(first + FIRST_CANCELED - 1, first + SIZE))
    lab.ok("wait-job", *(f"{first}-{first + FIRST_CANCELED - 2}" for first in arrays), timeout=120)
    with client_of(lab) as client:
        for first, canceled in arrays.items():
            last = first + SIZE - 1
            counts = client.select(Selector(ranges=((first, last),))).counts
            assert counts.succeeded >= FIRST_CANCELED - 1, counts
            assert counts.succeeded + counts.canceled == SIZE, counts
            if canceled:
                assert counts.canceled == SIZE - FIRST_CANCELED + 1, counts
        known = {row.array for row in client.job_views(arrays=True)}
        assert arrays.keys() <= known
        assert len(known) <= len(arrays) + len(SHORT[call]) * (25 if long_form else 1)
    ran: Counter[int] = Counter()
    for line in runs.read_text().splitlines():
        job, index, word = map(int, line.split())
        ran[job] += 1
        assert index == word
        assert any(index == 1 + 2 * (job - first) for first in known if first is not None and first <= job)
    assert {ran[job] for first in arrays for job in range(first, first + FIRST_CANCELED - 1)} == {1}
    with client_of(lab) as client:
        client.cancel(Selector(everything=True), kill=True)
        # Attempts that were on their way stay until their worker has confirmed their end.
        wait_for(
            "all is dropped", lambda: client.clean(failed=True) == 0 and not any_left(client), seconds=60
        )
    lab.kill_server()
    lab.start_server()
    assert lab.json("list-jobs") == []
