"""The agent's side of the connection to the keeper: frames with descriptors out, messages in.

`kueue_worker.keeper` describes the protocol. This is one connection; who gets a keeper running and another
connection when this one ends is `keeper_process`. Nothing here waits: what the socket does not take stays in
a buffer, and what is sent in one run of the loop leaves in one frame.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

PROTOCOL_VERSION = 1
MOST_DESCRIPTORS = 200
MOST_MESSAGES = 500
MOST_FRAME_BYTES = 16 * 1024 * 1024
FRAME_BYTES = 1024 * 1024
"""A frame is cut here; one message may be larger."""
LENGTH = struct.Struct(">I")
READ_BYTES = 64 * 1024
"""More would be memory from the system, and given back to it, for each message."""
LATE_SECONDS = 0.05

Message = dict[str, Any]


class KeeperFaultError(Exception):
    """What answers is not a keeper of ours, or broke the protocol."""


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process and user id of the other end of a Unix socket."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return int(pid), int(uid)


def encode_message(message: Message) -> bytes:
    """One message. Strings that are not UTF-8 are surrogate-escaped, which only the slower encoder can do."""
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        return json.dumps(message, separators=(",", ":")).encode()


def decode_messages(body: bytes) -> list[Message]:
    """The messages of one frame's body.

    Raises:
        KeeperFaultError: it is not a list of messages.
    """
    try:
        try:
            found = msgspec.json.decode(body)
        except msgspec.DecodeError:
            found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise KeeperFaultError(f"not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(m, dict) and "m" in m for m in found):
        raise KeeperFaultError("not a list of messages")
    return found


class KeeperLink:
    """A connected socket on the loop. `on_messages` gets each frame's, `on_closed` is called once."""

    def __init__(
        self,
        sock: socket.socket,
        on_messages: Callable[[list[Message]], None],
        on_closed: Callable[[BaseException | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._received = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._out_descriptors: list[int] = []
        self._frames: deque[tuple[memoryview, list[int]]] = deque()
        self._scheduled = False
        self._late_scheduled = False
        self._writing = False
        self.closed = False
        self.peer_pid = peer_of(sock)[0]
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Message, descriptors: tuple[int, ...] = (), *, late: bool = False) -> None:
        """Send a message; its descriptors are closed here once they are on their way. A `late` one goes with the
        next that is not, or in a while: the keeper need not be woken for it."""
        if self.closed:
            for descriptor in descriptors:
                os.close(descriptor)
            return
        body = encode_message(message)
        if (
            len(self._out_descriptors) + len(descriptors) > MOST_DESCRIPTORS
            or len(self._out) >= MOST_MESSAGES
            or self._out_bytes + len(body) > FRAME_BYTES
        ):
            self._cut_frame()
        self._out.append(body)
        self._out_bytes += len(body)
        self._out_descriptors.extend(descriptors)
        if late:
            if not self._late_scheduled:
                self._late_scheduled = True
                self._loop.call_later(LATE_SECONDS, self.flush)
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def close(self, error: BaseException | None = None) -> None:
        """Close at once; `on_closed` follows."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        if self._writing:
            self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        left = [*self._out_descriptors]
        for _, descriptors in self._frames:
            left += descriptors
        for descriptor in left:
            os.close(descriptor)
        self._frames.clear()
        self._out.clear()
        self._out_descriptors.clear()
        self._on_closed(error)

    def _cut_frame(self) -> None:
        if self._out:
            body = b"[" + b",".join(self._out) + b"]"
            self._frames.append((memoryview(LENGTH.pack(len(body)) + body), self._out_descriptors))
            self._out, self._out_descriptors, self._out_bytes = [], [], 0

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        self._scheduled = self._late_scheduled = False
        if self.closed:
            return
        self._cut_frame()
        self._write()

    def _write(self) -> None:
        try:
            while self._frames:
                data, descriptors = self._frames[0]
                if descriptors:
                    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
                    sent = self._socket.sendmsg(
                        [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_NOSIGNAL
                    )
                    for descriptor in descriptors:  # they travelled with the first byte
                        os.close(descriptor)
                else:
                    sent = self._socket.send(data, socket.MSG_NOSIGNAL)
                if sent == len(data):
                    self._frames.popleft()
                else:
                    self._frames[0] = (data[sent:], [])
        except (BlockingIOError, InterruptedError):
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._socket.fileno(), self._write)
            return
        except OSError as error:
            self.close(error)
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(error)
            return
        if not data:
            self.close(None)
            return
        self._received += data
        try:
            for body in self._bodies():
                if not self.closed:
                    self._on_messages(decode_messages(body))
        except KeeperFaultError as error:
            self.close(error)

    def _bodies(self) -> list[bytes]:
        bodies = []
        start, received = 0, self._received
        while len(received) - start >= LENGTH.size:
            (length,) = LENGTH.unpack_from(received, start)
            if length > MOST_FRAME_BYTES:
                raise KeeperFaultError(f"a frame of {length} bytes")
            end = start + LENGTH.size + length
            if len(received) < end:
                break
            bodies.append(bytes(received[start + LENGTH.size : end]))
            start = end
        if start:
            del received[:start]
        return bodies
