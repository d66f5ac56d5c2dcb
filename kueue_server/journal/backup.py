"""A copy of the open journal, made while it is being written.

It has its final name only when it is whole and on the disk. A copy that was cut off is cleared away by the next
backup to the same place: the lock on it tells one that is being made from one that nobody makes any more.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import threading
import time

PAGES_A_STEP = 256
PAUSE_SECONDS = 0.001
TRIES = 3
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
        if not _is_at(partial, descriptor):
            raise FileExistsError(f"{partial} was exchanged meanwhile")
        os.link(partial, target)
        directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)  # the name is as durable as the content
        finally:
            os.close(directory)
    finally:
        if _is_at(partial, descriptor):
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
    """An empty file under a lock, which nobody else takes for cut off while it is held."""
    for _ in range(TRIES):
        descriptor = _lock_empty(partial)
        if descriptor is not None:
            return descriptor
    raise FileExistsError(f"{partial} exists: other backups are being made")


def _lock_empty(partial: str) -> int | None:
    """None: there was a part of a copy that nobody makes any more; it is gone now."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(partial, flags, 0o600)
    try:
        if not _may_be_ours(descriptor) or not _locked(descriptor) or not _is_at(partial, descriptor):
            raise FileExistsError(f"{partial} exists: another backup is being made, or it is not ours")
        status = os.fstat(descriptor)
        if not status.st_size and status.st_nlink == 1:
            os.fchmod(descriptor, 0o600)
            return descriptor
        os.unlink(partial)  # never written to: it may have its final name, or another, as well
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _may_be_ours(descriptor: int) -> bool:
    """Can a killed server have left it of a backup? Nothing else is ever removed."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        return False
    head = os.pread(descriptor, len(MAGIC), 0)
    return head == MAGIC or not head.strip(b"\0")  # the first page is not always the first to be written


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: str, descriptor: int) -> bool:
    """Is it still what has this name?"""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
