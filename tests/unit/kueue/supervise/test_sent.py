"""What is sent to a machine, run here by the login shells that there are."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from kueue.supervise import sent
from kueue.supervise.remote.orders import MARK
from kueue.supervise.seen import Seen

LOOK = sent.encoded("look", session="kueue_worker", marker="m", state_dir="/nowhere")


def answers(shell: str, words: bytes, **environment: str) -> list[bytes]:
    """What a shell that is given the command, and this input, prints as answers."""
    done = subprocess.run(
        [shell, "-c", sent.COMMAND],
        input=words,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": "/", **environment},
    )
    mark = MARK.encode()
    return [line[len(mark) :] for line in done.stdout.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("shell", ["sh", "bash", "dash", "zsh", "csh", "tcsh", "fish"])
def test_every_login_shell_takes_the_command_alike(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    (answer,) = answers(shell, sent.program() + LOOK)
    assert msgspec.json.decode(answer, type=Seen).host == socket.gethostname()


def test_another_python_is_taken_where_ours_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    program = sent.program().split(b"\n", 1)[1]
    (answer,) = answers("sh", b"/nowhere/python\n" + program + LOOK, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert b'"host"' in answer


def test_a_python_whose_path_has_spaces_is_taken_too(tmp_path: Path) -> None:
    python = tmp_path / "a b" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n: >"$0.used"\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    program = sent.program().split(b"\n", 1)[1]
    assert len(answers("sh", os.fsencode(python) + b"\n" + program + LOOK)) == 1
    assert python.with_name("python3.used").exists()


def test_a_line_that_looks_like_shell_is_a_name_of_a_program_and_nothing_else(tmp_path: Path) -> None:
    hostile = f"$(touch {tmp_path}/a);`touch {tmp_path}/b`;touch {tmp_path}/c".encode()
    program = sent.program().split(b"\n", 1)[1]
    assert len(answers("sh", hostile + b"\n" + program + LOOK)) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_order_that_goes_wrong_is_answered_with_a_fault_and_the_next_one_is_taken() -> None:
    words = sent.encoded("end", pid="x") + sent.encoded("no-such-order") + LOOK
    first, second, third = answers("sh", sent.program() + words)
    assert "fault" in json.loads(first)
    assert "fault" in json.loads(second)
    assert json.loads(third)["tool"] in ("screen", "tmux", "setsid")


def test_a_launched_program_gets_its_words_as_they_are_and_its_end_is_told(tmp_path: Path) -> None:
    words = ["a b", "$HOME", "`id`", '"', "'", "*", "!", ";"]
    order = sent.encoded(
        "launch",
        session="s",
        marker="m",
        state_dir=str(tmp_path),
        title="some_program",
        argv=["printf", "<%s>", *words],
        server="",
        seconds=20,
        await_connection=False,
    )
    places = {name: str(tmp_path / "none") for name in ("SCREENDIR", "TMUX_TMPDIR")}
    (answer,) = answers("sh", sent.program() + order, HOME=str(tmp_path), **places)
    told = json.loads(answer)
    assert told["ended"]
    assert told["said"].startswith("".join(f"<{word}>" for word in words))
    last = re.search(
        r"some_program \(session [0-9a-f]{8}\): ended with exit code 0\n$", Path(told["log"]).read_text()
    )
    assert last is not None


def test_what_is_sent_needs_the_standard_library_alone_and_no_new_python() -> None:
    for module in sent.MODULES:
        path = Path(sent.__file__).with_name("remote") / f"{module}.py"
        parsed = ast.parse(path.read_text(), feature_version=(3, 8))
        for node in ast.walk(parsed):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or name.startswith("kueue.supervise.remote"), name
