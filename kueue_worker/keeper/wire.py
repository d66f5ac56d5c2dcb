"""The connection between agent and keeper, the same on both sides: frames of messages, with descriptors.

It never waits: what the socket does not take stays in a buffer, and the owner asks `wants_write`. It knows
frames, not what the messages mean; that is the package's docstring. Any fault raises `WireError`, and the
connection is of no use any more.
"""

from __future__ import annotations

import array
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from kueue_worker.keeper.place import is_trusted

VERSION = 3
"""That this keeper says it speaks. 2: the end `output_limit`, and `text`, of a `kill`. 3: starts ordered ahead."""
MOST_DESCRIPTORS = 200
"""In a frame; the kernel takes 253 at once."""
MOST_WAITING_DESCRIPTORS = 2 * MOST_DESCRIPTORS
MOST_RECORDS = 500
"""In a frame of `state`."""
MOST_FRAME_BYTES = 16 * 1024 * 1024
READ_BYTES = 64 * 1024
"""More would be memory from the system, and given back to it, for each message."""
LENGTH = struct.Struct(">I")
ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(253 * 4)
# Lone surrogates, which stand for bytes that are not UTF-8, are escaped: the frame is ASCII.
encode_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Message = dict[str, Any]


class WireError(Exception):
    """The other side broke the protocol; the text is a line for the log."""


def to_bytes(text: str) -> bytes:
    """An operating system's string as it was."""
    return text.encode("utf-8", "surrogateescape")


def encode_frame(messages: Sequence[Message]) -> bytes:
    """A frame of these messages."""
    body = encode_json(messages).encode("ascii")
    return LENGTH.pack(len(body)) + body


def decode_body(body: bytes) -> list[Message]:
    """The messages of a frame.

    Raises:
        WireError: it is not a list of messages.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {str(error)[:100]}") from None
    if not isinstance(found, list) or not all(isinstance(m, dict) and "m" in m for m in found):
        raise WireError("not a list of messages")
    return found


class Wire:
    """One end of a connection; the socket becomes its own, and non-blocking.

    Received descriptors wait in order until `take_descriptor`; what nobody takes is closed with the wire.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._frames: deque[tuple[memoryview | bytes, Sequence[int]]] = deque()
        self.queued_bytes = 0

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Something waits until the socket takes it: call `flush` when it is writable."""
        return bool(self._frames)

    def send(self, messages: Sequence[Message], descriptors: Sequence[int] = ()) -> None:
        """Send a frame, or the part that goes at once. `descriptors` are closed here when they are gone."""
        if len(descriptors) > MOST_DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors in a frame")
        data = encode_frame(messages)
        self.queued_bytes += len(data)
        self._frames.append((data, descriptors))
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it.

        Raises:
            WireError: the other side is gone.
        """
        try:
            while self._frames:
                data, descriptors = self._frames[0]
                if descriptors:
                    rights = array.array("i", descriptors).tobytes()
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                    sent = self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
                    self._frames[0] = (data, ())  # they travelled with the first byte
                    _close(descriptors)
                else:
                    sent = self._socket.send(data, socket.MSG_NOSIGNAL)
                self.queued_bytes -= sent
                if sent == len(data):
                    self._frames.popleft()
                else:
                    self._frames[0] = (memoryview(data)[sent:], ())
        except BlockingIOError:
            return
        except OSError as error:
            raise WireError(f"cannot send: {error.strerror}") from None

    def receive(self) -> list[list[Message]] | None:
        """The frames that have become complete; None when the other side has closed.

        Raises:
            WireError: what came is not of the protocol, or the connection broke.
        """
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                READ_BYTES, ROOM_FOR_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return []
        except OSError as error:
            raise WireError(f"cannot receive: {error.strerror}") from None
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(raw[: len(raw) - len(raw) % found.itemsize])
                self._descriptors.extend(found)
        if flags & socket.MSG_CTRUNC:
            raise WireError("descriptors were lost: too many are open")
        if len(self._descriptors) > MOST_WAITING_DESCRIPTORS:
            raise WireError("descriptors that no message asks for")
        if not data:
            return None
        self._received += data
        return [decode_body(body) for body in self._bodies()]

    def take_descriptor(self) -> int:
        """The next received descriptor; whoever takes it closes it.

        Raises:
            WireError: there is none.
        """
        if not self._descriptors:
            raise WireError("a message without its descriptor")
        return self._descriptors.popleft()

    def check_all_taken(self) -> None:
        """After all messages of `receive` were read: with no frame begun, no descriptor may be left.

        Raises:
            WireError: one is.
        """
        if self._descriptors and not self._received:
            raise WireError("descriptors that no message asks for")

    def close(self) -> None:
        """Close the socket and whatever descriptor was on its way."""
        self._socket.close()
        _close(self._descriptors)
        for _, descriptors in self._frames:
            _close(descriptors)
        self._descriptors.clear()
        self._frames.clear()
        self.queued_bytes = 0

    def _bodies(self) -> Iterable[bytes]:
        bodies = []
        start, received = 0, self._received
        while len(received) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(received, start)
            if length > MOST_FRAME_BYTES:
                raise WireError(f"a frame of {length} bytes")
            end = start + LENGTH.size + length
            if len(received) < end:
                break
            bodies.append(bytes(received[start + LENGTH.size : end]))
            start = end
        if start:
            del received[:start]
        return bodies


def connect(address: str) -> Wire:
    """Connect to the keeper at this address, which is answered or refused at once.

    Raises:
        OSError: nobody serves there (`ConnectionRefusedError`), or too many wait (`BlockingIOError`).
        WireError: it belongs to another user.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(f"\0{address}")
        if not is_trusted(sock):
            raise WireError("the keeper's address is held by a process of another user")
    except BaseException:
        sock.close()
        raise
    return Wire(sock)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
