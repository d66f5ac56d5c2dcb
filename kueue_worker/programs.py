"""Finding the program that a job names, by the job's own PATH and directory, as a shell there would.

May hang on a dead mount: called in threads.
"""

from __future__ import annotations

import os
import stat

SHELL_CHARACTERS = frozenset(" \t\n|&;<>()$`*?\"'")


class NoProgramError(Exception):
    """There is no such program for this job here; the text is a line for people."""


def find_program(name: str, search_path: str, cwd: str) -> str:
    """The file to execute: absolute, or relative to `cwd`.

    Args:
        name: the job's first word.
        search_path: its PATH; an empty component is its directory.

    Raises:
        NoProgramError: nothing that can be executed.
    """
    if not name:
        raise NoProgramError("the command is empty")
    if "/" in name:
        problem = _problem(os.path.join(cwd, name))
        if problem:
            raise NoProgramError(f"{name}: {problem}{_shell_hint(name)}")
        return name
    unfit = ""
    for component in search_path.split(":"):
        candidate = os.path.join(component or ".", name)
        problem = _problem(os.path.join(cwd, candidate))
        if not problem:
            return candidate
        if problem != NOT_THERE and not unfit:
            unfit = f"{candidate}: {problem}"
    raise NoProgramError(unfit or f"no {name} in PATH{_shell_hint(name)}")


NOT_THERE = "no such file"


def _problem(path: str) -> str:
    """Why this file can't be executed; empty if it can."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return NOT_THERE
    except NotADirectoryError:
        return NOT_THERE
    except OSError as error:
        return error.strerror or str(error)
    if stat.S_ISDIR(mode):
        return "is a directory"
    if not stat.S_ISREG(mode):
        return "is not a program"
    return "" if os.access(path, os.X_OK) else "not executable (chmod +x)"


def _shell_hint(name: str) -> str:
    return "; a line for a shell goes as: sh -c '…'" if SHELL_CHARACTERS & set(name) else ""
