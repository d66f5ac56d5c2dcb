"""A copy of the open journal, made while it is being written.

It has its final name only when it is whole and on the disk. A copy that was cut off is cleared away by the next
backup to the same place: the lock on it tells one that is being made from one that nobody makes any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
import time

PAGES_A_STEP = 256
PAUSE_SECONDS = 0.001
MAGIC = b"SQLite format 3\0"


class BackupStoppedError(OSError):
    """The journal is being closed; there will be no copy."""


def make_backup(
    connection: sqlite3.Connection, target: str, lock: threading.Lock, closing: threading.Event
) -> None:
    """Copy what is committed to `target`, which must not exist.

    Args:
        connection: the writer's own; what it commits meanwhile comes along.
        lock: held for each step, never between two of them: a transaction that is not committed is not copied.
        closing: ends it.

    Raises:
        OSError, sqlite3.Error: there is no copy at `target`, and nothing is left of it.
    """
    if os.path.lexists(target):
        raise FileExistsError(f"{target} exists already")
    partial = f"{target}.partial"
    descriptor = _create(partial)
    try:
        _copy(connection, partial, lock, closing)
        os.fsync(descriptor)
        if not os.path.samestat(os.stat(partial), os.fstat(descriptor)):
            raise FileExistsError(f"{partial} was exchanged meanwhile")
        os.link(partial, target)
        directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # the name is as durable as the content
        finally:
            os.close(directory)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        os.close(descriptor)


def _copy(
    connection: sqlite3.Connection, partial: str, lock: threading.Lock, closing: threading.Event
) -> None:
    copy = sqlite3.connect(partial, isolation_level=None)

    def between_steps(status: int, remaining: int, total: int) -> None:
        lock.release()
        time.sleep(PAUSE_SECONDS)
        lock.acquire()
        if closing.is_set():
            raise BackupStoppedError("the server is ending")

    try:
        # Neither a file beside it, nor an fsync while the writer waits: it is synced when it is whole.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        with lock:
            if closing.is_set():
                raise BackupStoppedError("the server is ending")
            connection.backup(copy, pages=PAGES_A_STEP, progress=between_steps)
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()


def _create(partial: str) -> int:
    """A new, empty, locked file."""
    try:
        return _create_new(partial)
    except FileExistsError:
        if not _is_cut_off(partial):
            raise FileExistsError(
                f"{partial} exists: another backup is being made, or it is not ours"
            ) from None
    os.unlink(partial)
    return _create_new(partial)


def _create_new(partial: str) -> int:
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _is_cut_off(partial: str) -> bool:
    """Is it what a killed server has left of a backup? Nothing else is ever removed."""
    descriptor = os.open(partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
            return False
        head = os.pread(descriptor, len(MAGIC), 0)
        if head != MAGIC and head.strip(b"\0"):  # the first page is not always the first to be written
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
