"""A lock beside the journal that also holds where file systems know no locks: a file that is rewritten for as long
as its server serves.

It names host, pid and boot. On the same machine that tells whether the holder lives; for one on another machine of
a shared directory there is only its age, by the file system's own clock, and a person's word that it has ended.
The journal's own lock, where there are locks, has the last word. A holder that finds another's name in the file
ends at once, without another write.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 (a running server imports nothing any more)
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from kueue.durations import format_duration
from kueue.errors import KueueError
from kueue.private_files import create_file, replace_file
from kueue.processes import boot_id, is_alive, start_ticks
from kueue.text import visible

log = logging.getLogger("kueue_server")

REWRITE_SECONDS = 30.0
STALE_SECONDS = 3 * REWRITE_SECONDS
SETTLE_SECONDS = 1.0
"""After a take-over: two that take over at once find by then whose name is in the file."""


class GuardError(KueueError):
    """Another server has the journal, or may have it; the text says what to do. Exit code 2."""

    exit_code = 2


class Holder(NamedTuple):
    """Who has the journal. `token` tells one holding from all others; `ticks` is the start by the machine's clock."""

    host: str
    pid: int
    boot_id: str
    ticks: int
    token: str


class Guard:
    """The lock of the journal in `directory`, which exists."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "lock"
        pid = os.getpid()
        self._own = Holder(socket.gethostname(), pid, boot_id(), start_ticks(pid) or 0, os.urandom(8).hex())

    def acquire(self, *, take_over: bool = False) -> None:
        """Take the lock, if nobody has it, or whoever had it has ended; with `take_over` also from another machine
        that has not rewritten it for `STALE_SECONDS`.

        A lock that can't be written (the disk is full) is no reason not to serve; it is tried again.

        Raises:
            GuardError: another server has it, or it may.
        """
        found = self._read()
        try:
            if found is None:
                created = create_file(self._path, self._text()) or not self._unreadable()
                if not created:
                    replace_file(self._path, self._text())
                holder = self._read()
                if holder is not None and holder.token != self._own.token:
                    raise GuardError(f"{self._journal} is in use: another kueue_server has just taken it")
                return
            elsewhere = self._check(found, take_over)
            replace_file(self._path, self._text())
        except OSError as error:
            log.warning("%s can't be written: %s; tries on", self._path, error.strerror)
            return
        if elsewhere:
            time.sleep(SETTLE_SECONDS)
            holder = self._read()
            if holder is not None and holder.token != self._own.token:
                raise GuardError(
                    f"{self._journal} is in use: a kueue_server on {visible(holder.host)} has it"
                )
            log.warning(
                "took the journal over from a kueue_server on %s (pid %d)", visible(found.host), found.pid
            )

    async def keep(self, lost: Callable[[str], None]) -> None:
        """Rewrite it for as long as this task lives; `lost` is called with another holder's host."""
        said = False
        while True:
            await asyncio.sleep(REWRITE_SECONDS)
            try:
                holder = await asyncio.to_thread(self.rewrite)
            except OSError as error:
                if not said:
                    log.warning("%s can't be written: %s; tries on", self._path, error.strerror)
                said = True
                continue
            said = False
            if holder is not None:
                lost(visible(holder.host))
                return

    def rewrite(self) -> Holder | None:
        """Say that we still have it; if another has, who that is. May wait for the file system.

        Raises:
            OSError: it can't be written.
        """
        holder = self._read()
        # One on this machine was kept out by the journal's own lock, or will be.
        if holder is not None and holder.token != self._own.token and holder.boot_id != self._own.boot_id:
            return holder
        replace_file(self._path, self._text())
        return None

    def release(self) -> None:
        """Somebody else may have it."""
        holder = self._read()
        if holder is not None and holder.token == self._own.token:
            with contextlib.suppress(OSError):
                self._path.unlink()

    @property
    def _journal(self) -> str:
        return f"the journal in {self._directory}"

    def _check(self, found: Holder, take_over: bool) -> bool:
        """May we take the lock of this one? Returns whether that is another machine's."""
        if found.boot_id and found.boot_id == self._own.boot_id:
            if is_alive(found.pid, found.ticks):
                raise GuardError(
                    f"{self._journal} is in use: a kueue_server on this machine has it open (pid {found.pid})"
                )
            return False
        if found.host == self._own.host:
            return False  # before the last boot
        age = self._age()
        where = f"a kueue_server on {visible(found.host)} (pid {found.pid})"
        if age < STALE_SECONDS:
            raise GuardError(
                f"{self._journal} is in use by {where}, which said so {age:.0f} s ago: end it first (there:"
                f" kueue shutdown); if its machine is gone, wait until it is silent for {STALE_SECONDS:.0f} s"
            )
        if not take_over:
            raise GuardError(
                f"{self._journal} belongs to {where}, silent for {format_duration(age)}: if that has surely"
                " ended, start kueue_server --take-over"
            )
        return True

    def _text(self) -> bytes:
        return json.dumps({**self._own._asdict(), "written_at": time.time()}).encode() + b"\n"

    def _read(self) -> Holder | None:
        try:
            values = json.loads(self._path.read_bytes())
            return Holder(
                str(values["host"]),
                int(values["pid"]),
                str(values["boot_id"]),
                int(values["ticks"]),
                str(values["token"]),
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def _unreadable(self) -> bool:
        """There is something, and it is no lock of ours: it is taken."""
        return self._path.exists() and self._read() is None

    def _age(self) -> float:
        """Seconds since the file was written, by the clock that dated it, which may be another machine's."""
        with open(self._path, "rb") as file:  # opening it is what makes a network file system look
            written = os.fstat(file.fileno()).st_mtime
        probe = self._path.with_name(f".lock.{os.getpid()}-{self._own.token}")
        try:
            with open(probe, "xb") as file:
                now = os.fstat(file.fileno()).st_mtime
        except OSError:
            now = time.time()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()
        return max(0.0, now - written)
