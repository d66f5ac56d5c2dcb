"""Places that hang, vanish or are full: the job gets a reason that helps, the keeper and other jobs notice nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kueue
from tests.support.lab import Lab
from tests.support.waiting import wait_for


@pytest.fixture
def wide(make_lab: Callable[..., Lab]) -> Lab:
    """One worker with room for all."""
    lab = make_lab(
        worker="worker_max_parallel_jobs = 8\njob_kill_grace_seconds = 1", client="job_default_cpus = 0"
    )
    lab.start_server()
    lab.start_worker("w1")
    return lab


def submit(lab: Lab, *command: str, cwd: Path | None = None, out: str | None = None) -> int:
    """Without the command line, which would look at the places itself."""
    with kueue.Client(lab.config) as client:
        job = client.submit(["/bin/sh", "-c", *command], cwd=cwd or lab.work, stdout=out, time_limit=60)
        return int(job.id)


def others_go_on(lab: Lab, keeper: list[int]) -> None:
    """Other jobs start and end meanwhile, and the worker is well."""
    assert lab.kueue("cmd", "--wait", "true", timeout=20).returncode == 0
    (worker,) = lab.json("list-workers")
    assert (worker["state"], worker["accepting"]) == ("connected", True)
    assert lab.keeper_pids("w1") == keeper
    log = "".join(path.read_text() for path in lab.place.rglob("keeper.log")) + lab.worker_log("w1")
    assert "has not answered" not in log
    assert "Traceback" not in log


def reason(lab: Lab, number: int, *states: str) -> tuple[str, str]:
    found = lab.wait_state(number, *states)
    return found["reason"]["code"], found["reason"]["text"]


def test_a_fifo_as_output_fails_with_the_reason_and_one_as_input_holds_up_only_its_job(wide: Lab) -> None:
    keeper = wide.keeper_pids("w1")
    os.mkfifo(wide.work / "fifo")
    unread = submit(wide, "echo", out="fifo")
    assert reason(wide, unread, "failed") == ("output", "cannot write fifo: not a regular file")
    reader = os.open(wide.work / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    read = submit(wide, "echo", out="fifo")
    assert reason(wide, read, "failed") == ("output", "cannot write fifo: not a regular file")
    os.close(reader)
    stuck = submit(wide, "cat < fifo")
    wide.wait_state(stuck, "running")
    others_go_on(wide, keeper)
    wide.ok("remove-job", "--kill", str(stuck))
    wide.wait_state(stuck, "canceled")


def test_a_directory_that_vanished_before_the_start_is_refused_and_tried_again(wide: Lab) -> None:
    keeper = wide.keeper_pids("w1")
    place = wide.work / "place"
    place.mkdir()
    first = submit(wide, "true", cwd=place)
    wide.wait_state(first, "succeeded")  # the agent has it open now
    wide.kill_server()
    place.rmdir()
    wide.start_server()
    place.mkdir()
    wait_for("the worker is back", lambda: wide.worker_state("w1") == "connected")
    job = submit(wide, "sleep 1; pwd -P > here", cwd=place)
    shutil.rmtree(place)
    found = wide.wait_state(job, "pending", "failed", "succeeded")
    if found["state"] == "pending":
        wait_for("a reason is given", lambda: (wide.job(job)["reason"] or {}).get("code") == "no_directory")
        assert str(place) in wide.job(job)["reason"]["text"] or "directory" in wide.job(job)["reason"]["text"]
    others_go_on(wide, keeper)


def test_a_directory_that_vanishes_under_the_open_descriptor_does_not_stop_the_keeper(wide: Lab) -> None:
    keeper = wide.keeper_pids("w1")
    place = wide.work / "place"
    for _ in range(3):
        place.mkdir()
        jobs = [submit(wide, "exit 0", cwd=place) for _ in range(4)]
        shutil.rmtree(place)
        for job in jobs:
            found = wide.wait_state(job, "pending", "succeeded", "failed")
            # Between check and spawn it has vanished: it starts in the open directory, or is refused.
            assert found["state"] != "failed" or found["reason"]["code"] in ("no_directory", "exit"), found
    others_go_on(wide, keeper)


def test_a_directory_that_must_not_be_written_fails_the_job_with_its_path(wide: Lab) -> None:
    keeper = wide.keeper_pids("w1")
    # Not a matter of modes: root may write anywhere but into these.
    job = submit(wide, "true", out="/proc/self/kueue.out")
    code, text = reason(wide, job, "failed")
    assert code == "output"
    assert text.startswith("cannot write /proc/self/kueue.out: ")
    absent = submit(wide, "true", out="absent/out.log")
    assert reason(wide, absent, "failed") == (
        "output",
        "cannot write absent/out.log: No such file or directory",
    )
    others_go_on(wide, keeper)


def test_a_full_file_system_at_the_output_is_the_jobs_own_trouble(wide: Lab) -> None:
    keeper = wide.keeper_pids("w1")
    job = submit(wide, "echo something || exit 9", out="/dev/full")
    code, text = reason(wide, job, "failed")
    assert (code, text) == ("output", "cannot write /dev/full: not a regular file")
    inside = submit(wide, "exec > /dev/full; echo something || exit 9")
    assert wide.wait_state(inside, "failed")["return_code"] == 9
    others_go_on(wide, keeper)
