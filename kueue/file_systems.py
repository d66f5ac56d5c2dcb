"""Which file system a path is on, and how much room it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from kueue.directories import mount_point, mounts

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


def file_system_of(path: str, known: Mapping[str, str] | None = None) -> FileSystem:
    """Of the deepest directory on the way to `path` that exists. `known`: mount points and their types, else this
    machine's.

    Raises:
        OSError: it can't be looked at.
    """
    place = os.path.realpath(path)
    while not os.path.exists(place) and place != "/":
        place = os.path.dirname(place)
    room = os.statvfs(place)
    known = mounts() if known is None else known
    point = mount_point(place, known)
    kind = "" if point is None else known[point]
    return FileSystem(kind, room.f_bavail * room.f_frsize // 2**20)
