"""Address, locks and directory of a keeper; and its log."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kueue_worker.keeper.log import Log
from kueue_worker.keeper.place import (
    PlaceError,
    TakenError,
    hold,
    is_trusted,
    keeper_address,
    lock_spool,
    make_spool,
    peer_of,
)
from kueue_worker.keeper.wire import connect
from kueue_worker.place import name_on_host


def test_agent_and_keeper_mean_the_same_address(tmp_path: Path) -> None:
    assert keeper_address(str(tmp_path)) == name_on_host("keeper", str(tmp_path))


def test_an_address_is_held_by_one_and_refuses_until_it_listens(tmp_path: Path) -> None:
    address = keeper_address(str(tmp_path))
    held = hold(address)
    with pytest.raises(TakenError):
        hold(address)
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    held.listen(1)
    connect(address).close()
    held.close()
    hold(address).close()


def test_an_address_that_is_too_long_says_so() -> None:
    with pytest.raises(PlaceError, match="too long"):
        hold("x" * 200)


def test_a_spool_is_locked_by_one(tmp_path: Path) -> None:
    lock = lock_spool(str(tmp_path))
    with pytest.raises(TakenError):
        lock_spool(str(tmp_path))
    os.close(lock)
    os.close(lock_spool(str(tmp_path)))


def test_both_sides_know_who_the_other_is() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    assert peer_of(one) == (os.getpid(), os.getuid())
    assert is_trusted(other)
    one.close()
    other.close()


def test_a_spool_is_made_private_and_must_be_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = tmp_path / "a" / "b"
    make_spool(str(spool))
    assert spool.stat().st_mode & 0o777 == 0o700
    spool.chmod(0o755)
    make_spool(str(spool))
    assert spool.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PlaceError, match="belongs to another user"):
        make_spool(str(spool))


def test_a_spool_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "file/below"):
        with pytest.raises(PlaceError):
            make_spool(str(tmp_path / name))


def test_the_log_is_bounded(tmp_path: Path) -> None:
    saved = os.dup(2)
    try:
        log = Log(str(tmp_path), most_bytes=1000)
        for number in range(200):
            log.write(f"line {number} \udcff")
        os.write(2, b"the interpreter's last words\n")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    text = (tmp_path / "keeper.log").read_text()
    assert "line 199" in text
    assert text.endswith("last words\n")
    assert sorted(os.listdir(tmp_path)) == ["keeper.log", "keeper.log.1"]
    assert all((tmp_path / name).stat().st_size < 1200 for name in os.listdir(tmp_path))


def test_a_log_that_can_not_be_written_stops_nothing(tmp_path: Path) -> None:
    saved = os.dup(2)
    try:
        Log(str(tmp_path / "nowhere")).write("lost")
    finally:
        os.dup2(saved, 2)
        os.close(saved)
