"""Files and directories that only their owner may read, made whole or not at all.

A reader sees the old content or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path


def make_directories(path: Path) -> None:
    """Make `path` and what is missing above it, all 0700; one that exists stays as it is.

    Raises:
        OSError: one can't be made, or something else is in its place.
    """
    missing = []
    place = path
    while not place.is_dir():
        missing.append(place)
        if place.parent == place:
            break
        place = place.parent
    for place in reversed(missing):
        try:
            os.mkdir(place, 0o700)
        except FileExistsError:
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place)) from None


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, 0600, in place of what is there. The directory exists.

    Raises:
        OSError: it can't be written; what was there stays.
    """
    partial = _written_beside(path, data, durable=False)
    try:
        os.replace(partial, path)
    except BaseException:
        _remove(partial)
        raise


def create_file(path: Path, data: bytes) -> bool:
    """Put `data` at `path`, 0600, if nothing is there yet; False if something is. The directory exists.

    Of several programs at once exactly one succeeds, and by then all of its file is there, on disk.

    Raises:
        OSError: it can't be written; nothing is left behind.
    """
    partial = _written_beside(path, data, durable=True)
    try:
        try:
            os.link(partial, path)
        except FileExistsError:
            return False
        except OSError:
            return _create_without_links(partial, path)
        return True
    finally:
        _remove(partial)


def _create_without_links(partial: Path, path: Path) -> bool:
    # Some file systems have no hard links. A lock on the directory keeps programs of the same kind apart.
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return False
        os.rename(partial, path)
        return True
    finally:
        os.close(directory)


def _written_beside(path: Path, data: bytes, *, durable: bool) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(6).hex()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        _remove(partial)
        raise
    return partial


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
