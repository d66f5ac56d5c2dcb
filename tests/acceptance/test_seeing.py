"""What a person sees who comes back: `list-jobs` at a glance, its notes and reasons, with real programs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.support.lab import Lab


@pytest.fixture
def small(make_lab: Callable[..., Lab]) -> Lab:
    """A worker of two slots, and one licence."""
    lab = make_lab(worker="worker_max_parallel_jobs = 2\njob_kill_grace_seconds = 1", resources="genus = 1")
    lab.start_server()
    lab.start_worker("w1")
    return lab


def rows(text: str) -> dict[int, str]:
    """Lines of a listing by job."""
    found = (re.match(r" *(\d+) +(?!jobs?:|wait|of)", line) for line in text.splitlines())
    return {int(match[1]): match.string for match in found if match is not None}


def test_without_conditions_it_shows_what_runs_failed_is_next_and_has_finished(small: Lab) -> None:
    done = small.submit("true")
    small.wait_state(done, "succeeded")
    failed = int(small.kueue("cmd", "sh", "-c", "exit 2").stdout)
    small.wait_state(failed, "failed")
    holder = small.submit("--resource", "genus", "sleep", "1000")
    small.wait_state(holder, "running")
    second = small.submit("--resource", "genus", "true")
    nowhere = small.submit("--worker", "w9", "true")
    urgent = small.submit("--resource", "genus", "-p", "5", "true")
    text = small.ok("list-jobs")
    assert list(rows(text)) == [holder, failed, urgent, second, nowhere, done]
    assert rows(text)[failed].endswith("exit 2")
    assert rows(text)[second].endswith("genus 1/1 in use")
    assert text.splitlines()[-1].startswith(f"3 wait: 2 genus 1/1 (job {holder}), 1 no connected worker has ")
    assert "not shown" not in text
    assert list(rows(small.ok("list-jobs", "--all"))) == sorted(rows(text))
    assert [row["id"] for row in small.json("list-jobs")] == sorted(rows(text))


def test_each_failure_says_what_it_was(small: Lab) -> None:
    (small.work / "sealed").write_text("")
    expected = {
        small.submit("sh", "-c", "exit 2"): "exit 2",
        small.submit("sh", "-c", "kill -9 $$"): r"signal 9 \(SIGKILL\)",
        small.submit("sh", "-c", "kill -11 $$"): r"signal 11 \(SIGSEGV\)",
        small.submit("--time-limit", "1s", "sleep", "1000"): "time limit",
        small.submit("-o", "sealed/out.log", "true"): r"cannot write sealed/out\.log: .*",
        small.submit("dc_shell"): "no dc_shell in PATH",
    }
    for job, note in expected.items():
        small.wait_state(job, "failed")
        assert re.search(f"  {note}$", rows(small.ok("list-jobs"))[job]), rows(small.ok("list-jobs"))[job]


def test_a_running_job_has_its_worker_and_time(small: Lab) -> None:
    job = small.submit("sleep", "1000")
    small.wait_state(job, "running")
    assert re.search(r"running  w1 +[\d.]+ s$", rows(small.ok("list-jobs"))[job])


def test_only_so_many_rows_are_shown_and_the_others_counted(small: Lab) -> None:
    (small.work / "jobs").write_text("true\n" * 150)
    small.ok("cmd", "--each-line", "jobs", "--worker", "w9")
    text = small.ok("list-jobs")
    assert len(rows(text)) == 100
    assert "\nnot shown: 50 pending\n" in text
    assert len(rows(small.ok("list-jobs", "--worker", "w9"))) == 0  # conditions: as ever
    assert len(rows(small.ok("list-jobs", "--state", "pending"))) == 150


# ---------------------------------------------------------------- a machine on which everything fails

SCRIPT = """\
#!/bin/sh
test "$KUEUE_WORKER" = w1 && exec "$(dirname "$0")/linked" # whose library that machine has not got
sleep 0.1
"""


@pytest.fixture
def lab_with_a_broken_machine(make_lab: Callable[..., Lab]) -> Lab:
    lab = make_lab(server="worker_pause_after_failures = 4", worker="worker_max_parallel_jobs = 1")
    lab.start_server()
    for name in ("w1", "w2", "w3"):
        lab.start_worker(name)
    script, linked = lab.work / "synthesize", lab.work / "linked"
    script.write_text(SCRIPT)
    linked.write_text("#!/no/such/loader\n")
    script.chmod(0o755)
    linked.chmod(0o755)
    return lab


def paused(lab: Lab) -> list[str]:
    return [row["name"] for row in lab.json("list-workers") if row["paused"]]


def test_a_machine_on_which_everything_fails_is_paused_and_the_rest_of_the_jobs_run_elsewhere(
    lab_with_a_broken_machine: Lab,
) -> None:
    lab = lab_with_a_broken_machine
    (lab.work / "jobs").write_text("x\n" * 60)
    lab.ok("cmd", "--each-line", "jobs", "./synthesize")
    lab.kueue("wait-job", "1-60", timeout=60)
    assert paused(lab) == ["w1"]
    (row,) = [row for row in lab.json("list-workers") if row["name"] == "w1"]
    assert row["pause_reason"].startswith(
        "its last 4 jobs failed within seconds, while such jobs ran elsewhere"
    )
    assert "worker w1 is paused: its last 4 jobs failed" in lab.server_log()
    failed = [job for job in lab.json("list-jobs") if job["state"] == "failed"]
    assert 4 <= len(failed) < 20
    assert row["failed_last_hour"] == len(failed)
    assert row["succeeded_last_hour"] == 0
    assert "worker w1 is paused: its last 4" in lab.ok("status")
    assert "\x1b[31m" in lab.ok("--color", "always", "list-workers")
    lab.kill_server()
    lab.start_server()
    assert paused(lab) == ["w1"]
    # Mended, and said so.
    (lab.work / "synthesize").write_text("#!/bin/sh\n")
    lab.ok("resume-worker", "w1")
    again = lab.submit("--worker", "w1", "./synthesize")
    lab.wait_state(again, "succeeded")
    assert paused(lab) == []


def test_an_array_of_broken_jobs_pauses_nobody(lab_with_a_broken_machine: Lab) -> None:
    lab = lab_with_a_broken_machine
    (lab.work / "jobs").write_text("x\n" * 60)
    lab.ok("cmd", "--each-line", "jobs", "sh", "-c", "exit 1")
    lab.kueue("wait-job", "1-60", timeout=60)
    assert {job["state"] for job in lab.json("list-jobs")} == {"failed"}
    assert paused(lab) == []
