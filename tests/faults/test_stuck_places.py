"""Places that hang, vanish or are full: the job gets a reason that helps, the keeper and other jobs notice nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.observer import Observer
from tests.faults.small_disk import SmallDisk
from tests.support.lab import Lab
from tests.support.waiting import wait_for

SETTINGS = {
    "worker": "worker_max_parallel_jobs = 8\njob_kill_grace_seconds = 1",
    "client": "job_default_cpus = 0",
}


class DeadMount:
    """A FUSE mount that is a file system which does not answer any more, from `stop` to `go_on`."""

    def __init__(self, behind: Path, place: Path) -> None:
        self.place = place
        for directory in (behind, place):
            directory.mkdir()
        nothing_cached = (
            "entry_timeout=0,attr_timeout=0"  # or the kernel answers for a second, when it is stopped
        )
        self._daemon = subprocess.Popen(["bindfs", "-f", "-o", nothing_cached, str(behind), str(place)])
        wait_for("the mount is there", lambda: os.path.ismount(place) or self._daemon.poll() is not None)
        if self._daemon.poll() is not None:
            pytest.skip("this user may not mount with FUSE")

    def stop(self) -> None:
        self._daemon.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._daemon.send_signal(signal.SIGCONT)

    def close(self) -> None:
        # The kernel answers every call with an error once the daemon is dead: all that hangs is released.
        self._daemon.kill()
        self._daemon.wait()
        subprocess.run(["fusermount3", "-u", "-z", str(self.place)], check=True)


@pytest.fixture
def wide(make_lab: Callable[..., Lab]) -> Observer:
    """One worker with room for all."""
    lab = make_lab(**SETTINGS)
    lab.start_server()
    found = Observer(lab)
    found.start_worker()
    return found


@pytest.fixture
def mount(wide: Observer, tmp_path: Path) -> Iterator[DeadMount]:
    """Is closed before the lab is: nothing that belongs to it hangs then."""
    if shutil.which("bindfs") is None or shutil.which("fusermount3") is None:
        pytest.skip("bindfs or fusermount3 is missing")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("/dev/fuse must not be opened by this user")
    found = DeadMount(tmp_path / "behind", tmp_path / "mount")
    yield found
    found.close()


def others_go_on(wide: Observer, keeper: list[int]) -> None:
    """Other jobs of the same directory start and end meanwhile, and the worker is well."""
    assert wide.wait(wide.submit("true"), seconds=20).state == "succeeded"
    worker = wide.workers()["w1"]
    assert worker.state == "connected"
    assert worker.status is not None
    assert worker.status.accepting
    assert wide.lab.keeper_pids("w1") == keeper
    log = "".join(path.read_text() for path in wide.lab.place.rglob("keeper.log")) + wide.lab.worker_log("w1")
    assert "has not answered" not in log
    assert "Traceback" not in log


def failure(wide: Observer, number: int) -> tuple[str, str]:
    """Why a job failed, which it did for good and at its first attempt."""
    job = wide.wait(number)
    assert (job.state, job.attempt) == ("failed", 1), job
    assert job.reason is not None
    return job.reason.code, job.reason.text


def test_outputs_that_can_not_be_written_fail_the_job_with_the_reason(wide: Observer) -> None:
    keeper = wide.lab.keeper_pids("w1")
    os.mkfifo(wide.lab.work / "fifo")
    unread = wide.submit("echo", out="fifo")
    assert failure(wide, unread) == ("output", "cannot write fifo: not a regular file")
    reader = os.open(wide.lab.work / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    read = wide.submit("echo", out="fifo")
    assert failure(wide, read) == ("output", "cannot write fifo: not a regular file")
    os.close(reader)
    below = wide.submit("true", out="fifo/out.log")
    assert failure(wide, below) == ("output", "cannot write fifo/out.log: Not a directory")
    device = wide.submit("echo something || exit 9", out="/dev/full")
    assert failure(wide, device) == ("output", "cannot write /dev/full: not a regular file")
    stuck = wide.submit("cat < fifo")  # as input it holds up only its own job
    wide.wait(stuck, "running")
    others_go_on(wide, keeper)
    wide.cancel([stuck])
    wide.wait(stuck, "canceled")
    others_go_on(wide, keeper)


def test_a_file_system_that_is_full_or_read_only_at_the_output_is_the_jobs_own_trouble(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    lab = make_lab(**SETTINGS)
    disk = SmallDisk(tmp_path / "disk", 1)
    try:
        lab.start_server()
        wide = Observer(lab)
        wide.start_worker(under=disk.under)
        keeper = lab.keeper_pids("w1")
        inside = ["nsenter", *disk.under[1:]]
        subprocess.run([*inside, "mkdir", f"{disk.place}/bound"], check=True)
        subprocess.run([*inside, "mount", "--bind", f"{disk.place}/bound", f"{disk.place}/bound"], check=True)
        subprocess.run([*inside, "mount", "-o", "remount,bind,ro", f"{disk.place}/bound"], check=True)
        path = f"{disk.place}/bound/out.log"
        assert failure(wide, wide.submit("true", out=path)) == (
            "output",
            f"cannot write {path}: Read-only file system",
        )
        before = wide.submit("head -c 3000000 /dev/zero || exit 9", out=f"{disk.place}/fills.log")
        assert failure(wide, before) == ("exit", "exit 9")
        assert disk.free_bytes() < 4096
        # Where no byte fits, a file can still be made: the job runs, and sees the error when it writes.
        assert failure(wide, wide.submit("echo || exit 9", out=f"{disk.place}/full.log")) == (
            "exit",
            "exit 9",
        )
        others_go_on(wide, keeper)
    finally:
        lab.close()
        disk.close()


def test_a_directory_that_vanished_is_waited_for_and_its_jobs_run_when_it_is_back(wide: Observer) -> None:
    lab = wide.lab
    keeper = lab.keeper_pids("w1")
    place = lab.work / "place"
    place.mkdir()
    wide.wait(wide.submit("true", cwd=place), "succeeded")  # the keeper has it open now
    lab.kill_server()
    shutil.rmtree(place)
    lab.start_server()
    wait_for("the worker is back", lambda: wide.workers()["w1"].state == "connected")
    job = wide.submit("pwd -P > here", cwd=place)

    def is_refused() -> bool:
        reason = wide.job(job).reason
        return reason is not None and reason.code == "no_directory"

    wait_for("a reason is given", is_refused)
    found = wide.job(job)
    assert (found.state, found.attempt) == ("pending", 0)
    assert found.reason is not None
    assert found.reason.text == f"no worker sees {place} (1 asked)"
    others_go_on(wide, keeper)
    place.mkdir()
    lab.kill_server()  # one that is started anew asks at once, and not after a minute
    lab.start_server()
    assert wide.wait(job).state == "succeeded"
    assert (place / "here").read_text() == f"{place.resolve()}\n"


def test_a_directory_that_vanishes_at_any_moment_of_a_start_does_not_fail_its_jobs(wide: Observer) -> None:
    keeper = wide.lab.keeper_pids("w1")
    place = wide.lab.work / "place"
    jobs = []
    for _ in range(3):
        place.mkdir()
        jobs += [wide.submit("exit 0", cwd=place) for _ in range(4)]
        shutil.rmtree(place)
    # One that got in before it vanished has run in the directory that it had open; others are waited for.
    for found in wide.wait_all(jobs, ("pending", "succeeded", "failed")):
        assert found.state != "failed", found
    others_go_on(wide, keeper)
    place.mkdir()
    wide.lab.kill_server()
    wide.lab.start_server()
    for found in wide.wait_all(jobs):
        assert (found.state, found.attempt) == ("succeeded", 1), found


@pytest.mark.timeout(240)
def test_a_mount_that_does_not_answer_holds_up_only_the_jobs_on_it(wide: Observer, mount: DeadMount) -> None:
    lab = wide.lab
    keeper = lab.keeper_pids("w1")
    directory = mount.place / "cwd"
    directory.mkdir()
    log = mount.place / "running.log"
    running = wide.submit("echo begins; while :; do date; sleep 0.1; done", out=log)
    wide.wait(running, "running")
    wait_for("it writes", lambda: log.stat().st_size > 0)
    wide.wait(wide.submit("true", cwd=directory), "succeeded")  # the directory is open, and looked at
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    several = [wide.submit("true", cwd=directory) for _ in range(4)]
    outputs = [wide.submit("true", out=mount.place / f"other{number}.log") for number in range(4)]
    mount.stop()
    wide.start_worker()

    def is_known() -> bool:
        reasons = [job.reason.code for job in wide.jobs(outputs + several) if job.reason is not None]
        return reasons.count("file_timeout") == len(outputs) and reasons.count("no_directory") == len(several)

    others_go_on(wide, keeper)
    wait_for("it is known that they hang", is_known)
    assert {(job.state, job.attempt) for job in wide.jobs(outputs + several)} == {("pending", 0)}
    wide.cancel([running])
    others_go_on(wide, keeper)
    mount.go_on()
    lab.kill_server()  # one that is started anew asks at once, and not after a minute
    lab.start_server()
    # An agent that still remembers that they hung makes it a minute all the same.
    for job in wide.wait_all(outputs + several, seconds=90):
        assert (job.state, job.attempt) == ("succeeded", 1), job
    assert wide.wait(running).state == "canceled"
    others_go_on(wide, keeper)
