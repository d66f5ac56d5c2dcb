"""The server killed at exactly the N-th sync of its journal, and at the N-th write to it, while jobs come and end.

What is promised: a block whose ids the client was told is in the journal, with those ids (G1); a block that is
submitted again after a lost answer makes no second job (G2); and since the worker keeps its leases and the keeper
what it has seen, each job runs once, and its end arrives, however often the server dies in between (G4, G7).
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.dying import files_of, journal_of
from tests.faults.journal_states import Rows, opened_and_closed, rows_at
from tests.faults.strace import calls, kill_at
from tests.faults.submitter import Submitter
from tests.support.lab import Lab
from tests.support.waiting import wait_for

SHORT = {"fdatasync": (1, 3, 18, 60), "pwrite64": (1, 10, 60, 150)}
PACE_SECONDS = 0.1
"""So long a block waits at most for a job to have run, so that the worker's reports come in between as well."""


def connections(lab: Lab) -> int:
    """How often the worker has found the server."""
    return lab.worker_log("w1").count("connected to the server")


def next_job(rows: Rows) -> int:
    return next(int(str(value)) for name, value in rows["meta"] if name == "next_job")


def check(path: Path, client: Submitter) -> int:
    """The journal of a dead server against what the client was told; how many jobs have ended."""
    rows = rows_at(path)
    blocks = {
        str(token): (int(str(first)), int(str(count))) for token, first, count, *_ in rows["submit_token"]
    }
    for token, (first, last) in client.told.items():
        assert blocks.get(token) == (first, last - first + 1), f"{token} was promised as {first}-{last}"
    assert set(blocks) <= {*client.told, *client.open}, "a block that nobody has asked for"
    ids = [number for first, count in blocks.values() for number in range(first, first + count)]
    assert len(ids) == len(set(ids)), "two blocks share an id"
    assert sorted(ids) == [row[0] for row in rows["job"]], "jobs that are of no block, or blocks without jobs"
    assert all(number < next_job(rows) for number in ids)
    return sum(row[1] == "succeeded" for row in rows["progress"])


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_server_killed_at_any_write_keeps_what_it_promised_and_runs_nothing_twice(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    path = journal_of(lab)
    lab.start_server()
    lab.start_worker("w1")
    lab.kill_server()
    runs = lab.work / "runs"
    runs.touch()
    client = Submitter(lab, f"echo $KUEUE_JOB_ID $KUEUE_ATTEMPT >> {runs}")
    ended = [0]
    for number in range(1, 61) if long_form else SHORT[call]:
        trace = lab.place / f"trace.{number}"
        before = connections(lab)
        server = lab.start_server(under=kill_at(call, number, files_of(path), trace), may_die=True)
        wait_for(
            "the worker is there",
            lambda: connections(lab) > before or server.poll() is not None,  # noqa: B023
        )
        deadline = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < deadline:
            size = runs.stat().st_size
            client.blocks_until_the_server_dies(1)
            pause = time.monotonic() + PACE_SECONDS
            while runs.stat().st_size == size and time.monotonic() < pause:
                time.sleep(0.002)
        assert server.wait(5) == -signal.SIGKILL
        wait_for("the trace is whole", lambda: number in calls(trace, call).values())  # noqa: B023
        client.close()
        ended.append(check(path, client))
    assert ended[-1] > 0, f"no ends of jobs between the kills: {ended}"

    lab.start_server()
    for token in [*client.open, *client.told]:
        assert client.repeat(token)
    client.close()
    ids = [number for first, last in client.told.values() for number in range(first, last + 1)]
    lab.ok("wait-job", *map(str, ids), timeout=120)
    jobs = lab.json("list-jobs")
    assert sorted(job["id"] for job in jobs) == sorted(ids)
    assert {job["state"] for job in jobs} == {"succeeded"}
    ran = [int(line.split()[0]) for line in runs.read_text().splitlines()]
    assert sorted(ran) == sorted(ids), "each job once"


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_server_killed_while_it_makes_its_journal_makes_it_at_the_next_start(
    make_lab: Callable[..., Lab], long_form: bool, call: str
) -> None:
    lab = make_lab()
    path = journal_of(lab)
    path.parent.mkdir(parents=True)
    for number in range(1, 60) if long_form else (1, 2, 5):
        for file in files_of(path):
            file.unlink(missing_ok=True)
        server = lab.start_server(
            under=kill_at(call, number, files_of(path), lab.place / "trace"), may_die=True
        )
        if server.poll() is None:
            assert number > 3
            lab.kill_server()
            break  # there are no more than these
        assert server.returncode == -signal.SIGKILL
        opened_and_closed(path)
        assert next_job(rows_at(path)) == 1
    lab.start_server()
    assert lab.submit("true") == 1


def test_a_server_killed_while_it_copies_the_wal_into_the_journal_loses_nothing(
    make_lab: Callable[..., Lab], long_form: bool
) -> None:
    lab = make_lab()
    path = journal_of(lab)
    client = Submitter(lab, "true")
    writes = range(1, 40) if long_form else (1, 6)
    for call, number in [("fdatasync", 1), *(("pwrite64", number) for number in writes)]:
        lab.start_server()
        client.blocks_until_the_server_dies(5)
        lab.kill_server()
        client.close()
        # The copy is made at an orderly end.
        server = lab.start_server(under=kill_at(call, number, [path], lab.place / "trace"))
        client.blocks_until_the_server_dies(5)
        server.terminate()
        client.close()
        if server.wait(30) == 0:
            assert number > 6
            break  # there are no more writes than these
        assert server.returncode == -signal.SIGKILL
        assert not client.open
        check(path, client)
