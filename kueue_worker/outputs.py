"""Opening the files that a job's output goes to, outside of the spool.

Regular files and /dev/null only, opened without blocking: a FIFO or a terminal would freeze the keeper or the
job. May hang on a dead mount: called in threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from dataclasses import dataclass

NULL_DEVICE = os.makedev(1, 3)
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class OutputError(Exception):
    """An output file can't be written; the text is a line for people."""


class ExhaustedError(Exception):
    """This process, or the machine, has no room for another open file now; the text is a line for people."""


@dataclass(slots=True)
class OpenOutputs:
    """Descriptors, None for a stream that goes elsewhere. `same`: both are one file, opened once (stdout)."""

    stdout: int | None = None
    stderr: int | None = None
    same: bool = False


def open_outputs(
    cwd: str, stdout: str | None, stderr: str | None, *, truncate: bool, umask: int | None
) -> OpenOutputs:
    """Open what is a path; paths are relative to `cwd`.

    Args:
        truncate: the first attempt begins anew, later ones append.
        umask: of the job, for files that are created; None for our own.

    Raises:
        OutputError: it can't be written. ExhaustedError: it could, later or elsewhere.
    """
    opened = OpenOutputs()
    try:
        if stdout is not None:
            opened.stdout = _open(cwd, stdout, umask)
        if stderr is not None:
            opened.stderr = _open(cwd, stderr, umask)
        if opened.stdout is not None and opened.stderr is not None and _same(opened.stdout, opened.stderr):
            os.close(opened.stderr)
            opened.stderr, opened.same = None, True
        for descriptor, path in ((opened.stdout, stdout), (opened.stderr, stderr)):
            if descriptor is not None and path is not None:
                _make_ready(descriptor, path, truncate)
    except BaseException:
        close_outputs(opened)
        raise
    return opened


def close_outputs(outputs: OpenOutputs) -> None:
    """Close what was not handed on."""
    for descriptor in (outputs.stdout, outputs.stderr):
        if descriptor is not None:
            os.close(descriptor)
    outputs.stdout = outputs.stderr = None


def _open(cwd: str, path: str, umask: int | None) -> int:
    full = os.path.join(cwd, path)
    try:
        try:
            descriptor = os.open(full, FLAGS)
        except FileNotFoundError:
            try:
                descriptor = _create(full, umask)
            except FileNotFoundError:
                _make_directories(os.path.dirname(full), umask)
                descriptor = _create(full, umask)
    except OSError as error:
        if isinstance(error, IsADirectoryError) or error.errno == 6:  # ENXIO: a FIFO that nobody reads
            raise OutputError(f"cannot write {path}: not a regular file") from None
        if error.errno in EXHAUSTED:
            raise ExhaustedError(f"cannot open {path} now: {error.strerror}") from None
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    status = os.fstat(descriptor)
    null = stat.S_ISCHR(status.st_mode) and status.st_rdev == NULL_DEVICE
    if not (stat.S_ISREG(status.st_mode) or null):
        os.close(descriptor)
        raise OutputError(f"cannot write {path}: not a regular file")
    return descriptor


def _create(full: str, umask: int | None) -> int:
    try:
        descriptor = os.open(full, FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # another job was quicker, or a symbolic link that leads to nothing yet
        return os.open(full, FLAGS | os.O_CREAT, 0o666)
    if umask is not None:
        os.fchmod(descriptor, 0o666 & ~umask)
    return descriptor


def _make_directories(path: str, umask: int | None) -> None:
    """Make what is missing of a directory's path, with the modes that the job would give them."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another job was quicker
            os.mkdir(directory, 0o777)
            if umask is not None:
                os.chmod(directory, 0o777 & ~umask)


def _make_ready(descriptor: int, path: str, truncate: bool) -> None:
    try:
        if truncate and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def _same(first: int, second: int) -> bool:
    one, two = os.fstat(first), os.fstat(second)
    return (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
