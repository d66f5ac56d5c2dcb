"""The niceness of jobs' sessions, where the kernel shares out its CPUs by session before it looks at niceness.

Each job has a session of its own. With automatic groups (sched(7), "The autogroup feature") a session gets as much as
any other, however nice its processes are: a job of niceness 10 took half a CPU from a program of niceness 0, where it
takes an eighth once its group is as nice. A group's niceness is dear to change, and a user who is not root may do it
ten times a second; so it is for jobs that go on for a while.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Container

ENABLED = "/proc/sys/kernel/sched_autogroup_enabled"
AFTER_SECONDS = 1.0
AGAIN_SECONDS = 0.15


class Sessions:
    """Of jobs that have started. `write(pid, nice)` makes a session nice; False: not now."""

    def __init__(self, write: Callable[[int, int], bool] | None = None) -> None:
        self._write = write if write is not None else make_nice if has_autogroups() else None
        self._waiting: deque[tuple[float, int, int]] = deque()

    def started(self, pid: int, nice: int, now: float) -> None:
        """A job leads a session of its own."""
        if nice and self._write is not None:
            self._waiting.append((now + AFTER_SECONDS, pid, nice))

    def next_time(self) -> float | None:
        """When `on_time` has something to do."""
        return self._waiting[0][0] if self._waiting else None

    def on_time(self, now: float, live: Container[int]) -> None:
        """Make those nice that still are among `live` after a while."""
        waiting = self._waiting
        while waiting:
            due, pid, nice = waiting[0]
            if pid in live:
                if due > now:
                    return
                if self._write is not None and not self._write(pid, nice):
                    waiting[0] = (now + AGAIN_SECONDS, pid, nice)
                    return
            waiting.popleft()


def has_autogroups() -> bool:
    """Are sessions groups for this kernel?"""
    try:
        with open(ENABLED, "rb") as file:
            return file.read(1) == b"1"
    except OSError:
        return False


def make_nice(pid: int, nice: int) -> bool:
    """Make the group of a process as nice; False: it must be tried again. What can't be done stays as it is."""
    try:
        descriptor = os.open(f"/proc/{pid}/autogroup", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        os.write(descriptor, b"%d" % nice)
    except OSError as error:
        return error.errno != errno.EAGAIN
    finally:
        os.close(descriptor)
    return True
