"""The writer: a thread that commits groups of writes, several waiting ones together.

A full disk is waited out: groups that may give up are told, the others are tried again until there is room. After
any other error nothing is written any more and everybody is told so: what an fsync that failed has left on the
disk is unknown, and guessing would break the promise. A write that fails though there is room is such an error, too.

Reads that need not be answered at once are this thread's as well: a commit takes as long as the disk likes, and
whoever reads in between must wait for its end, which the event loop can't.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from kueue_server.core.instructions import SaveJob, SaveSpec, SaveTails
from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError, Write
from kueue_server.journal.statements import Batch
from kueue_server.journal.wal import WalFile

log = logging.getLogger(__name__)

Done = Callable[[JournalFullError | JournalBrokenError | None], None]

MAX_COMMIT_BYTES = 8 * 1024 * 1024
"""About what one transaction takes at most, so that nobody waits long for it."""
RETRY_SECONDS = 1.0
CHECKPOINT_BYTES = 16 * 1024 * 1024
"""Size of the WAL at which it is copied into the main file; at four times that even while others wait."""
SQLITE_FULL = 13
SQLITE_IOERR_WRITE = 778  # a quota that is exceeded shows up as this, and so does a disk that is broken
UNTENDED_BYTES = 96 * 1024
"""Written about so much, the WAL is looked after even while others wait; before, only when there is a pause."""
PAUSE_SECONDS = 0.02
"""Without a commit: what follows from the last one has been done."""
PAGES_OF_WRITE = 2
SPARE_BYTES = 1024 * 1024
"""So much more than what was to be written must fit for a failed write not to be a matter of room."""

Query = Callable[[sqlite3.Connection], Any]


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
        on_broken: Callable[[JournalBrokenError], None],
    ) -> None:
        self._connection = connection
        self._wal_path = wal_path
        self._loop = loop
        self._committed = committed
        self._finish = finish
        self._on_broken = on_broken
        self.lock = threading.Lock()
        self._page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
        self._wal: WalFile | None = None
        self._untended_bytes = 0
        self._wake = threading.Condition()
        self._groups: deque[_Group] = deque()
        self._reads: deque[tuple[Query, Callable[[Any], None]]] = deque()
        self._closing = False
        self._broken: JournalBrokenError | None = None
        self._full_since: str | None = None
        self.pending_bytes = 0
        self._ahead_bytes = 0  # of the WAL, when it was last looked after
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

    def read(self, query: Query, done: Callable[[Any], None]) -> None:
        """Run `query` between two commits; `done` gets its result on the loop, None if it can't be had."""
        with self._wake:
            if self._broken is not None or self._closing:
                self._loop.call_soon(done, None)
                return
            self._reads.append((query, done))
            self._wake.notify()

    @property
    def room_bytes(self) -> int:
        """About how much of the WAL is written ahead, and neither used nor meant for what is queued."""
        if self._full_since is not None:
            return 0
        return self._ahead_bytes - self._untended_bytes - self.pending_bytes

    @property
    def broken(self) -> bool:
        """Did the journal fail for good?"""
        return self._broken is not None

    def close(self) -> None:
        """Commit what is queued (once; a full disk is not waited for), end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()
        if self._wal is not None:
            self._wal.close()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._groups and not self._reads and not self._closing:
                    if not self._wake.wait(PAUSE_SECONDS if self._untended_bytes else None):
                        break
                reads, self._reads = self._reads, deque()
                batch = self._take()
                ending = self._closing
            self._answer(reads)
            if not batch:
                if ending:
                    return
                if self._untended_bytes and not reads:
                    self._tend_wal()
                    if self._broken is not None:
                        return
                continue
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
            writes = sum(len(group.writes) for group in batch)
            size = sum(group.size for group in batch)
            self._untended_bytes += size + PAGES_OF_WRITE * self._page_bytes * writes
            self._tell(batch, None)
            if self._untended_bytes >= UNTENDED_BYTES:
                self._tend_wal()
                if self._broken is not None:
                    return

    def _answer(self, reads: deque[tuple[Query, Callable[[Any], None]]]) -> None:
        for query, done in reads:
            try:
                with self.lock:
                    result = query(self._connection)
            except sqlite3.Error as error:
                log.error("the journal can't be read: %s", error)
                result = None
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(done, result)

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
        if not self._is_lack_of_room(error, sum(group.size for group in batch)):
            self._break(batch, error)
            return False
        if self._full_since is None:
            self._full_since = str(error)
            log.error("the journal can't be written: %s; trying again until there is room", error)
        given_up = [group for group in batch if group.give_up_when_full]
        kept = [group for group in batch if not group.give_up_when_full]
        self._tell(given_up, JournalFullError(str(error)))
        # The WAL has a copy of a page for each time that it was written: in the file it may well fit.
        self._checkpoint(kept, truncate=True)
        if self._broken is not None:
            return False
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

    def _is_lack_of_room(self, error: sqlite3.Error, size: int) -> bool:
        """Will it be better by itself when somebody makes room?"""
        code = getattr(error, "sqlite_errorcode", None)
        if code == SQLITE_FULL:
            return True
        return code == SQLITE_IOERR_WRITE and not self._has_room(2 * size + SPARE_BYTES)

    def _has_room(self, size: int) -> bool:
        """Would `size` bytes fit beside the journal? SQLite does not say why a write failed."""
        probe = f"{self._wal_path}.room"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(probe, flags, 0o600)
            try:
                while size > 0:
                    size -= os.write(descriptor, bytes(min(size, SPARE_BYTES)))
            finally:
                os.close(descriptor)
        except OSError as error:
            return error.errno not in (errno.ENOSPC, errno.EDQUOT)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(probe)
        return True

    def _break(self, batch: list[_Group], error: Exception) -> None:
        code = getattr(error, "sqlite_errorcode", None)
        broken = JournalBrokenError(str(error) if code is None else f"{error} (SQLite error {code})")
        with self._wake:
            self._broken = broken
            waiting = batch + list(self._groups)
            self._groups.clear()
            reads, self._reads = self._reads, deque()
        self._tell(waiting, broken)
        with contextlib.suppress(RuntimeError):
            for _, done in reads:
                self._loop.call_soon_threadsafe(done, None)
            self._loop.call_soon_threadsafe(self._on_broken, broken)

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
                try:
                    group.done(error)
                except Exception:  # the others have to hear of theirs
                    log.exception("what follows from a group of journal writes failed")

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:
            log.debug("the loop has ended before its journal")

    def _tend_wal(self) -> None:
        """Copy it into the file when there is much of it, rather while nobody waits; or have room for the next."""
        try:
            if self._wal is None:
                self._wal = WalFile(self._wal_path, self._page_bytes)
            used = self._wal.used_bytes()
            if used >= (4 * CHECKPOINT_BYTES if self._groups else CHECKPOINT_BYTES):
                self._checkpoint([], truncate=self._wal.size() > 5 * CHECKPOINT_BYTES)
            else:
                self._wal.write_ahead(used)
                self._ahead_bytes = self._wal.size() - used
        except OSError as error:
            self._break([], error)
        self._untended_bytes = 0

    def _checkpoint(self, waiting: list[_Group], *, truncate: bool) -> None:
        """Copy the WAL into the file. If there is no room, nothing is lost: it is tried again later. `truncate`: give
        back the room that it took."""
        self._ahead_bytes = 0  # what there is then will be known after the next commit
        try:
            with self.lock:
                how = "TRUNCATE" if truncate else "RESTART"
                self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except sqlite3.Error as error:
            if not self._is_lack_of_room(error, 0):
                self._break(waiting, error)
            elif self._full_since is None:
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
        elif isinstance(write, SaveSpec):
            size += len(write.spec) + 64
        elif isinstance(write, SaveTails):
            size += len(write.stdout) + len(write.stderr) + 64
        else:
            size += 128
    return size
