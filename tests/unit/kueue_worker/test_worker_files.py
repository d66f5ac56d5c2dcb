"""Directories, programs and outputs of jobs, on a real file system."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path

import pytest

from kueue_worker.directories import AbsentError, Directories, OpenDirectory, open_directory
from kueue_worker.outputs import OutputError, close_outputs, open_outputs
from kueue_worker.programs import NoProgramError, find_program
from kueue_worker.threads import DeadlineThreads

AS_ROOT = os.getuid() == 0

# ---------------------------------------------------------------- directories


def test_a_missing_directory_names_the_deepest_ancestor_that_exists(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(AbsentError) as caught:
        open_directory(f"{tmp_path}/a/b/c")
    assert caught.value.ancestor == f"{tmp_path}/a"
    assert str(caught.value) == f"{tmp_path}/a/b/c: No such file or directory"


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AbsentError, match="Not a directory") as caught:
        open_directory(f"{tmp_path}/file")
    assert caught.value.ancestor == str(tmp_path)


def test_a_relative_directory_is_not_looked_up_in_ours() -> None:
    with pytest.raises(AbsentError):
        open_directory("tests")


def test_a_directory_whose_name_is_not_utf8_is_found(tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"\xff\xfe")
    os.mkdir(name)
    found = open_directory(os.fsdecode(name))
    os.close(found.descriptor)


@pytest.mark.skipif(AS_ROOT, reason="root may enter any directory")
def test_a_directory_that_may_not_be_entered_is_absent(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o600)
    with pytest.raises(AbsentError, match="Permission denied"):
        open_directory(f"{tmp_path}/closed")


class Keeper:
    """Notes which directories it has."""

    def __init__(self) -> None:
        self.has: dict[int, tuple[int, int]] = {}
        self.handed_over = 0

    def hand_over(self, number: int, descriptor: int) -> None:
        status = os.fstat(descriptor)
        os.close(descriptor)
        self.has[number] = (status.st_dev, status.st_ino)
        self.handed_over += 1

    def take_back(self, number: int) -> None:
        del self.has[number]


async def find(directories: Directories, path: str) -> OpenDirectory:
    """The directory, which must be there."""
    found: asyncio.Future[OpenDirectory | BaseException] = asyncio.get_running_loop().create_future()
    directories.find(path, found.set_result)
    result = await asyncio.wait_for(found, 10)
    assert isinstance(result, OpenDirectory), result
    return result


async def test_a_directory_goes_to_the_keeper_once_until_it_is_another_one(tmp_path: Path) -> None:
    now = 0.0
    keeper = Keeper()
    threads = DeadlineThreads(asyncio.get_running_loop())
    directories = Directories(threads, lambda: now, keeper.hand_over, keeper.take_back)
    place = tmp_path / "d"
    place.mkdir()
    first = await find(directories, str(place))
    now = 10.0
    assert (await find(directories, str(place))).number == first.number
    assert keeper.handed_over == 1
    place.rename(tmp_path / "old")
    place.mkdir()
    now = 20.0
    second = await find(directories, str(place))
    assert list(keeper.has) == [second.number]
    assert keeper.has[second.number][1] == place.stat().st_ino
    now = 60.0
    directories.close_unused()
    assert keeper.has == {}
    directories.forget()
    third = await find(directories, str(place))
    assert list(keeper.has) == [third.number]
    threads.close()


# ---------------------------------------------------------------- programs


def program(path: Path, mode: int = 0o755) -> Path:
    """A program's file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_programs_are_found_by_the_job_s_path_in_order(tmp_path: Path) -> None:
    program(tmp_path / "two" / "tool")
    one = program(tmp_path / "one" / "tool")
    assert find_program("tool", f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two", "/") == str(one)


def test_relative_components_of_path_mean_the_job_s_directory(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "tool")
    assert find_program("tool", "/nowhere:bin", str(tmp_path)) == "bin/tool"
    assert find_program("tool", "/nowhere:", f"{tmp_path}/bin") == "./tool"


def test_a_name_with_a_slash_is_not_looked_for(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "tool")
    assert find_program("bin/tool", "/usr/bin", str(tmp_path)) == "bin/tool"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dc_shell", "no dc_shell in PATH"),
        ("./missing", "./missing: no such file"),
        ("", "the command is empty"),
        ("bin", "bin: is a directory"),
        ("a | b", "no a | b in PATH; a line for a shell goes as: sh -c '…'"),
        ("plain", "plain: not executable (chmod +x)"),
    ],
)
def test_why_a_program_can_not_be_run_is_one_line(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "plain", 0o644)
    with pytest.raises(NoProgramError) as caught:
        find_program(name, f"{tmp_path}", str(tmp_path))
    assert str(caught.value) == expected.replace("bin:", f"{tmp_path}/bin:").replace(
        "plain:", f"{tmp_path}/plain:"
    )


def test_one_that_can_be_run_wins_over_an_earlier_one_that_can_not(tmp_path: Path) -> None:
    program(tmp_path / "one" / "tool", 0o644)
    two = program(tmp_path / "two" / "tool")
    assert find_program("tool", f"{tmp_path}/one:{tmp_path}/two", "/") == str(two)


# ---------------------------------------------------------------- outputs


def test_the_first_attempt_truncates_and_later_ones_append(tmp_path: Path) -> None:
    out = tmp_path / "out.log"
    out.write_text("old")
    for truncate, expected in ((True, "new"), (False, "newnew")):
        opened = open_outputs(str(tmp_path), "out.log", None, truncate=truncate, umask=None)
        assert opened.stdout is not None
        os.write(opened.stdout, b"new")
        assert not fcntl.fcntl(opened.stdout, fcntl.F_GETFL) & os.O_NONBLOCK
        close_outputs(opened)
        assert out.read_text() == expected


def test_two_names_of_one_file_are_one_description(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    (tmp_path / "link").symlink_to("out")
    opened = open_outputs(str(tmp_path), "out", f"{tmp_path}/link", truncate=True, umask=None)
    assert opened.same
    assert opened.stderr is None
    close_outputs(opened)


def test_new_files_have_the_job_s_umask(tmp_path: Path) -> None:
    opened = open_outputs(str(tmp_path), "out", None, truncate=True, umask=0o007)
    close_outputs(opened)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o660


def test_the_null_device_is_fine_and_a_dangling_link_is_created(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    opened = open_outputs(str(tmp_path), "/dev/null", "link", truncate=True, umask=None)
    close_outputs(opened)
    assert (tmp_path / "new").exists()


def test_directories_of_an_output_that_are_missing_are_made_as_the_job_would(tmp_path: Path) -> None:
    opened = open_outputs(str(tmp_path), "a/b/out", "a/c/../err", truncate=True, umask=0o027)
    close_outputs(opened)
    made = {
        path: (tmp_path / path).stat().st_mode & 0o777 for path in ("a", "a/b", "a/c", "a/b/out", "a/err")
    }
    assert made == {"a": 0o750, "a/b": 0o750, "a/c": 0o750, "a/b/out": 0o640, "a/err": 0o640}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("fifo", "cannot write fifo: not a regular file"),
        ("read_fifo", "cannot write read_fifo: not a regular file"),
        ("dir", "cannot write dir: not a regular file"),
        ("/dev/zero", "cannot write /dev/zero: not a regular file"),
        ("file/out", "cannot write file/out: Not a directory"),
    ],
)
def test_what_can_not_be_an_output_is_one_line(tmp_path: Path, path: str, expected: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.mkfifo(tmp_path / "read_fifo")
    reader = os.open(tmp_path / "read_fifo", os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OutputError) as caught:
        open_outputs(str(tmp_path), "good", path, truncate=True, umask=None)
    assert str(caught.value) == expected
    assert set(os.listdir("/proc/self/fd")) == before  # what was open already has been closed
    os.close(reader)


@pytest.mark.skipif(AS_ROOT, reason="root may write anywhere")
def test_an_output_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "out.log").touch(mode=0o400)
    with pytest.raises(OutputError, match=r"^cannot write out\.log: Permission denied$"):
        open_outputs(str(tmp_path), "out.log", None, truncate=True, umask=None)
