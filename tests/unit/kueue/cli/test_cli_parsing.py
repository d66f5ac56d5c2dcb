"""Words of the command line: what they mean, what they can't, and the codes that come of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from kueue.cli import main, options
from kueue.cli.awaiting import ending_line, exit_code
from kueue.cli.commands import NAMES
from kueue.cli.completion import candidates
from kueue.cli.overview import BRIEFS, ROOM
from kueue.errors import UsageError
from kueue.wire.messages import JobChange, Reason


def run(
    *words: str, env: dict[str, str] | None = None, stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kueue", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )


def test_resources_are_names_with_or_without_an_amount() -> None:
    assert options.resources(["genus", "primelib=4"]) == {"genus": 1, "primelib": 4}


@pytest.mark.parametrize("word", ["", "=3", "x=", "x=0", "x=-1", "x=y", "x=9223372036854775808"])
def test_a_resource_that_cannot_be_meant_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        options.resources([word])


def test_the_same_resource_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        options.resources(["a", "a=2"])


def test_environment_words_set_or_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "a=b")
    assert options.environment(["X=1=2", "KEPT", "EMPTY="]) == {"X": "1=2", "KEPT": "a=b", "EMPTY": ""}
    with pytest.raises(UsageError, match="NOT_THERE"):
        options.environment(["NOT_THERE"])


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "٣", "4611686018427387904", ""])
def test_what_is_no_job_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        options.job_id(text)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (JobChange(1, "succeeded", return_code=0), 0),
        (JobChange(1, "failed", return_code=2, reason=Reason("exit", "exit 2")), 2),
        (JobChange(1, "failed", signal=9, reason=Reason("signal", "signal 9")), 137),
        (JobChange(1, "failed", signal=15, reason=Reason("time_limit", "time limit")), 143),
        (JobChange(1, "failed", reason=Reason("no_program", "no x in PATH")), 125),
        (JobChange(1, "failed", reason=Reason("lost", "lost")), 125),
        (JobChange(1, "failed", return_code=1, reason=Reason("max_restarts", "lost")), 125),
        (JobChange(1, "canceled"), 125),
        (JobChange(1, "unknown"), 125),
    ],
)
def test_the_exit_code_is_the_commands_own_or_125_for_ours(change: JobChange, code: int) -> None:
    assert exit_code(change) == code


def test_the_line_at_the_end_says_why_and_where_to_look() -> None:
    change = JobChange(17, "failed", attempt=1, reason=Reason("exit", "exit 2"), run_seconds=192.0)
    assert ending_line(change) == "job 17 failed (exit 2) after 3 m 12 s; kueue logs 17"
    assert "not in the server's table" in ending_line(JobChange(17, "unknown"))


def test_help_fits_one_screen_and_shows_families_and_exit_codes() -> None:
    done = run("--help", env={"COLUMNS": "80", "TERM": "dumb"})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) < 24  # the prompt needs one
    assert all(len(line) <= 80 for line in lines)
    for wanted in ("Jobs", "Machines", "Kueue", "Exit codes", *NAMES):
        assert wanted in done.stdout
    assert list(NAMES) == list(BRIEFS)
    assert all(len(brief) < ROOM for brief in BRIEFS.values()), "columns would not be straight"


@pytest.mark.parametrize(
    ("words", "code"),
    [("--help", 141), ("--version", 141), ("complete bash", 141), ("cmd --help", 1)],  # 1 is typer's
)
def test_a_command_whose_reader_has_gone_ends_in_silence(words: str, code: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = run(*words.split(), stdout=writing)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("words", ["--help", "--version", "complete bash"])
def test_output_that_cannot_be_written_is_one_line_and_a_code(words: str) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*words.split(), stdout=full)
    assert done.returncode == 1
    assert done.stderr == "kueue: can't write the output: No space left on device\n"


def test_version_and_completion_scripts_need_neither_typer_nor_pydantic() -> None:
    code = (
        "import sys; from kueue.cli import main; main(['--version']); main(['complete', 'bash']);"
        "print([name for name in ('typer', 'pydantic', 'rich', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[0].startswith("kueue ")
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, ""),
        (["nosuch"], 2, "nosuch"),
        (["list-jobs", "--nosuch"], 2, "--nosuch"),
        (["show-job"], 2, ""),
        (["complete", "tcsh"], 2, "bash"),
        (["--color", "sometimes", "list-jobs"], 2, "auto"),
        (["-c", "/no/such/file.toml", "list-jobs"], 2, "/no/such/file.toml"),
        (["wait-job", "1", "--timeout", "5"], 2, "5m"),
        (["cmd", "--wait", "--nosuch", "true"], 125, "--nosuch"),
    ],
)
def test_bad_usage_is_one_line_and_a_code(words: list[str], code: int, said: str) -> None:
    done = run(*words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if words:
        assert len(done.stderr.splitlines()) == 1


def test_commands_and_options_are_completed() -> None:
    assert candidates(["li"]) == ["list-jobs", "list-queues", "list-workers", "list-resources"]
    assert "--resource" in candidates(["cmd", "--re"])
    assert candidates(["cmd", "./script", "--re"]) == []
    assert candidates(["complete", "z"]) == ["zsh"]
    assert "--config" in candidates(["--"])
    assert candidates(["nosuch", ""]) == []


def test_completion_without_a_server_is_empty_and_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["__complete", "show-job", ""]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_completion_script_is_one_the_shell_takes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = tmp_path / "script"
    script.write_text(run("complete", shell).stdout)
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_a_command(tmp_path: Path) -> None:
    kueue = tmp_path / "kueue"
    kueue.write_text(f'#!/bin/sh\nexec {sys.executable} -m kueue "$@"\n')
    kueue.chmod(0o755)
    script = (
        'eval "$(kueue complete bash)"; COMP_WORDS=(kueue list-w); COMP_CWORD=1; _kueue_complete; '
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env={**os.environ, "PATH": path}
    )
    assert done.stdout.split() == ["list-workers"]
