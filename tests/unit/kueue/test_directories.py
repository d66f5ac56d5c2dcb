"""Which machines a job's directory is on: what stays on the submitting one, and what is warned of."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kueue import directories
from kueue.directories import (
    HOST_ONLY_DIRECTORIES,
    LOCAL_DIRECTORY,
    Reach,
    current_directory,
    mounts,
    volume_of,
)
from kueue.job_encoding import Encoder
from kueue.job_spec import JobSpec

HOST = (socket.gethostname(),)
MOUNTED = {"/": "ext4", "/home": "nfs4", "/scratch": "xfs", "/net": "autofs", "/odd": "fuse.sshfs"}


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a shared home and a scratch disk of its own; every directory is there."""
    monkeypatch.setattr(directories, "mounts", lambda: MOUNTED)
    monkeypatch.setattr(os.path, "isdir", lambda path: True)


def test_neighbours_that_are_looked_up_together_have_the_volumes_they_have_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("/proc")
    directories = [
        *("/", "/home", "/home/a", "/home/b", "/home/a/c", "/proc", "/proc/self", "/proc/self/fd", "/sys"),
        *(
            "/sys/fs/cgroup",
            "/dev",
            "/dev/shm",
            "/dev/pts",
            "/dev/shm/a",
            "//a",
            "//a/b",
            "/a\0b/c",
            "/a\0b/d",
        ),
        *(f"{tmp_path}/{name}" for name in ("there", "link", "gone/a", "gone/b", "link/self", "link/1")),
    ]
    together = Reach()
    for _ in range(2):
        assert [together.volume(directory) for directory in directories] == [*map(volume_of, directories)]


def test_of_neighbours_each_is_looked_at_once_and_what_is_above_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [f"{tmp_path}/{number}" for number in range(100)]
    for place in places[:50]:
        os.mkdir(place)
    looks = []
    lstat = os.lstat

    def counted(path: str) -> os.stat_result:
        looks.append(os.fspath(path))
        return lstat(path)

    monkeypatch.setattr(os, "lstat", counted)
    reach = Reach(HOST_ONLY_DIRECTORIES[:0])
    for place in places:
        reach.workers(place)
        reach.volume(place)
    assert [looks.count(place) for place in places] == [1] * 100
    assert len(looks) < 100 + 10 * len(tmp_path.parts)


@pytest.mark.parametrize("place", ["/tmp", "/tmp/a/b", "/var/tmp/x", "/dev/shm", "/tmp/not/there"])
def test_jobs_of_directories_that_each_machine_has_its_own_of_stay_here(place: str) -> None:
    assert Reach(HOST_ONLY_DIRECTORIES).workers(place) == HOST


@pytest.mark.parametrize("place", ["/", "/home/me", "/tmpfiles", "/var", "/tmp-2/a"])
def test_other_directories_tie_to_no_machine(place: str) -> None:
    assert Reach(HOST_ONLY_DIRECTORIES).workers(place) == ()


def test_links_count_in_both_directions(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "to_own").symlink_to(tmp_path / "own")
    (tmp_path / "own" / "to_shared").symlink_to(tmp_path / "shared")
    reach = Reach([f"{tmp_path}/own/"])
    assert reach.workers(f"{tmp_path}/shared/to_own") == HOST  # leads to another directory elsewhere
    assert reach.workers(f"{tmp_path}/own/to_shared") == HOST  # the link itself is here only
    assert reach.workers(f"{tmp_path}/shared") == ()
    (tmp_path / "named").symlink_to(tmp_path / "own")
    assert Reach([f"{tmp_path}/named"]).workers(f"{tmp_path}/own/x") == HOST


def test_a_host_s_name_is_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "a[1]*")
    assert Reach(["/tmp"]).workers("/tmp") == ("a[[]1][*]",)


@pytest.mark.usefixtures("mounted")
def test_each_local_file_system_is_warned_of_once() -> None:
    reach = Reach(HOST_ONLY_DIRECTORIES, is_alone=False)
    for place in ("/home/me", "/scratch/a", "/scratch/b", "/scratch", "/tmp/x", "/net/x", "/odd/x"):
        reach.workers(place)
    (warning,) = reach.warnings
    assert warning[0] == LOCAL_DIRECTORY
    assert warning[1].startswith(f"/scratch is a local file system of {HOST[0]} (xfs)")
    assert f"--worker {HOST[0]} " in warning[1]
    reach.workers("/opt/data")
    assert [text.split()[0] for _, text in reach.warnings] == ["/scratch", "/opt/data"]


@pytest.mark.usefixtures("mounted")
def test_where_there_is_one_machine_nothing_is_warned_of() -> None:
    reach = Reach(HOST_ONLY_DIRECTORIES, is_alone=True)
    assert reach.workers("/scratch/a") == ()
    assert reach.warnings == []


def test_a_directory_that_is_not_here_is_not_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "mounts", lambda: MOUNTED)
    reach = Reach((), is_alone=False)
    reach.workers("/scratch/no-such-place")
    assert reach.warnings == []


@pytest.mark.usefixtures("mounted")
def test_whoever_names_workers_is_neither_warned_nor_overruled() -> None:
    encoder = Encoder(1, 1, Reach(HOST_ONLY_DIRECTORIES, is_alone=False))
    for place in ("/tmp", "/scratch"):
        spec, _ = encoder.encode(JobSpec(["true"], cwd=place, workers=["b*"]))
        assert spec.shape.workers == ("b*",)
    assert encoder.reach.warnings == []


def test_the_system_tells_its_mounts() -> None:
    found = mounts()
    assert found["/proc"] == "proc"
    assert "/" in found


def test_mount_points_with_blanks_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / /mnt/my\\040disk rw,noatime shared:1 - ext3 /dev/root rw\n")
    monkeypatch.setattr(directories, "_MOUNTS", str(table))
    assert mounts() == {"/mnt/my disk": "ext3"}
    monkeypatch.setattr(directories, "_MOUNTS", "/no-such-file")
    assert mounts() == {}


def test_a_name_with_dots_is_kept_only_if_it_is_the_same_place_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below")
    os.chdir(tmp_path / "real")
    monkeypatch.setenv(
        "PWD", f"{tmp_path}/link/.."
    )  # the system's way there; without the dots it is elsewhere
    assert current_directory() == f"{tmp_path}/real"
