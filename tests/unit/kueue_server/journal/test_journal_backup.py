"""Backups beside everything else: an open transaction, the end of the server, what a killed one has left."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kueue_server.journal import backup as backups
from kueue_server.journal.interface import AddJobs
from tests.support.waiting import wait_for

Block = Callable[..., AddJobs]


def begin(bench: Any, target: Path) -> asyncio.Future[Exception | None]:
    done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    bench.journal.backup(str(target).encode(), done.set_result)
    return done


async def fill(bench: Any, make_block: Block, blocks: int) -> None:
    spec = b'{"x":"' + b"y" * 4000 + b'"}'
    for number in range(blocks):
        await bench.write(make_block(1 + number * 100, *(spec,) * 100))


async def test_what_is_not_committed_is_not_copied(bench: Any, make_block: Block, tmp_path: Path) -> None:
    await fill(bench, make_block, 1)
    connection = bench.journal._connection
    with bench.journal._writer.lock:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM job")
        done = begin(bench, tmp_path / "copy")
        await asyncio.sleep(0.2)  # plenty for a copy that does not wait for the transaction's end
        assert not done.done()
        connection.execute("ROLLBACK")
    assert await done is None
    copy = sqlite3.connect(tmp_path / "copy")
    assert copy.execute("SELECT count(*) FROM job").fetchone() == (100,)
    copy.close()


async def test_closing_ends_a_backup_and_leaves_nothing_of_it(
    bench: Any, make_block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "PAGES_A_STEP", 1)
    await fill(bench, make_block, 10)
    done = begin(bench, tmp_path / "copy")
    await asyncio.to_thread(lambda: wait_for_file(tmp_path / "copy.partial"))
    bench.reopen()
    assert isinstance(await done, backups.BackupStoppedError)
    assert copies(tmp_path) == []
    assert len(list(bench.journal.restored_jobs())) == 1000


def wait_for_file(path: Path) -> None:
    wait_for("the backup has begun", path.exists)


def copies(place: Path) -> list[str]:
    return sorted(path.name for path in place.glob("copy*"))


@pytest.mark.parametrize("left", [b"", b"\0" * 5000, b"SQLite format 3\0" + b"x" * 100])
async def test_what_a_killed_server_has_left_of_a_backup_is_cleared_away(
    bench: Any, make_block: Block, tmp_path: Path, left: bytes
) -> None:
    await bench.write(make_block(1, b"{}"))
    (tmp_path / "copy.partial").write_bytes(left)
    assert await begin(bench, tmp_path / "copy") is None
    assert copies(tmp_path) == ["copy"]


async def test_a_copy_is_nobody_else_s_whatever_was_left_at_its_place(
    bench: Any, make_block: Block, tmp_path: Path
) -> None:
    partial = tmp_path / "copy.partial"
    partial.touch(mode=0o644)
    assert await begin(bench, tmp_path / "copy") is None
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    (tmp_path / "mine").touch()
    partial.hardlink_to(tmp_path / "mine")
    assert await begin(bench, tmp_path / "second") is None  # of another name: it is left alone
    (tmp_path / "copy").unlink()
    assert await begin(bench, tmp_path / "copy") is None
    assert (tmp_path / "mine").read_bytes() == b""
    assert copies(tmp_path) == ["copy"]


async def test_a_partial_copy_that_is_being_made_is_not_cleared_away(
    bench: Any, make_block: Block, tmp_path: Path
) -> None:
    await fill(bench, make_block, 2)
    with bench.journal._writer.lock:  # the one that was first can't go on
        both = {begin(bench, tmp_path / "copy"), begin(bench, tmp_path / "copy")}
        refused, being_made = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        assert [type(one.result()) for one in refused] == [FileExistsError]
        assert copies(tmp_path) == ["copy.partial"]
    assert [await one for one in being_made] == [None]
    assert copies(tmp_path) == ["copy"]


@pytest.mark.parametrize("left", [None, b"SQLite format 3\0" + b"x" * 100])
def test_of_many_backups_that_begin_together_one_has_the_file(tmp_path: Path, left: bytes | None) -> None:
    partial = str(tmp_path / "copy.partial")

    def create(together: threading.Barrier) -> int | None:
        together.wait()
        try:
            return backups._create(partial)
        except FileExistsError:
            return None

    with ThreadPoolExecutor(4) as threads:
        for _ in range(100):
            if left is not None:
                Path(partial).write_bytes(left)
            together = threading.Barrier(4)
            got = [one.result() for one in [threads.submit(create, together) for _ in range(4)]]
            (descriptor,) = [one for one in got if one is not None]
            assert os.path.samestat(os.fstat(descriptor), os.stat(partial))
            os.unlink(partial)
            os.close(descriptor)
