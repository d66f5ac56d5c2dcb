"""Which boot of the machine this is, and how long ago it was: the clock of agent and keeper."""

from __future__ import annotations

import time


def boottime() -> float:
    """Seconds since the machine was booted, those in suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """The random id of this boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
