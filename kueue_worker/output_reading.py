"""Reading output files: a portion from an offset, or the last bytes.

Regular files only. May hang on a dead mount: called in threads where a file is outside of the spool.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from kueue.wire.messages import TAIL_BYTES


@dataclass(frozen=True, slots=True)
class Portion:
    """Bytes from `offset`; `size` is the whole file's at that moment."""

    offset: int
    data: bytes
    size: int


def read_portion(path: str, offset: int, limit: int) -> Portion:
    """At most `limit` bytes from `offset` on; a negative one counts from the end, one beyond it is the end.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISCHR(status.st_mode):
            return Portion(0, b"", 0)  # /dev/null and its like: nothing is in there
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "not a regular file")
        size = status.st_size
        begin = max(0, size + offset) if offset < 0 else min(offset, size)
        data = os.pread(descriptor, limit, begin)
        return Portion(begin, data, max(size, begin + len(data)))  # it may have grown in between
    finally:
        os.close(descriptor)


def read_tail(path: str) -> bytes:
    """The last `TAIL_BYTES`; empty if there is nothing to be read."""
    try:
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            return b""  # as most are: that is one call of the system, not four
        return read_portion(path, -TAIL_BYTES, TAIL_BYTES).data
    except OSError:
        return b""
