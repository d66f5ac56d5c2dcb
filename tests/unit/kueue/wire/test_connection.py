"""The blocking connection: whatever answers at the other end, it is told in one line and in time."""

from __future__ import annotations

import errno
import gc
import select
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from kueue.errors import AuthenticationError, ServerUnreachableError, VersionError
from kueue.wire import handshake
from kueue.wire.codec import encode
from kueue.wire.connection import BlockingConnection, ConnectionLostError, RefusedError
from kueue.wire.framing import frame
from kueue.wire.messages import Backup, Done, ListWorkers, Unwatch
from kueue.wire.tls import server_context
from tests.support.lab import free_port
from tests.support.scripted_clients_server import SECRET, clients_server

Talk = Callable[[socket.socket], None]


@contextmanager
def stranger(talk: Talk, *, tls: bool) -> Iterator[int]:
    """Something that accepts one connection and talks as it likes; its port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            with suppress(OSError):
                plain, _ = listening.accept()
                with plain:
                    plain.settimeout(10)
                    if not tls:
                        talk(plain)
                        return
                    with server_context()[0].wrap_socket(plain, server_side=True) as secure:
                        talk(secure)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(20)
            assert not thread.is_alive()


def connect(port: int, timeout: float = 10.0, host: str = "127.0.0.1") -> BlockingConnection:
    return BlockingConnection(host, port, SECRET, "0.1.0", timeout)


def test_messages_go_both_ways() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        connection.send(ListWorkers(5))
        reply = connection.receive(10)
        assert reply is not None
        assert reply.rid == 5  # type: ignore[union-attr]
        assert connection.receive(0.01) is None
        connection.close()
        with pytest.raises(ConnectionLostError):
            connection.send(ListWorkers(6))


def test_a_late_message_goes_with_the_next_one_in_its_order() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        connection.send_late(Unwatch(4))
        assert connection.receive(0.1) is None
        assert server.received == []
        connection.send(ListWorkers(5))
        assert connection.receive(10) is not None
        assert server.received == [Unwatch(4), ListWorkers(5)]
        connection.send(ListWorkers(6))
        assert connection.receive(10) is not None
        assert server.received[2:] == [ListWorkers(6)]
        connection.close()


def test_a_message_of_megabytes_gets_through_while_the_server_talks() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        for rid in range(50):
            connection.send(ListWorkers(rid))
        connection.send(Backup(50, "x" * 10_000_000))
        rids = [connection.receive(10).rid for _ in range(51)]  # type: ignore[union-attr]
        assert rids == list(range(51))
        connection.close()


def test_who_is_reset_before_tls_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a server that is killed, say. The standard library would leave it to the garbage collector."""

    def reset(plain: socket.socket) -> None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def until_reset(plain: socket.socket) -> None:
        poll = select.poll()
        poll.register(plain, select.POLLIN)
        assert poll.poll(20_000)

    monkeypatch.setattr("kueue.wire.connection.set_keepalive", until_reset)
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with stranger(reset, tls=False) as port:
        with pytest.raises(ServerUnreachableError, match="not as a Kueue server") as caught:
            connect(port)
        caught.value.__cause__ = None
        gc.collect()
    assert unraisable == []


def test_who_is_reset_while_tls_begins_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def reset(wrapped: ssl.SSLSocket) -> object:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")

    monkeypatch.setattr(ssl.SSLSocket, "getpeername", reset)
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with stranger(lambda plain: None, tls=False) as port:
        with pytest.raises(ServerUnreachableError) as caught:
            connect(port)
        caught.value.__cause__ = None
        gc.collect()
    assert unraisable == []


def test_a_descriptor_beyond_1023_is_no_matter() -> None:
    """`select` could not take it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1200 if hard == resource.RLIM_INFINITY else min(1200, hard)
    if wanted < 1200:
        pytest.skip("so many descriptors are not allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    pipes = []
    try:
        with clients_server() as server:
            with open("/dev/null", "rb") as null:
                pipes = [socket.socket() for _ in range(1100)]
                assert max(null.fileno(), pipes[-1].fileno()) > 1023
            connection = connect(server.port)
            connection.send(ListWorkers(5))
            assert connection.receive(10) is not None
            connection.close()
    finally:
        for pipe in pipes:
            pipe.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_nobody_there_is_a_refusal() -> None:
    port = free_port()
    with pytest.raises(RefusedError, match=f"no server at 127.0.0.1:{port}"):
        connect(port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_a_host_that_is_none_is_named(host: str) -> None:
    with pytest.raises(ServerUnreachableError, match=host[:10]):
        connect(1, host=host)


STRANGERS: dict[str, tuple[Talk, bool]] = {
    "closes at once": (lambda sock: None, False),
    "a mail server": (lambda sock: sock.sendall(b"220 mail.example.org ESMTP ready\r\n"), False),
    "garbage over TLS": (lambda sock: sock.sendall(b"220 mail.example.org ESMTP ready\r\n"), True),
    "closes after TLS": (lambda sock: None, True),
    "a giant frame": (lambda sock: sock.sendall(b"\x7f\xff\xff\xff"), True),
    "JSON of something else": (lambda sock: sock.sendall(frame(b'{"type": "welcome"}')), True),
    "deep nesting": (lambda sock: sock.sendall(frame(b"[" * 4000)), True),
}


@pytest.mark.parametrize(("talk", "tls"), STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_is_told_from_a_kueue_server(talk: Talk, tls: bool) -> None:
    with (
        stranger(talk, tls=tls) as port,
        pytest.raises(ServerUnreachableError, match="not as a Kueue server") as raised,
    ):
        connect(port)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("tls", [False, True])
def test_silence_is_not_waited_for_longer_than_asked(tls: bool) -> None:
    def listen(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.recv(65536)
            while sock.recv(65536):
                pass

    with stranger(listen, tls=tls) as port, pytest.raises(ServerUnreachableError, match=r"0\.3 s"):
        connect(port, 0.3)


def test_a_dribble_does_not_stretch_the_deadline() -> None:
    stop = threading.Event()

    def dribble(sock: socket.socket) -> None:
        sock.sendall((1000).to_bytes(4, "big"))
        while not stop.wait(0.05):
            sock.sendall(b"x")

    with stranger(dribble, tls=True) as port:
        try:
            with pytest.raises(ServerUnreachableError, match=r"0\.5 s"):
                connect(port, 0.5)
        finally:
            stop.set()


def test_a_close_after_our_proof_means_another_secret() -> None:
    def refuse(sock: socket.socket) -> None:
        server = handshake.ServerHandshake([SECRET], b"", "0.1.0")
        sock.sendall(b"".join(map(frame, server.start())))
        sock.recv(65536)

    with (
        stranger(refuse, tls=True) as port,
        pytest.raises(AuthenticationError, match="shared_secret differs"),
    ):
        connect(port)


def test_another_version_says_which_side_to_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    with clients_server() as server:
        monkeypatch.setattr(handshake, "PROTOCOL_MIN", 5)

        class Old(handshake.ServerHandshake):
            @property
            def _versions(self) -> bytes:
                return b'{"type":"versions","protocol":[1,2],"version":"0.0.1"}'

        monkeypatch.setattr("kueue.wire.listener.ServerHandshake", Old)
        with pytest.raises(VersionError, match="upgrade the server"):
            connect(server.port)


def test_the_server_going_away_is_a_lost_connection() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        server.stop()
        with pytest.raises(ConnectionLostError):
            connection.receive(10)
        connection.close()


def test_a_large_answer_over_a_slow_line_is_not_silence() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        server.until(lambda: server.connections == 1)
        (link,) = server._links
        body = frame(encode(Done(1, ("x" * 1000,))))

        def dribble() -> None:
            for start in range(0, len(body), 100):
                server._loop.call_soon_threadsafe(link._transport.write, body[start : start + 100])  # type: ignore[union-attr]
                threading.Event().wait(0.1)

        thread = threading.Thread(target=dribble)
        thread.start()
        assert connection.receive(20, 0.7) == Done(1, ("x" * 1000,))
        thread.join()
        with pytest.raises(ConnectionLostError, match="silent"):
            connection.receive(20, 0.2)
        connection.close()


def test_a_server_that_takes_nothing_is_given_up() -> None:
    with clients_server() as server:
        connection = connect(server.port)
        server.until(lambda: server.connections == 1)
        for link in server._links:
            server._loop.call_soon_threadsafe(link.pause_reading)

        def pour() -> None:
            for rid in range(100):
                connection.send(Backup(rid, "x" * 1_000_000), 0.5)

        with pytest.raises(ConnectionLostError, match="takes no more"):
            pour()
        connection.close()


def test_only_tls_1_3_is_spoken() -> None:
    def old(sock: socket.socket) -> None:
        context, _ = server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with suppress(OSError):
            context.wrap_socket(sock, server_side=True).close()

    with (
        stranger(old, tls=False) as port,
        pytest.raises(ServerUnreachableError, match="not as a Kueue server"),
    ):
        connect(port)
