"""Named queues with real programs: what a person pauses starts nothing, limits and weights hold."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from kueue import Client, JobSpec
from tests.support.lab import Lab
from tests.support.waiting import wait_for


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A worker of two slots."""
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    return lab


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def load(lab: Lab, queue: str, count: int, script: str) -> None:
    """So many jobs that need next to nothing; `script` knows its number as `$0`."""
    with Client(lab.config) as client:
        client.submit_many(
            JobSpec(["sh", "-c", script, str(number)], cwd=lab.work, queue=queue, cpus=0, ram_mb=1)
            for number in range(count)
        )


def test_when_a_pause_has_returned_nothing_of_the_queue_starts_until_it_is_resumed(lab: Lab) -> None:
    """Short jobs, so that the worker has some that were handed over ahead."""
    starts = lab.work / "starts"
    load(lab, "tapeout", 2000, f"echo $0 >> {starts}")
    wait_for("some have started", lambda: len(lines_of(starts)) > 50)
    lab.ok("pause-queue", "tapeout", "--reason", "new library")
    (queue,) = [row for row in lab.json("list-queues") if row["name"] == "tapeout"]
    started = len(lines_of(starts))  # those that run may not have written yet
    other = lab.submit("true")
    lab.wait_state(other, "succeeded")
    time.sleep(1.0)  # that nothing happens is what is looked at
    assert len(lines_of(starts)) <= started + queue["running"]
    assert queue["offered"] == 0
    assert 0 < len(lines_of(starts)) < 2000
    assert (queue["paused"], queue["pause_reason"]) == (True, "new library")
    assert "paused for" in lab.ok("list-queues")
    waiting = next(job for job in lab.json("list-jobs", "-q", "tapeout", "--state", "pending"))
    assert waiting["reason"]["code"] == "queue_paused"
    assert "new library" in waiting["reason"]["text"]
    assert lab.kueue("resume-queue", "tapeout").stderr == b"queue tapeout goes on\n"
    wait_for("all have run", lambda: len(lines_of(starts)) == 2000, 60)
    assert len(set(lines_of(starts))) == 2000


def test_what_is_set_of_a_queue_outlasts_a_killed_server(lab: Lab) -> None:
    lab.ok("set-queue", "tapeout", "--weight", "3", "--max-running", "1")
    told = lab.kueue("pause-queue", "tapeout", "--reason", "why")
    assert told.stderr == b"queue tapeout is paused\n"
    job = lab.submit("-q", "tapeout", "true")
    lab.kill_server()
    lab.start_server()
    (row,) = [row for row in lab.json("list-queues") if row["name"] == "tapeout"]
    assert (row["weight"], row["max_running"], row["paused"], row["pause_reason"]) == (3, 1, True, "why")
    after = lab.submit("true")
    lab.wait_state(after, "succeeded")
    assert lab.job(job)["state"] == "pending"
    assert lab.job(job)["queue"] == "tapeout"
    told = lab.kueue("cmd", "-q", "tapeout", "true")
    assert b"queue tapeout is paused (why)" in told.stderr
    lab.ok("resume-queue", "tapeout")
    lab.wait_state(job, "succeeded")


def test_no_more_of_a_queue_run_at_once_than_may(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 6")
    lab.start_server()
    lab.start_worker("w1")
    lab.start_worker("w2")
    lab.ok("set-queue", "tapeout", "--max-running", "2")
    log = lab.work / "log"
    load(lab, "tapeout", 40, f"echo + >> {log}; sleep 0.03; echo - >> {log}")
    wait_for("all have run", lambda: len(lines_of(log)) == 80, 60)
    running = most = 0
    for line in lines_of(log):
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most == 2


def test_shares_follow_the_weights(lab: Lab) -> None:
    lab.ok("set-queue", "urgent", "--weight", "4")
    lab.ok("pause-queue", "urgent", "usual")
    log = lab.work / "log"
    for queue in ("usual", "urgent"):
        load(lab, queue, 200, f"echo {queue} >> {log}")
    lab.ok("resume-queue", "urgent", "usual")
    wait_for("many have run", lambda: len(lines_of(log)) >= 150, 60)
    counts = Counter(lines_of(log)[:150])
    assert 110 <= counts["urgent"] <= 130, counts


def test_a_queue_is_a_condition_and_an_option_of_a_script(lab: Lab) -> None:
    lab.ok("pause-queue", "night", "day")
    script = lab.work / "run.sh"
    script.write_text("#!/bin/sh\n#KUEUE -q night\ntrue\n")
    script.chmod(0o755)
    lab.ok("cmd", str(script))
    lab.ok("cmd", "-q", "day", str(script))
    (lab.work / "objects").write_text('{"command": "true"}\n' * 2)
    lab.ok("cmd", "-q", "night", "--from-json", "objects")
    assert [job["queue"] for job in lab.json("list-jobs")] == ["night", "day", "night", "night"]
    assert [job["id"] for job in lab.json("list-jobs", "-q", "night")] == [1, 3, 4]
    assert "queue:        night" in lab.ok("show-job", "1")
    assert lab.kueue("remove-job", "-q", "night", "-y").stderr == b"3 jobs canceled\n"
    assert lab.job(2)["state"] == "pending"


def test_a_queue_is_removed_when_it_is_empty_or_that_is_said(lab: Lab) -> None:
    lab.ok("pause-queue", "night")
    for _ in range(2):
        lab.submit("-q", "night", "true")
    no = lab.kueue("remove-queue", "night", "-y")
    assert no.returncode == 1
    assert no.stderr == b"kueue: queue night has 2 jobs that are not finished; --cancel cancels them\n"
    assert lab.kueue("remove-queue", "night", "--cancel").returncode == 2  # there is nobody to be asked
    asking = pexpect.spawn(
        sys.executable, ["-m", "kueue", "remove-queue", "night", "--cancel"], env=lab.env, encoding="utf-8"
    )
    asking.expect("remove queue night, cancel 2 of its jobs")
    asking.sendline("n")
    asking.expect("nothing was changed")
    asking.expect(pexpect.EOF)
    asking.close()
    assert asking.exitstatus == 1
    done = lab.kueue("remove-queue", "night", "--cancel", "-y")
    assert done.stderr == b"queue night is removed; 2 jobs canceled; 2 jobs dropped from the list\n"
    assert [row["name"] for row in lab.json("list-queues")] == ["default"]
    for words in (
        ("set-queue", "night"),
        ("set-queue", "night", "--weight", "0"),
        ("set-queue", "a", "--weight", "x"),
    ):
        assert lab.kueue(*words).returncode == 2
    assert lab.kueue("resume-queue", "nowhere").returncode == 1
