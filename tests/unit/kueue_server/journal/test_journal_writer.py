"""Group commit, a full disk, a broken one, backups."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kueue.job import JobState
from kueue_server.core.instructions import SaveJob
from kueue_server.journal import wal, writer
from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError
from tests.support.waiting import wait_for

Block = Callable[..., AddJobs]


async def test_groups_are_acknowledged_in_their_order(bench: Any, make_block: Block) -> None:
    told: list[int] = []
    done = asyncio.Event()
    for number in range(100):

        def acknowledged(error: object, number: int = number) -> None:
            assert error is None
            told.append(number)
            if number == 99:
                done.set()

        bench.journal.write((make_block(number + 1, b"{}"),), acknowledged, give_up_when_full=False)
    assert bench.journal.pending_bytes > 0
    await done.wait()
    assert told == list(range(100))
    assert bench.journal.pending_bytes == 0


async def test_who_stumbles_over_the_news_keeps_it_from_nobody_else(bench: Any, make_block: Block) -> None:
    told = asyncio.Event()

    def stumbles(error: object) -> None:
        raise KeyError("a fault of ours")

    bench.journal.write((make_block(1, b"{}"),), stumbles, give_up_when_full=False)
    bench.journal.write((make_block(2, b"{}"),), lambda error: told.set(), give_up_when_full=False)
    await asyncio.wait_for(told.wait(), 20)
    assert [job.job for job in bench.reopen().restored_jobs()] == [1, 2]


def limit_pages(bench: Any, pages: int) -> None:
    """As if the disk had only so much room."""
    with bench.journal._writer.lock:
        bench.journal._connection.execute(f"PRAGMA max_page_count = {pages}")


async def test_a_full_disk_is_told_to_submitters_and_waited_out_for_the_rest(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    await bench.write(make_block(1, b"{}"))
    used = bench.journal._connection.execute("PRAGMA page_count").fetchone()[0]
    limit_pages(bench, used)
    large = b'{"x":"' + b"y" * 20_000 + b'"}'
    refused = await bench.write(make_block(2, large), give_up_when_full=True)
    assert isinstance(refused, JournalFullError)
    waiting = asyncio.ensure_future(bench.write(SaveJob(1, JobState.FAILED, large)))
    behind = asyncio.ensure_future(bench.write(SaveJob(1, JobState.PENDING, b'{"later":1}')))
    refused = await bench.write(make_block(3, large), give_up_when_full=True)
    assert isinstance(refused, JournalFullError)
    assert not waiting.done()
    limit_pages(bench, used + 1000)
    assert await waiting is None
    assert await behind is None
    assert await bench.write(make_block(4, large), give_up_when_full=True) is None
    jobs = {job.job: job for job in bench.reopen().restored_jobs()}
    assert list(jobs) == [1, 4]
    assert jobs[1].progress == b'{"later":1}'


async def until_tended(bench: Any) -> None:
    """The writer has looked after the WAL since the last commit."""
    await asyncio.to_thread(wait_for, "it is tended", lambda: not bench.journal._writer._untended_bytes)


async def test_there_is_room_once_some_was_taken_up_ahead_and_none_when_the_disk_is_full(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    monkeypatch.setattr(writer, "RETRY_SECONDS", 0.05)
    assert not bench.journal.has_room_ahead
    await bench.write(make_block(1, b"{}"))
    await until_tended(bench)
    assert bench.journal.has_room_ahead
    room = bench.journal._writer.room_bytes
    many = (b'{"x":"' + b"y" * 1000 + b'"}',) * 1000
    writing = asyncio.ensure_future(bench.write(make_block(2, *many)))
    await asyncio.sleep(0)
    assert bench.journal._writer.room_bytes < room - 1_000_000
    assert not bench.journal.has_room_ahead
    assert await writing is None
    await until_tended(bench)
    assert bench.journal.has_room_ahead
    limit_pages(bench, bench.journal._connection.execute("PRAGMA page_count").fetchone()[0])
    refused = await bench.write(make_block(1002, *many), give_up_when_full=True)
    assert isinstance(refused, JournalFullError)
    assert not bench.journal.has_room_ahead


async def test_what_is_written_takes_of_the_room_before_the_wal_is_looked_after_again(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    await bench.write(make_block(1, b"{}"))
    await until_tended(bench)
    room = bench.journal._writer.room_bytes
    monkeypatch.setattr(writer, "PAUSE_SECONDS", 3600.0)
    await bench.write(make_block(2, b'{"x":"' + b"y" * 50_000 + b'"}'))
    assert bench.journal._writer.room_bytes < room - 50_000


async def test_nobody_counts_on_the_room_of_a_wal_that_was_cut(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    await bench.write(make_block(1, b"{}"))
    await until_tended(bench)
    limit_pages(bench, bench.journal._connection.execute("PRAGMA page_count").fetchone()[0])
    large = b'{"x":"' + b"y" * 20_000 + b'"}'
    assert isinstance(await bench.write(make_block(2, large), give_up_when_full=True), JournalFullError)
    monkeypatch.setattr(writer, "PAUSE_SECONDS", 3600.0)
    limit_pages(bench, 1_000_000)
    assert await bench.write(make_block(2, b"{}")) is None
    assert os.path.getsize(f"{bench.path}-wal") < 100_000  # noqa: ASYNC240 (a test may wait)
    assert not bench.journal.has_room_ahead


async def test_nobody_counts_on_room_where_the_disk_has_little(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    monkeypatch.setattr(wal, "LEAST_FREE_BYTES", 1 << 60)
    await bench.write(make_block(1, b"{}"))
    await until_tended(bench)
    assert not bench.journal.has_room_ahead


async def test_after_an_error_of_the_disk_nothing_is_acknowledged_any_more(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    await bench.write(make_block(1, b"{}"))

    def broken(self: Any, groups: Any) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = 1034  # SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(writer.Writer, "_commit", broken)
    first = asyncio.ensure_future(bench.write(make_block(2, b"{}")))
    second = asyncio.ensure_future(bench.write(make_block(3, b"{}")))
    assert isinstance(await first, JournalBrokenError)
    assert isinstance(await second, JournalBrokenError)
    monkeypatch.undo()
    assert isinstance(await bench.write(make_block(4, b"{}")), JournalBrokenError)


async def test_a_fault_of_the_disk_is_told_to_the_server_even_if_nothing_waits_to_be_written(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    told: asyncio.Future[JournalBrokenError] = asyncio.get_running_loop().create_future()
    bench.journal.on_broken = told.set_result
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr(
        writer.Writer, "_checkpoint", lambda self, waiting, *, truncate: self._break(waiting, failed(1034))
    )
    assert await bench.write(make_block(1, b"{}")) is None
    assert "1034" in str(await told)
    monkeypatch.undo()
    assert isinstance(await bench.write(make_block(2, b"{}")), JournalBrokenError)


def failed(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


async def test_a_write_that_fails_though_there_is_room_is_final(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    def broken(self: Any, groups: Any) -> None:
        raise failed(writer.SQLITE_IOERR_WRITE)

    monkeypatch.setattr(writer.Writer, "_commit", broken)
    assert isinstance(await bench.write(make_block(1, b"{}"), give_up_when_full=True), JournalBrokenError)


async def test_a_write_that_fails_for_a_quota_is_waited_out(
    bench: Any, make_block: Block, monkeypatch: Any
) -> None:
    def no_room(self: Any, groups: Any) -> None:
        raise failed(writer.SQLITE_IOERR_WRITE)

    real = os.write

    def quota(descriptor: int, data: bytes) -> int:
        if len(data) > 100_000:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(writer.Writer, "_commit", no_room)
        patch.setattr(os, "write", quota)
        assert isinstance(await bench.write(make_block(1, b"{}"), give_up_when_full=True), JournalFullError)
    assert await bench.write(make_block(2, b"{}"), give_up_when_full=True) is None
    assert sorted(path.name for path in bench.path.parent.iterdir()) == [
        "journal.sqlite",
        "journal.sqlite-wal",
    ]


async def test_reading_does_not_wait_for_a_commit(bench: Any) -> None:
    with bench.journal._writer.lock:  # as while a commit is on its way to the disk
        reading = asyncio.ensure_future(bench.tails(1, 1))
        await asyncio.sleep(0)
        assert not reading.done()
    assert await reading is None


async def test_the_wal_does_not_grow_for_ever(bench: Any, make_block: Block, monkeypatch: Any) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 200_000)
    spec = b'{"x":"' + b"y" * 1000 + b'"}'
    for number in range(30):
        await bench.write(make_block(1 + number * 100, *(spec,) * 100))
    assert os.path.getsize(f"{bench.path}-wal") < 4 * 200_000 + 500_000  # noqa: ASYNC240 (a test may wait)


async def backup(bench: Any, target: Path) -> Exception | None:
    done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    bench.journal.backup(str(target).encode(), done.set_result)
    return await done


async def test_a_backup_made_while_writing_is_a_consistent_journal(
    bench: Any, make_block: Block, tmp_path: Path
) -> None:
    for number in range(20):
        await bench.write(make_block(1 + number * 100, *(b"{}",) * 100))
    copying = asyncio.ensure_future(backup(bench, tmp_path / "copy.sqlite"))
    number = 20
    while not copying.done():
        await bench.write(make_block(1 + number * 100, *(b"{}",) * 100))
        number += 1
    assert copying.result() is None
    assert (tmp_path / "copy.sqlite").stat().st_mode & 0o777 == 0o600
    copy = sqlite3.connect(tmp_path / "copy.sqlite")
    assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ids = [job for (job,) in copy.execute("SELECT id FROM job ORDER BY id")]
    copy.close()
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) >= 2000
    assert len(ids) % 100 == 0


async def test_a_backup_never_overwrites(bench: Any, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    assert isinstance(await backup(bench, target), FileExistsError)
    assert target.read_text() == "mine"
    missing = await backup(bench, tmp_path / "no" / "such" / "directory")
    assert isinstance(missing, OSError)


async def test_a_backup_leaves_the_one_alone_that_is_being_made(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "copy.partial").write_text("half")
    assert isinstance(await backup(bench, tmp_path / "copy"), FileExistsError)
    assert (tmp_path / "copy.partial").read_text() == "half"


async def test_of_two_backups_to_one_path_at_least_one_is_whole(
    bench: Any, make_block: Block, tmp_path: Path
) -> None:
    for number in range(20):
        await bench.write(make_block(1 + number * 100, *(b"{}",) * 100))
    target = tmp_path / "copy"
    outcomes = await asyncio.gather(backup(bench, target), backup(bench, target))
    assert None in outcomes
    copy = sqlite3.connect(target)
    assert copy.execute("SELECT count(*) FROM job").fetchone() == (2000,)
    copy.close()
