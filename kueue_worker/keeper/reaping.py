"""Waiting for processes that have ended, without losing how, be there no memory to note it down.

A process can be waited for once, and then nobody else knows how it ended. So it is looked at first, without being
waited for; what was seen is kept until whoever is told of it has dealt with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple


class Exit(NamedTuple):
    """A process that has ended. `status`: the raw wait status; `at`: when that was noticed."""

    pid: int
    status: int
    cpu_seconds: float
    peak_kb: int
    at: float


class Reaper:
    """`settle` is told of each process of ours, our orphans among them. If it raises, it is told of the same one
    again: what it has done by then must not disturb it."""

    def __init__(self, settle: Callable[[Exit], None], clock: Callable[[], float]) -> None:
        self._settle = settle
        self._clock = clock
        self._unsettled: Exit | None = None

    def reap(self) -> None:
        """Wait for all that have ended."""
        while True:
            if self._unsettled is None:
                self._unsettled = self._wait()
                if self._unsettled is None:
                    return
            self._settle(self._unsettled)
            self._unsettled = None

    def _wait(self) -> Exit | None:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if found is None:
            return None
        pid = int(found.si_pid)
        seen = Exit(pid, status_of(found.si_code, found.si_status), 0.0, 0, self._clock())
        try:
            _, status, usage = os.wait4(pid, os.WNOHANG)
            cpu_seconds = round(usage.ru_utime + usage.ru_stime, 6)
            return Exit(pid, status, cpu_seconds, usage.ru_maxrss, seen.at)
        except MemoryError:
            return seen


def status_of(code: int, status: int) -> int:
    """The raw wait status for what `waitid` has seen."""
    if code == os.CLD_EXITED:
        return status << 8
    return status | 0x80 if code == os.CLD_DUMPED else status
