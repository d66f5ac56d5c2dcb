"""Links over real TCP and TLS, on both event loops: messages arrive, and a peer's fault is its own only."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import queue
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvloop

from kueue.errors import AuthenticationError, ProtocolError, ServerUnreachableError
from kueue.wire import link as link_module
from kueue.wire.dialing import RefusedError
from kueue.wire.framing import frame
from kueue.wire.link import Handler, Link, connect
from kueue.wire.listener import Listener
from kueue.wire.messages import Backup, Done, Heartbeat, ListWorkers, RawBytes, Status, Welcome
from kueue.wire.tls import server_context
from tests.support.lab import free_port

SECRET = "a-secret-for-tests-only-0123456789abcdef"
OTHER = "another-secret-for-tests-0123456789abcdef"


class Peer:
    """A handler that keeps what it gets."""

    def __init__(self, on_message: Callable[[Any], None] | None = None) -> None:
        self.messages: list[Any] = []
        self.errors: list[BaseException | None] = []
        self._on_message = on_message
        self._news = asyncio.Event()

    def on_message(self, message: Any) -> None:
        if self._on_message is not None:
            self._on_message(message)
        self.messages.append(message)
        self._news.set()

    def on_closed(self, error: BaseException | None) -> None:
        self.errors.append(error)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._news.clear()
                await self._news.wait()


class Server:
    """A listener whose links and handlers the test can see."""

    def __init__(self) -> None:
        self.listener = Listener(max_waiting=16, seconds=5.0)
        self.links: list[Link] = []
        self.peers: list[Peer] = []
        self.handler: Callable[[Link], Peer] = lambda link: Peer()
        self.accepted = asyncio.Event()

    async def start(self, *secrets: str) -> None:
        await self.listener.start(
            [("127.0.0.1", 0)], secrets=secrets or (SECRET,), version="0.1.0", accept=self._accept
        )

    def _accept(self, link: Link) -> Handler:
        peer = self.handler(link)
        self.links.append(link)
        self.peers.append(peer)
        self.accepted.set()
        return peer

    @property
    def port(self) -> int:
        return self.listener.ports[0]

    async def connect(self, role: Any = "client", secret: str = SECRET) -> tuple[Link, Peer]:
        peer = Peer()
        link = await connect(
            "127.0.0.1", self.port, role=role, secret=secret, version="0.2.0", handler=peer, timeout=10
        )
        return link, peer


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs the test on asyncio's own loop and on uvloop; `server` is one that was started on it."""
    wanted = list(inspect.signature(test).parameters.values())

    async def run_with_server(**arguments: Any) -> None:
        server = Server()
        await server.start()
        try:
            await test(server=server, **arguments)
        finally:
            for link in server.links:
                link.abort()
            for peer in server.peers:
                await peer.until(lambda peer=peer: bool(peer.errors))  # type: ignore[misc]
            await server.listener.close()

    def run(loop: str, **arguments: Any) -> None:
        needs_server = any(parameter.name == "server" for parameter in wanted)
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run((run_with_server if needs_server else test)(**arguments))

    names = [inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    names += [parameter for parameter in wanted if parameter.name != "server"]
    run.__name__ = test.__name__
    run.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]
    run.pytestmark = [*getattr(test, "pytestmark", []), pytest.mark.parametrize("loop", LOOPS).mark]  # type: ignore[attr-defined]
    return run


async def accepted(server: Server, number: int = 1) -> None:
    """The client may know first that it is let in."""
    async with asyncio.timeout(20):
        while len(server.links) < number:
            server.accepted.clear()
            await server.accepted.wait()


@on_both_loops
async def test_messages_go_both_ways_each_decoded_for_its_role(server: Server) -> None:
    link, peer = await server.connect()
    await accepted(server)
    link.send(Backup(1, RawBytes(b"/tmp/\xff")))
    await server.peers[0].until(lambda: bool(server.peers[0].messages))
    assert server.peers[0].messages == [Backup(1, RawBytes(b"/tmp/\xff"))]
    server.links[0].send(Done(1, ("ready",)))
    await peer.until(lambda: bool(peer.messages))
    assert peer.messages == [Done(1, ("ready",))]
    assert (server.links[0].role, server.links[0].peer_version, link.peer_version) == (
        "client",
        "0.2.0",
        "0.1.0",
    )
    assert server.links[0].address == "127.0.0.1"
    link.close()
    await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert server.peers[0].errors == [None]


@on_both_loops
async def test_a_worker_s_messages_are_those_of_workers(server: Server) -> None:
    link, peer = await server.connect("worker")
    await accepted(server)
    link.send(Status(1.5, 100.0))
    server.links[0].send(Welcome("journal", 1, 5.0, 600.0, "0.1.0"))
    await server.peers[0].until(lambda: bool(server.peers[0].messages))
    await peer.until(lambda: bool(peer.messages))
    assert server.peers[0].messages == [Status(1.5, 100.0)]
    assert server.links[0].role == "worker"
    link.close()


@on_both_loops
async def test_what_is_sent_in_one_run_of_the_loop_leaves_in_one_write(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, _ = await server.connect()
    await accepted(server)
    writes: list[int] = []
    transport: Any = link._transport

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(transport, name)

        def write(self, data: bytes) -> None:
            writes.append(len(data))
            transport.write(data)

    monkeypatch.setattr(link, "_transport", Counting())
    for rid in range(500):
        link.send(ListWorkers(rid))
    assert link.queued_bytes > 0
    await server.peers[0].until(lambda: len(server.peers[0].messages) == 500)
    assert server.peers[0].messages == [ListWorkers(rid) for rid in range(500)]
    assert len(writes) == 1
    link.close()


@on_both_loops
async def test_a_late_message_goes_with_the_next_one_in_its_order(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LATE_SECONDS", 3600.0)
    link, _ = await server.connect()
    await accepted(server)
    for rid in (1, 2):
        link.send(ListWorkers(rid), late=True)
    await asyncio.sleep(0.05)
    assert server.peers[0].messages == []
    assert link.queued_bytes > 0
    link.send(ListWorkers(3))
    await server.peers[0].until(lambda: len(server.peers[0].messages) == 3)
    assert server.peers[0].messages == [ListWorkers(rid) for rid in (1, 2, 3)]
    link.send(ListWorkers(4), late=True)
    link.close()
    await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert server.peers[0].messages[3:] == [ListWorkers(4)]


@on_both_loops
async def test_a_late_message_goes_by_itself_after_a_while(server: Server) -> None:
    link, _ = await server.connect()
    await accepted(server)
    for rid in (1, 2):
        link.send(ListWorkers(rid), late=True)
        await server.peers[0].until(lambda rid=rid: len(server.peers[0].messages) == rid)  # type: ignore[misc]
    link.close()


@on_both_loops
async def test_close_sends_what_is_queued_first(server: Server) -> None:
    link, _ = await server.connect()
    await accepted(server)
    for rid in range(100):
        link.send(Backup(rid, "x" * 10_000))
    link.close()
    link.send(ListWorkers(0))  # after the end: nothing happens
    await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert len(server.peers[0].messages) == 100


@on_both_loops
async def test_a_frame_of_megabytes_is_one_message(server: Server) -> None:
    link, _ = await server.connect()
    await accepted(server)
    link.send(Backup(1, "y" * 15_000_000))
    await server.peers[0].until(lambda: bool(server.peers[0].messages))
    assert len(server.peers[0].messages[0].path) == 15_000_000
    link.close()


BAD_BODIES = {
    "garbage": frame(b"\x00\xff\x17"),
    "the other direction's": frame(b'{"type": "done", "rid": 1}'),
    "deeply nested": frame(b"[" * 1_000_000),
    "too large": (16 * 1024 * 1024 + 1).to_bytes(4, "big"),
    "empty": frame(b""),
}


@on_both_loops
@pytest.mark.parametrize("data", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_frame_closes_that_peer_and_no_other(
    server: Server, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    bad, bad_peer = await server.connect()
    await accepted(server, 1)
    good, _ = await server.connect()
    await accepted(server, 2)
    assert bad._transport is not None
    bad._transport.write(data)
    await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert isinstance(server.peers[0].errors[0], ProtocolError)
    assert "does not allow" in caplog.text
    await bad_peer.until(lambda: bool(bad_peer.errors))
    good.send(Heartbeat())
    await server.peers[1].until(lambda: bool(server.peers[1].messages))
    good.close()


@on_both_loops
async def test_a_truncated_frame_is_no_message(server: Server) -> None:
    link, _ = await server.connect()
    await accepted(server)
    assert link._transport is not None
    link._transport.write(frame(b'{"type": "heartbeat"}')[:-3])
    link._transport.close()
    await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert server.peers[0].messages == []


@on_both_loops
async def test_a_handler_that_fails_costs_its_own_peer_only(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Any) -> None:
        raise RuntimeError("a broken invariant")

    server.handler = lambda link: Peer(fail if not server.links else None)
    bad, _ = await server.connect()
    await accepted(server, 1)
    good, _ = await server.connect()
    await accepted(server, 2)
    with caplog.at_level(logging.ERROR):
        bad.send(Heartbeat())
        await server.peers[0].until(lambda: bool(server.peers[0].errors))
    assert "a broken invariant" in caplog.text
    good.send(Heartbeat())
    await server.peers[1].until(lambda: bool(server.peers[1].messages))
    good.close()


@on_both_loops
async def test_a_slow_reader_is_seen_and_cut_off_at_the_bound(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "MAX_QUEUED_BYTES", 8 * 1024 * 1024)
    link, _ = await server.connect()
    await accepted(server)
    link.pause_reading()
    sender = server.links[0]
    largest = 0
    async with asyncio.timeout(20):
        while not server.peers[0].errors:
            sender.send(Done(1, ("z" * 100_000,)))
            largest = max(largest, sender.queued_bytes)
            await asyncio.sleep(0)
    assert largest > 1024 * 1024
    assert isinstance(server.peers[0].errors[0], ProtocolError)
    link.abort()


@on_both_loops
async def test_requests_wait_for_as_long_as_their_answers_are_not_read(server: Server) -> None:
    def handler(link: Link) -> Peer:
        link.max_unread = 1024 * 1024
        return Peer(lambda message: link.send(Done(message.rid, ("a" * 100_000,))))

    server.handler = handler
    link, peer = await server.connect()
    await accepted(server)
    link.pause_reading()
    for rid in range(400):
        link.send(ListWorkers(rid))
    sender, largest = server.links[0], 0
    async with asyncio.timeout(20):
        while sender.stuck_since is None or not sender._resting:  # noqa: ASYNC110
            await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
        largest = max(largest, sender.queued_bytes)
    assert 0 < largest < 1_300_000
    assert len(server.peers[0].messages) < 400
    link.resume_reading()
    await peer.until(lambda: len(peer.messages) == 400)
    assert [message.rid for message in peer.messages] == list(range(400))
    assert sender.stuck_since is None
    link.close()


@on_both_loops
async def test_one_with_many_requests_lets_others_have_their_turn(server: Server) -> None:
    def handler(link: Link) -> Peer:
        def answer(message: Any) -> None:
            time.sleep(0.002)  # that is work, nothing is waited for
            link.send(Done(message.rid))

        link.max_unread = 1024 * 1024
        return Peer(answer)

    server.handler = handler
    (greedy, at_length), (modest, soon) = await server.connect(), await server.connect()
    await accepted(server, 2)
    for rid in range(1000):
        greedy.send(ListWorkers(rid))
    await server.peers[0].until(lambda: bool(server.peers[0].messages))
    modest.send(ListWorkers(0))
    await soon.until(lambda: bool(soon.messages))
    assert len(server.peers[0].messages) < 500
    await at_length.until(lambda: len(at_length.messages) == 1000)
    assert [message.rid for message in at_length.messages] == list(range(1000))
    for link in (greedy, modest):
        link.close()


@on_both_loops
async def test_who_is_held_in_the_middle_of_a_turn_goes_on_where_it_was(server: Server) -> None:
    def handler(link: Link) -> Peer:
        link.max_unread = 1024 * 1024
        return Peer(lambda message: link.pause_reading() if message.rid == 10 else None)

    server.handler = handler
    link, _ = await server.connect()
    for rid in range(1, 101):
        link.send(ListWorkers(rid))
    await accepted(server)
    await server.peers[0].until(lambda: len(server.peers[0].messages) >= 10)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(server.peers[0].messages) == 10
    server.links[0].resume_reading()
    await server.peers[0].until(lambda: len(server.peers[0].messages) == 100)
    assert [message.rid for message in server.peers[0].messages] == list(range(1, 101))
    link.close()


@on_both_loops
async def test_reading_can_be_paused_and_nothing_is_lost(server: Server) -> None:
    link, peer = await server.connect()
    await accepted(server)
    link.pause_reading()
    drained = asyncio.Event()
    server.links[0].on_drained = drained.set
    for rid in range(200):
        server.links[0].send(Done(rid, ("w" * 50_000,)))
    await asyncio.sleep(0)
    assert server.links[0].queued_bytes > 0
    link.resume_reading()
    await peer.until(lambda: len(peer.messages) == 200)
    assert [message.rid for message in peer.messages] == list(range(200))
    async with asyncio.timeout(10):
        await drained.wait()
    link.close()


@on_both_loops
async def test_a_wrong_secret_is_told_to_the_one_who_has_it(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(AuthenticationError, match="shared_secret differs"):
        await server.connect(secret=OTHER)
    assert not server.links
    assert "was refused" in caplog.text
    assert SECRET not in caplog.text


@on_both_loops
async def test_secrets_can_be_changed_while_serving(server: Server) -> None:
    server.listener.set_secrets([OTHER, SECRET])
    for secret in (SECRET, OTHER):
        link, _ = await server.connect(secret=secret)
        link.close()
    server.listener.set_secrets([OTHER])
    with pytest.raises(AuthenticationError):
        await server.connect(secret=SECRET)


async def refused_text(port: int, seconds: float = 5.0, host: str = "127.0.0.1") -> str:
    with pytest.raises(ServerUnreachableError) as raised:
        await connect(
            host, port, role="client", secret=SECRET, version="0.1.0", handler=Peer(), timeout=seconds
        )
    return str(raised.value)


@on_both_loops
async def test_nobody_there_is_a_refusal_that_may_pass() -> None:
    port = free_port()
    with pytest.raises(RefusedError, match=rf"no server at 127.0.0.1:{port}"):
        await connect("127.0.0.1", port, role="client", secret=SECRET, version="0.1.0", handler=Peer())


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def stranger(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Something else than a Kueue server; its port. At the end all of its connections have ended."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*tasks)


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says that it does not understand."""
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, and something else."""
    writer.write(b"220 mail.example.org ESMTP ready\r\n")
    await reader.read()


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing."""
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Does not want to talk."""


@on_both_loops
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("talk", [web, mail, closing])
async def test_strangers_are_told_from_kueue_servers(talk: Talk, tls: bool) -> None:
    async with stranger(talk, server_context()[0] if tls else None) as port:
        silent = tls and talk is web  # waits for us to begin, as we do for it
        says = "not a Kueue server" if silent else "not as a Kueue server"
        assert says in await refused_text(port, 0.5 if silent else 10.0)


@on_both_loops
@pytest.mark.parametrize("tls", [False, True])
async def test_silence_is_not_waited_for_longer_than_asked(tls: bool) -> None:
    async with stranger(mute, server_context()[0] if tls else None) as port:
        text = await refused_text(port, 0.3)
        assert any(says in text for says in ("no answer within 0.3 s", "nothing for 0.3 s", "not as a Kueue"))


@on_both_loops
@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
async def test_hosts_that_are_none_are_named(host: str) -> None:
    assert host in await refused_text(1, host=host)


@on_both_loops
@pytest.mark.parametrize("tls", [False, True])
async def test_giving_up_while_connecting_leaves_no_connection_behind(tls: bool) -> None:
    met, gone = asyncio.Event(), asyncio.Event()

    async def patient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.set()
        with contextlib.suppress(OSError):
            await reader.read()
        gone.set()

    async with stranger(patient, server_context()[0] if tls else None) as port:
        task = asyncio.ensure_future(
            connect("127.0.0.1", port, role="client", secret=SECRET, version="0.1.0", handler=Peer())
        )
        async with asyncio.timeout(10):
            await met.wait()
            task.cancel()
            await gone.wait()
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)


def test_loops_of_several_threads_do_not_read_each_other_s_messages() -> None:
    """A server's and three clients', all of which read at the same time."""
    count = 400
    ports: queue.Queue[int] = queue.Queue()
    over = threading.Event()

    class Echo:
        def __init__(self, link: Link) -> None:
            self._link = link

        def on_message(self, message: Backup) -> None:
            self._link.send(Done(message.rid, (str(message.path),) * 20))

        def on_closed(self, error: BaseException | None) -> None:
            pass

    def serve() -> None:
        async def main() -> None:
            listener = Listener()
            await listener.start([("127.0.0.1", 0)], secrets=[SECRET], version="0", accept=Echo)
            ports.put(listener.ports[0])
            await asyncio.to_thread(over.wait)
            await listener.close()

        asyncio.run(main())

    def talk(port: int, name: str) -> list[Any]:
        async def main() -> list[Any]:
            peer = Peer()
            link = await connect(
                "127.0.0.1", port, role="client", secret=SECRET, version="0", handler=peer, timeout=10
            )
            for rid in range(count):
                link.send(Backup(rid, name * (1 + rid)))
            await peer.until(lambda: len(peer.messages) == count or bool(peer.errors))
            link.close()
            await peer.until(lambda: bool(peer.errors))
            return peer.messages

        return asyncio.run(main())

    with ThreadPoolExecutor(4) as pool:
        serving = pool.submit(serve)
        port = ports.get(timeout=20)
        try:
            heard = [pool.submit(talk, port, name) for name in "abc"]
            for name, messages in zip("abc", heard, strict=True):
                assert messages.result(60) == [Done(rid, (name * (1 + rid),) * 20) for rid in range(count)]
        finally:
            over.set()
            serving.result(20)
