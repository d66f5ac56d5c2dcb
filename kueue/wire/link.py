"""One authenticated connection on asyncio: frames in, messages out to a handler, and back.

`connect` makes one as a client or worker, a `Listener` (listener.py) takes them as a server. A peer's fault
closes its own link and nothing else. Protocols, not streams: no task a connection once it is authenticated.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from kueue.errors import KueueError, ProtocolError, ServerUnreachableError
from kueue.wire import codec
from kueue.wire.dialing import failure_to_connect, place, set_keepalive
from kueue.wire.framing import FrameDecoder, frame
from kueue.wire.handshake import FROZEN, NOT_KUEUE, ClientHandshake, Role, ServerHandshake
from kueue.wire.handshake import MAX_FRAME as HANDSHAKE_FRAME
from kueue.wire.messages import MAX_FRAME
from kueue.wire.tls import HANDSHAKE_SECONDS, client_context

log = logging.getLogger(__name__)

MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Bytes that wait for a slow reader before its connection is closed."""
WRITE_BYTES = 256 * 1024
"""Most bytes handed to the transport at a time; it asks for a pause when it can't send as many."""
LOW_WATER_BYTES = 64 * 1024
TURN_SECONDS = 0.02
"""How long the requests of one peer may keep the loop, if they are taken in turns."""
LATE_SECONDS = 0.02
"""At most so long a late message waits for one to go with."""
BUFFER_BYTES = 256 * 1024
"""Taken from the transport at a time; as many as TLS gives at once."""


class Handler(Protocol):
    """Who gets a link's messages."""

    def on_message(self, message: Any) -> None:
        """A message arrived. `ProtocolError` closes the link."""
        ...

    def on_closed(self, error: BaseException | None) -> None:
        """The link is gone; called once."""
        ...


class _OfThread(threading.local):
    """Where a loop puts the bytes that it reads, whosever they are: it has them taken before it reads the next. Bytes
    objects instead would be memory from the system, and given back to it, for each message."""

    def __init__(self) -> None:
        self.received = memoryview(bytearray(BUFFER_BYTES))


_of_thread = _OfThread()


class Link(asyncio.BufferedProtocol):
    """One connection. Made by `connect` or `Listener`; before the handshake is done nobody else sees it."""

    def __init__(self, established: Callable[[Link], Handler]) -> None:
        self.role: Role = "client"
        self.address = ""
        self.secret = ""
        """The one that the peer of a server proved to have."""
        self.peer_version = ""
        self.protocol = FROZEN
        self.mismatch = ""
        """Not empty: no version is common, only the frozen subset is spoken; the text says who is too old."""
        self.handler: Handler | None = None
        self.on_drained: Callable[[], None] | None = None
        self.max_unread: int | None = None
        """Bytes of answers that may wait for the peer before its further requests have to. With it, messages are
        taken in turns of `TURN_SECONDS`, else all at once. What is untaken when the link closes is lost."""
        self.stuck_since: float | None = None
        """Since when (of the loop's time) the peer has taken nothing of what waits for it."""
        self._established = established
        self._loop = asyncio.get_running_loop()
        self.last_received = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder(HANDSHAKE_FRAME)
        self._decode: Callable[[bytes], Any] | None = None
        # What the transport has not been given yet. TLS transports don't count what they have encrypted, so
        # whatever goes beyond a few writes waits here, where it can be counted.
        self._out: deque[bytes | memoryview] = deque()
        self._out_bytes = 0
        self._flushing = False
        self._late: asyncio.TimerHandle | None = None
        self._held = False  # nothing is to be taken from the peer: the owner says so
        self._resting = False  # nor now: it gets its next turn later
        self._reads = True
        self._closing = False
        self._error: BaseException | None = None

    # ---------------------------------------------------------------- for the owner

    @property
    def queued_bytes(self) -> int:
        """Bytes that were sent and have not left this process (short by a few writes at most)."""
        if self._transport is None:
            return self._out_bytes
        return self._out_bytes + self._transport.get_write_buffer_size()

    def send(self, message: msgspec.Struct, *, late: bool = False) -> None:
        """Send a message. What is sent in one run of the loop leaves in one write, if it is not very much. A `late`
        one goes with the next that is not, or in a while: the peer need not be woken for it."""
        self.send_encoded(codec.encode(message), late=late)

    def send_encoded(self, body: bytes, *, late: bool = False) -> None:
        """Send the body of a frame."""
        if self._closing or self._transport is None:
            return
        self._out.append(frame(body))
        self._out_bytes += len(body) + 4
        if self._flushing:
            return
        if not late:
            self._flushing = True
            self._loop.call_soon(self._flush)
        elif self._late is None:
            self._late = self._loop.call_later(LATE_SECONDS, self._flush)

    def pause_reading(self) -> None:
        """Take no more from the peer for now."""
        self._held = True
        self._set_reading()

    def resume_reading(self) -> None:
        """Go on taking from the peer."""
        self._held = False
        self._go_on()

    def close(self) -> None:
        """Send what is queued, then close."""
        if self._transport is not None and not self._closing:
            self._write(everything=True)
            self._closing = True
            self._transport.close()

    def abort(self, error: BaseException | None = None) -> None:
        """Close at once; what is queued is lost."""
        if self._error is None:
            self._error = error
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # ---------------------------------------------------------------- for asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up."""
        self._transport = transport  # type: ignore[assignment]
        assert self._transport is not None
        self._transport.set_write_buffer_limits(high=WRITE_BYTES, low=LOW_WATER_BYTES)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to put the next bytes."""
        return _of_thread.received

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived."""
        self.last_received = self._loop.time()
        self._take(_of_thread.received[:nbytes])

    def _take(self, data: bytes | memoryview) -> None:
        turn_ends_at = self._loop.time() + TURN_SECONDS
        try:
            for body in self._decoder.frames(data):
                if self._closing:
                    return
                if self.handler is None:
                    self._on_handshake(body)
                else:
                    assert self._decode is not None
                    message = self._decode(body)
                    if message is not None:
                        self.handler.on_message(message)
                if self.max_unread is not None and self._must_rest(turn_ends_at, self.max_unread):
                    break
        except ProtocolError as error:
            if self.handler is not None:  # before that, silence: the listener logs at a limited rate
                log.warning("%s %s sent what the protocol does not allow: %s", self.role, self.address, error)
            self.abort(error)
        except KueueError as error:
            self.abort(error)
        except Exception as error:
            log.exception(
                "a message of %s %s could not be handled; closing its connection", self.role, self.address
            )
            self.abort(error)

    def pause_writing(self) -> None:
        """The peer reads more slowly than we write."""
        self.stuck_since = self._loop.time()

    def resume_writing(self) -> None:
        """The peer has caught up with what the transport had."""
        self.stuck_since = None
        if not self._closing:
            self._write()
        if not self._out and self.on_drained is not None:
            self.on_drained()
        self._go_on()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._closing = True
        if self._late is not None:
            self._late.cancel()
        self._out.clear()
        self._out_bytes = 0
        error = self._error or exc
        if self.handler is not None:
            self.handler.on_closed(error)
        else:
            self._lost_before_established(error)

    # ---------------------------------------------------------------- inside

    def _must_rest(self, turn_ends_at: float, max_unread: int) -> bool:
        """Is it others' turn? Then we go on later: in the next run of the loop, when the peer has read, or when
        the owner says so."""
        if self._loop.time() >= turn_ends_at:
            self._loop.call_soon(self._go_on)
        elif not self._held and self.queued_bytes <= max_unread:
            return False
        self._resting = True
        self._set_reading()
        return True

    def _go_on(self) -> None:
        if self._resting and not self._closing and not self._held:
            assert self.max_unread is not None
            if self.queued_bytes <= self.max_unread // 2:
                self._resting = False
                self._take(b"")
        self._set_reading()

    def _set_reading(self) -> None:
        reads = not self._held and not self._resting
        if reads != self._reads and self._transport is not None and not self._closing:
            self._reads = reads
            if reads:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _flush(self) -> None:
        self._flushing = False
        if self._late is not None:
            self._late.cancel()
            self._late = None
        if self._closing:
            return
        self._write()
        if self.queued_bytes > MAX_QUEUED_BYTES:
            error = ProtocolError(f"does not read: {MAX_QUEUED_BYTES} bytes wait for it")
            log.warning("%s %s %s", self.role, self.address, error)
            self.abort(error)
        self._go_on()

    def _write(self, *, everything: bool = False) -> None:
        while self._out and self._transport is not None and (everything or self.stuck_since is None):
            if self._out_bytes <= WRITE_BYTES:
                data = b"".join(self._out)
                self._out.clear()
            else:
                data = self._next_bytes(WRITE_BYTES)
            self._out_bytes -= len(data)
            self._transport.write(data)

    def _next_bytes(self, size: int) -> bytes:
        parts: list[bytes | memoryview] = []
        while size > 0:
            part = self._out.popleft()
            if len(part) > size:
                whole = memoryview(part)
                self._out.appendleft(whole[size:])
                part = whole[:size]
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _establish(
        self, peer_version: str, protocol: int, decode: Callable[[bytes], Any], mismatch: str = ""
    ) -> None:
        self.peer_version = peer_version
        self.protocol = protocol
        self.mismatch = mismatch
        self._decode = decode if protocol != FROZEN else codec.known_only(decode)
        self._decoder.limit = MAX_FRAME
        self.handler = self._established(self)

    def _on_handshake(self, body: bytes) -> None:
        raise NotImplementedError

    def _lost_before_established(self, error: BaseException | None) -> None:
        raise NotImplementedError


class ServerLink(Link):
    """A link that a `Listener` accepted."""

    def __init__(self, handshake: ServerHandshake, established: Callable[[Link], Handler]) -> None:
        super().__init__(established)
        self._handshake = handshake
        self.on_lost: Callable[[BaseException | None], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server speaks first."""
        super().connection_made(transport)
        for body in self._handshake.start():
            self.send_encoded(body)

    def _on_handshake(self, body: bytes) -> None:
        for answer in self._handshake.receive(body):
            self.send_encoded(answer)
        if self._handshake.authenticated:
            self.role = self._handshake.role
            self.secret = self._handshake.secret
        if self._handshake.done:
            decode: Callable[[bytes], Any] = (
                codec.decode_worker_message if self.role == "worker" else codec.decode_client_message
            )
            shaken = self._handshake
            self._establish(shaken.peer_version, shaken.protocol, decode, shaken.mismatch)

    def _lost_before_established(self, error: BaseException | None) -> None:
        if self.on_lost is not None:
            self.on_lost(error)


class _ConnectingLink(Link):
    """A link that `connect` makes."""

    def __init__(self, role: Role, secret: str, version: str, handler: Handler) -> None:
        super().__init__(lambda link: handler)
        self.role = role
        self._secret = secret
        self._version = version
        self.handshake: ClientHandshake | None = None
        self.ready: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The server speaks first; we look at its certificate."""
        super().connection_made(transport)
        der = transport.get_extra_info("ssl_object").getpeercert(True)
        self.handshake = ClientHandshake(self.role, self._secret, der, self._version)

    def _on_handshake(self, body: bytes) -> None:
        assert self.handshake is not None
        for answer in self.handshake.receive(body):
            self.send_encoded(answer)
        if self.handshake.done:
            decode: Callable[[bytes], Any] = (
                codec.decode_to_worker if self.role == "worker" else codec.decode_to_client
            )
            shaken = self.handshake
            self._establish(shaken.peer_version, shaken.protocol, decode, shaken.mismatch)
            if not self.ready.done():
                self.ready.set_result(None)

    def give_up(self) -> None:
        """Nobody waits for this link any more."""
        if not self.ready.cancel() and not self.ready.cancelled():
            self.ready.exception()  # seen: asyncio need not complain about it
        self.abort()

    def _lost_before_established(self, error: BaseException | None) -> None:
        if self.ready.done():
            return
        if isinstance(error, KueueError):
            failure: BaseException = error
        elif self.handshake is not None:
            failure = self.handshake.closed()
        else:
            failure = ServerUnreachableError(NOT_KUEUE)
        self.ready.set_exception(failure)


async def connect(
    host: str,
    port: int,
    *,
    role: Role,
    secret: str,
    version: str,
    handler: Handler,
    timeout: float = HANDSHAKE_SECONDS,  # noqa: ASYNC109 (its text is part of what is promised)
) -> Link:
    """Connect to a server and authenticate; `handler` gets the link's messages from then on.

    Args:
        timeout: seconds for all of it.

    Raises:
        ServerUnreachableError: nobody answers (`RefusedError`: nobody listens), or not a Kueue server.
        AuthenticationError: the secret differs.
        VersionError: no common protocol version with a client; the text says which side to upgrade. (A worker's
            link has it in `mismatch`, and speaks the frozen subset.)
    """
    loop = asyncio.get_running_loop()
    where = place(host, port)
    link: _ConnectingLink | None = None

    def make() -> _ConnectingLink:
        nonlocal link
        link = _ConnectingLink(role, secret, version, handler)
        return link

    try:
        async with asyncio.timeout(timeout):
            transport, made = await loop.create_connection(
                make, host, port, ssl=client_context(), ssl_handshake_timeout=timeout
            )
            set_keepalive(transport.get_extra_info("socket"))
            await made.ready
            return made
    except BaseException as error:
        handshake = None
        if link is not None:
            handshake = link.handshake
            link.give_up()
        if not isinstance(error, Exception):
            raise
        failure = failure_to_connect(error, where, timeout, handshake)
        raise failure from (None if failure is error else error)
