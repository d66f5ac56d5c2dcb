"""Who has not authenticated gets little, and can't keep others out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from kueue.errors import AuthenticationError, ServerUnreachableError
from kueue.wire.framing import frame
from kueue.wire.link import Handler, Link, connect
from kueue.wire.listener import Listener
from kueue.wire.messages import Done, ListWorkers
from kueue.wire.tls import client_context, server_context
from tests.support.lab import free_port

SECRET = "a-secret-for-tests-only-0123456789abcdef"


class Echo:
    """Answers each request."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def on_message(self, message: Any) -> None:
        self.link.send(Done(message.rid))

    def on_closed(self, error: BaseException | None) -> None:
        pass


class Asker:
    """Counts the answers."""

    def __init__(self) -> None:
        self.answers = 0
        self.news = asyncio.Event()

    def on_message(self, message: Any) -> None:
        self.answers += 1
        self.news.set()

    def on_closed(self, error: BaseException | None) -> None:
        self.news.set()


class Served:
    """A listener and the links that it let in."""

    def __init__(self, max_waiting: int, seconds: float) -> None:
        self.listener = Listener(max_waiting=max_waiting, seconds=seconds)
        self.links: list[Link] = []

    def accept(self, link: Link) -> Handler:
        self.links.append(link)
        return Echo(link)

    @property
    def port(self) -> int:
        return self.listener.ports[0]


@contextlib.asynccontextmanager
async def serving(
    max_waiting: int = 16, seconds: float = 10.0, address: str = "127.0.0.1"
) -> AsyncIterator[Served]:
    served = Served(max_waiting, seconds)
    await served.listener.start([(address, 0)], secrets=[SECRET], version="0.1.0", accept=served.accept)
    yield served
    for link in served.links:
        link.abort()
    await served.listener.close()


async def client(port: int, handler: Asker | None = None) -> Link:
    return await connect(
        "127.0.0.1", port, role="client", secret=SECRET, version="0.1.0", handler=handler or Asker()
    )


async def until(condition: Callable[[], bool]) -> None:
    """What only the listener knows, and tells nobody."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection, however it ends."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        return await reader.read()
    return b""


async def tls(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, ssl=client_context())


async def test_two_hundred_silent_peers_keep_nobody_out_and_disturb_nobody() -> None:
    async with serving(max_waiting=32) as served:
        asker = Asker()
        link = await client(served.port, asker)
        peers = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(200)]
        link.send(ListWorkers(1))
        newcomer = await client(served.port)
        async with asyncio.timeout(20):
            while not asker.answers:
                asker.news.clear()
                await asker.news.wait()
            await until(lambda: served.listener.waiting == 32)
        # The oldest had to go: their connections have ended, the youngest are still open.
        async with asyncio.timeout(20):
            assert await ended(peers[0][0]) == b""
        assert not peers[-1][0].at_eof()
        newcomer.close()
        link.close()
        for _, writer in peers:
            writer.close()


async def test_the_flood_of_one_address_costs_that_address_only() -> None:
    async with serving(max_waiting=4, address="0.0.0.0") as served:
        loop = asyncio.get_running_loop()

        async def dial(source: str) -> socket.socket:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind((source, 0))
            await loop.sock_connect(sock, ("127.0.0.1", served.port))
            return sock

        async def dropped(sock: socket.socket) -> None:
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionError):
                    assert await loop.sock_recv(sock, 1) == b""

        def addresses() -> list[str]:
            waiting = served.listener._waiting
            return [address for address, peers in waiting.items() for _ in peers]

        flood = [await dial("127.0.0.3") for _ in range(4)]
        await until(lambda: len(addresses()) == 4)
        lonely = await dial("127.0.0.2")  # all places are taken, and not by its own address
        await dropped(flood[0])
        assert sorted(addresses()) == ["127.0.0.2"] + ["127.0.0.3"] * 3
        flood += [await dial("127.0.0.3") for _ in range(16)]
        for sock in flood[1:17]:
            await dropped(sock)
        assert sorted(addresses()) == ["127.0.0.2"] + ["127.0.0.3"] * 3
        for sock in (lonely, *flood):
            sock.close()


def greetings(port: int, count: int) -> list[socket.socket]:
    """Peers that have sent the first bytes of TLS, and wait."""
    peers = []
    for _ in range(count):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            client_context().wrap_bio(incoming, outgoing).do_handshake()
        peer = socket.create_connection(("127.0.0.1", port))
        peer.sendall(outgoing.read())
        peers.append(peer)
    return peers


async def test_a_newcomer_does_not_wait_behind_a_crowd_and_the_crowd_is_served_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("kueue.wire.listener.STARTS_AT_ONCE", 4)
    async with serving(max_waiting=1000) as served:
        crowd = greetings(served.port, 200)
        link = await client(served.port)
        assert len(served.listener._spoken) > 50
        link.close()
        await until(lambda: not served.listener._spoken)
        loop = asyncio.get_running_loop()
        for peer in crowd:
            peer.setblocking(False)
            async with asyncio.timeout(20):
                assert await loop.sock_recv(peer, 1)
            peer.close()


async def test_tls_begins_with_a_peers_first_byte() -> None:
    async with serving() as served:
        silent = socket.create_connection(("127.0.0.1", served.port))
        link = await client(served.port)
        await until(lambda: len(served.links) == 1 == served.listener.waiting)
        ((waiting,),) = served.listener._waiting.values()
        assert waiting.task is None
        silent.close()
        link.close()


async def test_those_who_are_not_authenticated_leave_descriptors_to_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (20, 20))
    async with serving(max_waiting=1000) as served:
        peers = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(15)]
        await until(lambda: served.listener.waiting == 10)
        peers[0].setblocking(False)
        async with asyncio.timeout(20):
            assert await asyncio.get_running_loop().sock_recv(peers[0], 1) == b""
        for peer in peers:
            peer.close()


async def test_a_peer_that_does_not_authenticate_in_time_is_dropped_without_a_word() -> None:
    async with serving(seconds=0.3) as served:
        plain, plain_writer = await asyncio.open_connection("127.0.0.1", served.port)
        secure, secure_writer = await tls(served.port)
        async with asyncio.timeout(20):
            assert await ended(plain) == b""
            assert (await ended(secure)).count(b"challenge") == 1  # nothing but the greeting
        assert served.listener.waiting == 0
        for writer in (plain_writer, secure_writer):
            writer.close()


BEFORE = {
    "a request without a proof": frame(b'{"type": "list_jobs", "rid": 1}'),
    "garbage": b"\x00\x00\x00\x05hello",
    "a frame of 4 KiB and one byte": (4097).to_bytes(4, "big"),
    "a giant frame": b"\xff\xff\xff\xff",
    "an empty frame": b"\x00\x00\x00\x00",
    "deep nesting": frame(b"[" * 4000),
    "a wrong proof": frame(
        b'{"type":"client_proof","role":"client","nonce":"' + b"A" * 43 + b'=","mac":"AAAA"}'
    ),
    "a proof of a role that there is not": frame(
        b'{"type":"client_proof","role":"root","nonce":"' + b"A" * 43 + b'=","mac":"AAAA"}'
    ),
}


@pytest.mark.parametrize("data", BEFORE.values(), ids=BEFORE.keys())
async def test_before_authentication_whatever_is_not_the_handshake_ends_in_silence(data: bytes) -> None:
    async with serving() as served:
        reader, writer = await tls(served.port)
        greeting = await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        assert b"challenge" in greeting
        writer.write(data)
        async with asyncio.timeout(20):
            assert await ended(reader) == b""
        writer.close()
        assert not served.links


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70, b"\0" * 9])
async def test_a_peer_without_tls_is_dropped(data: bytes) -> None:
    async with serving() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(20):
            await ended(reader)
        writer.close()
        link = await client(served.port)
        link.close()


async def test_an_older_tls_is_refused() -> None:
    async with serving() as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", served.port, ssl=context)


async def test_failures_are_logged_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as served:
        with caplog.at_level(logging.WARNING):
            for _ in range(10):
                with pytest.raises(AuthenticationError):
                    await connect(
                        "127.0.0.1",
                        served.port,
                        role="worker",
                        secret="x" * 40,
                        version="0.1.0",
                        handler=Asker(),
                    )
            assert len(caplog.records) == 1
            assert "127.0.0.1 was refused" in caplog.text
    assert len(caplog.records) == 2
    assert "(and 8 more like it)" in caplog.text  # none is left out, at the latest at the end


async def test_a_wrong_secret_is_told_though_others_fail_otherwise_all_the_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as served:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while "no TLS" not in caplog.text:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
        with pytest.raises(AuthenticationError):
            await connect(
                "127.0.0.1", served.port, role="client", secret="x" * 40, version="0.1.0", handler=Asker()
            )
        assert "127.0.0.1 was refused: wrong proof" in caplog.text


async def test_a_man_in_the_middle_gets_nothing() -> None:
    """He speaks TLS to both sides with a certificate of his own and passes every byte on."""
    async with serving() as served:
        context, _ = server_context()
        seen: list[bytes] = []
        tasks: list[asyncio.Task[None]] = []

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while data := await reader.read(65536):
                    seen.append(data)
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await tls(served.port)
            tasks.append(asyncio.ensure_future(relay(far_reader, writer)))
            await relay(reader, far_writer)

        async with await asyncio.start_server(between, "127.0.0.1", 0, ssl=context) as proxy:
            with pytest.raises(AuthenticationError):
                await client(proxy.sockets[0].getsockname()[1])
            await asyncio.gather(*tasks)
        assert any(b"client_proof" in data for data in seen)  # he had it, and it was of no use
        assert not any(b"server_proof" in data for data in seen)
        assert not served.links


async def test_it_serves_as_long_as_one_address_can_be_bound(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        listener = Listener()
        await listener.start(
            [("127.0.0.1", port), ("127.0.0.1", 0)], secrets=[SECRET], version="0.1.0", accept=Echo
        )
        assert len(listener.ports) == 1
        assert f"can't listen on 127.0.0.1 port {port}" in caplog.text
        await listener.close()
        with pytest.raises(OSError, match=f"127.0.0.1 port {port}"):
            await Listener().start([("127.0.0.1", port)], secrets=[SECRET], version="0.1.0", accept=Echo)


def has_ipv6() -> bool:
    """Can anything be bound to it on this machine?"""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_all_of_ipv4_and_all_of_ipv6_can_have_the_same_port() -> None:
    port = free_port()
    listener = Listener()
    await listener.start([("0.0.0.0", port), ("::", port)], secrets=[SECRET], version="0.1.0", accept=Echo)
    try:
        assert listener.ports == [port, port]
        for host in ("127.0.0.1", "::1"):
            link = await connect(host, port, role="client", secret=SECRET, version="0.1.0", handler=Asker())
            link.abort()
    finally:
        await listener.close()


async def test_after_close_nobody_is_let_in() -> None:
    async with serving() as served:
        port = served.port
        pending = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            await until(lambda: served.listener.waiting == 1)
        await served.listener.close()
        async with asyncio.timeout(10):
            assert await ended(pending[0]) == b""
        pending[1].close()
        with pytest.raises(ServerUnreachableError):
            await client(port)
