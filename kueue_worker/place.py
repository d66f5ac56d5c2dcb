"""Where this worker is on its host: its lock against a second agent, and its machine's identity.

The lock is an abstract Unix socket named by a hash of user id and spool: it vanishes with its process,
however that ends, and no shared file system is involved.
"""

from __future__ import annotations

import hashlib
import os
import socket

from kueue_worker.keeper_link import peer_of

CALLERS = 64
"""How many may wait for their answer at the same time; others come again."""
MACHINE_ID_FILES = ("/etc/machine-id", "/var/lib/dbus/machine-id")


def name_on_host(kind: str, spool: str) -> str:
    """An abstract socket's name (without the leading NUL) for this user and this spool."""
    place = f"{os.getuid()}:{os.path.realpath(spool)}"
    return f"kueue-{kind}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"


class AlreadyRunningError(Exception):
    """Another agent serves this name on this host."""


class NameTakenError(Exception):
    """A process of somebody else holds our name; anybody may."""


class AgentLock:
    """Held as long as this object, or its process, lives. It listens, for others to see whose it is;
    `inquiries.py` answers them.

    Raises:
        AlreadyRunningError: another agent of this user and spool holds it.
        NameTakenError: a stranger does.
    """

    def __init__(self, spool: str) -> None:
        address = f"\0{name_on_host('agent', spool)}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.bind(address)
            self.socket.listen(CALLERS)
        except OSError:
            self.socket.close()
            raise (AlreadyRunningError if _is_ours(address) else NameTakenError) from None

    def release(self) -> None:
        """Let another agent in."""
        self.socket.close()


def _is_ours(address: str) -> bool:
    """Does what has this address belong to us, or root? So does one that has no time to tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address)
            return peer_of(sock)[1] in (os.getuid(), 0)
        except ConnectionRefusedError:  # holds it, and does not listen
            return False
        except OSError:
            return True


def machine_id() -> str:
    """The machine's own random id (32 hex digits), or one made of its host name where it has none."""
    for path in MACHINE_ID_FILES:
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:32]


def boot_id() -> str:
    """The random id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def default_name(hostname: str) -> str:
    """A worker's name: its host, and a part of the machine id, since host names are not always unique."""
    identity = hashlib.sha256(machine_id().encode()).hexdigest()
    return f"{hostname}-{identity[:8]}"
