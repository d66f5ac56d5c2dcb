"""`load`, `dump` and `restore` with real programs: no job twice, none lost, whoever dies meanwhile."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable

import pytest

from kueue import Client, JobSpec, RequestError
from tests.support.lab import Lab
from tests.support.waiting import wait_for


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A server; whoever needs a worker starts one."""
    lab = make_lab(worker="worker_max_parallel_jobs = 2", client="connect_timeout_seconds = 60")
    lab.start_server()
    return lab


def write(lab: Lab, name: str, *lines: str) -> str:
    (lab.work / name).write_text("".join(f"{line}\n" for line in lines))
    return name


def test_a_line_that_the_queue_has_makes_no_second_job(lab: Lab) -> None:
    first = write(lab, "first", "echo a", "echo b", "echo a")
    done = lab.kueue("load", "-u", "tapeout", first)
    assert done.stdout == b"1-2\n"
    assert b"1 job was left out: a job of the same key is in the queue\n" in done.stderr
    lab.start_worker("w1")
    lab.wait_state(2, "succeeded")
    second = write(lab, "second", "echo b", "echo c")
    assert lab.kueue("load", "--unique", "tapeout", second).stdout == b"3\n"
    again = lab.kueue("load", "-u", "tapeout", second)
    assert (again.returncode, again.stdout) == (0, b"")
    assert b"2 jobs were left out" in again.stderr
    assert lab.kueue("load", "-u", "another", second).stdout == b"4-5\n"
    assert lab.kueue("load", "tapeout", second).stdout == b"6-7\n"
    lab.kill_server()
    lab.start_server()
    assert lab.kueue("load", "-u", "tapeout", first).stdout == b""
    for job in range(1, 8):
        lab.wait_state(job, "succeeded")
    lab.ok("clean-jobs", "-q", "tapeout", "-y")
    assert lab.kueue("load", "-u", "tapeout", first).stdout == b"8-9\n"


def test_a_key_is_made_of_values_or_of_the_whole_object(lab: Lab) -> None:
    rows = [{"core": core, "mhz": mhz} for core in ("a", "b") for mhz in (500, 800)]
    objects = write(lab, "objects", *map(json.dumps, rows))
    load = ("load", "--json", "--name", "{core}", "tapeout", objects, "echo", "{core}", "{mhz}")
    by_core = lab.kueue(load[0], "--key", "{core}", *load[1:])
    assert by_core.stdout == b"1-2\n"
    assert [job["name"] for job in lab.json("list-jobs")] == ["a", "b"]
    assert lab.kueue(load[0], "-u", *load[1:]).stdout == b"3-6\n"
    swapped = write(lab, "swapped", '{"mhz": 500, "core": "a"}')
    assert lab.kueue("load", "--json", "-u", "tapeout", swapped, "true").stdout == b""
    for words in (("--key", "same", "q", objects), ("--key", "{}", "-u", "q", objects)):
        assert lab.kueue("load", *words).returncode == 2


@pytest.mark.parametrize("words", [("-u",), ("-u", "--", "echo", "{}"), ("--key", "{}")])
def test_options_behind_the_file_are_not_taken_for_a_command(lab: Lab, words: tuple[str, ...]) -> None:
    done = lab.kueue("load", "tapeout", write(lab, "lines", "echo a"), *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"{words[0]} comes too late: options of load go before the queue's name".encode() in done.stderr
    assert lab.json("list-jobs") == []


def test_two_loads_at_the_same_time_and_a_server_that_dies_make_each_job_once(lab: Lab) -> None:
    lines = write(lab, "lines", *(f"echo {number}" for number in range(4000)))
    loads = [lab.start_client(f"load{number}", "load", "-u", "tapeout", lines) for number in range(2)]
    with Client(lab.config) as client:
        wait_for("some are there", lambda: client.counts().pending > 500)
    lab.kill_server()
    lab.start_server()
    for number, load in enumerate(loads):
        assert load.wait(90) == 0, (lab.place / f"load{number}.err").read_text()
    with Client(lab.config) as client:
        commands = [view.command for view in client.job_views()]
    assert len(commands) == len(set(commands)) == 4000


def test_python_says_when_there_is_one_of_that_key(lab: Lab) -> None:
    with Client(lab.config) as client:
        client.submit(["true"], queue="q", key="a")
        with pytest.raises(RequestError, match="one of the same key"):
            client.submit(["true"], queue="q", key="a")
        jobs = client.submit_many(
            [JobSpec(["true"], queue="q", key=key) for key in ("x" * 5000, "b", "x" * 5000)]
        )
        assert len(jobs) == 2
        assert [warning.code for warning in jobs.warnings if warning.code == "duplicate"] == ["duplicate"]


def test_what_a_dump_has_runs_as_it_would_have_also_on_another_server(
    lab: Lab, make_lab: Callable[..., Lab]
) -> None:
    lab.ok("pause-queue", "tapeout")
    lab.env["COLOUR"] = "green"
    out = lab.work / "out"
    script = f'echo "$COLOUR $1" >> {out}'
    lab.ok("cmd", "-q", "tapeout", "--name", "one", "-p", "7", "sh", "-c", script, "-", "first")
    lab.env["COLOUR"] = "red"
    lab.ok("cmd", "-q", "tapeout", "--retries", "2", "-g", "g", "sh", "-c", script, "-", "second")
    lab.submit("true")
    done = lab.kueue("dump", "tapeout", "dump")
    assert (done.returncode, done.stderr) == (0, b"2 jobs of queue tapeout\n")
    assert stat.S_IMODE((lab.work / "dump").stat().st_mode) == 0o600
    assert lab.kueue("dump", "tapeout", "dump").returncode == 2  # it is there already
    del lab.env["COLOUR"]

    other = make_lab()
    other.start_server()
    assert other.kueue("restore", str(lab.work / "dump")).stdout == b"1-2\n"
    before = {job["name"]: job for job in lab.json("list-jobs", "-q", "tapeout")}
    after = {job["name"]: job for job in other.json("list-jobs", "-q", "tapeout")}
    same = ("command", "cwd", "group", "priority", "queue", "cpus", "ram_mb")
    assert {name: [job[key] for key in same] for name, job in before.items()} == {
        name: [job[key] for key in same] for name, job in after.items()
    }
    assert other.kueue("restore", "--queue", "night", str(lab.work / "dump")).stdout == b"3-4\n"
    assert [job["queue"] for job in other.json("list-jobs")] == ["tapeout", "tapeout", "night", "night"]
    other.start_worker("w1")
    for job in range(1, 5):
        other.wait_state(job, "succeeded")
    assert sorted(out.read_text().split("\n")) == ["", *["green first"] * 2, *["red second"] * 2]


def test_a_dump_goes_through_a_pipe_and_one_that_is_cut_off_is_told(lab: Lab) -> None:
    lab.ok("pause-queue", "q")
    lines = write(lab, "lines", *(f"echo {number}" for number in range(30)))
    lab.ok("load", "q", lines)
    whole = lab.kueue("dump", "q", "-").stdout
    (lab.work / "part").write_bytes(b"".join(whole.splitlines(keepends=True)[:20]))
    done = lab.kueue("restore", "--queue", "r", "part")
    assert done.returncode == 2
    assert b"cut off after 18 jobs" in done.stderr
    assert b"31-48" in done.stderr or len(lab.json("list-jobs", "-q", "r")) == 0
    through = subprocess.run(
        [sys.executable, "-m", "kueue", "restore", "--queue", "s", "-"],
        env=lab.env,
        input=whole,
        capture_output=True,
        timeout=60,
    )
    assert through.returncode == 0, through.stderr
    assert len(lab.json("list-jobs", "-q", "s")) == 30
    for words in (("restore", "nowhere"), ("restore", lines), ("dump", "q", "no/such/place")):
        assert lab.kueue(*words).returncode == 2
    assert lab.kueue("dump", "nowhere", "new").stderr == b"kueue: no queue nowhere\n"
    assert not (lab.work / "new").exists()


def test_dump_and_restore_need_little_memory(lab: Lab) -> None:
    """As for a few jobs, though each is of a kilobyte."""
    code = (
        "import resource, sys; from kueue.cli import main; code = main(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = []
    for queue, jobs in (("few", 100), ("many", 20_000)):
        lab.ok("pause-queue", queue)
        with Client(lab.config) as client:
            client.submit_many(
                JobSpec(["echo", str(number), "x" * 1000], queue=queue) for number in range(jobs)
            )
        for words in (("dump", queue, f"{queue}.dump"), ("restore", "-q", f"r-{queue}", f"{queue}.dump")):
            command = [sys.executable, "-c", code, *words]
            done = subprocess.run(command, env=lab.env, cwd=lab.work, stdout=subprocess.PIPE, text=True)
            status, peak = done.stdout.splitlines()[-1].split()
            assert status == "0", done
            peaks.append(int(peak))
        assert (lab.work / f"{queue}.dump").stat().st_size > 1000 * jobs
    assert peaks[2] < peaks[0] + 20, peaks
    assert peaks[3] < peaks[1] + 30, peaks
