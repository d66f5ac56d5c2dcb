"""Files and directories that only their owner may read, made whole or not at all.

A reader sees the old content or the new one, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
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


def why_not_own(path: Path) -> str:
    """Why somebody else might decide what is in the directory `path`, as a line for people; empty if nobody can.

    Root may, always. What is above it is looked at for symbolic links only: see `foreign_link`.

    Raises:
        OSError: it can't be looked at.
    """
    link = foreign_link(path)
    if link is not None:
        return f"{link} is a symbolic link that another user made"
    status = os.stat(path)
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory"
    if status.st_uid != os.getuid():
        return f"{path} belongs to another user (uid {status.st_uid})"
    if status.st_mode & 0o022:
        return f"other users can write to {path}; look what is in it, then mend that with: chmod go-w {path}"
    return ""


def foreign_link(path: Path) -> str | None:
    """The first symbolic link on the way to `path` that a stranger put into a directory where everybody can
    make files: he could lead us elsewhere at any time.

    The kernel's own rule (`protected_symlinks`, see proc(5)), which is not switched on everywhere, and which
    whoever looks a link up for himself goes around.
    """
    place, left = "/", os.path.abspath(path).split("/")[::-1]
    for _ in range(1000):  # links may lead in circles
        if not left:
            break
        name = left.pop()
        if name in ("", ".", ".."):
            place = os.path.dirname(place) if name == ".." else place
            continue
        above, place = place, os.path.join(place, name)
        try:
            status = os.lstat(place)
            if not stat.S_ISLNK(status.st_mode):
                continue
            around = os.stat(above)
            if around.st_mode & 0o002 and status.st_uid not in (os.getuid(), 0, around.st_uid):
                return place
            target = os.readlink(place)
        except OSError:
            break  # it is not there, and whoever uses it will say so
        place = "/" if target.startswith("/") else above
        left += target.split("/")[::-1]
    return None


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
