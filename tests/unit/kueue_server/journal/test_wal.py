"""The WAL's file: what is used of it, what is written ahead, and that nobody's jobs depend on that."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kueue_server.journal import wal, writer
from kueue_server.journal.interface import AddJobs
from kueue_server.journal.wal import LEAST_AHEAD_BYTES, STEP_BYTES, WalFile

Block = Callable[..., AddJobs]


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    """One in WAL mode, with a table."""
    connection = sqlite3.connect(tmp_path / "db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE t (x)")
    return connection


def used(connection: sqlite3.Connection, page_bytes: int) -> int:
    """What SQLite says."""
    _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(32 + frames * (24 + page_bytes))


def test_what_is_used_is_what_sqlite_says_before_and_after_the_log_begins_anew(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    (page_bytes,) = database.execute("PRAGMA page_size").fetchone()
    file = WalFile(str(tmp_path / "db-wal"), page_bytes)
    for number in range(50):
        database.execute("INSERT INTO t VALUES (?)", ("x" * 500 * number,))
        assert file.used_bytes() == used(database, page_bytes)
    long = file.used_bytes()
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    database.execute("INSERT INTO t VALUES (1)")
    assert file.used_bytes() == used(database, page_bytes) < long
    assert file.size() >= long
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert file.used_bytes() == 32
    file.close()


def test_room_is_written_ahead_in_steps_and_only_when_there_is_little(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    file = WalFile(str(tmp_path / "db-wal"), 4096)
    before = file.size()
    file.write_ahead(file.used_bytes())
    assert file.size() == before + STEP_BYTES
    for _ in range(20):
        database.execute("INSERT INTO t VALUES ('x')")
        file.write_ahead(file.used_bytes())
    assert file.size() == before + STEP_BYTES
    while file.size() - file.used_bytes() >= LEAST_AHEAD_BYTES:
        database.execute("INSERT INTO t VALUES (?)", ("x" * 20_000,))
    file.write_ahead(file.used_bytes())
    assert file.size() == before + 2 * STEP_BYTES
    file.close()


def test_zeros_behind_the_log_are_its_end_for_whoever_opens_it_after_a_crash(
    tmp_path: Path, database: sqlite3.Connection
) -> None:
    file = WalFile(str(tmp_path / "db-wal"), 4096)
    for number in range(300):
        database.execute("INSERT INTO t VALUES (?)", (f"{number}" * 200,))
        file.write_ahead(file.used_bytes())
        if number % 50 == 0:
            crashed = tmp_path / f"crashed-{number}"
            crashed.mkdir()
            for name in ("db", "db-wal"):
                shutil.copy(tmp_path / name, crashed / name)
            found = sqlite3.connect(crashed / "db").execute("SELECT count(*) FROM t").fetchone()
            assert found == (number + 1,)
    file.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_finds_no_room_is_taken_back(
    tmp_path: Path, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = WalFile(str(tmp_path / "db-wal"), 4096)
    before = file.size()
    real = os.pwrite

    def some(descriptor: int, data: bytes, offset: int) -> int:
        real(descriptor, data[:5000], offset)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", some)
    file.write_ahead(file.used_bytes())
    assert file.size() == before
    file.close()


def test_nothing_is_taken_up_where_there_is_little_left(
    tmp_path: Path, database: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = WalFile(str(tmp_path / "db-wal"), 4096)
    before = file.size()
    monkeypatch.setattr(wal, "LEAST_FREE_BYTES", 2**62)
    file.write_ahead(file.used_bytes())
    assert file.size() == before
    file.close()


async def tended(bench: Any) -> None:
    """A pause has come, and the WAL was looked after."""
    async with asyncio.timeout(30):
        while bench.journal._writer._untended_bytes:  # noqa: ASYNC110 (it is another thread's)
            await asyncio.sleep(0.002)


async def test_a_disk_that_fails_under_it_breaks_the_journal(
    bench: Any, make_block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: WalFile, used: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(WalFile, "write_ahead", fail)
    assert await bench.write(make_block(1, b"{}")) is None
    await tended(bench)
    assert await bench.write(make_block(2, b"{}")) is not None
    assert bench.journal._writer.broken


async def test_room_is_made_in_a_pause_or_when_there_is_none(bench: Any, make_block: Block) -> None:
    path = Path(f"{bench.path}-wal")
    await bench.write(make_block(1, b"{}"))
    await tended(bench)
    begun = length_of(path)
    assert begun > STEP_BYTES
    for number in range(2, 200):
        await bench.write(make_block(number, b'{"x":"' + b"y" * 10_000 + b'"}'))
    await tended(bench)
    longer = length_of(path) - begun
    assert longer > 0
    assert longer % STEP_BYTES == 0, "a commit made it longer"


def length_of(path: Path) -> int:
    return path.stat().st_size


async def test_a_checkpoint_keeps_the_files_length_and_begins_it_anew(
    bench: Any, make_block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 300_000)
    path = Path(f"{bench.path}-wal")
    sizes = []
    for number in range(1, 60):
        await bench.write(make_block(number, b'{"x":"' + b"y" * 20_000 + b'"}'))
        await tended(bench)
        sizes.append(length_of(path))
    assert max(sizes) == sizes[-1] < 300_000 + 2 * STEP_BYTES
    assert len(list(bench.reopen().restored_jobs())) == 59
