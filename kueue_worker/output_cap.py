"""The cap on what a job may write to its output: looks at the sizes of the files of running jobs from time to time.

It goes by path and never writes. A file may be on a mount that does not answer, therefore the looks are made in
threads with a deadline: the file that a thread hangs at is left out until that thread comes back, and the spool,
which is on a local disk, is looked at in any case.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple

from kueue.wire.codec import from_os
from kueue.wire.messages import OsString, Stream
from kueue_worker.core.events import Note
from kueue_worker.preparation import DISCARDED
from kueue_worker.spool import Spool
from kueue_worker.threads import DeadlineThreads

LOOK_SECONDS = 2.0
"""Between two looks; a job can write over its cap what fits into this time."""
MOST_HANGING = 4
"""Threads that this lets hang; with as many, only the spool is looked at."""


class Output(NamedTuple):
    """The files of a running attempt. `local`: both are in the spool (or discarded)."""

    key: str
    paths: tuple[str, ...]
    local: bool


def output_of(key: str, note: Note, spool: Spool) -> Output:
    """The files of an attempt."""
    places: tuple[tuple[Stream, OsString | None], ...] = (("stdout", note.stdout), ("stderr", note.stderr))
    paths = [
        spool.path(note.journal, note.job, note.attempt, stream) if place is None else from_os(place)
        for stream, place in places
        if place != DISCARDED
    ]
    return Output(key, tuple(paths), all(place in (None, DISCARDED) for _, place in places))


class OutputCap:
    """`exceeded` is told the key of each attempt whose output is over `most_bytes`, again with each look."""

    def __init__(self, threads: DeadlineThreads, most_bytes: int, exceeded: Callable[[str], None]) -> None:
        self._threads = threads
        self._most_bytes = most_bytes
        self._exceeded = exceeded
        self._looks: list[Look] = []

    def look(self, outputs: Iterable[Output]) -> None:
        """Begin to look at these; what is found out comes to `exceeded` within the threads' deadline."""
        self._looks = [look for look in self._looks if not look.is_over]
        hanging = {look.at for look in self._looks}
        files = len(self._looks) < MOST_HANGING
        wanted = [output for output in outputs if output.local or (files and not hanging & set(output.paths))]
        if not wanted:
            return
        wanted.sort(key=lambda output: not output.local)
        look = Look(wanted, self._most_bytes)
        self._looks.append(look)
        self._threads.run(look.run, lambda _: self._done(look))

    def _done(self, look: Look) -> None:
        """It is through, or at its deadline."""
        while look.found:
            self._exceeded(look.found.pop())


class Look:
    """One look at all of them, in a thread."""

    def __init__(self, outputs: list[Output], most_bytes: int) -> None:
        self._outputs = outputs
        self._most_bytes = most_bytes
        self.found: list[str] = []
        self.at = ""
        self.is_over = False

    def run(self) -> None:
        """Look at one after the other; `at` says where it is."""
        try:
            for output in self._outputs:
                sizes: dict[tuple[int, int], int] = {}
                for path in output.paths:
                    self.at = path
                    self._add_size(sizes, path)
                if sum(sizes.values()) > self._most_bytes:
                    self.found.append(output.key)
        finally:
            self.is_over = True

    @staticmethod
    def _add_size(sizes: dict[tuple[int, int], int], path: str) -> None:
        try:
            status = os.stat(path)
        except OSError:
            return  # not created yet, or deleted by its job
        if stat.S_ISREG(status.st_mode):
            sizes[status.st_dev, status.st_ino] = status.st_size
