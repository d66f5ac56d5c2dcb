"""The processes of jobs: who belongs to one, and sending signals to all of them.

A job's processes are its session, and whatever left the session but carries the job's fence in its
environment. One look over /proc serves all jobs that are being ended at the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping

FENCE = b"KUEUE_FENCE="
PR_SET_CHILD_SUBREAPER = 36
LEFTOVER_GRACE_SECONDS = 2.0
LEFTOVER_KILL_SECONDS = 10.0


def become_subreaper() -> None:
    """Have orphans of our jobs as children, so that they are reaped and can be found."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def members(sessions: Mapping[int, str], keys: Collection[str]) -> dict[str, list[int]]:
    """Living processes by key: of these sessions (id → key), and with one of `keys` as fence."""
    found: dict[str, list[int]] = {}
    us = os.getpid()
    for pid in _pids():
        if pid == us:
            continue
        status = _session_and_state(pid)
        if status is None:
            continue
        session, state = status
        if state in b"ZX":
            continue
        key = sessions.get(session) or _fence_of(pid)
        if key is not None and key in keys:
            found.setdefault(key, []).append(pid)
    return found


def send(pids: Collection[int], number: int) -> None:
    """A signal to each that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_leftovers(keys: Collection[str]) -> int:
    """End what a dead keeper's jobs left behind: TERM, some seconds, KILL. Returns how many there were."""
    if not keys:
        return 0
    first = {pid for pids in members({}, keys).values() for pid in pids}
    sessions = {session: "" for pid in first if (session := _session_of(pid)) is not None}
    send(first, signal.SIGTERM)
    begin = time.monotonic()
    while True:
        wanted = frozenset([*keys, "session"])
        living = members(dict.fromkeys(sessions, "session"), wanted)
        pids = [pid for group in living.values() for pid in group]
        if not pids:
            return len(first)
        waited = time.monotonic() - begin
        if waited > LEFTOVER_GRACE_SECONDS:
            send(pids, signal.SIGKILL)
        if waited > LEFTOVER_GRACE_SECONDS + LEFTOVER_KILL_SECONDS:
            return len(first)  # in the kernel's hands (a dead file system); it can't do anything any more
        time.sleep(0.02)


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _session_and_state(pid: int) -> tuple[int, bytes] | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[3]), fields[0]


def _session_of(pid: int) -> int | None:
    status = _session_and_state(pid)
    return None if status is None else status[0]


def _fence_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return None
    start = environment.find(FENCE)
    while start > 0 and environment[start - 1] != 0:
        start = environment.find(FENCE, start + 1)
    if start < 0:
        return None
    end = environment.find(b"\0", start)
    return environment[start + len(FENCE) : end if end >= 0 else None].decode(errors="replace")
