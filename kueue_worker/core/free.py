"""Arithmetic of free resources: what of a machine is left for jobs beside the people who sit at it.

    free   = total − scale × used by others − max(reserved, used by ours), never below 0
    usable = free + reserved

The server subtracts what it has reserved itself, so it is told `usable`. CPUs and memory alike; the scale
applies to CPUs only. `used by ours` is an average over an interval in which jobs came and went, so it is
compared with what was reserved on average over the same interval: what our jobs use beyond their
reservation (`excess`) counts against them, while a burst of short ones that are over does not.
"""

from __future__ import annotations


def used_by_others(used: float, used_by_ours: float) -> float:
    """What the machine does besides our jobs, never below 0."""
    return max(0.0, used - used_by_ours)


def excess(used_by_ours: float, reserved: float) -> float:
    """What our jobs use beyond what they have reserved, never below 0."""
    return max(0.0, used_by_ours - reserved)


def usable(total: float, others: float, scale: float, reserved: float, beyond: float) -> float:
    """What may be in use by our jobs in all. Never above `total`, never below what is reserved already.

    With `beyond = excess(ours, reserved)`, `reserved + beyond` is `max(reserved, ours)`.
    """
    free = max(0.0, total - scale * others - (reserved + beyond))
    return min(total, free + reserved) if reserved <= total else reserved


def whole_cpus(cpus: float) -> float:
    """CPUs in use by others, to the nearest whole one.

    Jobs ask for whole CPUs. Without this the few percent that any desktop uses would keep one CPU of every
    machine idle for good.
    """
    return float(int(cpus + 0.5))


def changed_notably(old: tuple[float, float], new: tuple[float, float], total_ram_mb: float) -> bool:
    """Is a status due before its time? At least one CPU, or a tenth of the memory, more or less usable."""
    return abs(new[0] - old[0]) >= 1.0 or abs(new[1] - old[1]) >= max(1.0, total_ram_mb / 10)
