"""Processes of this machine: which live, since when, with which words and variables."""

from __future__ import annotations

import os
import signal
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MORE_PLACES = ":/usr/local/bin:/usr/bin:/bin:/opt/local/bin"


def read(path: str) -> str:
    """The text of a file; empty if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def boot_id() -> str:
    """The random id of this boot of the machine."""
    return read("/proc/sys/kernel/random/boot_id").strip()


def stat_fields(pid: int) -> list[str]:
    """Those after the program's name, the state first; empty if there is no such process."""
    text = read(f"/proc/{pid}/stat")
    return text[text.rfind(")") + 2 :].split() if text else []


def ticks_of(pid: int) -> int:
    """Clock tick of its start; 0 if it has ended."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def is_alive(pid: int, ticks: int) -> bool:
    """Does this very process live? `ticks` 0: any of this pid."""
    now = ticks_of(pid)
    return now != 0 and ticks in (0, now)


def started_at(ticks: int) -> float:
    """Seconds since the epoch of a clock tick."""
    return time.time() - age_of(ticks)


def age_of(ticks: int) -> float:
    """Seconds since a clock tick."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def words_of(pid: int) -> list[str]:
    """Its command line."""
    return read(f"/proc/{pid}/cmdline").split("\0")


def variable_of(pid: int, name: str) -> str:
    """A variable of its first environment; empty if it has none."""
    for entry in read(f"/proc/{pid}/environ").split("\0"):
        if entry.startswith(f"{name}="):
            return entry[len(name) + 1 :]
    return ""


def send(pid: int, ticks: int, number: int) -> bool:
    """Signal this very process; False if it has ended."""
    if pid <= 1 or not is_alive(pid, ticks):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def end(pid: int, ticks: int, name: str, seconds: float, kill: bool) -> tuple[bool, bool]:
    """Signal a process and wait so long for its end; then perhaps kill it. Is it gone, was it killed?"""
    number = getattr(signal, f"SIG{name}")
    if not send(pid, ticks, number):
        return True, False
    if not seconds:
        return False, False
    if wait(lambda: not is_alive(pid, ticks), seconds):
        return True, False
    if not kill:
        return False, False
    send(pid, ticks, signal.SIGKILL)
    return wait(lambda: not is_alive(pid, ticks), 5.0), True


def wait(condition: Callable[[], object], seconds: float) -> bool:
    """Until it holds, so long at most; does it?"""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def place_of(program: str) -> str | None:
    """Where a program is, also if the login's PATH leaves out the usual places."""
    if "/" in program:
        return program if _is_program(program) else None
    for place in (os.environ.get("PATH", "") + MORE_PLACES).split(":"):
        path = os.path.join(place, program)
        if place and _is_program(path):
            return path
    return None


def _is_program(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def names_in(folder: str, end: str = "") -> list[str]:
    """Paths of what is in a directory, sorted; none if it can't be read."""
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(end)]
    except OSError:
        return []


def output_of(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command; 127 if it can't be run or takes long."""
    environment = {**os.environ, "LC_ALL": "C", "TERM": os.environ.get("TERM") or "dumb"}
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace")
