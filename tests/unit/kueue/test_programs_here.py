"""What `up` and `down` find out about the machine: whether logind ends what is started there; logs that stay small;
and a server that has moved."""

from __future__ import annotations

import logging
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from kueue.address import Whereabouts
from kueue.client_config import load_client_config
from kueue.errors import UsageError
from kueue.logs import LOG_FILE, RotatingHandler
from kueue.programs_here import ends_with_session, start

SOMEBODY = next(user for user in pwd.getpwall() if user.pw_uid != 0)


@pytest.mark.parametrize(
    ("texts", "ends"),
    [
        ([], False),
        (["[Login]\n#KillUserProcesses=no\n"], False),
        (["[Login]\n#KillUserProcesses=yes\n"], True),
        (["[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n"], True),
        (["#KillUserProcesses=yes\n", "KillUserProcesses=no\n"], False),
        (["#KillUserProcesses=no\n", "KillUserProcesses = true\n"], True),
    ],
)
def test_logind_s_files_tell_whether_it_ends_processes_at_log_out(
    tmp_path: Path, texts: list[str], ends: bool
) -> None:
    files = [str(tmp_path / "logind.conf"), str(tmp_path / "logind.conf.d")]
    (tmp_path / "logind.conf.d").mkdir()
    for text, place in zip(texts, ("logind.conf", "logind.conf.d/10-ours.conf"), strict=False):
        (tmp_path / place).write_text(text)
    assert ends_with_session(files, str(tmp_path / "linger"), SOMEBODY.pw_uid) is ends
    assert not ends_with_session(files, str(tmp_path / "linger"), 0)
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / SOMEBODY.pw_name).touch()
    assert not ends_with_session(files, str(tmp_path / "linger"), SOMEBODY.pw_uid)


def test_a_log_is_put_aside_while_its_program_runs_with_all_that_it_prints(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    code = (
        "import logging, os, sys; import kueue.logs as logs; logs.MAX_LOG_BYTES = 1000;"
        "logs.set_up_logging('info'); log = logging.getLogger('x');\n"
        "for number in range(100): log.info('line %d', number)\n"
        "print('printed'); os.write(2, b'written\\n')"
    )
    with path.open("ab") as file:
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, LOG_FILE: str(path)},
            stdout=file,
            stderr=file,
            check=True,
        )
    text = path.read_text()
    assert "printed" in text
    assert "written" in text
    assert "line 99" in (tmp_path / "x.log.1").read_text() + text
    assert path.stat().st_size < 1200
    assert (tmp_path / "x.log.1").stat().st_size < 1200


def test_a_log_that_cannot_be_put_aside_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kueue.logs.MAX_LOG_BYTES", 0)
    path = tmp_path / "x.log"
    with path.open("a") as stream:
        handler = RotatingHandler(stream, str(tmp_path / "gone" / "x.log"))
        for _ in range(2):
            handler.emit(logging.makeLogRecord({"msg": "line"}))
    assert path.read_text() == "line\nline\n"


def write(path: Path, name: str, port: int) -> None:
    path.touch(mode=0o600)
    path.write_text(
        f'[common_settings]\nshared_secret = "{"s" * 30}"\nserver_name = "{name}"\nserver_port = {port}\n'
    )


def test_a_server_that_moves_is_followed_and_a_faulty_file_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path, "ralab29", 1234)
    where = Whereabouts(load_client_config(path))
    assert where() == ("ralab29", 1234)
    write(path, "ralab30", 12345)
    assert where() == ("ralab30", 12345)
    path.write_text("[common_settings\n")
    assert where() == ("ralab30", 12345)
    path.unlink()
    assert where() == ("ralab30", 12345)
    write(path, "rax1", 1)
    assert where() == ("rax1", 1)


def test_what_does_not_belong_here_is_not_started(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write(path, "203.0.113.9", 1234)
    config = load_client_config(path)
    with pytest.raises(UsageError, match=r"belongs on 203\.0\.113\.9"):
        start(config, print, server_only=True)
    with pytest.raises(UsageError, match="either"):
        start(config, print, server_only=True, worker_only=True)
