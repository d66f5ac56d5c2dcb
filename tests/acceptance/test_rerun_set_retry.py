"""`rerun-job`, `set-job` and `cmd --retries` as people use them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kueue.cli import options
from kueue.errors import UsageError
from tests.support.lab import Lab


def test_failed_jobs_of_a_group_run_again_with_more_memory(lab: Lab) -> None:
    for code in (0, 3, 3):
        lab.submit("-g", "tapeout", "-r", "20", "sh", "-c", f"echo $X $PWD >> ran; exit {code}")
    lab.kueue("wait-job", "-g", "tapeout")
    done = lab.kueue("rerun-job", "-g", "tapeout", "--state", "failed", "-r", "32M", "-y")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"4-5\n", b"")
    lab.kueue("wait-job", "4-5")
    new = lab.job(4)
    assert (new["rerun_of"], new["ram_mb"], new["group"], new["return_code"]) == (2, 32, "tapeout", 3)
    assert lab.job(2)["rerun_of"] is None
    assert len((lab.work / "ran").read_text().splitlines()) == 5
    assert "rerun of:     2" in lab.ok("show-job", "4")


def test_what_has_not_finished_is_not_run_again(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start_server()
    lab.submit("true")
    done = lab.kueue("rerun-job", "1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"have not finished: 1" in done.stderr
    lab.ok("remove-job", "1")
    assert lab.ok("rerun-job", "last", "--new-group", "again", "--resource", "x=0") == "2\n"
    assert lab.job(2)["group"] == "again"
    done = lab.kueue("rerun-job", "1", "--resource", "nosuch")
    assert (done.returncode, b"unknown resource nosuch" in done.stderr) == (2, True)


def test_set_job_changes_what_waits_and_it_starts_by_its_new_needs(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start_server()
    lab.start_worker()
    number = lab.submit("-c", "64", "-g", "a", "--time-limit", "1h", "true")
    lab.submit("-c", "64", "-g", "a", "true")
    done = lab.kueue("set-job", "1", "-p", "7", "--time-limit", "none", "--new-group", "b")
    assert (done.returncode, done.stderr) == (0, b"1 job changed\n")
    job = lab.job(number)
    assert (job["priority"], job["time_limit_seconds"], job["group"]) == (7, None, "b")
    lab.ok("set-job", "-g", "b", "-c", "1")
    assert lab.wait_state(number, "succeeded")["cpus"] == 1
    done = lab.kueue("set-job", "--all", "-c", "32", "-y")
    assert (done.returncode, done.stderr) == (0, b"1 job changed; 1 had finished\n")
    assert lab.job(2)["cpus"] == 32


def test_what_can_not_be_meant_is_one_line(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start_server()
    lab.submit("true")
    for line, said in {
        "set-job 1": b"what is to be changed?",
        "set-job -p 1": b"which jobs?",
        "set-job 1 -p x": b"--priority",
        "set-job 1 -p 5000": b"priority",
        "set-job 1 -c 0": b"--cpus",
        "rerun-job": b"which jobs?",
        "cmd --retry-on 0 true": b"--retry-on 0",
        "cmd --retry-on 300 true": b"1 to 255",
        "cmd --retries 1 --no-restart true": b"at most once",
        "cmd --retries -1 true": b"retries",
        "cmd --retries 1 --retry-delay 5 true": b"5 what?",
    }.items():
        done = lab.kueue(*line.split())
        assert done.returncode == 2, line
        assert said in done.stderr, line
        assert len(done.stderr.splitlines()) == 1, line
    assert [job["id"] for job in lab.json("list-jobs")] == [1]


def test_a_job_is_tried_again_until_it_succeeds_and_whoever_waits_waits_on(lab: Lab) -> None:
    script = "echo $KUEUE_ATTEMPT >> tries; [ $(wc -l < tries) -ge 3 ]"
    done = lab.kueue("cmd", "--wait", "--retries", "5", "-o", "out", "sh", "-c", f"echo try; {script}")
    assert (done.returncode, done.stdout) == (0, b"0\n")
    assert (lab.work / "tries").read_text() == "1\n2\n3\n"
    assert (lab.work / "out").read_text() == "try\n" * 3
    job = lab.job(1)
    assert (job["retries"], job["max_retries"], job["attempt"], job["restarts"]) == (2, 5, 3, 0)
    assert [attempt["return_code"] for attempt in job["attempts"]] == [1, 1, 0]


def test_other_codes_and_the_last_try_fail_it(lab: Lab) -> None:
    lab.submit("--retries", "2", "--retry-on", "3,70-75", "sh", "-c", "exit 4")
    lab.submit("--retries", "2", "--retry-on", "3,70-75", "sh", "-c", "exit 72")
    assert lab.kueue("wait-job", "1", "2").returncode == 1
    assert [lab.job(number)["attempt"] for number in (1, 2)] == [1, 3]
    assert "2 of at most 2, on exit 3 70" in lab.ok("show-job", "2")


def test_a_delayed_retry_is_shown_and_comes_after_a_restart_of_the_server(lab: Lab) -> None:
    lab.submit("--retries", "1", "--retry-delay", "3s", "sh", "-c", "exit 9")
    waiting = lab.wait_state(1, "waiting")
    assert waiting["reason"] == {"code": "retry", "text": "exit 9; retry 1 of 1"}
    assert waiting["retry_at"] is not None
    assert "1 waiting" in lab.ok("list-jobs")
    lab.kill_server()
    lab.start_server()
    assert lab.state_of(1) == "waiting"
    failed = lab.wait_state(1, "failed")
    assert (failed["attempt"], failed["return_code"], failed["retry_at"]) == (2, 9, None)


def test_codes_are_written_as_a_list_with_ranges() -> None:
    assert options.exit_codes(None) == ()
    assert options.exit_codes("75,1,100-102") == (1, 75, 100, 101, 102)
    for text in ("", "0", "256", "x", "3-", "-3", "5-4", "1,,2", "٣"):
        with pytest.raises(UsageError):
            options.exit_codes(text)
