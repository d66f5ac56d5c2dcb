"""Where a keeper is: its address, which is also the lock against a second one, and its directory.

The address is an abstract Unix socket named by a hash of user id and spool: it vanishes with its process,
however that ends, and no path is too long for it. Anybody may connect to or take such a name, so both sides
ask the kernel who the other one is. The lock is held from the first moment; the keeper listens once it
serves.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct

CREDENTIALS = struct.Struct("3i")
WAITING_CONNECTIONS = 16


class PlaceError(Exception):
    """The keeper can't be here; the text is a line for people."""


class TakenError(PlaceError):
    """Another keeper serves this spool."""


def keeper_address(spool: str) -> str:
    """The abstract socket's name (without the leading NUL) of the keeper of this user and this spool."""
    import hashlib  # brings OpenSSL, megabytes which a keeper that is told its address need not have

    place = f"{os.getuid()}:{os.path.realpath(spool)}"
    return f"kueue-keeper-{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}"


def hold(address: str) -> socket.socket:
    """A socket bound to the address, which nobody can connect to before it listens.

    Raises:
        TakenError: another process has it.
    """
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        held.bind(f"\0{address}")
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise TakenError(f"a keeper serves {address} already") from None
        raise PlaceError(f"cannot use the address {address}: {error.strerror or error}") from None
    return held


def lock_spool(spool: str) -> int:
    """Lock the directory, too: the address is a lock only within one network namespace. The descriptor.

    A file system that has no such locks is taken as it is. Where systemd-tmpfiles tidies up, it leaves a
    locked directory alone, see tmpfiles.d(5).

    Raises:
        TakenError: another keeper holds it.
    """
    directory = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        raise TakenError(f"a keeper serves {spool} already, in another container") from None
    except OSError:
        pass
    return directory


def make_spool(spool: str) -> None:
    """Have the directory, for this user alone.

    Raises:
        PlaceError: it can't be made, is no directory, or belongs to somebody else.
    """
    try:
        os.makedirs(os.path.dirname(spool), mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(spool, 0o700)
        status = os.lstat(spool)
    except FileExistsError:
        raise PlaceError(f"cannot make {spool}: Not a directory") from None
    except OSError as error:
        raise PlaceError(f"cannot make {spool}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise PlaceError(f"{spool} is not a directory")
    if status.st_uid != os.getuid():
        raise PlaceError(f"{spool} belongs to another user")
    if status.st_mode & 0o077:
        os.chmod(spool, 0o700)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user id of the other end of a Unix socket."""
    pid, uid, _ = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    return int(pid), int(uid)


def is_trusted(sock: socket.socket) -> bool:
    """Does the other end belong to this user, or to root?"""
    return peer_of(sock)[1] in (os.getuid(), 0)
