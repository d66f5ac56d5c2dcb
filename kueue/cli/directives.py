"""`#KUEUE` lines at the top of a script: options of `kueue cmd` that belong to the script itself.

    #!/bin/sh
    #KUEUE -c 4 -r 16G --resource genus
    #KUEUE -o logs/%j.log

They are read when a script is submitted by its path (`kueue cmd ./run.sh`), from the comments before its first line
of code. What is given on the command line counts more. Imports little: `kueue cmd` is in a hurry.
"""

from __future__ import annotations

import os
import stat

from kueue.cli.cmd_options import OPTIONS
from kueue.cli.command import Option
from kueue.cli.commands import GLOBAL
from kueue.cli.quick import scan
from kueue.errors import UsageError

MARK = b"#KUEUE"
MOST_BYTES = 65536
"""Of a script; the lines are at its top."""
NOT_OF_A_SCRIPT = frozenset({"wait", "follow", "each_line", "from_json"})
"""Options about the call, not about the job."""


def with_directives(arguments: list[str]) -> list[str]:
    """The arguments of `kueue`, with the options of the script that is to be submitted before one's own.

    Raises:
        UsageError: a line of the script that is no options of a job.
    """
    before = scan(arguments, GLOBAL)
    if before is None or arguments[before.position : before.position + 1] != ["cmd"]:
        return arguments
    start = before.position + 1
    after = scan(arguments[start:], OPTIONS)
    if after is None:
        return arguments
    given = after.found
    words = arguments[start + after.position :]
    if not words or "/" not in words[0]:
        return arguments
    directory = next((value for option, value in reversed(given) if option.parameter == "cwd"), "")
    own = {(option.parameter, _key(value)) for option, value in given if option.kind == "many"}
    added: list[str] = []
    for option, value in _options_of(words[0], os.path.join(directory, words[0])):
        if option.kind == "flag":
            added.append(option.flags[-1])
        elif option.kind != "many" or (option.parameter, _key(value)) not in own:
            added += [option.flags[-1], value]
    return [*arguments[:start], *added, *arguments[start:]] if added else arguments


def _key(value: str) -> str:
    return value.partition("=")[0]


def _options_of(name: str, path: str) -> list[tuple[Option, str]]:
    found: list[tuple[Option, str]] = []
    for number, line in enumerate(_top(path), 1):
        if not line.startswith(b"#"):
            if line.strip():
                break
            continue
        if line[: len(MARK) + 1].rstrip() != MARK:
            continue
        import shlex  # imported here: most scripts have none of these lines

        text = os.fsdecode(line[len(MARK) :]).strip()
        try:
            words = shlex.split(text, comments=True)
        except ValueError as error:
            raise UsageError(f"{name}, line {number}: {text}: {error}") from None
        scanned = scan(words, OPTIONS)
        if scanned is None or scanned.position < len(words):
            raise UsageError(f"{name}, line {number}: {text}: not options of kueue cmd")
        for option, _ in scanned.found:
            if option.parameter in NOT_OF_A_SCRIPT:
                raise UsageError(f"{name}, line {number}: {option.flags[-1]} is for the command line")
        found += scanned.found
    return found


def _top(path: str) -> list[bytes]:
    """The first lines of a script; none if it is something else, or can't be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return []
        with open(path, "rb") as file:
            head = file.read(2)
            return (head + file.read(MOST_BYTES)).split(b"\n") if head == b"#!" else []
    except (OSError, ValueError):
        return []
