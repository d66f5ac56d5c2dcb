"""The program's arguments and what it says of faulty ones; hosts that can't be reached."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kueue import __version__
from kueue.supervise.cli import main
from tests.support.lab import SECRET, free_port

ROOT = Path(__file__).resolve().parents[4]


def config(place: Path, section: str) -> str:
    """A file with this section; its path."""
    path = place / "config.toml"
    path.write_text(
        f'[common_settings]\nshared_secret = "{SECRET}"\nserver_name = "localhost"\nserver_port = {free_port()}\n'
        f"[restart_workers]\nconnect_timeout_seconds = 5\n{section}\n"
    )
    path.chmod(0o600)
    return str(path)


def test_the_file_in_tools_is_the_same_program() -> None:
    words = [sys.executable, str(ROOT / "tools" / "restart_workers.py"), "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"kueue_restart_workers {__version__}\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--drain"], "--drain goes with --stop"),
        (["--json"], "--json goes with --once"),
        (["--once", "--stop"], "not allowed with argument"),
    ],
)
def test_words_that_do_not_go_together_are_bad_usage(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "words", "reason"),
    [
        ("", ["--once"], "[restart_workers] hostnames: names no host to keep a worker on"),
        (
            'hostnames = "rax[1-"',
            ["--once"],
            "[restart_workers] hostnames: rax[1-: a bracket that is not closed",
        ),
        (
            'hostnames = "rax1"',
            ["--status", "--host", "rax2"],
            "--host rax2: not in [restart_workers] hostnames",
        ),
        (
            'hostnames = "rax1"\nworker_command = "\'"',
            ["--once"],
            'worker_command = "\'": No closing quotation',
        ),
    ],
)
def test_a_faulty_configuration_is_one_line(
    section: str, words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-c", config(tmp_path, section)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("kueue_restart_workers: ")
    assert reason in told
    assert told.count("\n") == 1


def test_hosts_that_refuse_or_are_not_there_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    port = free_port()
    file = config(tmp_path, f'hostnames = "127.0.0.1:{port} no-such-host.invalid"')
    assert main(["--once", "--json", "-c", file]) == 1
    refused, unknown = json.loads(capsys.readouterr().out)
    assert refused["host"] == f"127.0.0.1:{port}"
    assert refused["error"] == f"refuses connections to port {port}: is its sshd running?"
    assert unknown["error"] == "no such host"
    assert not refused["reachable"]
    assert not unknown["reachable"]
    assert main(["--once", "--quiet", "-c", file]) == 1
    assert capsys.readouterr().out == ""
