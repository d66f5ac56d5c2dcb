"""Where a job's working directory is: the name it goes by, its volume, and whether other machines have it, too.

The standard library alone: it is on the way of `kueue cmd`, which is called a thousand times.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kueue.errors import UsageError

HOST_ONLY_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")
"""Those that each machine has its own of, by default."""
LOCAL_DIRECTORY = "local_directory"
"""Code of the warning of a directory that other machines don't see, or have their own of."""
LOCAL_FILE_SYSTEMS = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "nilfs2"),
        *("tmpfs", "ramfs", "overlay", "aufs", "vfat", "exfat", "ntfs3", "iso9660", "squashfs", "udf"),
    }
)
"""Types that are surely one machine's own; of all others nothing is said."""
_MOUNTS = "/proc/self/mountinfo"
_MOST_KNOWN = 10_000
_GLOB_CHARACTERS = frozenset("*?[")


def current_directory() -> str:
    """`$PWD` where it names the current directory (so that automounted and linked homes keep their name),
    else the physical path.

    Raises:
        UsageError: the current directory does not exist any more.
    """
    try:
        physical = os.getcwd()
        named = os.environ.get("PWD", "")
        if named.startswith("/") and os.path.samefile(named := os.path.normpath(named), physical):
            return named
    except FileNotFoundError:
        raise UsageError("the current directory does not exist any more") from None
    except (OSError, ValueError):
        pass
    return physical


def volume_of(directory: str) -> str:
    """Mount point of a directory as it is seen here; for `/`, the first component of the path."""
    path = directory
    try:
        while path not in ("/", "//", "") and not os.path.ismount(path):
            path = os.path.dirname(path)
    except (OSError, ValueError):
        path = "/"
    if path not in ("/", "//", ""):
        return path
    return "/" + directory.lstrip("/").split("/", 1)[0]


class _Above(NamedTuple):
    """The directory that neighbours have above them. `device`: of its file system, None if it can't be seen."""

    real: str
    device: int | None
    volume: str


class Reach:
    """Volumes of jobs' directories, and the machines that the jobs may run on because of them. Each directory is looked
    at once; of neighbours, what is above them, too.

    Args:
        host_only: directories, absolute, below which jobs stay on this machine.
        is_alone: there are no other machines to be warned of.
    """

    def __init__(self, host_only: Iterable[str] = (), *, is_alone: bool = True) -> None:
        self.warnings: list[tuple[str, str]] = []
        """Codes and texts, one a file system, of the directories that were asked for."""
        self._host = socket.gethostname()
        self._is_alone = is_alone
        named = [os.path.normpath(place) for place in host_only]
        self._host_only = tuple({_as_prefix(path) for place in named for path in (place, _real(place))})
        self._known: dict[str, tuple[str, str]] = {}
        self._above: dict[str, _Above] = {}
        self._mounts: dict[str, str] | None = None
        self._warned: set[str] = set()
        self._last: tuple[str, tuple[str, ...]] = ("", ())

    def volume(self, directory: str) -> str:
        """As `volume_of`."""
        return self._look(directory)[1]

    def workers(self, directory: str) -> tuple[str, ...]:
        """Patterns of the workers that a job of this directory is for, if it names none itself: none, or this
        machine."""
        if directory != self._last[0]:
            self._last = directory, self._workers(directory)
        return self._last[1]

    def _workers(self, directory: str) -> tuple[str, ...]:
        real, _ = self._look(directory)
        if _as_prefix(directory).startswith(self._host_only) or _as_prefix(real).startswith(self._host_only):
            return ("".join(f"[{c}]" if c in _GLOB_CHARACTERS else c for c in self._host),)
        if not self._is_alone:
            self._look_at_mount(directory, real)
        return ()

    def _look(self, directory: str) -> tuple[str, str]:
        """The path without symbolic links, and the volume."""
        known = self._known.get(directory)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[directory] = self._look_up(directory)
        return known

    def _look_up(self, directory: str) -> tuple[str, str]:
        parent, _, name = directory.rpartition("/")
        if parent in ("", "/") or name in ("", ".", ".."):
            return _real(directory), volume_of(directory)
        above = self._above.get(parent)
        if above is None:
            if len(self._above) >= _MOST_KNOWN:
                self._above.clear()
            above = self._above[parent] = _look_above(parent)
        path = f"{_as_prefix(above.real)}{name}"
        if above.device is None:  # then nothing in it can be seen
            return path, above.volume
        try:
            status = os.lstat(directory)
        except (OSError, ValueError):
            return path, above.volume
        if stat.S_ISLNK(status.st_mode):
            return _real(directory), above.volume
        is_mount = status.st_dev != above.device
        return path, directory if is_mount else above.volume

    def _look_at_mount(self, directory: str, real: str) -> None:
        if self._mounts is None:
            self._mounts = mounts()
        place = mount_point(real, self._mounts)
        if place is None:
            return
        kind = self._mounts[place]
        if place in self._warned or kind not in LOCAL_FILE_SYSTEMS or not os.path.isdir(directory):
            return
        self._warned.add(place)
        where = directory if place == "/" else place
        text = (
            f"{where} is a local file system of {self._host} ({kind}): a job there runs wherever there is a"
            f" directory of that name; --worker {self._host} keeps it here"
        )
        self.warnings.append((LOCAL_DIRECTORY, text))


def _look_above(parent: str) -> _Above:
    real = _real(parent)
    try:
        device = os.stat(real).st_dev
    except (OSError, ValueError):
        device = None
    return _Above(real, device, volume_of(parent))


def _as_prefix(directory: str) -> str:
    """What the paths of the directory and of all that is in it begin with, once they end like this one."""
    return directory if directory == "/" else directory + "/"


def mounts() -> dict[str, str]:
    """Mount points and the types of what is mounted there last; nothing where the system doesn't tell."""
    found: dict[str, str] = {}
    try:
        with open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                found[_unescaped(before.split(" ")[4])] = after.split(" ", 1)[0]
    except (OSError, IndexError):
        pass
    return found


def mount_point(path: str, known: Mapping[str, str]) -> str | None:
    """The one of the `known` mount points that an absolute path without symbolic links is below; None if none is."""
    while path not in known:
        if path in ("/", "//", ""):
            return None
        path = os.path.dirname(path)
    return path


def _unescaped(name: str) -> str:
    """Blanks and the like are octal numbers there."""
    if "\\" not in name:
        return name
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        name = name.replace(code, character)
    return name


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return path
