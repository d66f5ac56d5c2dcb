"""What a journal says, table by table, and one that grows commit by commit: the model for damaged files."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from kueue.job import JobState
from kueue.resources import Capacity, Shape
from kueue.wire.messages import Command, Spec, SystemInfo
from kueue_server.core.instructions import DropJobs, SaveJob, SaveStop, SaveTails, SaveWorker
from kueue_server.core.records import Progress, WorkerRecord
from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError, Write
from kueue_server.journal.store import SqliteJournal, open_journal
from kueue_server.journal.wal import FRAME_HEADER_BYTES, WalFile

Rows = dict[str, list[tuple[object, ...]]]
PAGE_BYTES = 4096
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
WAL_HEADER_BYTES = 32


class Commit(NamedTuple):
    """The journal after a commit: its WAL, and all that it said."""

    wal: bytes
    rows: Rows


class Grown(NamedTuple):
    """A journal's files as a power loss would leave them. `commits[0]` is what the main file says alone."""

    main: bytes
    wal: bytes
    commits: list[Commit]

    def put(self, path: Path, wal: bytes) -> None:
        """Write the files, with another WAL."""
        path.write_bytes(self.main)
        path.with_name(path.name + "-wal").write_bytes(wal)


def rows_of(connection: sqlite3.Connection) -> Rows:
    """Every row of every table, by primary key."""
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
    ]
    return {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall()) for table in tables}


def rows_at(path: Path) -> Rows:
    """Every row of a journal that nobody has open; the file stays as it is."""
    copy = path.with_name("looked-at.sqlite")
    for end in ("", "-wal"):
        if path.with_name(path.name + end).exists():
            shutil.copy(path.with_name(path.name + end), f"{copy}{end}")
    connection = sqlite3.connect(copy)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return rows_of(connection)
    finally:
        connection.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{copy}{end}").unlink(missing_ok=True)


def opened_and_closed(path: Path, *, with_another_commit: bool = False) -> None:
    """What a start and an orderly end of the server do to the files."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        journal = open_journal(path, loop)
        journal.restore()
        list(journal.restored_jobs())
        if with_another_commit:
            assert await _write(journal, *_writes(1000)) is None
        journal.close()

    asyncio.run(run())


async def _write(journal: SqliteJournal, *writes: Write) -> JournalFullError | JournalBrokenError | None:
    done: asyncio.Future[JournalFullError | JournalBrokenError | None]
    done = asyncio.get_running_loop().create_future()
    journal.write(writes, done.set_result, give_up_when_full=False)
    return await done


def grow(path: Path, commits: int) -> Grown:
    """A journal with a closed past and `commits` transactions of all kinds in its WAL."""
    asyncio.run(_commit(path, range(10)))
    main = path.read_bytes()
    told = asyncio.run(_commit(path, range(10, 10 + commits)))
    return Grown(main, told[-1].wal, told)


async def _commit(path: Path, numbers: Iterable[int]) -> list[Commit]:
    """These transactions, and what there was before the first and after each."""
    journal = open_journal(path, asyncio.get_running_loop())
    told = [_look(journal, path)]
    for number in numbers:
        assert await _write(journal, *_writes(number)) is None
        told.append(_look(journal, path))
    journal.close()
    return told


def _look(journal: SqliteJournal, path: Path) -> Commit:
    return Commit(_log_of(path.with_name(path.name + "-wal")), rows_of(journal._connection))


def _log_of(wal: Path) -> bytes:
    """Its frames, without the room behind them that was written ahead."""
    file = WalFile(str(wal), PAGE_BYTES)
    used = file.used_bytes()
    file.close()
    return wal.read_bytes()[: used if used > WAL_HEADER_BYTES else 0]


def _writes(number: int) -> tuple[Write, ...]:
    """The transaction of this number: a submit, and what happens to earlier jobs."""
    first = 1 + 3 * number
    context = b'{"env":[["NUMBER","%d"]]}' % (number // 4)
    digest = hashlib.sha256(context).hexdigest()
    specs = tuple(
        msgspec.json.encode(Spec(Command(("job", str(first + i))), "/work", "/work", Shape(), digest))
        for i in range(3)
    )
    block = AddJobs(first, 1e9 + number, specs, (digest,) * 3, ((digest, context),), f"t{number}", "hash")
    if number == 0:
        return (block,)
    earlier = first - 3
    worker = WorkerRecord(
        f"w{number % 2}", "host", "0.1.0", "keeper", "boot", Capacity(4, 1000, 4), SystemInfo(), 1e9 + number
    )
    more: list[Write] = [
        SaveJob(
            earlier, JobState.SUCCEEDED, msgspec.json.encode(Progress(fence=number, worker=1, attempt=1))
        ),
        SaveTails(earlier, 1, b"output of job %d\n" % earlier, b"\xff\0"),
        SaveWorker(1 + number % 2, worker.name, msgspec.json.encode(worker)),
    ]
    if number % 3 == 0:
        more.append(SaveStop(1, earlier + 1, 2**62 + number, "canceled"))
    if number % 5 == 0:
        more.append(DropJobs(((earlier - 2, earlier - 1),)))
    return (block, *more)
