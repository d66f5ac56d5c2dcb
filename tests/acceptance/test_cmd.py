"""`kueue cmd` as people use it."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable

import pexpect
import pytest

import kueue
from tests.support.lab import Lab
from tests.support.waiting import wait_for


def test_cmd_prints_the_id_and_the_job_runs_where_it_was_submitted(lab: Lab) -> None:
    number = lab.submit("sh", "-c", "pwd; echo to stderr >&2; exit 0")
    job = lab.wait_state(number, "succeeded")
    assert job["command"] == ["sh", "-c", "pwd; echo to stderr >&2; exit 0"]
    assert job["cwd"] == str(lab.work)
    done = lab.kueue("logs", str(number))
    assert done.stdout.decode() == f"{lab.work}\n"
    assert done.stderr.decode() == "to stderr\n"


def test_wait_prints_the_return_code_and_exits_with_it(lab: Lab) -> None:
    done = lab.kueue("cmd", "--wait", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert done.stdout == b"7\n"
    assert re.search(rb"job 1 .*w1", done.stderr)
    assert b"job 1 failed (exit 2)".replace(b"2", b"7") in done.stderr
    assert b"kueue logs 1" in done.stderr


def test_a_signal_becomes_128_plus_its_number(lab: Lab) -> None:
    done = lab.kueue("cmd", "-w", "sh", "-c", "kill -9 $$")
    assert done.returncode == 128 + 9
    assert lab.job(1)["signal"] == 9


def test_follow_passes_both_streams_through_and_the_exit_code(lab: Lab) -> None:
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.1; done; exit 3"
    done = lab.kueue("cmd", "--follow", "sh", "-c", script)
    assert done.stdout == b"out 1\nout 2\nout 3\n"
    assert [line for line in done.stderr.splitlines() if line.startswith(b"err")] == [
        b"err 1",
        b"err 2",
        b"err 3",
    ]
    assert done.returncode == 3


def test_dashes_after_the_first_word_belong_to_the_command(lab: Lab) -> None:
    number = lab.submit("--name", "dashes", "echo", "--wait", "-c", "--", "-x")
    assert lab.wait_state(number, "succeeded")["command"] == ["echo", "--wait", "-c", "--", "-x"]
    assert lab.ok("logs", str(number)) == "--wait -c -- -x\n"


def test_arguments_and_output_that_are_not_utf8_come_back_as_they_were(lab: Lab) -> None:
    raw = b"caf\xe9 \xff"
    done = lab.kueue("cmd", "--follow", "printf", "%s", raw)
    assert done.stdout == raw
    directory = lab.work / os.fsdecode(b"d\xe9")
    directory.mkdir()
    done = lab.kueue("cmd", "--follow", "pwd", cwd=directory)
    assert done.stdout == os.fsencode(directory) + b"\n"
    assert lab.kueue("list-jobs").returncode == 0
    assert lab.kueue("show-job", "1").returncode == 0


def test_the_environment_is_the_submitters_and_kueue_adds_its_own(lab: Lab) -> None:
    lab.env["FROM_SUBMITTER"] = "yes"
    script = 'echo "$FROM_SUBMITTER $EXTRA $KUEUE_JOB_ID $KUEUE_ATTEMPT $KUEUE_CPUS $KUEUE_RAM_MB $OMP_NUM_THREADS"'
    done = lab.kueue("cmd", "-f", "-c", "2", "-r", "32M", "--env", "EXTRA=more", "sh", "-c", script)
    assert done.stdout == b"yes more 1 1 2 32 2\n"
    done = lab.kueue("cmd", "-f", "--clean-env", "sh", "-c", 'echo "[$FROM_SUBMITTER]"')
    assert done.stdout == b"[]\n"
    done = lab.kueue("cmd", "-f", "env")
    assert b"a-secret-for-tests" not in done.stdout


def test_output_files_are_relative_to_the_directory_and_one_path_serves_both(lab: Lab) -> None:
    lab.ok("cmd", "-w", "-o", "both.log", "-e", "both.log", "sh", "-c", "echo one; echo two >&2; echo three")
    assert (lab.work / "both.log").read_text() == "one\ntwo\nthree\n"
    (lab.work / "sub").mkdir()
    lab.ok("cmd", "-w", "-C", "sub", "-o", "out", "-e", "null", "sh", "-c", "echo one; echo two >&2")
    assert (lab.work / "sub" / "out").read_text() == "one\n"
    assert lab.ok("logs", "2", "--stdout") == "one\n"


def test_an_output_that_cannot_be_written_fails_the_job_and_says_so(lab: Lab) -> None:
    (lab.work / "file").touch()
    done = lab.kueue("cmd", "-w", "-o", "file/out.log", "true")
    assert done.returncode not in (0, 3)
    reason = lab.job(1)["reason"]
    assert reason["code"] == "output"
    assert "out.log" in reason["text"]


def test_a_missing_program_fails_with_its_name(lab: Lab) -> None:
    done = lab.kueue("cmd", "-w", "no_such_program_here")
    assert (done.returncode, done.stdout) == (127, b"127\n")
    assert "no_such_program_here" in lab.job(1)["reason"]["text"]
    assert lab.job(1)["state"] == "failed"


def test_a_script_without_an_interpreter_line_runs_as_from_a_shell(lab: Lab) -> None:
    script = lab.work / "plain.sh"
    script.write_text("echo plain $1\n")
    script.chmod(0o755)
    assert lab.kueue("cmd", "-f", "./plain.sh", "x").stdout == b"plain x\n"


def test_a_very_long_argument_goes_through(lab: Lab) -> None:
    long = "x" * 100_000
    done = lab.kueue("cmd", "-f", "sh", "-c", 'echo "${#1} ${#2}"', "sh", long, long)
    assert done.stdout == b"100000 100000\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sort a | uniq"], "sh -c"),
        ([""], "command"),
        ([], "command"),
        (["-c", "0", "true"], "cpus"),
        (["-c", "-3", "true"], "cpus"),
        (["-c", "9223372036854775808", "true"], "cpus"),
        (["-r", "lots", "true"], "lots"),
        (["--resource", "nolicence", "true"], "nolicence"),
        (["--resource", "x=0", "true"], "x"),
        (["--time-limit", "90", "true"], "90s"),
        (["-C", "/no/such/directory", "true"], "/no/such/directory"),
        (["-p", "2000", "true"], "1000"),
        (["--no-such-flag", "true"], "--no-such-flag"),
    ],
)
def test_what_cannot_be_meant_gets_one_clear_line_and_code_2(
    lab: Lab, arguments: list[str], said: str
) -> None:
    done = lab.kueue("cmd", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""
    assert lab.json("list-jobs") == []


def test_usage_errors_with_wait_are_not_mistaken_for_the_commands_own(lab: Lab) -> None:
    assert lab.kueue("cmd", "--wait", "--resource", "nolicence", "true").returncode == 125


def test_a_directory_that_no_worker_sees_is_waited_for_and_said(lab: Lab) -> None:
    gone = lab.work / "gone"
    gone.mkdir()
    blocker = [lab.submit("sleep", "60") for _ in range(2)]
    number = lab.submit("-C", str(gone), "true")
    gone.rmdir()
    for job in blocker:
        lab.ok("remove-job", "--kill", str(job))
    reason = wait_for(
        "the reason names the directory",
        lambda: (r := lab.job(number)["reason"]) and r["code"] == "no_directory" and r["text"],
    )
    assert str(gone) in reason or str(lab.work) in reason
    assert lab.state_of(number) == "pending"


def test_a_time_limit_ends_the_whole_tree(lab: Lab) -> None:
    number = lab.submit("--time-limit", "1s", "sh", "-c", "sleep 300 & sleep 300; wait")
    job = lab.wait_state(number, "failed")
    assert job["reason"]["code"] == "time_limit"
    wait_for("no process of the job is left", lambda: not lab.jobs_processes())


def test_ctrl_c_while_waiting_leaves_the_job_running_and_says_how_to_go_on(lab: Lab) -> None:
    marker = lab.work / "finished"
    script = f"while [ ! -e go ]; do sleep 0.05; done; touch {marker}"
    child = pexpect.spawn(
        sys.executable,
        ["-m", "kueue", "cmd", "--wait", "sh", "-c", script],
        env=lab.env,
        cwd=str(lab.work),
        timeout=30,
        encoding="utf-8",
    )
    child.expect("w1")
    lab.wait_state(1, "running")
    child.sendintr()
    child.expect("kueue wait-job 1")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert lab.state_of(1) == "running"
    (lab.work / "go").touch()
    lab.wait_state(1, "succeeded")
    assert marker.exists()


def test_cpu_time_and_peak_memory_are_known(lab: Lab) -> None:
    burn = "x = bytearray(64 * 1024 * 1024)\nfor i in range(1_000_000): pass"
    lab.ok("cmd", "-w", sys.executable, "-c", burn)
    job = lab.job(1)
    assert job["cpu_seconds"] > 0.01
    assert 64 <= job["peak_ram_mb"] < 640
    assert job["return_code"] == 0


def test_priority_goes_first(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 1")
    lab.start_server()
    order = lab.work / "order"
    for priority in (0, 5, -5, 10):
        lab.submit("-p", str(priority), "sh", "-c", f"echo {priority} >> {order}")
    lab.start_worker("w1")
    lab.ok("wait-job", "1", "2", "3", "4")
    assert order.read_text().split() == ["10", "5", "0", "-5"]


def test_umask_and_limits_are_the_submitters(lab: Lab) -> None:
    def narrow() -> None:
        os.umask(0o027)
        resource.setrlimit(resource.RLIMIT_NOFILE, (123, 4096))

    done = subprocess.run(
        [sys.executable, "-m", "kueue", "cmd", "--follow", "sh", "-c", "umask; ulimit -Sn"],
        env=lab.env,
        cwd=lab.work,
        capture_output=True,
        preexec_fn=narrow,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"0027\n123\n"


def test_a_closed_pipe_is_quiet(lab: Lab) -> None:
    lab.ok("cmd", "-w", "-o", "many", "seq", "100000")
    command = f"{sys.executable} -m kueue logs 1 | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=lab.env, capture_output=True, timeout=60
    )
    assert done.stdout == b"1\n"
    assert done.stderr == b""


def test_two_hundred_jobs_in_a_loop_all_succeed(lab: Lab) -> None:
    out = lab.work / "all"
    first = lab.submit("sh", "-c", f"echo $KUEUE_JOB_ID >> {out}")
    with kueue.Client(config=str(lab.config)) as client:
        jobs = client.submit_many(
            kueue.JobSpec(["sh", "-c", f"echo $KUEUE_JOB_ID >> {out}"], cwd=str(lab.work)) for _ in range(199)
        )
        assert all(job.state == "succeeded" for job in kueue.as_completed(jobs, timeout=60))
    lab.ok("wait-job", str(first))
    assert sorted(map(int, out.read_text().split())) == list(range(1, 201))
