"""System calls of a real program that fail, or kill it, at exactly the N-th time.

`strace -D` leaves the program the direct child of whoever started it, so its exit code and signals are seen as
they are. Counts are a thread's own: in the server one thread opens the journal, another one commits.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest


def kill_at(call: str, number: int, files: Sequence[Path], trace: Path) -> list[str]:
    """A command to run a program under: SIGKILL instead of the `number`-th `call` on `files` in a thread.

    `call` is one system call, or several with commas between them, which then count each for itself.
    """
    return _strace(call, f"signal=SIGKILL:when={number}", files, trace)


def fail_from(call: str, number: str, error: str, files: Sequence[Path], trace: Path) -> list[str]:
    """The same, but the call fails with `error`: at the `number`-th time, or with `N+`, from then on."""
    return _strace(call, f"error={error}:when={number}", files, trace)


def _strace(call: str, fault: str, files: Sequence[Path], trace: Path) -> list[str]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    paths = [word for path in files for word in ("-P", str(path))]
    quiet = ["-qq", "-e", "signal=none"]
    return [
        *("strace", "-D", "-f", *quiet, "-o", str(trace), "-e", f"trace={call}"),
        *("-e", f"inject={call}:{fault}", *paths, "--"),
    ]


def calls(trace: Path, call: str) -> dict[str, int]:
    """How often each thread has made (or was killed at) the call; by its id."""
    counted: dict[str, int] = {}
    for line in trace.read_text().splitlines():
        found = re.match(rf"(\d+) +{call}\(", line)
        if found is not None:
            counted[found[1]] = counted.get(found[1], 0) + 1
    return counted
