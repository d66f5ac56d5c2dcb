"""A file system with little room, for programs that are started in it: a tmpfs in a namespace of its own.

It needs no rights: a user namespace makes whoever starts it root inside. Programs enter it with `nsenter`; from
outside its files are seen through `/proc/PID/root`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.waiting import wait_for

BLOCK = 64 * 1024


class SmallDisk:
    """A tmpfs of `size_mb` megabytes at `place`, a directory that exists."""

    def __init__(self, place: Path, size_mb: int) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        mount = (
            f'mount -t tmpfs -o size={size_mb}m,mode=0700 tmpfs "$1" && echo mounted && exec sleep infinity'
        )
        self._holder = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-c", mount, "sh", str(place)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            _, said = self._holder.communicate()
            pytest.skip(f"no unprivileged user namespaces here: {said.decode().strip()}")
        self.under = ("nsenter", "-t", str(self._holder.pid), "-U", "-m", "--preserve-credentials", "--")
        """A command that becomes another one, inside."""
        self.inside = Path(f"/proc/{self._holder.pid}/root{place}")
        """The place, seen from outside."""

    def fill(self, leave_bytes: int = 0) -> None:
        """Write a file until nothing more fits, then cut it by as much."""
        filler = os.open(self.inside / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = BLOCK
            while size:
                try:
                    os.write(filler, b"x" * size)
                except OSError:
                    size //= 2
            os.ftruncate(filler, os.fstat(filler).st_size - leave_bytes)
        finally:
            os.close(filler)
        wait_for("it is full", lambda: self.free_bytes() <= leave_bytes + 4096)

    def make_room(self) -> None:
        """Drop what `fill` wrote."""
        (self.inside / "filler").unlink()

    def free_bytes(self) -> int:
        """How much fits."""
        room = os.statvfs(self.inside)
        return room.f_bavail * room.f_frsize

    def close(self) -> None:
        """Unmount; what was started inside must have ended."""
        self._holder.kill()
        self._holder.communicate()
