"""What both ways of connecting (blocking, asyncio) share: how a failure reads, and what a socket is set to.

Imports no asyncio: the command line connects without it.
"""

from __future__ import annotations

import errno
import socket
import ssl

from kueue.errors import AuthenticationError, KueueError, ProtocolError, ServerUnreachableError, VersionError
from kueue.wire.handshake import NOT_KUEUE, ClientHandshake

KEEPALIVE_SECONDS = 30
DOUBTS = 2
"""So often it is asked again whether a server means it that it hung up on us: one that dies says no more than that."""


class RefusedError(ServerUnreachableError):
    """Nobody listens there now (connection refused): trying again may help."""


class CutError(ServerUnreachableError):
    """The conversation ended before both sides had introduced themselves: a server that dies in that moment looks like
    this, and so does what is no Kueue server."""


def place(host: str, port: int) -> str:
    """An address for people."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def failure_to_connect(
    error: Exception, where: str, timeout: float, handshake: ClientHandshake | None
) -> KueueError:
    """The error to raise for `error`, met while connecting to `where`.

    `handshake` is None before TLS was up; afterwards a close means what it says it means.
    """
    if isinstance(error, AuthenticationError | VersionError):
        return error
    if isinstance(error, ProtocolError):
        return CutError(f"{where}: {NOT_KUEUE}")
    if isinstance(error, KueueError):
        return CutError(f"{where}: {error}")
    if isinstance(error, ConnectionRefusedError):
        return RefusedError(f"no server at {where} (connection refused)")
    if isinstance(error, TimeoutError) and handshake is not None:
        text = f"it answers, but says nothing for {timeout:g} s: not a Kueue server, or a very busy one"
        return ServerUnreachableError(f"{where}: {text}")
    if isinstance(error, TimeoutError):
        return ServerUnreachableError(f"{where}: no answer within {timeout:g} s")
    if isinstance(error, socket.gaierror):
        return ServerUnreachableError(f"{where}: unknown host ({error.strerror})")
    if isinstance(error, ssl.SSLError | ConnectionError):
        closed = None if handshake is None else handshake.closed()
        if isinstance(closed, AuthenticationError):
            return closed
        return CutError(f"{where}: {NOT_KUEUE}")
    if isinstance(error, UnicodeError | OverflowError):
        return ServerUnreachableError(f"{where}: that can't be an address")
    if isinstance(error, OSError):
        if error.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(error):
            # asyncio's way to say that several addresses of the host failed, each with its own text
            return RefusedError(f"no server at {where} (connection refused)")
        return ServerUnreachableError(f"{where}: {error.strerror or error}")
    raise error


def set_keepalive(sock: socket.socket | None) -> None:
    """Let the kernel notice a peer that vanished without a word, within a minute or so."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
        ("TCP_KEEPINTVL", KEEPALIVE_SECONDS // 3),
        ("TCP_KEEPCNT", 3),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
