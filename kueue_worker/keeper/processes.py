"""Processes as /proc shows them, and which of them belong to a job.

A snapshot is a plain list, so that what is decided from it can be tested without processes. Read of each
process is its `stat`, which never blocks. Its environment is read only where nothing else tells whose it
is, and never of one in uninterruptible sleep: that would wait for the memory map of a process stuck on a
dead mount.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
FENCE_VARIABLE = b"KUEUE_FENCE="
ENVIRONMENT_BYTES = 4 * 1024 * 1024
DEAD = frozenset(b"ZX")
UNINTERRUPTIBLE = ord("D")


class Process(NamedTuple):
    """A process. `started`: seconds of CLOCK_BOOTTIME, in steps of a clock tick; with the pid it names the
    process for all time."""

    pid: int
    state: int
    parent: int
    group: int
    session: int
    started: float

    @property
    def is_dead(self) -> bool:
        """It is only waiting for its parent to notice."""
        return self.state in DEAD


def parse_stat(line: bytes) -> Process:
    """A line of /proc/PID/stat, proc_pid_stat(5). The name may contain anything and ends at the last `)`.

    Raises:
        ValueError: it is no such line.
    """
    pid = int(line[: line.index(b" ")])
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(pid, fields[0][0], int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]) / TICKS)


def look_at(pid: int) -> Process | None:
    """A process; None if there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return parse_stat(os.read(descriptor, 4096))
    except (OSError, ValueError, IndexError):
        return None
    finally:
        os.close(descriptor)


def all_processes() -> list[Process]:
    """All processes that this user can see."""
    found = (look_at(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return [process for process in found if process is not None]


def fence_of(process: Process) -> str | None:
    """The attempt's key in the environment that a process was executed with; None if it has or shows none."""
    if process.state == UNINTERRUPTIBLE or process.is_dead:
        return None
    try:
        descriptor = os.open(f"/proc/{process.pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = b""
        while len(data) < ENVIRONMENT_BYTES and (part := os.read(descriptor, 65536)):
            data += part
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if FENCE_VARIABLE not in data:
        return None
    found = None
    for variable in data.split(b"\0"):
        if variable.startswith(FENCE_VARIABLE):
            found = variable[len(FENCE_VARIABLE) :].decode("utf-8", "surrogateescape")
            break
    return found


class Snapshot:
    """The processes of one moment. `fence_of` is asked at most once for each."""

    def __init__(
        self, processes: Iterable[Process], fence_of: Callable[[Process], str | None] = fence_of
    ) -> None:
        self.processes: dict[int, Process] = {process.pid: process for process in processes}
        self._children: dict[int, list[Process]] = {}
        self._sessions: dict[int, list[Process]] = {}
        for process in self.processes.values():
            self._children.setdefault(process.parent, []).append(process)
            self._sessions.setdefault(process.session, []).append(process)
        self._fence_of = fence_of
        self._fences: dict[int, str | None] = {}

    def children(self, pid: int) -> list[Process]:
        """The children of a process."""
        return self._children.get(pid, [])

    def session(self, session: int) -> list[Process]:
        """The members of a session."""
        return self._sessions.get(session, [])

    def descendants(self, pid: int) -> Iterator[Process]:
        """All below a process."""
        waiting = list(self.children(pid))
        while waiting:
            process = waiting.pop()
            yield process
            waiting.extend(self.children(process.pid))

    def has(self, process: Process) -> bool:
        """Does it live? A dead one that nobody waited for doesn't."""
        found = self.processes.get(process.pid)
        return found is not None and found.started == process.started and not found.is_dead

    def fence(self, process: Process) -> str | None:
        """The attempt that a process belongs to by its environment."""
        if process.pid not in self._fences:
            self._fences[process.pid] = self._fence_of(process)
        return self._fences[process.pid]

    def closure(self, roots: Iterable[Process], besides: Collection[int]) -> dict[int, Process]:
        """These, and all that descend from them; not those in `besides`, nor what is below those."""
        found: dict[int, Process] = {}
        waiting = list(roots)
        while waiting:
            process = waiting.pop()
            if process.pid not in found and process.pid not in besides:
                found[process.pid] = process
                waiting.extend(self.children(process.pid))
        return found
