"""Processes of this machine, named so that a reused pid is not mistaken for the process that had it.

A process is its pid and the clock tick of its start. Linux only: `/proc` and pidfds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal


def boot_id() -> str:
    """Random id of this machine's boot, empty where the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None if it has ended (a zombie has)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may contain anything, parentheses too.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def is_alive(pid: int, ticks: int | None = None) -> bool:
    """Does this process live? Without `ticks` (of its start), any process of this pid will do."""
    if pid <= 0:
        return False
    started = start_ticks(pid)
    return started is not None and (not ticks or started == ticks)


def send_signal(pid: int, ticks: int | None, number: signal.Signals) -> bool:
    """Send a signal to this very process; False if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if is_alive(pid, ticks):  # asked after the pidfd was opened: it can't be another one any more
                signal.pidfd_send_signal(descriptor, number)
                return True
        finally:
            os.close(descriptor)
    return False


def wait_until_ended(pid: int, ticks: int | None, seconds: float) -> bool:
    """Wait until this process has ended; False if it lives after `seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not is_alive(pid, ticks):
            return True
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0, int(seconds * 1000))))
    finally:
        os.close(descriptor)
