"""Sessions that programs run in here: those of `screen` and `tmux`, and a process on its own where neither is."""

from __future__ import annotations

import os
import re
import subprocess

from kueue.supervise.remote.processes import age_of, output_of, place_of, ticks_of, variable_of, wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

MARKER = "KUEUE_LAUNCHED"
"""Variable of the sessions that a supervisor made: for whom."""
LOG = "KUEUE_LAUNCH_LOG"
ENDED = "ended with exit code"
_PROGRAM = 'trap "" HUP; { "$@"; echo "$0: ' + ENDED + ' $?"; } 2>&1'
IN_A_TERMINAL = _PROGRAM + f' | tee -i -a "${LOG}"'
ON_ITS_OWN = _PROGRAM.replace("2>&1", f'>>"${LOG}" 2>&1')
"""Constant lines of `/bin/sh`: the program and its words come as arguments, the log as a variable."""
TOOLS = ("screen", "tmux")


def tool() -> str:
    """What sessions are made with here."""
    return next((name for name in TOOLS if place_of(name)), "setsid")


def sessions(name: str, marker: str) -> tuple[list[dict[str, Any]], bool]:
    """Those of this name, and whether dead ones may be wiped: not where other machines see their sockets, too."""
    if place_of("screen") is None:
        return _of_tmux(name, marker), False
    return _of_screen(name, marker)


def close(tool_name: str, session: str) -> None:
    """End a session with all that is in it."""
    if tool_name == "screen":
        output_of([place_of("screen") or "screen", "-S", session, "-X", "quit"])
    else:
        output_of([place_of("tmux") or "tmux", "kill-session", "-t", f"={session}"])


def wipe() -> None:
    """Have `screen` remove the sockets of sessions that are dead."""
    output_of([place_of("screen") or "screen", "-wipe"])


def start(name: str, marker: str, title: str, log: str, argv: Sequence[str]) -> str:
    """Run a program in a new session, with its output also in `log`; what the session was made with.

    Raises:
        OSError: it can't be started.
    """
    variables = {MARKER: marker, LOG: log}
    environment = {**os.environ, "TERM": os.environ.get("TERM") or "screen", **variables}
    inner = ["/bin/sh", "-c", IN_A_TERMINAL, title, *argv]
    screen, tmux = place_of("screen"), place_of("tmux")
    if screen:
        begin = _size(log)
        if _begun([screen, "-dmS", name, *inner], environment) and wait(
            lambda: (
                _size(log) > begin or any(each["state"] == "live" for each in _of_screen(name, marker)[0])
            ),
            3,
        ):
            return "screen"
    if tmux:
        # A tmux that runs already would give its own variables to the program.
        words = ["env", *(f"{key}={value}" for key, value in variables.items()), *inner]
        for session in (name, f"{name}-{os.getpid()}"):
            if _begun([tmux, "new-session", "-d", "-s", session, *words], environment):
                return "tmux"
    subprocess.Popen(
        ["/bin/sh", "-c", ON_ITS_OWN, title, *argv],
        env=environment,
        cwd=os.path.expanduser("~"),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return "setsid"


def _begun(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    try:
        done = subprocess.run(
            words,
            env=environment,
            cwd=os.path.expanduser("~"),
            timeout=10,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _of_screen(name: str, marker: str) -> tuple[list[dict[str, Any]], bool]:
    screen = place_of("screen")
    if screen is None:
        return [], False
    _, text = output_of([screen, "-ls"])
    found = []
    for line in text.splitlines():
        match = re.match(r"\s+((\d+)\.(\S+))\s.*\(([^()]*)\)\s*$", line)
        if match and match[3] == name:
            dead = "dead" in match[4].lower()
            found.append(_session("screen", match[1], int(match[2]), marker, dead=dead))
    place = re.search(r"[Ss]ockets? in (\S+?)\.?\s*$", text, re.MULTILINE)
    home = os.path.realpath(os.path.expanduser("~"))
    return found, place is not None and not os.path.realpath(place[1]).startswith(f"{home}/")


def _of_tmux(name: str, marker: str) -> list[dict[str, Any]]:
    tmux = place_of("tmux")
    if tmux is None:
        return []
    code, text = output_of([tmux, "list-panes", "-a", "-F", "#{pane_pid} #{session_name}"])
    found = {}
    for line in text.splitlines() if code == 0 else ():
        pid, _, session = line.partition(" ")
        if session == name and pid.isdigit():
            found[session] = _session("tmux", session, int(pid), marker, dead=False)
    return list(found.values())


def _session(tool_name: str, session: str, pid: int, marker: str, *, dead: bool) -> dict[str, Any]:
    ticks = ticks_of(pid)
    return {
        "tool": tool_name,
        "id": session,
        "state": "dead" if dead else "live",
        "launched": not dead and variable_of(pid, MARKER) == marker,
        "age_seconds": age_of(ticks) if ticks else 0.0,
    }
