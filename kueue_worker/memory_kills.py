"""Whether the kernel has killed something of ours for want of memory: its own count of that, looked at in time.

A job that is killed so has ended by a SIGKILL like any other. The kernel counts such kills for each cgroup, and of the
whole machine where our cgroup has no count; a SIGKILL that nobody of us has sent, and that comes with a kill of this
count that nothing else has explained, was one.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from kueue.job import End
from kueue.wire.messages import Reason
from kueue_worker.core.events import Ended

KILLED_FOR_MEMORY = Reason("memory", "killed for memory")
_SHELL_SAYS = 128 + signal.SIGKILL
"""What a shell returns for a command that was killed."""


def count_of_kills(pid: int | None) -> int | None:
    """Kills for want of memory so far, in the cgroup of a process (None: of this one), else on the machine; None where
    the kernel does not say."""
    for path, word in (*_cgroup_files("self" if pid is None else str(pid)), ("/proc/vmstat", "oom_kill")):
        try:
            with open(path) as file:
                for line in file:
                    name, _, number = line.partition(" ")
                    if name == word:
                        return int(number)
        except (OSError, ValueError):
            continue
    return None


def _cgroup_files(pid: str) -> list[tuple[str, str]]:
    """The files that may have the count, as proc_pid_cgroup(5) tells them."""
    found = []
    try:
        with open(f"/proc/{pid}/cgroup") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found.append((f"/sys/fs/cgroup{path.rstrip('/')}/memory.events", "oom_kill"))
        elif "memory" in controllers.split(","):
            found.append((f"/sys/fs/cgroup/memory{path.rstrip('/')}/memory.oom_control", "oom_kill"))
    return found


class MemoryKills:
    """`count` reads the kernel's count for a process."""

    def __init__(self, count: Callable[[int | None], int | None] = count_of_kills) -> None:
        self._count = count
        self._keeper: int | None = None
        self._explained: int | None = None  # this many have nothing to do with what ends from now on
        self._at_last_look: int | None = None

    def look(self, keeper: int | None) -> None:
        """From time to time: a kill that has explained no end since the look before was none of our jobs."""
        count = self._count(keeper)
        if keeper != self._keeper or count is None or self._explained is None:
            self._explained = count
        elif self._at_last_look is not None:
            self._explained = max(self._explained, self._at_last_look)
        self._keeper, self._at_last_look = keeper, count

    def explain(self, ended: Ended) -> Reason | None:
        """Why a job has ended, if it was killed for want of memory, or what it ran."""
        if ended.end is not End.EXITED or (ended.signal != signal.SIGKILL and ended.exit_code != _SHELL_SAYS):
            return None
        count = self._count(self._keeper)
        if count is None or self._explained is None or count <= self._explained:
            return None
        self._explained += 1
        return KILLED_FOR_MEMORY
