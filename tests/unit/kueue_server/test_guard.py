"""The lock file beside the journal: who may take it, who may not, and what its holder does when it is taken."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kueue_server import guard
from kueue_server.guard import STALE_SECONDS, Guard, GuardError
from tests.support.waiting import wait_for


def put(directory: Path, age: float = 0.0, **values: Any) -> Path:
    """A lock of a server on another machine."""
    path = directory / "lock"
    holder = {"host": "ralab29", "pid": 4711, "boot_id": "another boot", "ticks": 5, "token": "theirs"}
    path.write_text(json.dumps({**holder, **values}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def held_by(directory: Path) -> str:
    return str(json.loads((directory / "lock").read_text())["token"])


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "SETTLE_SECONDS", 0.0)


def test_one_that_nobody_has_is_taken_and_names_its_holder(tmp_path: Path) -> None:
    mine = Guard(tmp_path)
    mine.acquire()
    said = json.loads((tmp_path / "lock").read_text())
    assert said["pid"] == os.getpid()
    assert said["host"]
    assert said["boot_id"]
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_a_living_server_of_this_machine_keeps_it(tmp_path: Path) -> None:
    Guard(tmp_path).acquire()
    for take_over in (False, True):
        with pytest.raises(GuardError, match=f"in use: a kueue_server on this machine .*pid {os.getpid()}"):
            Guard(tmp_path).acquire(take_over=take_over)


def test_one_that_was_killed_or_whose_machine_has_booted_leaves_it(tmp_path: Path) -> None:
    mine = Guard(tmp_path)
    put(tmp_path, boot_id=mine._own.boot_id, pid=2**22 + 1)
    mine.acquire()
    assert held_by(tmp_path) == mine._own.token
    put(tmp_path, host=mine._own.host)
    mine.acquire()
    assert held_by(tmp_path) == mine._own.token


@pytest.mark.parametrize("take_over", [False, True])
def test_another_machine_that_wrote_it_just_now_keeps_it(tmp_path: Path, take_over: bool) -> None:
    put(tmp_path, age=STALE_SECONDS - 10)
    with pytest.raises(
        GuardError, match=r"in use by a kueue_server on ralab29 \(pid 4711\), which said so 80 s ago"
    ):
        Guard(tmp_path).acquire(take_over=take_over)
    assert held_by(tmp_path) == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_silent_one_is_taken_over_on_a_person_s_word_only(tmp_path: Path) -> None:
    put(tmp_path, age=STALE_SECONDS + 30)
    mine = Guard(tmp_path)
    with pytest.raises(GuardError, match=r"silent for 2 m.*kueue_server --take-over"):
        mine.acquire()
    mine.acquire(take_over=True)
    assert held_by(tmp_path) == mine._own.token


def test_of_two_that_take_over_at_once_one_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, age=STALE_SECONDS + 30)
    monkeypatch.setattr(time, "sleep", lambda seconds: put(tmp_path, token="third", host="rax1"))
    with pytest.raises(GuardError, match="rax1 has it"):
        Guard(tmp_path).acquire(take_over=True)


def test_what_is_no_lock_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"\0\0")
    mine = Guard(tmp_path)
    mine.acquire()
    assert held_by(tmp_path) == mine._own.token


async def test_it_is_rewritten_for_as_long_as_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "REWRITE_SECONDS", 0.01)
    mine = Guard(tmp_path)
    mine.acquire()
    os.utime(tmp_path / "lock", (0, 0))
    lost: list[str] = []
    task = asyncio.ensure_future(mine.keep(lost.append))
    await asyncio.to_thread(wait_for, "it is rewritten", lambda: (tmp_path / "lock").stat().st_mtime)

    def is_noticed() -> bool:
        put(tmp_path)  # a rewrite that has begun may put it back
        return bool(lost)

    await asyncio.to_thread(wait_for, "it is noticed", is_noticed)
    await task
    assert lost == ["ralab29"]
    assert held_by(tmp_path) == "theirs"
    mine.release()
    assert held_by(tmp_path) == "theirs"


async def test_one_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "gone"
    mine = Guard(directory)
    mine.acquire()
    assert "can't be written" in caplog.text
    monkeypatch.setattr(guard, "REWRITE_SECONDS", 0.01)
    task = asyncio.ensure_future(mine.keep(lambda host: None))
    await asyncio.sleep(0.05)
    directory.mkdir()
    await asyncio.to_thread(wait_for, "it is written", (directory / "lock").exists)
    task.cancel()
