"""The writer: a thread that commits groups of writes, several waiting ones together.

A full disk is waited out: groups that may give up are told, the others are tried again until there is room. After
any other error nothing is written any more and everybody is told so: what an fsync that failed has left on the
disk is unknown, and guessing would break the promise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from kueue_server.core.instructions import SaveJob, SaveTails
from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError, Write
from kueue_server.journal.statements import Batch

log = logging.getLogger(__name__)

Done = Callable[[JournalFullError | JournalBrokenError | None], None]

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""About what one transaction takes at most, so that nobody waits long for it."""
RETRY_SECONDS = 1.0
CHECKPOINT_BYTES = 16 * 1024 * 1024
"""Size of the WAL at which it is copied into the main file; at four times that even while others wait."""
SQLITE_FULL = 13
SQLITE_IOERR_WRITE = 778  # a quota that is exceeded shows up as this, not as a full disk


class _Group(NamedTuple):
    writes: tuple[Write, ...]
    done: Done
    give_up_when_full: bool
    size: int


class Writer:
    """Owns the connection while it runs; `lock` is held during each transaction, readers take it too."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        wal_path: str,
        loop: asyncio.AbstractEventLoop,
        committed: Callable[[list[AddJobs]], None],
        finish: Callable[[Batch], None],
    ) -> None:
        self._connection = connection
        self._wal_path = wal_path
        self._loop = loop
        self._committed = committed
        self._finish = finish
        self.lock = threading.Lock()
        self._wake = threading.Condition()
        self._groups: deque[_Group] = deque()
        self._closing = False
        self._broken: JournalBrokenError | None = None
        self._full_since: str | None = None
        self.pending_bytes = 0
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def write(self, writes: tuple[Write, ...], done: Done, *, give_up_when_full: bool) -> None:
        """Queue a group; `done` is called on the loop."""
        group = _Group(writes, done, give_up_when_full, _size_of(writes))
        with self._wake:
            if self._broken is not None or self._closing:
                error = self._broken or JournalBrokenError("the journal is closed")
                self._loop.call_soon(done, error)
                return
            self._groups.append(group)
            self.pending_bytes += group.size
            self._wake.notify()

    def close(self) -> None:
        """Commit what is queued (once; a full disk is not waited for), end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._groups and not self._closing:
                    self._wake.wait()
                if not self._groups:
                    return
                batch = self._take()
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                if not self._on_error(batch, error):
                    return
                continue
            except Exception as error:
                # A fault of ours; the transaction was rolled back, but its writes can't be skipped.
                log.exception("a group of journal writes failed")
                self._break(batch, error)
                return
            if self._full_since is not None:
                log.warning("the journal can be written again")
                self._full_since = None
            self._tell(batch, None)
            self._checkpoint()

    def _take(self) -> list[_Group]:
        batch: list[_Group] = []
        size = 0
        while self._groups and (not batch or size + self._groups[0].size <= MAX_COMMIT_BYTES):
            group = self._groups.popleft()
            size += group.size
            batch.append(group)
        return batch

    def _commit(self, groups: list[_Group]) -> None:
        with self.lock:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                batch = Batch(connection)
                for group in groups:
                    batch.apply(group.writes)
                batch.finish()
                self._finish(batch)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _on_error(self, batch: list[_Group], error: sqlite3.Error) -> bool:
        """After a failed transaction; False ends the thread."""
        code = getattr(error, "sqlite_errorcode", None)
        if code not in (SQLITE_FULL, SQLITE_IOERR_WRITE):
            log.error("the journal failed: %s (SQLite error %s)", error, code)
            self._break(batch, error)
            return False
        if self._full_since is None:
            self._full_since = str(error)
            log.error("the journal can't be written: %s; trying again until there is room", error)
        given_up = [group for group in batch if group.give_up_when_full]
        kept = [group for group in batch if not group.give_up_when_full]
        self._tell(given_up, JournalFullError(str(error)))
        with self._wake:
            self._groups.extendleft(reversed(kept))
            if self._closing:
                waiting, self._groups = list(self._groups), deque()
                self._tell(waiting, JournalBrokenError(f"closed while the disk was full: {error}"))
                return False
            if kept:
                # What comes meanwhile is tried together with these; a submit wakes us to be answered soon.
                self._wake.wait(RETRY_SECONDS)
        return True

    def _break(self, batch: list[_Group], error: Exception) -> None:
        broken = JournalBrokenError(str(error))
        with self._wake:
            self._broken = broken
            waiting = batch + list(self._groups)
            self._groups.clear()
        self._tell(waiting, broken)

    def _tell(self, groups: list[_Group], error: JournalFullError | JournalBrokenError | None) -> None:
        if not groups:
            return

        def tell() -> None:
            self.pending_bytes -= sum(group.size for group in groups)
            if error is None:
                blocks = [w for group in groups for w in group.writes if isinstance(w, AddJobs)]
                if blocks:
                    self._committed(blocks)
            for group in groups:
                group.done(error)

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            log.debug("the loop has ended before its journal")

    def _checkpoint(self) -> None:
        """Copy the WAL into the main file when it has grown: rather while nobody waits, in the end anyway."""
        try:
            size = os.stat(self._wal_path).st_size
        except OSError:
            return
        if size < CHECKPOINT_BYTES or (self._groups and size < 4 * CHECKPOINT_BYTES):
            return
        with self.lock:
            try:
                # TRUNCATE, so that the size tells how much there is to copy next time.
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                # Everything is in the WAL still; if the disk is full, the next commit will say so.
                log.warning("could not copy the journal's WAL into its file: %s", error)


def _size_of(writes: tuple[Write, ...]) -> int:
    size = 0
    for write in writes:
        if isinstance(write, AddJobs):
            size += (
                sum(map(len, write.specs)) + 64 * len(write.specs) + sum(len(c) for _, c in write.contexts)
            )
        elif isinstance(write, SaveJob):
            size += len(write.progress) + 64
        elif isinstance(write, SaveTails):
            size += len(write.stdout) + len(write.stderr) + 64
        else:
            size += 128
    return size
