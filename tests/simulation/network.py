"""A network of hosts: connections that delay, stall, break, and die without a word.

What TCP promises holds (bytes of one connection arrive in order, or not at all); nothing else does. A cut path
holds what is sent until it heals or somebody gives up; a host without power swallows it. `Link`, framing and
messages are the product's own; of a connection only the transport below and the handshake are stood in for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kueue import __version__
from kueue.errors import ServerUnreachableError
from kueue.wire import codec
from kueue.wire.dialing import RefusedError
from kueue.wire.handshake import Role
from kueue.wire.link import Handler, Link
from tests.simulation.world import Host, Process, World

PROTOCOL = 1
SECRET = "a-secret-for-simulations-only-0123456789"
"""What every end has, and has proved to have."""
LOST_HOST_SECONDS = 3.0
"""How often a sender tries again to reach a host that is down."""


class Network:
    """`usual_delay` is the most a message takes; now and then (`rare_delay_chance`) it takes up to `rare_delay`.
    Each connection draws its delays from a stream of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.usual_delay = 0.002
        self.rare_delay = 2.0
        self.rare_delay_chance = 0.0
        self.duplicate_chance = 0.0
        self.duplicates = 0
        self.connections: list[tuple[Transport, Transport]] = []
        self._cut: set[tuple[str, str]] = set()
        self._serial = 0

    # ---------------------------------------------------------------- paths

    def cut(self, source: str, target: str) -> None:
        """Nothing gets through in this direction."""
        self._cut.add((source, target))

    def heal(self, source: str, target: str) -> None:
        """What was held back is delivered."""
        self._cut.discard((source, target))
        for pair in self.connections:
            for transport in pair:
                transport.path_changed()

    def heal_all(self) -> None:
        """All paths are open."""
        for source, target in sorted(self._cut):
            self.heal(source, target)

    def is_open(self, source: Host, target: Host) -> bool:
        """Do packets get from one host to another?"""
        return (source.name, target.name) not in self._cut

    def break_connections(self, host: str) -> None:
        """A middle box forgets all connections of a host: both ends get a reset."""
        for pair in list(self.connections):
            if host in (pair[0].host.name, pair[1].host.name):
                for transport in pair:
                    transport.reset()

    # ---------------------------------------------------------------- connecting

    async def connect(
        self, process: Process, source: Host, target: Host, role: Role, handler: Handler, seconds: float
    ) -> Link:
        """As `kueue.wire.link.connect`, for a process on `source`."""
        self._serial += 1
        delays = self.world.stream(f"connection {self._serial}")
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def established(link: Link) -> Handler:
            return handler

        near = SimulatedLink(established, role)
        here = Transport(self, process, source, near, delays)
        near.connection_made(here)
        here.pause_reading()

        def answered(far: Transport | None) -> None:
            if here.closed or ready.done():
                if far is not None:
                    far.reset()
            elif far is None:
                ready.set_exception(RefusedError(f"nobody listens at {target.name}"))
            else:
                near.establish(codec.decode_to_worker if role == "worker" else codec.decode_to_client)
                here.resume_reading()  # what the server said since has come with its answer
                ready.set_result(None)

        def arrive() -> None:
            """The first packet is there."""
            if not target.up or not self.is_open(source, target):
                self.world.after(1.0, arrive)
                return
            listening = target.listening
            if listening is None or not listening[0].alive:
                self._back(delays, target, source, process, lambda: answered(None))
                return
            server, accept = listening

            def take() -> None:
                far = SimulatedLink(accept, role)
                there = Transport(self, server, target, far, delays)
                here.peer, there.peer = there, here
                self.connections.append((here, there))
                far.connection_made(there)
                far.address = source.name
                far.secret = SECRET
                far.establish(
                    codec.decode_worker_message if role == "worker" else codec.decode_client_message
                )
                self._back(delays, target, source, process, lambda: answered(there))

            server.loop.call_soon(take)

        self.world.after(self.delay(delays), arrive)
        try:
            async with asyncio.timeout(seconds):
                await ready
        except BaseException as error:
            here.abort()
            if isinstance(error, TimeoutError):
                raise ServerUnreachableError(f"{target.name} does not answer") from None
            raise
        return near

    def _back(
        self, delays: Any, source: Host, target: Host, process: Process, what: Callable[[], None]
    ) -> None:
        def arrive() -> None:
            if not self.is_open(source, target):
                self.world.after(1.0, arrive)
            elif process.alive:
                process.loop.call_soon(what)

        self.world.after(self.delay(delays), arrive)

    def delay(self, delays: Any) -> float:
        """Seconds for one packet."""
        if self.rare_delay_chance and delays.random() < self.rare_delay_chance:
            return float(delays.uniform(0.0, self.rare_delay))
        return float(delays.uniform(0.00005, self.usual_delay))


class SimulatedLink(Link):
    """A link without the handshake."""

    def __init__(self, established: Callable[[Link], Handler], role: Role) -> None:
        super().__init__(established)
        self.role = role

    def establish(self, decode: Callable[[bytes], Any]) -> None:
        """Both sides have proved who they are."""
        self._establish(__version__, PROTOCOL, decode)

    def _lost_before_established(self, error: BaseException | None) -> None:
        """Whoever dials has noticed."""


class Transport(asyncio.Transport):
    """One end of a connection. Implements what `Link` uses of `asyncio.Transport`."""

    def __init__(
        self, network: Network, process: Process, host: Host, link: SimulatedLink, delays: Any
    ) -> None:
        super().__init__()
        self.host = host
        self.process = process
        self.peer: Transport | None = None
        self.closed = False
        self._network = network
        self._world = network.world
        self._link = link
        self._delays = delays
        self._stuck: list[bytes | None] = []  # sent and held back by the path; None: our close
        self._last_arrival = 0.0
        self._paused = False
        self._unread: list[bytes] = []
        process.died.append(self._process_died)

    # ---------------------------------------------------------------- for the link

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is room for everything."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.host.name, 0) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return sum(len(data) for data in self._stuck if data is not None)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed or not self.process.alive:
            return
        self.process.instruction()
        data = bytes(data)
        self._send(data)
        if self._network.duplicate_chance and self._delays.random() < self._network.duplicate_chance:
            self._network.duplicates += 1
            self._send(data)

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        unread, self._unread = self._unread, []
        for data in unread:
            self._take(data)

    def close(self) -> None:
        if not self.closed and self.process.alive:
            self._send(None)
            self._end(None)

    def abort(self) -> None:
        if not self.closed and self.process.alive:
            self._send_reset()
            self._end(None)

    # ---------------------------------------------------------------- the path

    def _send(self, data: bytes | None) -> None:
        if self._stuck or (self.peer is not None and not self._network.is_open(self.host, self.peer.host)):
            self._stuck.append(data)
        else:
            self._transmit(data)

    def path_changed(self) -> None:
        """What was held back may get through now."""
        if self._stuck and self.peer is not None and self._network.is_open(self.host, self.peer.host):
            stuck, self._stuck = self._stuck, []
            for data in stuck:
                self._transmit(data)

    def _transmit(self, data: bytes | None) -> None:
        when = max(self._last_arrival, self._world.now + self._network.delay(self._delays))
        self._last_arrival = when
        self._world.at(when, lambda: self._arrive(data))

    def _arrive(self, data: bytes | None) -> None:
        peer = self.peer
        if peer is None:
            return
        if not peer.host.up:
            self._world.after(LOST_HOST_SECONDS, lambda: self._arrive(data))
        elif peer.closed or not peer.process.alive:
            if data is not None:
                peer._send_reset()  # the host knows nothing of this connection any more
        elif data is None:
            peer.process.loop.call_soon(peer._ended_by_peer)
        else:
            peer.process.loop.call_soon(peer._receive, data)

    def _receive(self, data: bytes) -> None:
        if self.closed:
            return
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Have the link read, for as long as it wants to."""
        while data and not self._paused and not self.closed:
            room = self._link.get_buffer(len(data))
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            self._link.buffer_updated(size)
        if data:
            self._unread.append(data)

    def _ended_by_peer(self) -> None:
        if not self.closed:
            self._end(None)

    # ---------------------------------------------------------------- the end

    def reset(self) -> None:
        """The connection broke under it."""
        if not self.closed and self.process.alive:
            self.process.loop.call_soon(self._broken)

    def _broken(self) -> None:
        if not self.closed:
            self._end(ConnectionResetError("the connection was reset"))

    def _end(self, error: BaseException | None) -> None:
        self.closed = True
        self._forget()
        self.process.loop.call_soon(self._link.connection_lost, error)

    def _process_died(self) -> None:
        if not self.closed:
            self.closed = True
            self._forget()
            if self.host.up:
                self._send_reset()

    def _send_reset(self) -> None:
        peer = self.peer
        if peer is not None and self._network.is_open(self.host, peer.host):
            self._world.after(self._network.delay(self._delays), peer.reset)

    def _forget(self) -> None:
        if self.peer is not None and self.peer.closed:
            self._network.connections = [pair for pair in self._network.connections if self not in pair]
