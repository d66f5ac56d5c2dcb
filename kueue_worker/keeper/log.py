"""The keeper's own log: lines in `<spool>/keeper.log`, bounded in size. A log that can't be written is no
reason to stop.

Descriptor 2 leads to it, so that the interpreter's last words are kept, too.
"""

from __future__ import annotations

import contextlib
import os
import time

NAME = "keeper.log"
MOST_BYTES = 512 * 1024
"""Then the file is renamed to `keeper.log.1` and another one begun."""


class Log:
    """Opens the log and points descriptor 2 at it. `most_bytes` bounds each of the two files."""

    def __init__(self, directory: str, most_bytes: int = MOST_BYTES) -> None:
        self._path = f"{directory}/{NAME}"
        self._most_bytes = most_bytes
        self._bytes = 0
        self._open()

    def write(self, text: str) -> None:
        """Write a line."""
        if self._bytes > self._most_bytes:
            with contextlib.suppress(OSError):
                os.rename(self._path, f"{self._path}.1")
            self._open()
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} keeper[{os.getpid()}] {text}\n"
        data = line.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            self._bytes += os.write(2, data)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path, flags, 0o600)
            self._bytes = os.fstat(descriptor).st_size
        except OSError:
            descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            self._bytes = 0
        os.dup2(descriptor, 2, inheritable=False)
        os.close(descriptor)
