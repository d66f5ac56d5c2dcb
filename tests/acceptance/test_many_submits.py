"""`kueue cmd --each-line`, `--from-json`, and options in scripts, as people use them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kueue import Client
from kueue.wire.messages import JobView
from tests.support.lab import Lab


def jobs(lab: Lab) -> list[JobView]:
    """All of them."""
    with Client(lab.config) as client:
        return list(client.job_views())


def commands(lab: Lab) -> list[list[str]]:
    """Their commands."""
    return [[str(word) for word in job.command] for job in jobs(lab)]


def test_without_a_command_each_line_is_one_of_the_shell(lab: Lab) -> None:
    (lab.work / "todo").write_text("echo $((1 + 1)) > two\n\n  \nexit 3\n")
    done = lab.kueue("cmd", "--wait", "--each-line", "todo")
    assert done.stdout == b"1-2\n"
    assert done.returncode == 1
    assert b"job 2 failed (exit 3)" in done.stderr
    assert (lab.work / "two").read_text() == "2\n"


def test_a_line_is_one_argument_wherever_its_mark_is(lab: Lab) -> None:
    for name in ("a b", "c"):
        (lab.work / name).mkdir()
    options = ["--name", "{n}:{}", "-C", "{}", "-o", "{}.log", "--each-line", "-"]
    done = lab.kueue("cmd", *options, "echo", "of-{}", "{n}", "{other}", "${HOME}", input=b"a b\r\n\nc")
    assert done.stdout == b"1-2\n", done.stderr
    found = [lab.wait_state(number, "succeeded") for number in (1, 2)]
    assert [job["name"] for job in found] == ["1:a b", "3:c"]
    assert (lab.work / "a b" / "a b.log").read_text() == "of-a b 1 {other} ${HOME}\n"
    assert (lab.work / "c" / "c.log").read_text() == "of-c 3 {other} ${HOME}\n"


def test_without_a_mark_the_line_is_the_last_argument(lab: Lab) -> None:
    assert lab.kueue("cmd", "--each-line", "-", "echo", "-n", input=b"one two\n\xff\n").stdout == b"1-2\n"
    assert commands(lab)[0] == ["echo", "-n", "one two"]
    lab.wait_state(2, "succeeded")
    assert lab.kueue("logs", "2").stdout == b"\xff"


def test_objects_fill_their_values_in(lab: Lab) -> None:
    lines = [{"core": "a", "freq": 1.5}, {"core": "b", "freq": None, "list": [1, "x"]}]
    (lab.work / "lines").write_text("\n".join(map(json.dumps, lines)))
    (lab.work / "array").write_text(json.dumps(lines, indent=2))
    for file in ("lines", "array"):
        done = lab.kueue(
            "cmd", "--from-json", file, "--name", "{core}", "echo", "{core}@{freq}", "{list}", "{n}"
        )
        assert done.returncode == 0, done.stderr
    one, two = ["echo", "a@1.5", "{list}", "1"], ["echo", "b@null", '[1,"x"]', "2"]
    assert commands(lab) == [one, two, one, two]
    assert [job.name for job in jobs(lab)] == ["a", "b", "a", "b"]


def test_objects_may_bring_their_own_commands(lab: Lab) -> None:
    text = b'{"command": "echo $0"}\n{"command": ["echo", "a b", 3]}\n'
    assert lab.kueue("cmd", "--from-json", "-", input=text).stdout == b"1-2\n"
    assert commands(lab) == [["/bin/sh", "-c", "echo $0"], ["echo", "a b", "3"]]


@pytest.mark.parametrize(
    ("arguments", "text", "expected"),
    [
        (["--each-line", "nowhere"], b"", "nowhere: No such file or directory"),
        (["--each-line", "-"], b"\n\n", "stdin has no entry: no job was made"),
        (["--each-line", "-", "-C", "{}"], b"nowhere\n", "stdin, line 1: -C nowhere: no such directory"),
        (["--from-json", "-"], b'{"a": 1}\n', "stdin, line 1: which command?"),
        (["--from-json", "-"], b"{\n", "stdin, line 1: no JSON object: Input data was truncated"),
        (["--from-json", "-", "--each-line", "-"], b"", "either --each-line or --from-json"),
        (["--follow", "--each-line", "-"], b"", "--follow is for one job"),
    ],
)
def test_what_can_not_be_meant_is_one_line(
    lab: Lab, arguments: list[str], text: bytes, expected: str
) -> None:
    done = lab.kueue("cmd", *arguments, input=text)
    said = done.stderr.decode()
    assert expected in said
    assert len(said.splitlines()) == 1
    assert done.returncode in (2, 125)
    assert jobs(lab) == []


def test_what_was_submitted_before_a_bad_entry_stays_and_is_named(lab: Lab) -> None:
    lines = b'{"command": "true"}\n' * 1500 + b"nonsense\n"
    done = lab.kueue("cmd", "--from-json", "-", input=lines)
    assert done.returncode == 2
    first, last = done.stderr.decode().splitlines()  # the batch that was being filled was not sent
    assert first == "kueue: these jobs had been submitted and stay: 1-1000"
    assert last.startswith("kueue: stdin, line 1501: no JSON object")


def test_a_long_file_is_submitted_in_little_memory(lab: Lab) -> None:
    code = (
        "import resource, sys; from kueue.cli import main; code = main(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = []
    for count in (1_000, 30_000):
        done = subprocess.run(
            [sys.executable, "-c", code, "cmd", "--each-line", "-", "--worker", "nobody", "echo"],
            env=lab.env,
            input=b"a line of some length, as they are\n" * count,
            stdout=subprocess.PIPE,
            cwd=lab.work,
        )
        ids, result = done.stdout.decode().splitlines()
        status, peak = result.split()
        assert status == "0", done
        peaks.append(int(peak))
        first, last = map(int, ids.split("-"))
        assert last - first + 1 == count
    assert peaks[1] < peaks[0] + 20, peaks


def test_a_script_brings_its_own_options(lab: Lab) -> None:
    script = lab.work / "run.sh"
    script.write_text("#!/bin/sh\n#KUEUE --name of-script -p 3 -o logs/%j.log\necho from $0\n")
    script.chmod(0o755)
    number = lab.submit("-p", "4", "./run.sh")
    job = lab.wait_state(number, "succeeded")
    assert (job["name"], job["priority"]) == ("of-script", 4)
    assert (lab.work / "logs" / f"{number}.log").read_text() == "from ./run.sh\n"
    script.write_text("#!/bin/sh\n#KUEUE --nonsense\n")
    done = lab.kueue("cmd", "./run.sh")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"kueue: ./run.sh, line 2: --nonsense: not options of kueue cmd\n"
