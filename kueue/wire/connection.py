"""A blocking connection of a client: plain sockets, TLS, the handshake, messages. Imports no asyncio."""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections import deque

import msgspec

from kueue.errors import ProtocolError
from kueue.wire import codec
from kueue.wire.dialing import RefusedError, failure_to_connect, place, set_keepalive
from kueue.wire.framing import FrameDecoder, frame
from kueue.wire.handshake import MAX_FRAME as HANDSHAKE_FRAME
from kueue.wire.handshake import SECONDS, ClientHandshake
from kueue.wire.messages import MAX_FRAME, ToClient
from kueue.wire.tls import client_context

__all__ = ["BlockingConnection", "ConnectionLostError", "RefusedError"]

READ_BYTES = 64 * 1024
SILENCE_SECONDS = 60.0
"""A server says something every 15 s at least; one that doesn't is gone."""


class ConnectionLostError(Exception):
    """The connection broke after it had been there."""


class BlockingConnection:
    """Connects and authenticates when made. For one thread.

    Raises:
        RefusedError, ServerUnreachableError, AuthenticationError, VersionError: why there is no connection.
    """

    def __init__(self, host: str, port: int, secret: str, version: str, timeout: float = SECONDS) -> None:
        deadline = time.monotonic() + timeout
        self._late = b""
        self._messages: deque[ToClient] = deque()
        self._decoder = FrameDecoder(HANDSHAKE_FRAME)
        handshake: ClientHandshake | None = None
        try:
            plain = socket.create_connection((host, port), timeout)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                set_keepalive(plain)
                self._socket = client_context().wrap_socket(plain)
            except BaseException as error:
                plain.close()
                _close_half_made(error)
                raise
            try:
                certificate = self._socket.getpeercert(True)
                assert certificate is not None
                handshake = ClientHandshake("client", secret, certificate, version)
                self._shake_hands(handshake, deadline)
                self._socket.setblocking(False)
            except BaseException:
                self._socket.close()
                raise
        except Exception as error:
            failure = failure_to_connect(error, place(host, port), timeout, handshake)
            raise failure from (None if failure is error else error)
        self._heard = time.monotonic()

    def _shake_hands(self, handshake: ClientHandshake, deadline: float) -> None:
        while not handshake.done:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise handshake.closed()
            for body in self._decoder.frames(data):
                if handshake.done:
                    self._messages.append(codec.decode_to_client(body))
                    continue
                for answer in handshake.receive(body):
                    self._socket.sendall(frame(answer))
                if handshake.done:
                    self._decoder.limit = MAX_FRAME

    def send(self, message: msgspec.Struct, silence: float = SILENCE_SECONDS) -> None:
        """Send a message; what the server says meanwhile is kept.

        A server that is busy may take its time, as long as it says something or takes a byte every
        `silence` seconds.

        Raises:
            ConnectionLostError: it could not be sent.
        """
        left = memoryview(self._late + frame(codec.encode(message)))
        self._late = b""
        moved = time.monotonic()
        while left:
            wants = select.POLLIN
            try:
                left = left[self._socket.send(left) :]
                moved = time.monotonic()
                continue
            except ssl.SSLWantWriteError:
                wants |= select.POLLOUT
            except ssl.SSLWantReadError:
                pass
            except OSError as error:
                raise ConnectionLostError(_text(error)) from None
            self._wait(max(moved, self._heard) + silence, wants, "takes no more requests")
            self._read()

    def send_late(self, message: msgspec.Struct) -> None:
        """Send a message together with the next one: the server need not be woken for it."""
        fresh = frame(codec.encode(message))
        self._late += fresh

    def receive(self, timeout: float, silence: float = SILENCE_SECONDS) -> ToClient | None:
        """The next message; None after `timeout` seconds without one.

        Raises:
            ConnectionLostError: the server closed the connection, broke the protocol, or has been silent for
                `silence` seconds while we were waiting.
        """
        asked = time.monotonic()
        deadline = asked + timeout
        while not self._messages:
            if self._read():
                continue
            silent_at = max(asked, self._heard) + silence
            if time.monotonic() >= deadline:
                return None
            if deadline < silent_at:
                self._poll(deadline - time.monotonic(), select.POLLIN)
            else:
                self._wait(silent_at, select.POLLIN, f"has been silent for {silence:g} s")
        return self._messages.popleft()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _read(self) -> bool:
        """Take what is there; False if nothing was."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise ConnectionLostError(_text(error)) from None
        if not data:
            raise ConnectionLostError("the server closed the connection")
        self._heard = time.monotonic()
        try:
            self._messages.extend(map(codec.decode_to_client, self._decoder.feed(data)))
        except ProtocolError as error:
            raise ConnectionLostError(str(error)) from None
        return True

    def _wait(self, deadline: float, wants: int, otherwise: str) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._poll(left, wants):
            raise ConnectionLostError(f"the server {otherwise}")

    def _poll(self, seconds: float, wants: int) -> bool:
        if self._socket.pending():
            return True
        poll = select.poll()  # unlike `select`, it takes descriptors of any number
        poll.register(self._socket, wants)
        return bool(poll.poll(math.ceil(max(0.0, seconds) * 1000)))


def _close_half_made(error: BaseException) -> None:
    """`wrap_socket` leaves the socket that it makes to the garbage collector if the connection is reset just then."""
    step = error.__traceback__
    while step is not None:
        made = step.tb_frame.f_locals.get("self")
        if isinstance(made, ssl.SSLSocket):
            made.close()
        step = step.tb_next


def _text(error: OSError) -> str:
    return error.strerror or str(error)
