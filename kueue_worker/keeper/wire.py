"""The agent's connection, seen from the keeper: frames with descriptors in, messages out. Never waits.

A frame is a 4-byte big-endian length and a JSON list of messages; descriptors arrive beside it, in the order
in which its messages ask for them.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from typing import Any

Message = dict[str, Any]

MOST_FRAME_BYTES = 16 * 1024 * 1024
MOST_UNSENT_BYTES = 64 * 1024 * 1024
"""An agent that reads nothing is dropped then; the next one gets `state`."""
READ_BYTES = 256 * 1024
MOST_DESCRIPTORS = 253  # SCM_MAX_FD of Linux
LENGTH = struct.Struct(">I")


class BrokenConnectionError(Exception):
    """The agent is gone, or broke the protocol."""


class Connection:
    """A connected socket. `fileno` for epoll."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._unsent = bytearray()
        self._waiting: list[Message] = []

    def fileno(self) -> int:
        """Of the socket."""
        return self._socket.fileno()

    def receive(self) -> list[Message]:
        """All messages that are there now.

        Raises:
            BrokenConnectionError: the end, or nonsense.
        """
        space = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return []
        except OSError as error:
            raise BrokenConnectionError(str(error)) from None
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(raw[: len(raw) - len(raw) % received.itemsize])
                self._descriptors.extend(received)
        if not data:
            raise BrokenConnectionError("closed")
        self._received += data
        messages: list[Message] = []
        while len(self._received) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._received)
            if length > MOST_FRAME_BYTES:
                raise BrokenConnectionError(f"a frame of {length} bytes")
            if len(self._received) < LENGTH.size + length:
                break
            body = bytes(self._received[LENGTH.size : LENGTH.size + length])
            del self._received[: LENGTH.size + length]
            try:
                found = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise BrokenConnectionError(f"not JSON: {error}") from None
            if not isinstance(found, list) or not all(isinstance(m, dict) and "m" in m for m in found):
                raise BrokenConnectionError("not a list of messages")
            messages += found
        return messages

    def take_descriptor(self) -> int:
        """The next descriptor that came along.

        Raises:
            BrokenConnectionError: there is none.
        """
        if not self._descriptors:
            raise BrokenConnectionError("a message without its descriptor")
        return self._descriptors.popleft()

    def send(self, message: Message) -> None:
        """Queue a message; `flush` sends what was queued since in one frame."""
        self._waiting.append(message)

    def flush(self) -> bool:
        """Send what the socket takes; True if something is left.

        Raises:
            BrokenConnectionError: the agent is gone, or does not read.
        """
        if self._waiting:
            body = json.dumps(self._waiting, separators=(",", ":")).encode()
            self._waiting.clear()
            self._unsent += LENGTH.pack(len(body)) + body
        while self._unsent:
            try:
                sent = self._socket.send(self._unsent, socket.MSG_NOSIGNAL)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                raise BrokenConnectionError(str(error)) from None
            del self._unsent[:sent]
        if len(self._unsent) > MOST_UNSENT_BYTES:
            raise BrokenConnectionError("it does not read")
        return bool(self._unsent)

    def close(self) -> None:
        """Close it, and the descriptors that nobody took."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()
        self._socket.close()


def listen(address: str) -> socket.socket:
    """The keeper's abstract socket, which is also the lock against a second keeper.

    Raises:
        OSError: another process has it.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(f"\0{address}")
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def is_ours(sock: socket.socket) -> bool:
    """The peer is a process of our own user (or root)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", raw)
    return uid in (os.getuid(), 0)
