"""A blocking connection of a client: plain sockets, TLS, the handshake, messages. Imports no asyncio."""

from __future__ import annotations

import select
import socket
import ssl
import time

import msgspec

from kueue.errors import AuthenticationError, KueueError, ProtocolError, ServerUnreachableError, VersionError
from kueue.wire import codec
from kueue.wire.framing import FrameDecoder, frame
from kueue.wire.handshake import MAX_FRAME as HANDSHAKE_FRAME
from kueue.wire.handshake import NOT_KUEUE, SECONDS, ClientHandshake
from kueue.wire.messages import MAX_FRAME, ToClient
from kueue.wire.tls import client_context

READ_BYTES = 256 * 1024


class ConnectionLostError(Exception):
    """The connection broke after it had been there."""


class RefusedError(ServerUnreachableError):
    """Nobody listens there now (connection refused): trying again may help."""


class BlockingConnection:
    """Connects and authenticates when made.

    Raises:
        RefusedError, ServerUnreachableError, AuthenticationError, VersionError: why there is no connection.
    """

    def __init__(self, host: str, port: int, secret: str, version: str, timeout: float = SECONDS) -> None:
        where = f"{host}:{port}"
        deadline = time.monotonic() + timeout
        self._messages: list[ToClient] = []
        handshake: ClientHandshake | None = None
        try:
            plain = socket.create_connection((host, port), timeout)
            try:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._socket = client_context().wrap_socket(plain, server_hostname=host)
            except BaseException:
                plain.close()
                raise
            try:
                certificate = self._socket.getpeercert(True)
                assert certificate is not None
                handshake = ClientHandshake("client", secret, certificate, version)
                self._shake_hands(handshake, deadline)
            except BaseException:
                self._socket.close()
                raise
        except (AuthenticationError, VersionError):
            raise
        except KueueError as error:
            raise ServerUnreachableError(f"{where}: {error}") from None
        except ConnectionRefusedError:
            raise RefusedError(f"no server at {where} (connection refused)") from None
        except TimeoutError:
            raise ServerUnreachableError(f"{where}: no answer within {timeout:g} s") from None
        except socket.gaierror as error:
            raise ServerUnreachableError(f"{where}: unknown host ({error.strerror})") from None
        except (ssl.SSLError, ConnectionError):
            if handshake is not None:
                closed = handshake.closed()
                if isinstance(closed, AuthenticationError):
                    raise closed from None
            raise ServerUnreachableError(f"{where}: {NOT_KUEUE}") from None
        except OSError as error:
            raise ServerUnreachableError(f"{where}: {error.strerror or error}") from None
        self._socket.setblocking(False)

    def _shake_hands(self, handshake: ClientHandshake, deadline: float) -> None:
        self._decoder = FrameDecoder(HANDSHAKE_FRAME)
        while not handshake.done:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
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

    def send(self, message: msgspec.Struct, timeout: float) -> None:
        """Send a message; what the server says meanwhile is kept.

        Raises:
            ConnectionLostError: it could not be sent within `timeout` seconds.
        """
        left = memoryview(frame(codec.encode(message)))
        deadline = time.monotonic() + timeout
        while left:
            try:
                left = left[self._socket.send(left) :]
            except ssl.SSLWantWriteError:
                self._wait(deadline, write=True)
            except ssl.SSLWantReadError:
                self._wait(deadline)
            except OSError as error:
                raise ConnectionLostError(str(error)) from None
            if left and self._readable():
                self._read()

    def receive(self, timeout: float) -> ToClient | None:
        """The next message; None after `timeout` seconds without one.

        Raises:
            ConnectionLostError: the server closed the connection, or broke the protocol.
        """
        deadline = time.monotonic() + timeout
        while not self._messages:
            if not self._read() and not self._wait(deadline, may_time_out=True):
                return None
        return self._messages.pop(0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _readable(self) -> bool:
        return self._socket.pending() > 0 or bool(select.select([self._socket], [], [], 0)[0])

    def _read(self) -> bool:
        """Take what is there; False if nothing was."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as error:
            raise ConnectionLostError(str(error)) from None
        if not data:
            raise ConnectionLostError("the server closed the connection")
        try:
            self._messages += map(codec.decode_to_client, self._decoder.feed(data))
        except ProtocolError as error:
            raise ConnectionLostError(str(error)) from None
        return True

    def _wait(self, deadline: float, *, write: bool = False, may_time_out: bool = False) -> bool:
        left = deadline - time.monotonic()
        if left > 0:
            sockets = [self._socket]
            found = select.select(sockets, sockets if write else [], [], left)
            if found[0] or found[1]:
                return True
        if may_time_out:
            return False
        raise ConnectionLostError("the server does not read")
