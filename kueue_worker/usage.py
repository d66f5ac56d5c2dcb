"""What the machine and our own jobs use: two looks at /proc, and the difference.

*Ours* are agent, keeper, and all that descends from the keeper: it is the reaper of whatever its jobs leave
behind, and the kernel adds up in it the time of those that have ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import psutil

from kueue_worker.core.events import Measured

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """A process, with the CPU time of itself and of its children that have ended and were waited for."""

    pid: int
    parent: int
    cpu_seconds: float
    ram_mb: float


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    busy_seconds: float
    our_seconds: float


def parse_stat(line: bytes) -> ProcessUse:
    """One line of /proc/PID/stat, proc_pid_stat(5). A name may contain anything; it ends at the last `)`."""
    pid = int(line[: line.index(b" ")])
    fields = line[line.rindex(b")") + 2 :].split()
    ticks = sum(int(field) for field in fields[11:15])
    return ProcessUse(pid, int(fields[1]), ticks / TICKS, int(fields[21]) * PAGE_MB)


def processes() -> Iterator[ProcessUse]:
    """All processes of the machine that can be seen."""
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                yield parse_stat(file.read())
        except (OSError, ValueError):
            continue  # it has just ended


def use_of_tree(all_processes: Iterable[ProcessUse], root: int) -> tuple[float, float]:
    """CPU seconds and MB of a process and all its descendants."""
    known: dict[int, ProcessUse] = {}
    children: dict[int, list[int]] = {}
    for process in all_processes:
        known[process.pid] = process
        children.setdefault(process.parent, []).append(process.pid)
    cpu_seconds, ram_mb = 0.0, 0.0
    todo = [root]
    while todo:
        pid = todo.pop()
        process_use = known.pop(pid, None)
        if process_use is not None:
            cpu_seconds += process_use.cpu_seconds
            ram_mb += process_use.ram_mb
            todo += children.get(pid, ())
    return cpu_seconds, ram_mb


class UsageMeter:
    """Measures from one call to the next. One call at a time; takes some milliseconds (a thread's work)."""

    def __init__(self) -> None:
        self._last: _Look | None = None
        self._keeper: int | None = None

    def measure(self, keeper: int | None, now: float) -> Measured:
        """What was used since the last call. The first one, and the first with another keeper, know no
        difference yet and report no use of CPUs by ours.

        Args:
            keeper: pid of the keeper, None while there is none.
            now: seconds of a clock.
        """
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        busy = total - times.idle - getattr(times, "iowait", 0.0)
        our_seconds, our_ram_mb = (0.0, 0.0) if keeper is None else use_of_tree(processes(), keeper)
        own = os.times()
        our_seconds += own.user + own.system
        look = _Look(now, busy, our_seconds)
        last, self._last = self._last, look
        same_keeper, self._keeper = self._keeper == keeper, keeper
        cpus_used = cpus_ours = 0.0
        if last is not None and now > last.at:
            seconds = now - last.at
            cpus_used = max(0.0, look.busy_seconds - last.busy_seconds) / seconds
            if same_keeper:
                cpus_ours = min(cpus_used, max(0.0, look.our_seconds - last.our_seconds) / seconds)
            else:
                cpus_ours = cpus_used  # unknown: nobody is to be thought away because of a new keeper
        memory = psutil.virtual_memory()
        return Measured(
            cpus_used=cpus_used,
            cpus_used_by_ours=cpus_ours,
            ram_used_mb=(memory.total - memory.available) / 2**20,
            ram_used_by_ours_mb=our_ram_mb,
            load=os.getloadavg(),
            uptime_seconds=now,
        )
