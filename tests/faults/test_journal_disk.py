"""Disks that fail, and disks that are full: nothing is promised that is not kept, and room is all that is needed.

A sync or a write that fails ends the server: what is on the disk then is unknown. A full disk is waited out.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.dying import files_of, journal_of
from tests.faults.small_disk import SmallDisk
from tests.faults.strace import fail_from
from tests.faults.submitter import Submitter
from tests.faults.test_journal_kills import check
from tests.support.lab import Lab
from tests.support.waiting import wait_for

MakeDisk = Callable[[Path, int], SmallDisk]


@pytest.fixture
def make_disk() -> Iterator[MakeDisk]:
    """To be asked for before `make_lab`, so that it ends after the lab."""
    disks: list[SmallDisk] = []

    def make(place: Path, size_mb: int) -> SmallDisk:
        disks.append(SmallDisk(place, size_mb))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()


@pytest.mark.parametrize("number", ["4", "4+"], ids=["once", "for_ever"])
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_disk_that_fails_ends_the_server_with_one_line_and_without_a_false_promise(
    make_lab: Callable[..., Lab], call: str, number: str
) -> None:
    lab = make_lab()
    path = journal_of(lab)
    client = Submitter(lab, "true")
    lab.start_server()
    client.blocks_until_the_server_dies(3)
    lab.kill_server()
    client.close()
    said_before = len(lab.server_log())

    server = lab.start_server(under=fail_from(call, number, "EIO", files_of(path), lab.place / "trace"))
    client.blocks_until_the_server_dies(50)
    client.close()
    assert server.wait(30) == 1
    lines = lab.server_log()[said_before:].splitlines()
    assert [line for line in lines if line.startswith("kueue_server:")] == lines[-1:], lines
    assert "the journal failed" in lines[-1]
    assert not [line for line in lines if "ERROR" in line or "Traceback" in line], lines
    told = 3 + (3 if call == "fdatasync" else 0)
    assert len(client.told) == told, "as many as before the fault, and not one more"
    assert len(client.open) == 1
    check(path, client)

    lab.start_server()
    for token in [*client.open, *client.told]:
        assert client.repeat(token)
    client.blocks_until_the_server_dies(2)
    client.close()
    lab.kill_server()
    check(path, client)


def gated(lab: Lab, name: str) -> list[str]:
    """A command that notes its start, waits for NAME.go, says something and notes its end."""
    there = f"{lab.work}/{name}"
    wait = f"echo $KUEUE_ATTEMPT >> {there}.starts; while [ ! -e {there}.go ]; do sleep 0.05; done"
    return ["sh", "-c", f"{wait}; echo said; touch {there}.done"]


def starts(lab: Lab, name: str) -> int:
    path = lab.work / f"{name}.starts"
    return len(path.read_text().split()) if path.exists() else 0


def finish(lab: Lab, name: str) -> None:
    (lab.work / f"{name}.go").touch()
    wait_for("the job has ended", (lab.work / f"{name}.done").exists)


def test_with_a_full_disk_submits_are_refused_and_ends_of_jobs_wait_for_room(
    make_disk: MakeDisk, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 3")
    disk = make_disk(lab.state / "server", 2)
    lab.start_server(under=disk.under)
    lab.start_worker("w1")
    jobs = {name: lab.submit(*gated(lab, name)) for name in ("a", "b")}
    for name in jobs:
        wait_for("the job runs", lambda: starts(lab, name) == 1)  # noqa: B023
    disk.fill()
    for _ in range(2):
        refused = lab.kueue("cmd", "true")
        assert (refused.returncode, refused.stdout) == (1, b"")
        lines = refused.stderr.decode().splitlines()
        assert len(lines) == 1, lines
        assert "nothing was submitted" in lines[0]
    # It ends while there is no room, and is accepted when there is some, by itself.
    finish(lab, "a")
    disk.make_room()
    assert lab.wait_state(jobs["a"], "succeeded")["attempt"] == 1
    lab.wait_state(lab.submit("true"), "succeeded")

    jobs["c"] = lab.submit(*gated(lab, "c"))
    wait_for("the job runs", lambda: starts(lab, "c") == 1)

    # Another one ends while there is no room, and the server dies with what it has heard of it.
    disk.fill()
    finish(lab, "b")
    wait_for("the server has met the full disk", lambda: lab.server_log().count("can't be written") == 2)
    lab.kill_server()
    lab.start_server(under=disk.under)
    finish(lab, "c")
    assert lab.kueue("cmd", "true").returncode == 1
    disk.make_room()
    for name, job in jobs.items():
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
        assert starts(lab, name) == 1
    lab.wait_state(lab.submit("true"), "succeeded")
    assert len(lab.json("list-jobs")) == 5
    assert "Traceback" not in lab.server_log()


def test_with_a_full_spool_a_worker_takes_nothing_and_loses_nothing(
    make_disk: MakeDisk, make_lab: Callable[..., Lab]
) -> None:
    lab = make_lab()
    lab.write_config(worker=f'worker_max_parallel_jobs = 2\nspool_dir = "{lab.place}/spool"')
    disk = make_disk(lab.place / "spool", 80)
    lab.start_server()
    lab.start_worker("w1", under=disk.under)
    jobs = {name: lab.submit(*gated(lab, name)) for name in ("a", "b")}
    for name in jobs:
        wait_for("the job runs", lambda: starts(lab, name) == 1)  # noqa: B023
    # There is a slot for it as soon as there is no room for its output; the worker sees that at the latest then.
    new = lab.submit("sh", "-c", "echo said")
    disk.fill()
    finish(lab, "a")
    assert lab.wait_state(jobs["a"], "succeeded")["attempt"] == 1
    wait_for("the worker has noticed", lambda: "free for the spool" in lab.ok("show-worker", "w1"))
    assert lab.state_of(new) == "pending"

    # The agent dies while there is no room. The keeper still knows what runs, and how it ends.
    lab.agents["w1"].send_signal(signal.SIGKILL)
    lab.agents["w1"].wait()
    finish(lab, "b")
    lab.start_worker("w1", under=disk.under)
    assert lab.wait_state(jobs["b"], "succeeded")["attempt"] == 1
    assert lab.state_of(new) == "pending"

    disk.make_room()
    lab.wait_state(new, "succeeded")
    assert [starts(lab, name) for name in jobs] == [1, 1]
    # What the keeper's record file had no room for is in it now: a next keeper gives none of them back.
    keepers = lab.keeper_pids()
    lab.kill_keeper()
    wait_for("there is another keeper", lambda: set(lab.keeper_pids()) - set(keepers))
    lab.wait_state(lab.submit("true"), "succeeded")
    assert {job["state"] for job in lab.json("list-jobs")} == {"succeeded"}
    assert [starts(lab, name) for name in jobs] == [1, 1]
