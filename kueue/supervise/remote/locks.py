"""Who holds the locks of workers here: the abstract sockets of agents and keepers, which end with their process.

An agent answers on its lock who it is and how it is; one that hangs does not.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time

from kueue.supervise.remote.processes import names_in, read, started_at, ticks_of, variable_of, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

AGENT_LOCK = "@kueue-agent-"
KEEPER_LOCK = "@kueue-keeper-"
ASK_SECONDS = 3.0
AGAIN_SECONDS = 0.05
"""Between two tries to ask one whose queue of callers is full."""
MAX_ANSWER = 65536
TOLD = ("name", "version", "server", "config", "connected", "alone_seconds", "why_alone", "jobs", "leaving")
_LISTENS = 0x10000


def agents(seconds: float = ASK_SECONDS) -> list[dict[str, Any]]:
    """This user's agents. All are asked at the same time, and have so long to answer."""
    found = []
    for pid, said in _holders(AGENT_LOCK, seconds):
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
    return [(pid, ticks_of(pid)) for pid, _ in _holders(KEEPER_LOCK, 0.0)]


def _locks(prefix: str) -> list[tuple[str, str]]:
    """Name and inode of the abstract sockets that somebody listens on."""
    found = {}
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[7].startswith(prefix) and int(fields[3], 16) & _LISTENS:
            found[fields[7]] = fields[6]
    return sorted(found.items())


def _holders(prefix: str, seconds: float) -> list[tuple[int, bytes]]:
    """Their pids and what each says within so long; without those of other users."""
    callers = []
    try:
        for lock, inode in _locks(prefix):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            callers.append(_Caller(sock, lock, inode))
        until = time.monotonic() + seconds
        hearing = {}
        queueing = callers
        while True:
            hearing.update({caller.sock.fileno(): caller for caller in queueing if caller.call()})
            queueing = [caller for caller in queueing if caller.is_full]
            left = until - time.monotonic()
            if left <= 0 or not (hearing or queueing):
                break
            wait = min(left, AGAIN_SECONDS) if queueing else left
            for descriptor in select.select(list(hearing), [], [], wait)[0]:
                if not hearing[descriptor].hear():
                    del hearing[descriptor]
        for caller in queueing:
            caller.pid = _pid_of(caller.inode)
        return [(caller.pid, caller.said) for caller in callers if caller.pid]
    finally:
        for caller in callers:
            caller.sock.close()


class _Caller:
    """One who asks the holder of a lock. `pid` is 0 if that is a stranger, or has gone.

    `is_full`: so many were asking already that it was to come again.
    """

    def __init__(self, sock: socket.socket, lock: str, inode: str) -> None:
        self.sock = sock
        self.lock = lock
        self.inode = inode
        self.pid = 0
        self.said = b""
        self.is_full = False

    def call(self) -> bool:
        """Is it taken?"""
        self.sock.setblocking(False)
        self.is_full = False
        try:
            self.sock.connect("\0" + self.lock[1:])
        except BlockingIOError:
            self.is_full = True
            return False
        except OSError:
            return False
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        if uid != os.getuid():
            return False
        self.pid = pid
        return True

    def hear(self) -> bool:
        """Take what has arrived; False if no more is to come."""
        try:
            piece = self.sock.recv(MAX_ANSWER)
        except OSError:
            piece = b""
        self.said += piece
        return bool(piece) and len(self.said) < MAX_ANSWER


def _pid_of(inode: str) -> int:
    """The process that has this socket, if it is ours: for one that takes no more callers."""
    for process in names_in("/proc"):
        for descriptor in names_in(f"{process}/fd") if process[6:].isdigit() else ():
            try:
                if os.readlink(descriptor) == f"socket:[{inode}]":
                    return int(process[6:])
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
