"""Somebody else with an account on the same machine: a second user id, for those who may have one.

Root takes the one of `nobody`; other people take one of the ids that /etc/subuid gives them, in a user namespace.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_AS_A_SUBORDINATE = (
    *("unshare", "--user", "--map-root-user", "--map-auto"),
    *("setpriv", "--reuid=1", "--regid=1", "--clear-groups"),
)


@functools.cache
def prefix() -> tuple[str, ...]:
    """Words before a command that another user runs; empty if there can't be one."""
    words = _AS_NOBODY if os.getuid() == 0 else _AS_A_SUBORDINATE
    found = (
        subprocess.run([*words, "id", "-u"], capture_output=True, check=False) if _is_there(words) else None
    )
    return words if found is not None and found.returncode == 0 else ()


def _is_there(words: Sequence[str]) -> bool:
    programs = [word for word in words if not word.startswith("-")]
    return all(shutil.which(program) for program in programs)


@functools.cache
def python() -> str:
    """An interpreter that the other user may run, too; empty if there is none."""
    for path in (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"):
        done = subprocess.run([*prefix(), path, "-I", "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:
            return path
    return ""


def why_nobody_else() -> str:
    """Why there is no other user here; empty if there is one."""
    if not prefix():
        return "no second user id: needs root, or newuidmap and a range in /etc/subuid"
    return "" if python() else "no Python that another user may run"


def run(*words: str) -> None:
    """The other user runs a command, which must succeed."""
    subprocess.run([*prefix(), *words], check=True, capture_output=True, cwd="/")


def start_python(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    """The other user's Python program; it has a pipe on both ends and must say a line when it is ready."""
    process = subprocess.Popen(
        [*prefix(), python(), "-I", "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # whatever comes after the first line is left for `end`
        cwd="/",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> bytes:
    """End it; what else it said."""
    said, _ = process.communicate(timeout=20)
    return said
