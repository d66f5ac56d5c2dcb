"""Which file system a path is on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kueue.file_systems import file_system_of

MOUNTS = """/dev/a / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home {home} nfs4 rw 0 0
tmpfs {home}/fast tmpfs rw 0 0
/dev/b {home}/a\\040b xfs rw 0 0
/dev/c {home}/twice ext3 rw 0 0
/dev/d {home}/twice btrfs rw 0 0
odd
"""


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
    (tmp_path / "mounts").write_text(MOUNTS.format(home=home))
    found = file_system_of(str(home / path), str(tmp_path / "mounts"))
    assert found.kind == kind
    assert found.is_remote == (kind == "nfs4")
    room = os.statvfs(home)
    assert abs(found.free_mb - room.f_bavail * room.f_frsize // 2**20) < 1024


def test_without_mounts_it_is_of_no_known_kind(tmp_path: Path) -> None:
    assert file_system_of(str(tmp_path), str(tmp_path / "absent")).kind == ""
