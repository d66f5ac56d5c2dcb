"""The listening side: accepts, lets peers authenticate within limits, hands over links.

Until a peer has proved the secret it gets little: one of a limited number of places, small frames, ten seconds
to say something and ten more to authenticate. TLS begins with a peer's first byte, so a silent one costs a
descriptor and little more. When the places are taken, the oldest peer of the busiest address has to go; a
newcomer is never refused, so a flood can't lock the others out. There are more places than workers that come
back at once after a restart: were there fewer, those on their way would be thrown out by the next ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Sequence

from kueue.errors import AuthenticationError, KueueError
from kueue.wire.complaints import Complaints
from kueue.wire.dialing import set_keepalive
from kueue.wire.handshake import SECONDS, ServerHandshake
from kueue.wire.link import Handler, Link, ServerLink
from kueue.wire.tls import server_context

log = logging.getLogger(__name__)

MAX_WAITING = 4096
"""Connections that have not authenticated yet; each is some 60 KB from its first byte on."""
BACKLOG = 4096
"""Of the kernel."""
ACCEPTS_AT_ONCE = 64
STARTS_AT_ONCE = 16
"""TLS handshakes begun in one run of the loop; the others' bytes are read in between."""


class _Waiting:
    """A peer on its way to be authenticated. `task` is there from the beginning of TLS on."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = address
        self.link: ServerLink | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None


class Listener:
    """Listens on any number of addresses with one certificate."""

    def __init__(self, max_waiting: int = MAX_WAITING, seconds: float = SECONDS) -> None:
        self._max_waiting = max_waiting
        self._seconds = seconds
        self._sockets: list[socket.socket] = []
        self._waiting: dict[str, OrderedDict[_Waiting, None]] = {}  # by address, in the order of arrival
        self._count = 0
        self._spoken: OrderedDict[_Waiting, None] = OrderedDict()  # those whose TLS is to begin
        self._starting = False
        self._oldest_is_next = False
        self._secrets: tuple[str, ...] = ()
        self._version = ""
        # Apart, so that no port scan hides that somebody tries secrets.
        self._refusals = Complaints(log)
        self._failures = Complaints(log)
        self._accept: Callable[[Link], Handler]
        self._loop: asyncio.AbstractEventLoop
        self._context: ssl.SSLContext
        self._der = b""

    async def start(
        self,
        addresses: Sequence[tuple[str, int]],
        *,
        secrets: Sequence[str],
        version: str,
        accept: Callable[[Link], Handler],
    ) -> None:
        """Listen on each of `addresses` that can be bound; the others are logged.

        `accept` is called with each authenticated link and returns its handler. Those who are not
        authenticated get half of the descriptors that this process may have at most.

        Raises:
            OSError: none of them can be bound.
        """
        self._loop = asyncio.get_running_loop()
        self._accept = accept
        self._version = version
        self.set_secrets(secrets)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if descriptors != resource.RLIM_INFINITY:
            self._max_waiting = min(self._max_waiting, max(1, descriptors // 2))
        self._context, self._der = server_context()
        first_error: OSError | None = None
        for host, port in addresses:
            try:
                sock = _bind(host, port)
            except OSError as error:
                first_error = first_error or OSError(error.errno, f"{host} port {port}: {error.strerror}")
                log.warning("can't listen on %s port %d: %s", host, port, error.strerror)
                continue
            self._sockets.append(sock)
            self._loop.add_reader(sock.fileno(), self._on_acceptable, sock)
        if not self._sockets:
            raise first_error or OSError(errno.EADDRNOTAVAIL, "no address to listen on")

    def set_secrets(self, secrets: Sequence[str]) -> None:
        """For handshakes that are not over yet, or begin from now on."""
        self._secrets = tuple(secrets)

    @property
    def ports(self) -> list[int]:
        """Of the addresses that are bound, in order."""
        return [int(sock.getsockname()[1]) for sock in self._sockets]

    @property
    def waiting(self) -> int:
        """Peers that have not authenticated yet."""
        return self._count

    async def close(self) -> None:
        """Listen no more; drop those that are not authenticated. Links are their owners' to close."""
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()
        tasks = []
        for waiting in [waiting for peers in self._waiting.values() for waiting in peers]:
            self._drop(waiting)
            if waiting.task is not None:
                tasks.append(waiting.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._refusals.close()
        self._failures.close()

    # ---------------------------------------------------------------- inside

    def _on_acceptable(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(listening, error)
                return
            sock.setblocking(False)
            self._admit(_Waiting(sock, str(peer[0])))

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """No descriptor is left: let those who wait go on waiting instead of spinning."""
        self._failures.add(f"no more connections for a second: {error.strerror}")
        self._loop.remove_reader(listening.fileno())

        def resume() -> None:
            if listening in self._sockets:
                self._loop.add_reader(listening.fileno(), self._on_acceptable, listening)

        self._loop.call_later(1.0, resume)

    def _admit(self, waiting: _Waiting) -> None:
        if self._count >= self._max_waiting:
            busiest = max(self._waiting, key=lambda address: len(self._waiting[address]))
            self._failures.add(f"{self._count} connections wait to authenticate, most from {busiest}")
            self._drop(next(iter(self._waiting[busiest])))
        self._waiting.setdefault(waiting.address, OrderedDict())[waiting] = None
        self._count += 1
        self._loop.add_reader(waiting.sock.fileno(), self._on_first_byte, waiting)
        waiting.timer = self._loop.call_later(self._seconds, self._on_slow, waiting)

    def _on_first_byte(self, waiting: _Waiting) -> None:
        self._loop.remove_reader(waiting.sock.fileno())
        assert waiting.timer is not None
        waiting.timer.cancel()  # from now on it is we who let it wait
        self._spoken[waiting] = None
        if not self._starting:
            self._starting = True
            self._loop.call_soon(self._start_some)

    def _start_some(self) -> None:
        """Begin TLS with some of those who have spoken: the newest and the oldest by turns.

        Whoever comes in the middle of a storm is served at once, and nobody is passed over for ever.
        """
        for _ in range(min(STARTS_AT_ONCE, len(self._spoken))):
            waiting, _ = self._spoken.popitem(last=not self._oldest_is_next)
            self._oldest_is_next = not self._oldest_is_next
            waiting.timer = self._loop.call_later(self._seconds, self._on_slow, waiting)
            waiting.task = self._loop.create_task(self._secure(waiting))
        self._starting = bool(self._spoken)
        if self._starting:
            self._loop.call_soon(self._start_some)

    async def _secure(self, waiting: _Waiting) -> None:
        """Bring TLS up; the rest of the handshake is the link's."""

        def make() -> ServerLink:
            handshake = ServerHandshake(self._secrets, self._der, self._version)
            link = ServerLink(handshake, lambda link: self._on_established(waiting, link))
            link.on_lost = lambda error: self._on_lost(waiting, error)
            waiting.link = link
            return link

        try:
            set_keepalive(waiting.sock)
            waiting.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                make, waiting.sock, ssl=self._context, ssl_handshake_timeout=self._seconds
            )
        except (OSError, ssl.SSLError, TimeoutError, asyncio.CancelledError) as error:
            self._forget(waiting)
            waiting.sock.close()
            if not isinstance(error, asyncio.CancelledError):
                self._failures.add(f"{waiting.address}: no TLS: {str(error) or 'closed'}")

    def _on_established(self, waiting: _Waiting, link: Link) -> Handler:
        if link.secret not in self._secrets:  # it was until a moment ago
            raise AuthenticationError("wrong proof: the peer's shared_secret is not accepted any more")
        self._forget(waiting)
        return self._accept(link)

    def _on_lost(self, waiting: _Waiting, error: BaseException | None) -> None:
        self._forget(waiting)
        if isinstance(error, AuthenticationError):
            self._refusals.add(f"{waiting.address} was refused: {error}")
        elif isinstance(error, KueueError):
            self._failures.add(f"{waiting.address}: {error}")

    def _on_slow(self, waiting: _Waiting) -> None:
        self._failures.add(f"{waiting.address} did not authenticate within {self._seconds:g} s")
        self._drop(waiting)

    def _drop(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        if waiting.task is None:
            self._loop.remove_reader(waiting.sock.fileno())
            waiting.sock.close()
        elif waiting.link is not None and waiting.task.done():
            waiting.link.abort()
        else:
            with contextlib.suppress(OSError):
                waiting.sock.shutdown(socket.SHUT_RDWR)
            waiting.task.cancel()
            # One that has not begun yet never will, and so closes nothing.
            waiting.task.add_done_callback(lambda task: waiting.sock.close())

    def _forget(self, waiting: _Waiting) -> None:
        peers = self._waiting.get(waiting.address)
        if peers is not None and waiting in peers:
            del peers[waiting]
            self._count -= 1
            if not peers:
                del self._waiting[waiting.address]
        self._spoken.pop(waiting, None)
        if waiting.timer is not None:
            waiting.timer.cancel()
            waiting.timer = None


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; an IPv6 one is v6-only, so that `0.0.0.0` and `[::]` don't collide."""
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
