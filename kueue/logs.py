"""Logs of the daemons: one readable line each, on stderr.

A terminal or pipe that does not take the lines must not hold up the program that writes them: people stop
their terminals (Ctrl-S, the copy mode of `screen`) to read. Then a thread does the waiting, and what is
too much is dropped and counted.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import stat
import sys
import threading
import time
from typing import TextIO

from kueue.text import visible, visible_block

TRACE = 5
"""Level below DEBUG: every message of the wire and every decision."""
LOG_FILE = "KUEUE_LOG_FILE"
"""Environment variable of a daemon in the background: the file that its output goes to, and that it may put aside."""
MAX_LOG_BYTES = 5 * 1024 * 1024
"""A log that is bigger is put aside as `….1`, in place of the one before."""
_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_COLOURS = {logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31"}
_MAX_WAITING_LINES = 10_000
_FLUSH_SECONDS = 2.0


def level_number(name: str) -> int:
    """The level of `log_level` in the configuration."""
    return _LEVELS[name.lower()]


class LineFormatter(logging.Formatter):
    """`2026-01-02 03:04:05 INFO  text`; what peers sent can't break the line."""

    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-5s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._colour = colour

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        name = {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(record.levelname, record.levelname)
        shown = logging.makeLogRecord(
            {**record.__dict__, "levelname": name, "message": visible(record.message)}
        )
        line = super().formatMessage(shown)
        code = _COLOURS.get(record.levelno)
        return f"\x1b[{code}m{line}\x1b[0m" if self._colour and code else line

    def formatException(self, ei: object) -> str:  # noqa: N802
        return visible_block(super().formatException(ei))  # type: ignore[arg-type]


class PatientHandler(logging.Handler):
    """Writes to a descriptor that may not take it now, from a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | threading.Event] = queue.Queue(_MAX_WAITING_LINES)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line; if too many wait already, count it only."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        try:
            if self._dropped:
                self._lines.put_nowait(self._told_of_dropped())
                self._dropped = 0
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Wait until all lines so far are written, for 2 s at most."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        written = threading.Event()
        with contextlib.suppress(queue.Full):
            if self._dropped:
                self._lines.put(self._told_of_dropped(), timeout=_FLUSH_SECONDS)
                self._dropped = 0
            self._lines.put(written, timeout=max(0.0, deadline - time.monotonic()))
            written.wait(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Flush; the thread ends with the process."""
        atexit.unregister(self.flush)
        self.flush()
        super().close()

    def _told_of_dropped(self) -> bytes:
        return f"… {self._dropped} lines were dropped here\n".encode()

    def _write(self) -> None:
        while True:
            item = self._lines.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            with contextlib.suppress(
                OSError
            ):  # the terminal is gone, or the pipe's reader; that ends nothing
                while item:
                    item = item[os.write(self._descriptor, item) :]


class RotatingHandler(logging.StreamHandler[TextIO]):
    """Writes to the file that our output goes to, and puts it aside when it is too big."""

    def __init__(self, stream: TextIO, path: str) -> None:
        super().__init__(stream)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a file that can't be put aside goes on."""
        super().emit(record)
        with contextlib.suppress(OSError):
            if os.fstat(self.stream.fileno()).st_size > MAX_LOG_BYTES and self._is_ours():
                self._rotate()

    def _is_ours(self) -> bool:
        """Is it still this file, or has somebody put it aside already?"""
        return os.path.samestat(os.stat(self._path), os.fstat(self.stream.fileno()))

    def _rotate(self) -> None:
        os.replace(self._path, f"{self._path}.1")
        fresh = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # What does not come through here goes there, too: what libraries print, and the last words.
            old = os.fstat(self.stream.fileno())
            for descriptor in (1, 2):
                if os.path.samestat(os.fstat(descriptor), old):
                    os.dup2(fresh, descriptor)
        finally:
            os.close(fresh)


def set_up_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to `stream` (stderr); a second call replaces the first.

    Args:
        level: as in the configuration, `trace` to `error`.
    """
    stream = stream or sys.stderr
    logging.addLevelName(TRACE, "TRACE")
    logging.raiseExceptions = False  # a log that can't be written is no reason to end, nor to say more there
    handler = _handler(stream)
    handler.setFormatter(LineFormatter(stream.isatty() and not os.environ.get("NO_COLOR")))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, PatientHandler):
            old.close()
    root.addHandler(handler)
    root.setLevel(level_number(level))
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, level_number(level)))


def _handler(stream: TextIO) -> logging.Handler:
    try:
        descriptor = stream.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # no real file: a test's, or closed
        return logging.StreamHandler(stream)
    if stat.S_ISREG(mode):
        path = os.environ.get(LOG_FILE, "")
        return RotatingHandler(stream, path) if path else logging.StreamHandler(stream)
    return PatientHandler(descriptor)
