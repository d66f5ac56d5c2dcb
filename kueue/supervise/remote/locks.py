"""Who holds the locks of workers here: the abstract sockets of agents and keepers, which end with their process.

An agent answers on its lock who it is and how it is; one that hangs does not.
"""

from __future__ import annotations

import glob
import json
import os
import socket
import struct

from kueue.supervise.remote.processes import read, started_at, ticks_of, variable_of, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AGENT_LOCK = "@kueue-agent-"
KEEPER_LOCK = "@kueue-keeper-"
ASK_SECONDS = 3.0
MAX_ANSWER = 65536
TOLD = ("name", "version", "server", "config", "connected", "alone_seconds", "why_alone", "jobs", "leaving")
_LISTENS = 0x10000


def agents(seconds: float = ASK_SECONDS) -> list[dict[str, Any]]:
    """This user's agents; each is given so long to answer."""
    found = []
    for lock, inode in _locks(AGENT_LOCK):
        held = _holder(lock, inode, seconds)
        if held is None:
            continue
        pid, said = held
        ticks = ticks_of(pid)
        if not ticks:
            continue
        agent: dict[str, Any] = {"pid": pid, "ticks": ticks, "since": started_at(ticks), "answers": False}
        try:
            told = json.loads(said)
            agent.update({name: told[name] for name in TOLD})
            agent["answers"] = True
        except (ValueError, TypeError, KeyError):
            agent["config"] = _config_of(pid)
        found.append(agent)
    return found


def keepers() -> list[tuple[int, int]]:
    """This user's keepers: pid and tick of the start."""
    found = []
    for lock, inode in _locks(KEEPER_LOCK):
        held = _holder(lock, inode, 0.0)
        if held is not None and held[0]:
            found.append((held[0], ticks_of(held[0])))
    return found


def _locks(prefix: str) -> list[tuple[str, str]]:
    """Name and inode of the abstract sockets that somebody listens on."""
    found = {}
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7].startswith(prefix) and int(fields[3], 16) & _LISTENS:
            found[fields[7]] = fields[6]
    return sorted(found.items())


def _holder(lock: str, inode: str, seconds: float) -> tuple[int, bytes] | None:
    """Its pid and what it says; None if it is somebody else's, or has gone."""
    said = b""
    pid = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(seconds)
        try:
            sock.connect("\0" + lock[1:])
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            pid, uid, _ = struct.unpack("3i", credentials)
            if uid != os.getuid():
                return None
            while seconds and len(said) < MAX_ANSWER:
                piece = sock.recv(MAX_ANSWER)
                if not piece:
                    break
                said += piece
        except (socket.timeout, BlockingIOError):  # noqa: UP041 (two classes before Python 3.10)
            pid = pid or _pid_of(inode)
        except OSError:
            pass
    return (pid, said) if pid else None


def _pid_of(inode: str) -> int:
    """The process that has this socket, if it is ours: for one that takes no more callers."""
    for place in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(place) == f"socket:[{inode}]":
                return int(place.split("/")[2])
        except OSError:
            continue
    return 0


def _config_of(pid: int) -> str:
    """The configuration that a silent agent was started with; empty for the default place."""
    words = words_of(pid)
    for number, word in enumerate(words[:-1]):
        if word in ("-c", "--config"):
            return words[number + 1]
    return variable_of(pid, "KUEUE_CONFIG")
