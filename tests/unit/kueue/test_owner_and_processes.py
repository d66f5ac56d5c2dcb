"""Who serves, and whether a process is still the one that was meant."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue import owner as owner_module
from kueue import processes
from kueue.owner import (
    lives_here,
    owner_is_alive,
    owner_path,
    read_owner,
    remove_owner,
    this_process,
    write_owner,
    write_process,
)
from kueue.processes import boot_id, is_alive, send_signal, start_ticks, wait_until_ended
from tests.support.waiting import wait_for


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_the_owner_is_this_process_until_it_says_good_bye(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert read_owner(state) is None
    write_owner(state, 4711)
    owner = read_owner(state)
    assert owner is not None
    assert (owner.host, owner.port, owner.pid) == (socket.gethostname(), 4711, os.getpid())
    assert owner.boot_id == boot_id()
    assert lives_here(owner)
    assert owner_path(state).stat().st_mode & 0o777 == 0o600
    assert owner_path(state).parent.stat().st_mode & 0o777 == 0o700
    remove_owner(state)
    assert read_owner(state) is None
    assert os.listdir(state / "server") == []
    remove_owner(state)


def test_a_newer_owner_is_not_removed_by_an_older_one(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    write_process(owner_path(tmp_path), this_process(1, pid=sleeper.pid))
    remove_owner(tmp_path)
    assert read_owner(tmp_path) is not None


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "5", "null", '"x"', "{}", '{"host": "h", "port": 1}', "[" * 100_000, "\udcff"),
        '{"host": "h", "port": "x", "pid": 1, "boot_id": "", "started_at": 0}',
    ],
)
def test_an_owner_file_that_makes_no_sense_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "server").mkdir()
    owner_path(tmp_path).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_owner(tmp_path) is None


def test_an_owner_file_of_another_version_is_understood(tmp_path: Path) -> None:
    values = {"host": "h", "port": 1, "pid": 2, "boot_id": "b", "started_at": 3, "later": "added"}
    (tmp_path / "server").mkdir()
    owner_path(tmp_path).write_text(json.dumps(values))
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner[:5] == ("h", 1, 2, "b", 3.0)


def test_on_another_machine_nobody_can_tell_whether_the_owner_lives() -> None:
    owner = this_process()
    assert owner_is_alive(owner) is True
    assert owner_is_alive(owner._replace(host="elsewhere", boot_id="another")) is None
    assert owner_is_alive(owner._replace(boot_id="before the reboot")) is False
    assert owner_is_alive(owner._replace(host="renamed since")) is True
    assert owner_is_alive(owner._replace(ticks=owner.ticks + 1)) is False
    assert owner_is_alive(owner._replace(ticks=0)) is True


def test_without_boot_ids_another_host_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "boot_id", lambda: "")
    owner = this_process()._replace(host="elsewhere", boot_id="")
    assert owner_is_alive(owner) is None


def test_a_process_that_ended_is_not_alive_even_if_nobody_reaped_it() -> None:
    process = subprocess.Popen(["sleep", "600"])
    ticks = start_ticks(process.pid)
    assert ticks
    assert is_alive(process.pid, ticks)
    process.kill()
    wait_for("the process is a zombie", lambda: not is_alive(process.pid))
    assert Path(f"/proc/{process.pid}").exists()
    assert start_ticks(process.pid) is None
    assert wait_until_ended(process.pid, ticks, 0)
    process.wait()
    assert not is_alive(process.pid, ticks)


@pytest.mark.parametrize("pid", [0, -1])
def test_what_is_no_pid_is_not_alive(pid: int) -> None:
    assert not is_alive(pid)


def test_a_reused_pid_is_not_mistaken_and_never_signaled(sleeper: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(sleeper.pid)
    assert ticks is not None
    assert not is_alive(sleeper.pid, ticks - 1)
    assert not send_signal(sleeper.pid, ticks - 1, signal.SIGKILL)
    assert wait_until_ended(sleeper.pid, ticks - 1, 5)
    assert sleeper.poll() is None
    assert not wait_until_ended(sleeper.pid, ticks, 0)
    assert send_signal(sleeper.pid, ticks, signal.SIGTERM)
    assert wait_until_ended(sleeper.pid, ticks, 30)
    assert sleeper.wait() == -signal.SIGTERM
    assert not send_signal(sleeper.pid, ticks, signal.SIGTERM)


def test_a_program_s_name_can_t_confuse_the_start_time(tmp_path: Path) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen(
        [program, "-c", "print(1, flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert b") R 1 (" in Path(f"/proc/{process.pid}/stat").read_bytes()
        own = start_ticks(os.getpid())
        assert own is not None
        assert (start_ticks(process.pid) or 0) >= own
        assert process.stdin is not None
        process.stdin.write(b"\n")


def test_a_machine_without_boot_id_has_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(processes, "open", missing, raising=False)
    assert processes.boot_id() == ""
