"""`kueue cmd --array` as people use it: submitted, run, listed, waited for, canceled, changed, run again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.lab import Lab


@pytest.fixture
def idle(make_lab: Callable[..., Lab]) -> Lab:
    """A server without a worker."""
    lab = make_lab()
    lab.start_server()
    return lab


def lines(lab: Lab, *arguments: str) -> list[str]:
    return lab.ok("list-jobs", *arguments).splitlines()


def test_each_task_has_its_index_in_its_words_its_environment_and_the_names_of_its_files(lab: Lab) -> None:
    code = "echo $1 $KUEUE_ARRAY_INDEX $KUEUE_JOB_ID $PWD; exit $(($1 == 5))"
    options = ("-o", "out/{n}.%i.%j.log", "--name", "run-{n}", "--wait", "-g", "sweep")
    done = lab.kueue("cmd", "--array", "1-5:2,20", *options, "sh", "-c", code, "-", "{n}")
    assert (done.returncode, done.stdout) == (1, b"1-4\n"), done.stderr
    assert b"job 3 failed (exit 1)" in done.stderr
    written = {path.name: path.read_text() for path in (lab.work / "out").iterdir()}
    assert written == {
        f"{index}.{index}.{job}.log": f"{index} {index} {job} {lab.work}\n"
        for job, index in ((1, 1), (2, 3), (3, 5), (4, 20))
    }
    row = lab.job(4)
    assert (row["name"], row["array"], row["array_index"], row["group"]) == ("run-20", 1, 20, "sweep")
    assert row["stdout_path"] == f"{lab.work}/out/20.20.4.log"
    assert "array:        1, index 20" in lab.ok("show-job", "4")
    assert [job["id"] for job in lab.json("list-jobs", "--name", "run-*0")] == [4]


def test_what_has_not_started_is_one_row_and_every_verb_takes_parts_of_it(idle: Lab) -> None:
    assert idle.ok("cmd", "--array", "1-1000", "-g", "sweep", "./sim", "{n}") == "1-1000\n"
    assert lines(idle)[-2:] == ["1000 jobs: 1000 pending", "1000 wait: 1000 no worker is connected"]
    (row,) = [line for line in lines(idle) if line.split()[:1] == ["1-1000"]]
    assert row.split()[1] == "[1-1000]"
    assert "./sim '{n}'" in row
    assert "pending 1000" in row
    (found,) = idle.json("list-jobs")
    assert (found["id"], found["last"], found["indices"], found["array"]) == (1, 1000, "1-1000", 1)
    assert found["command"] == ["./sim", "{n}"]
    assert idle.job(17)["command"] == ["./sim", "17"]

    assert b"10 jobs canceled" in idle.kueue("remove-job", "11-20").stderr
    done = idle.kueue("set-job", "-g", "sweep", "--state", "pending", "-p", "5", "-y")
    assert done.stderr == b"990 jobs changed\n"
    assert idle.kueue("remove-job", "900-2000", "-y").stderr == b"101 jobs canceled\n"
    rows = [(job["id"], job["last"], job["state"], job["priority"]) for job in idle.json("list-jobs", "-c")]
    assert rows[0] == (11, 20, "canceled", 0)
    assert idle.json("list-jobs", "17")[0]["reason"]["code"] == "canceled"
    assert idle.kueue("rerun-job", "11-13", "-y").stdout == b"1001-1003\n"
    again = idle.job(1002)
    assert (again["command"], again["rerun_of"], again["array_index"]) == (["./sim", "12"], 12, 12)
    assert idle.kueue("clean-jobs", "-y").returncode == 0
    assert {job["state"] for job in idle.json("list-jobs")} == {"pending"}


def test_a_restart_finds_it_all_again(idle: Lab) -> None:
    idle.ok("cmd", "--array", "1-100000", "-o", "{n}.log", "sh", "-c", "echo {n}")
    idle.ok("remove-job", "2-99990")
    idle.kill_server()
    idle.start_server()
    rows = [(job["id"], job["last"], job["state"]) for job in idle.json("list-jobs")]
    assert rows == [(1, None, "pending"), (2, 99990, "canceled"), (99991, 100000, "pending")]
    idle.start_worker()
    assert idle.kueue("wait-job", "1", "99991-100000").returncode == 0
    assert sorted(path.name for path in idle.work.glob("*.log")) == sorted(
        f"{index}.log" for index in (1, *range(99991, 100001))
    )
    idle.kill_server()
    idle.start_server()
    counts = [(job["id"], job["state"]) for job in idle.json("list-jobs", "-s")]
    assert counts == [(job, "succeeded") for job in (1, *range(99991, 100001))]


def test_no_more_run_at_a_time_than_asked_for(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 8")
    lab.start_server()
    lab.start_worker()
    code = "mkdir lock.{n}; ls -d lock.* | wc -l >> seen; sleep 0.05; rmdir lock.{n}"
    done = lab.kueue("cmd", "--array", "1-20", "--max-running", "1", "--wait", "sh", "-c", code)
    assert done.returncode == 0, done.stderr
    seen = [int(line) for line in (lab.work / "seen").read_text().split()]
    assert len(seen) == 20
    assert max(seen) == 1


def test_a_script_may_say_that_it_is_an_array(lab: Lab) -> None:
    script = lab.work / "run.sh"
    script.write_text('#!/bin/sh\n#KUEUE --array 3-4 -o %i.out --name "n{n}"\necho $KUEUE_ARRAY_INDEX\n')
    script.chmod(0o755)
    assert lab.kueue("cmd", "--wait", "./run.sh").returncode == 0
    assert (lab.work / "4.out").read_text() == "4\n"
    assert lab.job(2)["name"] == "n4"


def test_output_of_a_task_is_fetched_like_that_of_any_job(lab: Lab) -> None:
    assert lab.kueue("cmd", "--array", "7-9", "--wait", "echo", "index {n}").returncode == 0
    assert lab.ok("logs", "2") == "index 8\n"


def test_a_directory_may_depend_on_the_index(lab: Lab) -> None:
    for name in ("d1", "d2"):
        (lab.work / name).mkdir()
    done = lab.kueue("cmd", "--array", "1-2", "-C", "d{n}", "-o", "here", "--wait", "pwd")
    assert done.returncode == 0, done.stderr
    assert (lab.work / "d2" / "here").read_text() == f"{lab.work}/d2\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--array", "5-1", "true"), "there is no index in '5-1'"),
        (("--array", "x", "true"), "is no range of indices"),
        (("--array", "1-99999999", "true"), "at most 10000000 tasks"),
        (("--array", "1-3"), "which command?"),
        (("--array", "1-3", "--follow", "true"), "--follow is for one job"),
        (("--array", "1-3", "--each-line", "-", "true"), "either --array or a file"),
        (("--max-running", "3", "true"), "--max-running is for --array"),
        (("--array", "1-3", "--max-running", "0", "true"), "out of range"),
        (("--array", "1-3", "-C", "no{n}", "true"), "-C no1: no such directory"),
        (("--array", "1-3", "--resource", "nosuch", "true"), "unknown resource nosuch"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_one_line(
    idle: Lab, arguments: tuple[str, ...], said: str
) -> None:
    done = idle.kueue("cmd", *arguments)
    assert done.stdout == b""
    (line,) = done.stderr.decode().splitlines()
    assert said in line
    assert idle.json("list-jobs") == []


def test_python_submits_arrays_too(lab: Lab) -> None:
    with lab._client() as client:
        jobs = client.submit_array(["sh", "-c", "exit $KUEUE_ARRAY_INDEX"], range(0, 5, 2), max_running=1)
        assert [job.id for job in jobs] == [1, 2, 3]
        ended = {job.id: job.return_code for job in client.as_completed(jobs)}
    assert ended == {1: 0, 2: 2, 3: 4}


def test_an_array_follows_a_job_and_another_array_follows_it_also_when_the_server_dies(lab: Lab) -> None:
    lab.ok("cmd", "--name", "prepare", "sh", "-c", "until [ -e go ]; do sleep 0.05; done; touch prepared")
    assert lab.ok(
        "cmd", "--after", "1", "--array", "1-20", "sh", "-c", "test -e prepared; touch $KUEUE_ARRAY_INDEX"
    )
    assert lab.ok("cmd", "--after", "2-21", "--array", "1-3", "sh", "-c", "ls $(seq 20)") == "22-24\n"
    assert lab.ok("cmd", "--after", "22", "--array", "1-3", "--on-failure", "hold", "false") == "25-27\n"
    assert lab.ok("cmd", "--after", "25-27", "--array", "1-500", "true") == "28-527\n"
    rows = [" ".join(line.split()) for line in lines(lab)]
    assert any(row.startswith("2-21 [1-20]") and row.endswith("waiting 20 waits for job 1") for row in rows)
    assert any(
        row.startswith("28-527 [1-500]") and row.endswith("waiting 500 waits for 3 jobs") for row in rows
    )
    lab.kill_server()
    lab.start_server()
    (lab.work / "go").touch()
    assert lab.kueue("wait-job", "1-527").returncode == 1
    states = {job["id"]: job["state"] for job in lab.json("list-jobs", "1-27")}
    assert states == dict.fromkeys(range(1, 25), "succeeded") | dict.fromkeys((25, 26, 27), "failed")
    (row,) = lab.json("list-jobs", "28-527")
    assert (row["state"], row["last"], row["reason"]["text"]) == ("canceled", 527, "job 25 failed (exit 1)")
