"""Which file system a path is on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kueue.file_systems import file_system_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "nfs4"),
        ("there/not/yet", "nfs4"),
        ("fast/x", "tmpfs"),
        ("faster", "nfs4"),
        ("a b/c", "xfs"),
        ("twice", "btrfs"),
        ("..", "ext4"),
    ],
)
def test_the_deepest_mount_on_the_way_counts(tmp_path: Path, path: str, kind: str) -> None:
    home = tmp_path / "home"
    for name in ("fast", "faster", "a b", "twice"):
        (home / name).mkdir(parents=True)
    below = {"": "nfs4", "/fast": "tmpfs", "/a b": "xfs", "/twice": "btrfs"}
    known = {"/": "ext4", "/proc": "proc", **{f"{home}{name}": kind for name, kind in below.items()}}
    found = file_system_of(str(home / path), known)
    assert found.kind == kind
    assert found.is_remote == (kind == "nfs4")
    room = os.statvfs(home)
    assert abs(found.free_mb - room.f_bavail * room.f_frsize // 2**20) < 1024


def test_without_mounts_it_is_of_no_known_kind(tmp_path: Path) -> None:
    assert file_system_of(str(tmp_path), {}).kind == ""
