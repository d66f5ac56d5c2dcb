"""Which process serves a state directory: a small file, written by the server, read by everybody.

`<state>/server/owner` names host, port, pid, boot id. On the same machine it tells whether the server lives;
on another machine of a shared home it tells where to look. It is a hint for people and clients, not a lock:
the journal's own lock keeps two servers apart.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from kueue.processes import boot_id, is_alive, start_ticks

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "Owner",
    "boot_id",
    "lives_here",
    "owner_is_alive",
    "owner_path",
    "read_owner",
    "read_process",
    "remove_owner",
    "this_process",
    "write_owner",
    "write_process",
]


class Owner(NamedTuple):
    """Who serves. `started_at` is seconds since the epoch; `ticks` the start by the machine's own clock (0:
    not known); `address` the IP address that a client on the same machine connects to, empty for loopback."""

    host: str
    port: int
    pid: int
    boot_id: str
    started_at: float
    ticks: int = 0
    address: str = ""


def owner_path(state_dir: Path) -> Path:
    """Where the file is."""
    return state_dir / "server" / "owner"


def write_owner(state_dir: Path, port: int, address: str = "") -> None:
    """Say that this process serves, atomically."""
    write_process(owner_path(state_dir), this_process(port, address))


def remove_owner(state_dir: Path) -> None:
    """Say that nobody serves, if it was this process."""
    owner = read_owner(state_dir)
    if owner is not None and owner.pid == os.getpid() and owner.host == socket.gethostname():
        with contextlib.suppress(OSError):
            owner_path(state_dir).unlink()


def read_owner(state_dir: str | Path) -> Owner | None:
    """The last server of this state directory that has not said good-bye."""
    return read_process(os.path.join(state_dir, "server", "owner"))


def owner_is_alive(owner: Owner) -> bool | None:
    """Does this process live? None if it is another machine's, which can't be seen from here."""
    here = boot_id()
    if owner.boot_id and owner.boot_id == here:
        return is_alive(owner.pid, owner.ticks)
    return False if owner.host == socket.gethostname() else None


def lives_here(owner: Owner) -> bool:
    """The owner is a process of this machine that lives."""
    return owner_is_alive(owner) is True


def this_process(port: int = 0, address: str = "", pid: int | None = None) -> Owner:
    """A process of this machine, by default the calling one, as an `Owner`."""
    pid = os.getpid() if pid is None else pid
    return Owner(socket.gethostname(), port, pid, boot_id(), time.time(), start_ticks(pid) or 0, address)


def write_process(path: Path, owner: Owner) -> None:
    """Write `owner` to a file of the same kind, atomically; makes its directory."""
    from kueue.private_files import make_directories, replace_file  # few who read a file like this write one

    make_directories(path.parent)
    replace_file(path, json.dumps(owner._asdict()).encode() + b"\n")


def read_process(path: str | Path) -> Owner | None:
    """What a file of this kind says; None if there is none, or nothing sensible in it."""
    try:
        with open(path, "rb") as file:
            values = json.loads(file.read())
        return Owner(
            host=str(values["host"]),
            port=int(values["port"]),
            pid=int(values["pid"]),
            boot_id=str(values["boot_id"]),
            started_at=float(values["started_at"]),
            ticks=int(values.get("ticks", 0)),
            address=str(values.get("address", "")),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
