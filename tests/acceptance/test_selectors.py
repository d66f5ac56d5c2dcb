"""One selector for every command, the count and the question before many jobs are changed."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pexpect
import pytest

from tests.support.lab import Lab


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A server without workers: 1-4 are of a tape-out, 5 and 6 of nothing."""
    lab = make_lab()
    lab.start_server()
    for name in ("synth-a", "synth-b", "route", "sign-off"):
        lab.submit("-g", "tapeout", "--name", name, "true")
    (lab.work / "deep").mkdir()
    lab.ok("cmd", "true", cwd=lab.work / "deep")
    lab.submit("true")
    return lab


def ids(lab: Lab, *words: str) -> list[int]:
    return [job["id"] for job in lab.json("list-jobs", *words)]


def test_every_condition_selects_and_all_hold_together(lab: Lab) -> None:
    assert ids(lab) == [1, 2, 3, 4, 5, 6]
    assert ids(lab, "2-4", "6") == [2, 3, 4, 6]
    assert ids(lab, "1", "last") == [1, 6]
    assert ids(lab, "-g", "tapeout") == [1, 2, 3, 4]
    assert ids(lab, "-g", "tapeout", "--name", "synth-*") == [1, 2]
    assert ids(lab, "--cwd", "deep") == [5]
    assert ids(lab, "--cwd", ".", "3-9") == [3, 4, 5, 6]
    assert ids(lab, "--since", "1h") == [1, 2, 3, 4, 5, 6]
    lab.ok("remove-job", "1")
    assert ids(lab, "--state", "canceled") == [1]
    assert ids(lab, "--state", "pending,canceled", "1-2") == [1, 2]
    assert ids(lab, "-c", "-g", "tapeout") == [1]
    assert ids(lab, "--exit-code", "0") == []
    assert ids(lab, "--worker", "*") == []


def test_where_one_job_is_meant_last_is_the_newest(lab: Lab, make_lab: Callable[..., Lab]) -> None:
    assert lab.json("show-job", "last")["id"] == 6
    assert lab.json("explain", "last") == lab.json("explain", "6")
    assert lab.kueue("logs", "last").stderr == lab.kueue("logs", "6").stderr != b""
    assert lab.kueue("show-job", "newest").returncode == 2
    empty = make_lab()
    empty.start_server()
    for command in ("show-job", "explain", "logs"):
        done = empty.kueue(command, "last")
        assert (done.returncode, done.stderr) == (
            empty.kueue(command, "1").returncode,
            b"kueue: there are no jobs\n",
        )


def test_the_group_of_the_environment_is_meant_unless_something_else_is(lab: Lab) -> None:
    lab.env["KUEUE_GROUP"] = "tapeout"
    assert ids(lab) == [1, 2, 3, 4]
    assert ids(lab, "--all") == [1, 2, 3, 4, 5, 6]
    assert ids(lab, "5") == [5]
    assert ids(lab, "-g", "") == [1, 2, 3, 4, 5, 6]
    done = lab.kueue("remove-job", "-y")
    assert (done.returncode, done.stderr) == (0, b"4 jobs canceled\n")


def test_a_selection_that_can_not_be_meant_is_one_line_and_changes_nothing(lab: Lab) -> None:
    for line, said in {
        "remove-job": b"which jobs?",
        "wait-job": b"which jobs?",
        "remove-job -y": b"which jobs?",
        "remove-job --state pending": b"give -y",
        "list-jobs --state runing": b"no state is named runing",
        "list-jobs 4-2": b"lower number",
        "list-jobs 4-": b"'4-'",
        "list-jobs --since 5": b"5 what?",
        "list-jobs --exit-code x": b"--exit-code",
    }.items():
        done = lab.kueue(*line.split())
        assert done.returncode == 2, line
        assert said in done.stderr, line
        assert len(done.stderr.splitlines()) == 1, line
    assert ids(lab, "--state", "pending") == [1, 2, 3, 4, 5, 6]


def test_all_is_never_implied_and_counts_what_it_cannot_do(lab: Lab) -> None:
    lab.ok("remove-job", "2")
    done = lab.kueue("remove-job", "--all", "-y")
    assert (done.returncode, done.stderr) == (0, b"5 jobs canceled; 1 had finished\n")


def test_dry_run_lists_and_changes_nothing(lab: Lab) -> None:
    done = lab.kueue("remove-job", "-g", "tapeout", "--dry-run")
    assert done.returncode == 0
    assert b"synth-a" in done.stdout
    assert done.stderr == b"would cancel 4 jobs (4 pending)\n"
    assert ids(lab, "--state", "pending") == [1, 2, 3, 4, 5, 6]


def test_ids_one_by_one_are_spoken_of_one_by_one(lab: Lab) -> None:
    lab.ok("remove-job", "2")
    done = lab.kueue("remove-job", "1", "2", "99")
    assert done.returncode == 1
    assert done.stderr == b"job 2 has finished already\nno job 99\n"
    done = lab.kueue("remove-job", "3-99")
    assert (done.returncode, done.stderr) == (0, b"4 jobs canceled\n")


def test_clean_jobs_takes_a_selection_or_everything_that_is_over(lab: Lab) -> None:
    lab.ok("remove-job", "1-6", "-y")
    done = lab.kueue("clean-jobs", "-g", "tapeout", "--name", "synth-*", "-y")
    assert (done.returncode, done.stderr) == (0, b"2 jobs dropped\n")
    lab.submit("-g", "tapeout", "true")
    done = lab.kueue("clean-jobs", "--dry-run")
    assert done.stderr == b"would drop 4 jobs (4 canceled), not 1 in other states\n"
    assert [line.split()[0] for line in done.stdout.splitlines()] == [b"id", b"3", b"4", b"5", b"6"]
    done = lab.kueue("clean-jobs", "3", "7")
    assert (done.returncode, done.stderr) == (0, b"1 job dropped; 1 stay\n")
    done = lab.kueue("clean-jobs")
    assert (done.returncode, done.stderr) == (0, b"3 jobs dropped\n")
    assert ids(lab) == [7]


def test_wait_job_waits_for_those_that_are_selected_now(lab: Lab) -> None:
    lab.ok("remove-job", "6")
    done = lab.kueue("wait-job", "-g", "tapeout", "--timeout", "1s")
    assert done.returncode == 124
    assert b"0 of 4 jobs" in done.stderr
    lab.start_worker()
    assert lab.kueue("wait-job", "-g", "tapeout").returncode == 0
    assert lab.kueue("wait-job", "4-6").returncode == 1
    done = lab.kueue("wait-job", "-g", "nothing")
    assert (done.returncode, done.stderr) == (1, b"no job is selected\n")


@pytest.mark.parametrize(
    ("answer", "left"), [("y", [5, 6]), ("n", [1, 2, 3, 4, 5, 6]), ("", [1, 2, 3, 4, 5, 6])]
)
def test_on_a_terminal_it_says_how_many_and_asks(lab: Lab, answer: str, left: list[int]) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "kueue", "remove-job", "-g", "tapeout"],
        env={**lab.env, "TERM": "xterm"},
        timeout=30,
    )
    child.expect_exact("cancel 4 jobs (4 pending)? [y/N] ")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == (0 if answer == "y" else 1)
    assert ids(lab, "--state", "pending") == left


def test_one_job_is_not_asked_about(lab: Lab) -> None:
    done = lab.kueue("remove-job", "--name", "route")
    assert (done.returncode, done.stderr) == (0, b"1 job canceled\n")
