"""Which file system a path is on, and how much room it has."""

from __future__ import annotations

import os
from typing import NamedTuple

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "lustre", "gpfs", "beegfs", "ceph", "afs"}
)
"""Kinds that other machines serve."""


class FileSystem(NamedTuple):
    """`kind` as the kernel calls it, empty if it does not say; `free_mb` for us."""

    kind: str
    free_mb: int

    @property
    def is_remote(self) -> bool:
        """Do other machines write to it as well?"""
        return self.kind in NETWORK


def file_system_of(path: str, mounts: str = "/proc/self/mounts") -> FileSystem:
    """Of the deepest directory on the way to `path` that exists.

    Raises:
        OSError: it can't be looked at.
    """
    place = os.path.realpath(path)
    while not os.path.exists(place) and place != "/":
        place = os.path.dirname(place)
    room = os.statvfs(place)
    return FileSystem(_kind(place, mounts), room.f_bavail * room.f_frsize // 2**20)


def _kind(place: str, mounts: str) -> str:
    best, kind = "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                words = line.split(" ")
                if len(words) < 3:
                    continue
                # Blanks and the like are written as octal numbers.
                point = words[1].encode("utf-8", "surrogateescape").decode("unicode_escape", "replace")
                inside = place == point or place.startswith(point.rstrip("/") + "/")
                if inside and len(point) >= len(best):  # of two mounts on one place the later counts
                    best, kind = point, words[2]
    except OSError:
        return ""
    return kind
