"""Looking at a job's working directory, and the open directories that the keeper has from us.

A directory is opened in a thread (its mount may hang), handed to the keeper once, and named by a number from
then on. `O_PATH`: a directory that may be entered but not listed is good enough to work in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from kueue_worker.outputs import EXHAUSTED, ExhaustedError
from kueue_worker.remembered import Remembered
from kueue_worker.threads import DeadlineThreads

UNUSED_SECONDS = 30.0
"""A directory that no job has used for so long is closed: it may be in the way of an unmount. Longer than any
preparation that has its number takes."""


@dataclass(slots=True)
class OpenDirectory:
    """An open directory; `number` is its name at the keeper, -1 while it is not there."""

    descriptor: int
    device: int
    inode: int
    number: int = -1


class AbsentError(Exception):
    """The directory is not there, or may not be entered. `ancestor`: the deepest one above it that is."""

    def __init__(self, text: str, ancestor: str) -> None:
        super().__init__(text)
        self.ancestor = ancestor


def open_directory(path: str) -> OpenDirectory:
    """Open a working directory. May hang; call it in a thread.

    Raises:
        AbsentError: there is no such directory for us. ExhaustedError: nobody can tell now.
    """
    if not os.path.isabs(path):
        raise AbsentError(f"{path} is not an absolute path", "/")
    descriptor = -1
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.access(path, os.X_OK):
            raise PermissionError(13, "Permission denied")
        status = os.fstat(descriptor)
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        if error.errno in EXHAUSTED:
            raise ExhaustedError(f"cannot open {path} now: {error.strerror}") from None
        text = f"{path}: {error.strerror}"
        raise AbsentError(text, deepest_ancestor(path)) from None
    return OpenDirectory(descriptor, status.st_dev, status.st_ino)


def deepest_ancestor(path: str) -> str:
    """The deepest directory strictly above `path` that exists."""
    parent = os.path.dirname(os.path.normpath(path))
    while parent != "/" and not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    return parent


def close_directory(directory: OpenDirectory) -> None:
    """Close a directory that was not handed on."""
    os.close(directory.descriptor)


class Directories:
    """Working directories by path, as the keeper knows them.

    `hand_over(number, descriptor)` passes one to the keeper and closes it here; `take_back(number)` lets the
    keeper close it.
    """

    def __init__(
        self,
        threads: DeadlineThreads,
        clock: Callable[[], float],
        hand_over: Callable[[int, int], None],
        take_back: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._hand_over = hand_over
        self._take_back = take_back
        self._looks = Remembered[str, OpenDirectory](threads, clock, dispose=close_directory)
        self._at_keeper: dict[str, OpenDirectory] = {}
        self._used: dict[str, float] = {}
        self._next = 1
        self._generation = 0

    def find(self, path: str, done: Callable[[OpenDirectory | BaseException], None]) -> None:
        """`done` with the directory, `AbsentError`, `TimeoutError`; at once if it was looked at just now."""
        self._used[path] = self._clock()
        generation = self._generation
        self._looks.ask(
            path, lambda: open_directory(path), done, lambda found: self._accept(path, found, generation)
        )

    def close_unused(self) -> None:
        """Give up directories that no job has used for a while."""
        limit = self._clock() - UNUSED_SECONDS
        for path in [path for path, used in self._used.items() if used < limit]:
            del self._used[path]
            known = self._at_keeper.pop(path, None)
            if known is not None:
                self._take_back(known.number)

    def look_anew(self) -> None:
        """What was seen just now may have changed: a server that has just started asks on purpose."""
        self._looks.forget()

    def forget(self) -> None:
        """The keeper is another one: it has none of them."""
        self._generation += 1
        self._at_keeper.clear()
        self._used.clear()
        self._looks.forget()

    def _accept(self, path: str, found: OpenDirectory, generation: int) -> OpenDirectory:
        known = self._at_keeper.get(path)
        if known is not None and (known.device, known.inode) == (found.device, found.inode):
            os.close(found.descriptor)
            return known
        if known is not None:
            self._take_back(known.number)
        found.number = self._next
        self._next += 1
        self._hand_over(found.number, found.descriptor)
        found.descriptor = -1
        self._at_keeper[path] = found
        return found
