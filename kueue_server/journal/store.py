"""The open journal: checks at the opening, reads, restore, backup. Writes are the writer's.

SQLite in WAL mode with `synchronous=FULL`: a commit is on the disk when it returns. `locking_mode=EXCLUSIVE`: a
second server gets an error, and no shared memory is needed, which network file systems don't have.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import hashlib
import logging
import os
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import msgspec

from kueue.clocks import SteadyClock
from kueue.job import JobState
from kueue_server.core.records import (
    Restored,
    RestoredJob,
    RestoredPart,
    RestoredPause,
    RestoredQueue,
    RestoredStop,
    WorkerRecord,
)
from kueue_server.journal.backup import make_backup
from kueue_server.journal.interface import AddJobs, JournalBrokenError, KnownToken, Write
from kueue_server.journal.migrations import JournalOpenError, create, found_version, migrate
from kueue_server.journal.statements import DIGEST_CHARACTERS, Batch
from kueue_server.journal.writer import Done, Writer

__all__ = ["JournalOpenError", "SqliteJournal", "begin_new_epoch", "open_journal"]

log = logging.getLogger(__name__)

TOKEN_SECONDS = 7 * 86400.0
MAX_TAIL_BYTES = 256 * 1024 * 1024
"""Bytes of output ends that are kept in all; the oldest go first."""
MAX_CACHED_CONTEXTS = 1024
_STATES = {state.value: state for state in JobState}
SMALL_GROUP_BYTES = 256 * 1024
"""Twice what the pages take that eight jobs, 32 KiB with their environment, and their progress are on (125 KiB were
measured); what else happens in the same run of the loop goes along."""
EPOCH_STEP = 100_000
"""A new epoch's ids begin at the next multiple, so that people can tell them from those of the lost time."""


def open_journal(path: str | os.PathLike[str], loop: asyncio.AbstractEventLoop) -> SqliteJournal:
    """Open the journal, creating or migrating it.

    Raises:
        JournalOpenError: in use, damaged, newer, or not a journal; nothing was changed.
    """
    return SqliteJournal(_connect(os.fspath(path)), os.fspath(path), loop)


def begin_new_epoch(path: str | os.PathLike[str]) -> None:
    """Give a restored journal a new uuid and ids that were not given before it was copied.

    Raises:
        JournalOpenError: as `open_journal`.
    """
    if not os.path.exists(path):
        raise JournalOpenError(f"there is no journal at {os.fspath(path)}: put the backup there first")
    connection = _connect(os.fspath(path))
    try:
        (next_job,) = connection.execute("SELECT value FROM meta WHERE name = 'next_job'").fetchone()
        above = (int(next_job) // EPOCH_STEP + 1) * EPOCH_STEP
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE meta SET value = ? WHERE name = 'uuid'", (str(uuid.uuid4()),))
        connection.execute("UPDATE meta SET value = ? WHERE name = 'next_job'", (str(above),))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _connect(path: str) -> sqlite3.Connection:
    directory = os.path.dirname(path) or "."
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fresh = _size(path) == 0
        if fresh and _size(path + "-wal"):
            # SQLite would take the WAL for a leftover and delete it, with all the jobs that are in it only.
            raise JournalOpenError(
                f"{path} is damaged (it is empty, but {path}-wal is not); it was left as it is:"
                " move both away and restore a backup"
            )
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, timeout=0.5, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise JournalOpenError(f"{path} can't be opened: {error}") from None
    try:
        _set_up(connection, path, fresh)
    except sqlite3.OperationalError as error:
        abandon(connection)
        if "locked" in str(error) or "busy" in str(error):
            raise JournalOpenError(f"{path} is in use: another kueue_server has it open") from None
        raise JournalOpenError(f"{path} can't be opened: {error}") from None
    except (sqlite3.DatabaseError, TypeError) as error:
        abandon(connection)
        raise damaged(path, error) from None
    except BaseException:
        abandon(connection)
        raise
    _make_private(path)
    return connection


def _set_up(connection: sqlite3.Connection, path: str, fresh: bool) -> None:
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    if not fresh:  # before anything is written, also by the switch to WAL
        fresh = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not fresh:
            found_version(connection, path)
        # Damage must show before the first write, not at the page where it happens to be met. It costs less
        # than reading the jobs, which comes next.
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(" ".join(found.split()))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA foreign_keys = OFF")
    if fresh:
        create(connection)
    migrate(connection, path)
    connection.execute("SELECT value FROM meta WHERE name = 'uuid'").fetchone()[0]


def damaged(path: str, why: object) -> JournalOpenError:
    """The error for a journal whose content can't be what was written."""
    return JournalOpenError(
        f"{path} is damaged ({why}); it was left as it is: move it away and restore a backup"
    )


def abandon(connection: sqlite3.Connection) -> None:
    """Let a journal go without another write to its file.

    Closing would first copy the WAL into the file, also into one that is damaged, or that an fsync has failed
    for. What is in the WAL is found again by the next opening.
    """
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
        connection.close()
    else:
        # There is no such switch: never close it; its process, which is about to end, closes the descriptors.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


def _make_private(path: str) -> None:
    """An older umask, or a copy put there by hand, may have left more rights than the owner's."""
    for name in (path, path + "-wal"):
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(name).st_mode & 0o777
            if mode & 0o077:
                log.warning(
                    "%s could be read or written by others (mode %03o); now only by its owner", name, mode
                )
                os.chmod(name, mode & 0o700)


class SqliteJournal:
    """Implements `interface.Journal`."""

    def __init__(self, connection: sqlite3.Connection, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._path = path
        self._loop = loop
        self.uuid: str = connection.execute("SELECT value FROM meta WHERE name = 'uuid'").fetchone()[0]
        self._tail_bytes: int = connection.execute(
            "SELECT coalesce(sum(length(stdout) + length(stderr)), 0) FROM tail"
        ).fetchone()[0]
        self._clock = SteadyClock()
        oldest = self._clock() - TOKEN_SECONDS
        # Of each token of the last days a 64-bit hash: enough to answer "new" without asking the disk.
        self._tokens: set[int] = {
            _short(token)
            for (token,) in connection.execute("SELECT token FROM submit_token WHERE used_at > ?", (oldest,))
        }
        self._recent: dict[str, KnownToken] = {}
        self._contexts: dict[str, bytes] = {}
        self._next_token_sweep = 0.0
        self._backups: list[threading.Thread] = []
        self._closing = threading.Event()
        self.on_broken: Callable[[JournalBrokenError], None] | None = None
        self._writer = Writer(
            connection, path + "-wal", loop, self._on_committed, self._in_transaction, self._broke
        )

    # ---------------------------------------------------------------- writing

    def write(self, writes: tuple[Write, ...], done: Done, *, give_up_when_full: bool) -> None:
        """Queue one group; see `interface.Journal`.

        Raises:
            KeyError: jobs refer to a context that is neither in the group nor known here.
            ValueError: some refer to none, or not by a SHA-256 in hex.
        """
        writes = tuple(self.completed(write) if isinstance(write, AddJobs) else write for write in writes)
        self._writer.write(writes, done, give_up_when_full=give_up_when_full)

    def completed(self, block: AddJobs) -> AddJobs:
        """The block with the time of its token, and with every context it refers to; see `interface.Journal`.

        The row of a context that was known when the client asked may be gone, or go by a drop that is queued
        before this block; so each block brings its own.
        """
        if not block.used_at:
            block = msgspec.structs.replace(block, used_at=self._clock())
        sent = dict(block.contexts)
        wanted = {*block.context_of} if block.array is None else {block.array.context}
        if len(block.context_of) != len(block.specs) or any(len(one) != DIGEST_CHARACTERS for one in wanted):
            raise ValueError(f"jobs {block.first} and on have not each the digest of a context")
        lacking = sorted(wanted - sent.keys())
        if not lacking:
            return block
        for digest in lacking:
            content = self.context(digest)
            if content is None:
                raise KeyError(f"jobs {block.first} and on refer to an unknown context, {digest}")
            sent[digest] = content
        return msgspec.structs.replace(block, contexts=tuple(sent.items()))

    @property
    def has_room_ahead(self) -> bool:
        """Room for a small group is on the disk already."""
        return self._writer.room_bytes >= SMALL_GROUP_BYTES

    @property
    def pending_bytes(self) -> int:
        """About what is queued and not committed."""
        return self._writer.pending_bytes

    def _on_committed(self, blocks: list[AddJobs]) -> None:
        """On the loop, before the blocks' own callbacks."""
        for block in blocks:
            if block.token:
                self._tokens.add(_short(block.token))
                self._recent[block.token] = KnownToken(
                    block.first, block.whole or len(block.specs), block.content_hash, block.used_at
                )
            for digest, content in block.contexts:
                self._cache(digest, content)
        while len(self._recent) > 10_000:
            del self._recent[next(iter(self._recent))]

    def _in_transaction(self, batch: Batch) -> None:
        """In the writer's thread, before each commit: what is kept only so long or so much of."""
        self._tail_bytes += batch.tail_bytes
        while self._tail_bytes > MAX_TAIL_BYTES:
            rows = self._connection.execute(
                "SELECT number, length(stdout) + length(stderr) FROM tail ORDER BY number LIMIT 1000"
            ).fetchall()
            if not rows:
                self._tail_bytes = 0
                break
            self._connection.execute("DELETE FROM tail WHERE number <= ?", (rows[-1][0],))
            self._tail_bytes -= sum(size for _, size in rows)
        now = self._clock()
        if now > self._next_token_sweep:
            self._next_token_sweep = now + 3600
            self._connection.execute("DELETE FROM submit_token WHERE used_at <= ?", (now - TOKEN_SECONDS,))

    def _broke(self, error: JournalBrokenError) -> None:
        if self.on_broken is not None:
            self.on_broken(error)

    # ---------------------------------------------------------------- reading

    def token(self, token: str) -> KnownToken | None:
        """A submit of the last seven days."""
        known = self._recent.get(token)
        if known is None and _short(token) in self._tokens:
            with self._writer.lock:
                row = self._connection.execute(
                    "SELECT first, count, content_hash, used_at FROM submit_token WHERE token = ?", (token,)
                ).fetchone()
            known = None if row is None else KnownToken(*row)
        if known is None or known.used_at <= self._clock() - TOKEN_SECONDS:
            return None
        return known

    def context(self, digest: str) -> bytes | None:
        """An encoded `Context`."""
        content = self._contexts.get(digest)
        if content is not None:
            return content
        with self._writer.lock:
            row = self._connection.execute(
                "SELECT content FROM context WHERE digest = ?", (digest,)
            ).fetchone()
        if row is None:
            return None
        self._cache(digest, row[0])
        return bytes(row[0])

    def _cache(self, digest: str, content: bytes) -> None:
        while len(self._contexts) >= MAX_CACHED_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[digest] = content

    def read_context(self, digest: str, done: Callable[[bytes | None], None]) -> None:
        """As `context`, between two commits."""

        def query(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT content FROM context WHERE digest = ?", (digest,)).fetchone()
            return None if row is None else bytes(row[0])

        self._writer.read(query, done)

    def read_tails(self, job: int, attempt: int, done: Callable[[tuple[bytes, bytes] | None], None]) -> None:
        """The ends of an attempt's stdout and stderr."""

        def query(connection: sqlite3.Connection) -> tuple[bytes, bytes] | None:
            row = connection.execute(
                "SELECT stdout, stderr FROM tail WHERE job = ? AND attempt = ? ORDER BY number DESC LIMIT 1",
                (job, attempt),
            ).fetchone()
            return None if row is None else (bytes(row[0]), bytes(row[1]))

        self._writer.read(query, done)

    def restore(self) -> Restored:
        """What the core starts from, but for the jobs."""
        with self._writer.lock:
            row = self._connection.execute("SELECT value FROM meta WHERE name = 'next_job'").fetchone()
            if row is None or not row[0].isdecimal():
                raise damaged(self._path, "it does not say which id comes next")
            decode = msgspec.json.Decoder(WorkerRecord).decode
            workers = tuple(
                (number, decode(record))
                for number, record in self._connection.execute("SELECT id, record FROM worker ORDER BY id")
            )
            stops = tuple(
                RestoredStop(*row)
                for row in self._connection.execute("SELECT worker, job, fence, why FROM stop_order")
            )
            pauses = tuple(
                RestoredPause(*row)
                for row in self._connection.execute("SELECT worker, since, reason FROM pause")
            )
            queues = tuple(
                RestoredQueue(*row)
                for row in self._connection.execute(
                    "SELECT name, weight, max_running, paused_since, reason FROM queue ORDER BY name"
                )
            )
            parts = tuple(
                RestoredPart(first, last, submitted_at, plan, self._state(first, state), finished_at)
                for first, last, submitted_at, plan, state, finished_at in self._connection.execute(
                    "SELECT first, last, submitted_at, plan, state, finished_at FROM part ORDER BY first"
                )
            )
        return Restored(int(row[0]), workers, stops, pauses, queues, parts)

    def _state(self, job: int, state: str | None) -> JobState:
        known = JobState.PENDING if state is None else _STATES.get(state)
        if known is None:
            raise damaged(self._path, f"job {job} is {state}")
        return known

    def restored_jobs(self) -> Iterator[RestoredJob]:
        """All jobs by id, and then the tasks of arrays of which something has become."""
        with self._writer.lock:
            cursor = self._connection.execute(
                "SELECT id, submitted_at, state, spec, progress FROM job LEFT JOIN progress ON job = id ORDER BY id"
            )
            for job, submitted_at, state, spec, progress in cursor:
                yield RestoredJob(job, submitted_at, self._state(job, state), spec, progress)
            cursor = self._connection.execute(
                "SELECT job, progress.state, progress FROM part JOIN progress ON job BETWEEN first AND last"
                " ORDER BY first, job"
            )
            for job, state, progress in cursor:
                yield RestoredJob(job, 0.0, self._state(job, state), b"", progress)

    # ---------------------------------------------------------------- backup, end

    def backup(self, path: bytes, done: Callable[[Exception | None], None]) -> None:
        """A consistent copy in a thread of its own, page by page between the commits."""
        target = os.fsdecode(path)

        def run() -> None:
            error: Exception | None = None
            try:
                make_backup(self._connection, target, self._writer.lock, self._closing)
            except (OSError, ValueError, sqlite3.Error) as problem:  # ValueError: a NUL in the path
                error = problem
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(done, error)

        thread = threading.Thread(target=run, name="backup", daemon=True)
        self._backups = [*(other for other in self._backups if other.is_alive()), thread]
        thread.start()

    def _end_threads(self) -> None:
        self._closing.set()
        for thread in self._backups:
            thread.join()
        self._writer.close()

    def abandon(self) -> None:
        """End without another write to the file, which is damaged."""
        self._end_threads()
        abandon(self._connection)

    def close(self) -> None:
        """Commit what is queued, close."""
        self._end_threads()
        if self._writer.broken:
            abandon(self._connection)
            return
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._connection.close()


def _short(token: str) -> int:
    return int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "big")
