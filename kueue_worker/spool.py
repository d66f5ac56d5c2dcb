"""The spool: output of jobs that asked for no file of their own, on a disk of this machine.

    <spool>/<journal>/<job // 1000>/<job>.<attempt>.out and .err

One directory a thousand jobs, so that none grows without bound. The keeper's records are in the spool's root;
nothing here touches them. Deleting may take long: it is done in threads.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kueue.private_files import foreign_link, make_directories
from kueue.wire.messages import Range, Stream

JOBS_A_DIRECTORY = 1000
SUFFIXES: dict[Stream, str] = {"stdout": "out", "stderr": "err"}
LEAST_FREE_MB = 64
"""With less room than this on its file system the worker takes no jobs."""
LOOK_SECONDS = 0.05
"""So long a look at the room holds for the jobs that start: they may come by the hundred."""
JOURNAL = re.compile(r"[0-9A-Za-z_-]{1,64}")
FILE = re.compile(r"(\d{1,20})\.(\d{1,10})\.(out|err)")


class SpoolError(Exception):
    """The spool can't be used; the text is a line for people."""


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """An output file in the spool."""

    path: str
    journal: str
    job: int
    attempt: int
    size: int
    changed_at: float


class Spool:
    """Paths of outputs below one root, and what has to be done about old ones."""

    def __init__(self, root: str) -> None:
        self._named = root
        self.root = os.path.realpath(root)
        self._made: set[str] = set()
        self._is_full = False
        self._next_look = 0.0

    def set_up(self) -> None:
        """Make the root, for us alone.

        Raises:
            SpoolError: it can't be made, or it is somebody else's, or somebody else could exchange it.
        """
        above = os.path.dirname(self.root)
        link = foreign_link(Path(self._named))
        if link is not None:
            raise SpoolError(
                f"spool {self._named}: {link} is a symbolic link that another user made;"
                " set spool_dir to another place"
            )
        try:
            make_directories(Path(self.root))
            status, status_above = os.lstat(self.root), os.stat(above)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(20, "Not a directory")
            if status.st_uid != os.getuid() or status_above.st_uid not in (os.getuid(), 0):
                raise SpoolError(f"spool {self.root} belongs to another user; set spool_dir to another place")
            if status_above.st_mode & 0o022 and not status_above.st_mode & stat.S_ISVTX:
                raise SpoolError(
                    f"spool {self.root}: other users can write to {above}; mend that with: chmod go-w {above}"
                )
            os.chmod(self.root, 0o700)
        except (FileExistsError, NotADirectoryError):
            raise SpoolError(f"spool {self.root}: a part of the path is not a directory") from None
        except OSError as error:
            raise SpoolError(f"spool {self.root}: {error.strerror}") from None

    def path(self, journal: str, job: int, attempt: int, stream: Stream) -> str:
        """Where an attempt's stream is."""
        return f"{self._directory(journal, job)}/{job}.{attempt}.{SUFFIXES[stream]}"

    def make_directory(self, journal: str, job: int) -> None:
        """Make sure that an attempt's files can be created, and written to.

        Raises:
            OSError: they can't.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._is_full = _free_mb(self.root) < LEAST_FREE_MB
            self._next_look = now + LOOK_SECONDS
        if self._is_full:  # it may have filled since the worker asked for jobs
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        directory = self._directory(journal, job)
        if directory not in self._made:
            make_directories(Path(directory))
            self._made.add(directory)

    def remake_directories(self) -> None:
        """Somebody may have deleted directories: look again before the next use of each."""
        self._made.clear()

    def highest_job(self, journal: str) -> int:
        """The highest id of which there is output of this journal; 0 if there is none.

        Raises:
            ValueError: that can't be a journal's id.
        """
        check_journal(journal)
        thousands = sorted(_numbers(f"{self.root}/{journal}"), reverse=True)
        for thousand in thousands:
            jobs = [file.job for file in _files(self.root, journal, thousand)]
            if jobs:
                return max(jobs)
        return 0

    def forget(self, journal: str, ranges: Iterable[Range], live: frozenset[int]) -> int:
        """Delete the output of jobs in these (inclusive) ranges, but for `live` ones; how many files.

        Cost follows what the spool has, however wide a range is. May take long; call it in a thread.
        """
        wanted = sorted(ranges)
        count = 0
        for thousand in _numbers(f"{self.root}/{journal}"):
            first, last = thousand * JOBS_A_DIRECTORY, (thousand + 1) * JOBS_A_DIRECTORY - 1
            here = [r for r in wanted if r[0] <= last and r[1] >= first]
            if here:
                for file in _files(self.root, journal, thousand):
                    if file.job not in live and any(low <= file.job <= high for low, high in here):
                        count += _delete(file.path)
                self._drop_if_empty(f"{self.root}/{journal}/{thousand}")
        return count

    def tidy(self, max_bytes: int, older_than: float, live: frozenset[tuple[str, int]]) -> int:
        """Delete output that was last written before `older_than` (wall clock), then the oldest until all
        of it is at most `max_bytes`; never that of `live` jobs, (journal, job). How many files.

        May take long; call it in a thread.
        """
        total, count = 0, 0
        kept: list[SpoolFile] = []
        for file in self._all_files():
            if (file.journal, file.job) in live:
                total += file.size
            elif file.changed_at < older_than:
                count += _delete(file.path)
            else:
                total += file.size
                kept.append(file)
        kept.sort(key=lambda file: file.changed_at)
        for file in kept:
            if total <= max_bytes:
                break
            total -= file.size
            count += _delete(file.path)
        for journal in self._journals():
            for thousand in _numbers(f"{self.root}/{journal}"):
                self._drop_if_empty(f"{self.root}/{journal}/{thousand}")
        return count

    def why_full(self) -> str:
        """Why no more output fits, as a line for people; empty if it does."""
        try:
            free_mb = _free_mb(self.root)
        except OSError as error:
            return f"the spool {self.root} can't be used: {error.strerror}"
        return f"only {free_mb} MB free for the spool {self.root}" if free_mb < LEAST_FREE_MB else ""

    def _directory(self, journal: str, job: int) -> str:
        check_journal(journal)
        return f"{self.root}/{journal}/{job // JOBS_A_DIRECTORY}"

    def _journals(self) -> list[str]:
        with os.scandir(self.root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if JOURNAL.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            )

    def _all_files(self) -> Iterator[SpoolFile]:
        for journal in self._journals():
            for thousand in _numbers(f"{self.root}/{journal}"):
                yield from _files(self.root, journal, thousand)

    def _drop_if_empty(self, directory: str) -> None:
        # The loop may be about to create a file here: it looks again whether the directory is there.
        self._made.discard(directory)
        try:
            os.rmdir(directory)
        except OSError:
            return  # it has files
        self._made.discard(directory)


def _free_mb(root: str) -> int:
    room = os.statvfs(root)
    return room.f_bavail * room.f_frsize // 2**20


def check_journal(journal: str) -> None:
    """What names directories must not be a path.

    Raises:
        ValueError: it can't be a journal's id.
    """
    if JOURNAL.fullmatch(journal) is None:
        raise ValueError(f"not a journal's id: {journal!r}")


def _numbers(directory: str) -> list[int]:
    """Names of subdirectories that are numbers."""
    try:
        with os.scandir(directory) as entries:
            return [int(entry.name) for entry in entries if entry.name.isdecimal()]
    except OSError:
        return []


def _files(root: str, journal: str, thousand: int) -> Iterator[SpoolFile]:
    try:
        entries = os.scandir(f"{root}/{journal}/{thousand}")
    except OSError:
        return
    with entries:
        for entry in entries:
            found = FILE.fullmatch(entry.name)
            if found is None:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            job, attempt = int(found[1]), int(found[2])
            yield SpoolFile(entry.path, journal, job, attempt, status.st_size, status.st_mtime)


def _delete(path: str) -> int:
    try:
        os.unlink(path)
    except OSError:
        return 0
    return 1
