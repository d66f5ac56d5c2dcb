"""Orders of the supervisor, one JSON object a line of the standard input, each answered with one line.

Answers begin with `MARK`, so that what a login shell's start-up files print is not taken for one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys

from kueue.supervise.remote import locks, processes, sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MARK = "kueue-remote: "
MAX_LOG_BYTES = 5 * 1024 * 1024
WORKER = "kueue_worker"


def look(order: dict[str, Any]) -> dict[str, Any]:
    """How this machine is."""
    found, may_wipe = sessions.sessions(order["session"], order["marker"])
    return {
        "host": socket.gethostname(),
        "boot": processes.boot_id(),
        "agents": locks.agents(),
        "keepers": len(locks.keepers()),
        "tool": sessions.tool(),
        "sessions": found,
        "may_wipe": may_wipe,
        "server": _server(_state_dir(order)),
        "ends_at_logout": _ends_at_logout(),
    }


def wipe(_order: dict[str, Any]) -> dict[str, Any]:
    """Have dead sessions forgotten."""
    sessions.wipe()
    return {"gone": True}


def close_session(order: dict[str, Any]) -> dict[str, Any]:
    """End a session."""
    sessions.close(order["tool"], order["id"])
    return {"gone": True}


def end(order: dict[str, Any]) -> dict[str, Any]:
    """End a process."""
    gone, killed = processes.end(
        order["pid"], order["ticks"], order["signal"], order["seconds"], order["kill"]
    )
    return {"gone": gone, "killed": killed}


def end_keepers(order: dict[str, Any]) -> dict[str, Any]:
    """TERM: keepers end their jobs, and themselves."""
    found = locks.keepers()
    for pid, ticks in found:
        processes.end(pid, ticks, "TERM", 0.0, kill=False)
    gone = processes.wait(
        lambda: not any(processes.is_alive(pid, ticks) for pid, ticks in found), order["seconds"]
    )
    return {"gone": gone}


def launch(order: dict[str, Any]) -> dict[str, Any]:
    """Start a program in a session of its own, and wait until it serves or has ended."""
    title, argv = order["title"], list(order["argv"])
    program = processes.place_of(os.path.expanduser(argv[0]))
    if program is None:
        return {"fault": f"there is no program {argv[0]}; worker_command may name another"}
    log = os.path.join(_state_dir(order), "log", f"{title}-{socket.gethostname().split('.')[0]}.log")
    try:
        begin = _begun_log(log)
        before = {agent["pid"] for agent in locks.agents(0.0)}
        # The session before it may still have its last line to write into the same log.
        session = f"{title} (session {os.urandom(4).hex()})"
        tool = sessions.start(order["session"], order["marker"], session, log, [program, *argv[1:]])
    except OSError as error:
        return {"fault": f"{error.filename or argv[0]}: {error.strerror}"}
    state: dict[str, Any] = {
        "tool": tool,
        "log": log,
        "ended": False,
        "said": "",
        "agent": None,
        "server": None,
    }

    def settled() -> bool:
        last = f"{session}: {sessions.ENDED}"
        said = _lines_after(log, begin, last)
        state["ended"] = any(line.startswith(last) for line in said)
        state["said"] = next((line for line in reversed(said) if not line.startswith(last)), "")
        if title == WORKER:
            state["agent"] = _newest_agent(order["server"], before)
            serves = state["agent"] is not None and (
                state["agent"]["connected"] or not order["await_connection"]
            )
        else:
            state["server"] = _server(_state_dir(order))
            serves = state["server"] is not None
        return serves or state["ended"]

    processes.wait(settled, order["seconds"])
    return state


def _newest_agent(server: str, before: set[int]) -> dict[str, Any] | None:
    ours = [agent for agent in locks.agents(1.0) if agent["answers"] and agent["server"] == server]
    return next((agent for agent in ours if agent["pid"] not in before), ours[0] if ours else None)


def _begun_log(log: str) -> int:
    """Where what is written from now on begins."""
    os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
    if os.path.exists(log) and os.path.getsize(log) > MAX_LOG_BYTES:
        os.replace(log, f"{log}.1")
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return os.path.getsize(log)


def _lines_after(log: str, begin: int, last: str) -> list[str]:
    """Not empty ones. `last` begins a line of its own, also after a program whose last line has no end."""
    try:
        with open(log, "rb") as file:
            file.seek(max(begin, os.path.getsize(log) - 65536))
            text = file.read().decode(errors="replace").replace(last, f"\n{last}")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]


def _server(state_dir: str) -> dict[str, Any] | None:
    """The process that the state directory names as the server, if it lives here."""
    try:
        owner = json.loads(processes.read(os.path.join(state_dir, "server", "owner")))
        pid, ticks, port = int(owner["pid"]), int(owner.get("ticks", 0)), int(owner["port"])
        here = owner["boot_id"] == processes.boot_id()
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    if not here or not processes.is_alive(pid, ticks):
        return None
    since = processes.started_at(processes.ticks_of(pid))
    return {"pid": pid, "ticks": ticks, "since": since, "port": port}


def _state_dir(order: dict[str, Any]) -> str:
    named: str = order["state_dir"]
    if named:
        named = named.replace("{host}", socket.gethostname().split(".", 1)[0]).replace("{user}", _user())
        return os.path.expanduser(named)
    base = os.environ.get("XDG_STATE_HOME", "")
    return os.path.join(base if base.startswith("/") else os.path.expanduser("~/.local/state"), "kueue")


def _ends_at_logout() -> bool:
    """Does logind end what a user leaves running, and is this user not excepted?"""
    kills = False
    places = ["/etc/systemd/logind.conf"]
    for folder in ("/usr/lib", "/run", "/etc"):
        places += processes.names_in(f"{folder}/systemd/logind.conf.d", ".conf")
    for place in places:
        for match in re.finditer(r"(?m)^\s*KillUserProcesses\s*=\s*(\S+)", processes.read(place)):
            kills = match[1].lower() in ("yes", "true", "1", "on")
    return kills and not os.path.exists(f"/var/lib/systemd/linger/{_user()}")


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


ORDERS = {
    "look": look,
    "wipe": wipe,
    "close_session": close_session,
    "end": end,
    "end_keepers": end_keepers,
    "launch": launch,
}


def main() -> None:
    """Take orders until the connection ends."""
    for line in sys.stdin.buffer:
        order = json.loads(line)
        try:
            told = ORDERS[order["order"]](order)
        except Exception as error:  # the outermost edge: the supervisor is told
            told = {"fault": f"{type(error).__name__}: {error}"}
        sys.stdout.write(f"{MARK}{json.dumps(told)}\n")
        sys.stdout.flush()
