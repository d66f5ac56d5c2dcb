"""Attacks by those who don't have the secret, with real sockets: none gets a session, an order or an answer."""

from __future__ import annotations

import ast
import asyncio
import base64
import contextlib
import inspect
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from kueue import __version__
from kueue.errors import AuthenticationError, KueueError, ServerUnreachableError
from kueue.wire import handshake, listener
from kueue.wire.codec import encode
from kueue.wire.connection import BlockingConnection
from kueue.wire.framing import frame
from kueue.wire.handshake import ClientProof, Role, ServerHandshake, Versions
from kueue.wire.link import connect
from kueue.wire.messages import Heartbeat, ServerInfo
from kueue.wire.proof import proof
from kueue.wire.tls import client_context, server_context
from kueue_server import server as server_module
from tests.acceptance.conftest import lab, make_lab  # noqa: F401
from tests.hostile.impostors import IMPOSTORS, SILENT, Impostor
from tests.hostile.middle import Middle, in_background, listening
from tests.hostile.peers import NONCE, OURS, SECRET, Served, dial, serving
from tests.support.lab import Lab
from tests.support.waiting import wait_for

GUESS = "another-secret-for-tests-only-0123456789"


class Nobody:
    """The handler of a link that must never be."""

    def on_message(self, message: object) -> None:
        raise AssertionError(message)

    def on_closed(self, error: BaseException | None) -> None:
        pass


async def is_unharmed(served: Served) -> None:
    """Nobody is left over, and the server serves."""
    async with asyncio.timeout(20):
        while served.server._listener.waiting:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)
    assert not served.server._clients
    assert not served.server.desk.workers
    async with served.client() as client:
        assert (await client.server_info()).pid == os.getpid()
    served.check()


# ---------------------------------------------------------------- replay, reflection, another's role


async def test_a_recorded_session_can_not_be_replayed_to_its_server(tmp_path: Path) -> None:
    """Neither what anybody on the network saw, nor what was said inside of TLS."""
    async with serving(tmp_path) as served:
        outside = Middle(served.port, ends_tls=False)
        async with outside.listening() as port:
            link = await connect(
                "127.0.0.1", port, role="client", secret=SECRET, version=__version__, handler=Nobody()
            )
            link.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(bytes(outside.to_server))
        answer = await asyncio.wait_for(reader.read(), 20)
        assert SECRET.encode() not in bytes(outside.to_server) + bytes(outside.to_client) + answer
        writer.transport.abort()

        async with await dial(served.port) as first:
            nonce = await first.challenge()
            mine = ClientProof("client", NONCE, proof(SECRET, "client", "client", nonce, NONCE, first.der))
            first.send(mine, Versions(OURS, "0.1.0"), ServerInfo(1))
            await first.read_until("server_state")
            async with await dial(served.port) as second:
                assert second.der == first.der
                assert await second.challenge() != nonce
                second.send(mine, Versions(OURS, "0.1.0"), ServerInfo(1))
                assert await second.rest() == b""
            first.send(mine)
            assert b"server_proof" not in await first.rest()
        await is_unharmed(served)


@pytest.mark.parametrize(
    ("direction", "proved", "claimed"),
    [
        ("client", "client", "worker"),
        ("client", "worker", "client"),
        ("server", "client", "client"),
        ("server", "worker", "worker"),
    ],
)
async def test_a_proof_for_one_role_or_direction_is_none_for_another(
    tmp_path: Path, direction: str, proved: Role, claimed: Role
) -> None:
    async with serving(tmp_path) as served:
        async with await dial(served.port) as peer:
            mac = proof(SECRET, direction, proved, await peer.challenge(), NONCE, peer.der)
            peer.send(ClientProof(claimed, NONCE, mac), Versions(OURS, "0.1.0"), Heartbeat())
            assert await peer.rest() == b""
        await is_unharmed(served)


async def test_a_server_s_proof_sent_back_to_it_is_worthless(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await dial(served.port) as honest:
        nonce = await honest.challenge()
        honest.send(ClientProof("client", NONCE, proof(SECRET, "client", "client", nonce, NONCE, honest.der)))
        mac = base64.b64decode((await honest.read())["mac"])
        for theirs in (NONCE, nonce):
            async with await dial(served.port) as peer:
                await peer.challenge()
                peer.send(ClientProof("client", theirs, mac))
                assert await peer.rest() == b""


@pytest.mark.parametrize(
    "change",
    [
        lambda nonce, der: (nonce[:-1] + bytes([nonce[-1] ^ 1]), der),
        lambda nonce, der: (b"", der),
        lambda nonce, der: (nonce, b""),
        lambda nonce, der: (nonce, server_context()[1]),
    ],
    ids=["another nonce", "no nonce", "no certificate", "another certificate"],
)
async def test_a_proof_is_for_one_challenge_and_one_certificate(
    tmp_path: Path, change: Callable[[bytes, bytes], tuple[bytes, bytes]]
) -> None:
    async with serving(tmp_path) as served:
        async with await dial(served.port) as peer:
            nonce, der = change(await peer.challenge(), peer.der)
            peer.send(ClientProof("client", NONCE, proof(SECRET, "client", "client", nonce, NONCE, der)))
            assert await peer.rest() == b""
        await is_unharmed(served)


@pytest.mark.parametrize("mac", [b"", b"\0", bytes(31), bytes(32), bytes(33), bytes(2000)], ids=len)
async def test_no_shorter_or_longer_proof_is_one(tmp_path: Path, mac: bytes) -> None:
    async with serving(tmp_path) as served:
        async with await dial(served.port) as peer:
            await peer.challenge()
            peer.send(ClientProof("client", NONCE, mac))
            assert await peer.rest() == b""
        await is_unharmed(served)


# ---------------------------------------------------------------- somebody in between


def led_to(lab: Lab, port: int) -> None:  # noqa: F811 (the fixture's name)
    """From now on programs of the lab take this port for their server's."""
    text = lab.config.read_text().replace(f"server_port = {lab.port}", f"server_port = {port}")
    other = lab.place / "led-astray.toml"
    other.touch(mode=0o600)
    other.write_text(text)
    lab.env["KUEUE_CONFIG"] = str(other)
    lab.env["KUEUE_STATE_DIR"] = str(lab.place / "led-astray")


def test_programs_with_another_certificate_in_between_refuse_to_talk_and_so_does_the_server(
    make_lab: Callable[..., Lab],  # noqa: F811
) -> None:
    lab = make_lab()  # noqa: F811
    lab.start_server()
    middle = Middle(lab.port, ends_tls=True)
    with in_background(middle.listening()) as port:
        led_to(lab, port)
        worker = lab.start_worker("w1", wait=False)
        client = lab.kueue("cmd", "touch", "stolen")
        assert worker.wait(30) == 3
    assert client.returncode == 3
    assert re.fullmatch(rb"kueue: .*shared_secret differs.*\n", client.stderr), client.stderr
    assert "shared_secret differs" in lab.worker_log("w1")
    assert "127.0.0.1 was refused: wrong proof" in lab.server_log()
    seen = bytes(middle.to_server) + bytes(middle.to_client)
    assert seen.count(b"client_proof") >= 2  # it did read along (a command may try twice)
    assert not re.search(rb"server_proof|versions|submit|register|stolen|" + SECRET.encode(), seen)


async def test_what_is_changed_on_the_way_ends_the_connection(tmp_path: Path) -> None:
    """TLS 1.2 asked for in the client's place, and a bit turned in anything later."""

    def older(data: bytes) -> bytes:
        return data.replace(b"\x00\x2b\x00\x03\x02\x03\x04", b"\x00\x2b\x00\x03\x02\x03\x03")

    def turned(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    async with serving(tmp_path) as served:
        for alter in (older, turned):
            middle = Middle(served.port, ends_tls=False, alter=alter)
            async with middle.listening() as port:
                with pytest.raises((ServerUnreachableError, AuthenticationError)):
                    await connect(
                        "127.0.0.1", port, role="client", secret=SECRET, version="0.1.0", handler=Nobody()
                    )
            assert alter(bytes(middle.to_server)) != bytes(middle.to_server)
        await is_unharmed(served)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_nothing_older_than_tls_1_3_is_spoken(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    context = client_context()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1_2, newest
    async with serving(tmp_path) as served:
        if newest is ssl.TLSVersion.TLSv1_3:
            _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            writer.transport.abort()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", served.port, ssl=context)
        await is_unharmed(served)


# ---------------------------------------------------------------- handshakes that end anywhere


def places(size: int, long_form: bool, step: int) -> Iterator[int]:
    """Where to cut: everywhere, or at every `step`-th byte and around the ends."""
    for place in range(size):
        if long_form or place % step == 0 or place < 6 or place > size - 4:
            yield place


async def test_a_client_s_handshake_cut_at_any_byte_leaves_nothing_behind(
    tmp_path: Path, long_form: bool
) -> None:
    async with serving(tmp_path) as served:
        size = len(await _client_bytes(served, None))
        for place in places(size, long_form, 3):
            await _client_bytes(served, place)
        await is_unharmed(served)


async def _client_bytes(served: Served, cut: int | None) -> bytes:
    """Say so many bytes of the client's part of a handshake, then close."""
    async with await dial(served.port) as peer:
        mac = proof(SECRET, "client", "worker", await peer.challenge(), NONCE, peer.der)
        said = frame(encode(ClientProof("worker", NONCE, mac))) + frame(encode(Versions(OURS, "0.1.0")))
        if cut is not None:
            peer.writer.write(said[:cut])
            peer.writer.close()
            assert b"welcome" not in await peer.rest()
        return said


async def test_the_bytes_of_tls_cut_anywhere_leave_nothing_behind(tmp_path: Path, long_form: bool) -> None:
    async with serving(tmp_path) as served:
        middle = Middle(served.port, ends_tls=False)
        async with middle.listening() as port, await dial(port) as peer:
            await peer.authenticate("client")
            peer.send(ServerInfo(1))
            await peer.read_until("server_state")
        for place in places(len(middle.to_server), long_form, 11):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(bytes(middle.to_server[:place]))
            writer.write_eof()
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 20)
            writer.transport.abort()
        await is_unharmed(served)


async def test_a_server_s_handshake_cut_at_any_byte_is_an_error_for_both_kinds_of_client(
    long_form: bool,
) -> None:
    context, der = server_context()
    cut = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shaking, left = ServerHandshake([SECRET], der, "0.1.0"), cut
        said = b"".join(map(frame, shaking.start()))
        while left > 0:
            writer.write(said[:left])
            left -= len(said)
            if left > 0:
                size = int.from_bytes(await reader.readexactly(4), "big")
                said = b"".join(map(frame, shaking.receive(await reader.readexactly(size))))
                if shaking.done:
                    return
        writer.close()
        await writer.wait_closed()

    async def knock(port: int, blocking: bool) -> bool:
        """Is there a connection in the end?"""
        with contextlib.suppress(ServerUnreachableError, AuthenticationError):
            if blocking:
                made = await asyncio.to_thread(BlockingConnection, "127.0.0.1", port, SECRET, "0.1.0")
                made.close()
            else:
                link = await connect(
                    "127.0.0.1", port, role="worker", secret=SECRET, version="0.1.0", handler=Nobody()
                )
                link.abort()
            return True
        return False

    async with listening(talk, context) as port:
        cut = 100_000
        assert await knock(port, False)
        assert await knock(port, True)
        said = ServerHandshake([SECRET], der, "0.1.0", NONCE)
        size = sum(4 + len(body) for body in said.start())
        mac = proof(SECRET, "client", "client", NONCE, NONCE, der)
        size += sum(4 + len(body) for body in said.receive(encode(ClientProof("client", NONCE, mac))))
        for cut in places(size, long_form, 4):
            assert not await knock(port, False), cut
            assert not await knock(port, True), cut


# ---------------------------------------------------------------- servers that are none


@pytest.mark.parametrize("impostor", IMPOSTORS.values(), ids=IMPOSTORS.keys())
async def test_an_impostor_gets_an_error_and_nothing_else(impostor: Impostor) -> None:
    context = server_context()[0] if impostor.tls else None
    seconds = 1.0 if impostor.said is SILENT else 20.0
    async with listening(impostor.talk, context) as port:

        async def linked(role: Role) -> None:
            with pytest.raises(KueueError, match=impostor.said):
                await connect(
                    "127.0.0.1",
                    port,
                    role=role,
                    secret=SECRET,
                    version="0.1.0",
                    handler=Nobody(),
                    timeout=seconds,
                )

        async def blocking() -> None:
            with pytest.raises(KueueError, match=impostor.said):
                await asyncio.to_thread(BlockingConnection, "127.0.0.1", port, SECRET, "0.1.0", seconds)

        await asyncio.gather(linked("client"), linked("worker"), blocking())


@pytest.mark.parametrize("which", ["closes after our proof", "frames without end", "our own proof"])
def test_programs_led_to_an_impostor_say_so_in_one_line(make_lab: Callable[..., Lab], which: str) -> None:  # noqa: F811
    lab = make_lab()  # noqa: F811
    impostor = IMPOSTORS[which]
    with in_background(listening(impostor.talk, server_context()[0])) as port:
        led_to(lab, port)
        worker = lab.start_worker("w1", wait=False)
        client = lab.kueue("cmd", "touch", "stolen")
        said = wait_for(
            "the worker says why", lambda: re.findall("refused|no server|could not", lab.worker_log("w1"))
        )
    assert client.returncode == 3
    assert re.fullmatch(rf"kueue: .*({impostor.said}).*\n", client.stderr.decode()), client.stderr
    assert "Traceback" not in lab.worker_log("w1")
    assert said
    assert worker.poll() in (None, 3)


# ---------------------------------------------------------------- too many, too slow


async def test_who_dribbles_is_dropped_in_time_whatever_he_dribbles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def patient_for_a_second() -> listener.Listener:
        return listener.Listener(seconds=1.0)

    monkeypatch.setattr(server_module, "Listener", patient_for_a_second)

    async def dribble(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, data: bytes) -> float:
        began = asyncio.get_running_loop().time()
        gone = asyncio.ensure_future(reader.read())
        for byte in data:
            with contextlib.suppress(OSError, ssl.SSLError):
                writer.write(bytes([byte]))
            if (await asyncio.wait([gone], timeout=0.05))[0]:
                break
        await asyncio.wait([gone], timeout=20)
        gone.cancel()
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError):
            await gone
        writer.transport.abort()
        return asyncio.get_running_loop().time() - began

    async with serving(tmp_path) as served:
        middle = Middle(served.port, ends_tls=False)
        async with middle.listening() as port, await dial(port) as peer:
            await peer.prove("client")
        plain = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(10)]
        secure = [await dial(served.port) for _ in range(10)]
        dribbles = [dribble(writer, reader, bytes(middle.to_server)) for reader, writer in plain]
        dribbles += [dribble(peer.writer, peer.reader, frame(b" " * 4096)) for peer in secure]
        everybody = asyncio.gather(*dribbles)
        async with served.client() as client:
            while not everybody.done():
                assert (await client.server_info()).version
                await asyncio.sleep(0.1)
        for seconds in await everybody:
            assert 0.5 < seconds < 10
        await is_unharmed(served)


def test_a_flood_of_strangers_harms_neither_those_connected_nor_those_who_come(
    lab: Lab,  # noqa: F811
) -> None:
    """From another address than the honest ones, as it would be: more than there are places, all the time."""
    running = lab.submit("sleep", "1000")
    lab.wait_state(running, "running")
    with in_background(flooding(lab.port)) as count:
        assert count > 128
        for _ in range(3):
            done = lab.kueue("cmd", "--wait", "true", timeout=30)
            assert done.returncode == 0, done.stderr
        assert lab.worker_state("w1") == "connected"
    assert lab.job(running)["attempt"] == 1
    assert lab.state_of(running) == "running"
    complaints = [line for line in lab.server_log().splitlines() if "WARN" in line]
    assert 1 <= len(complaints) < 20
    assert "is away" not in lab.server_log()


@contextlib.asynccontextmanager
async def flooding(port: int) -> AsyncIterator[int]:
    """200 strangers who connect, half of them begin with TLS, and when they are dropped connect again."""
    loop = asyncio.get_running_loop()
    reached = 0
    enough = asyncio.Event()

    async def stranger(first: bytes) -> None:
        nonlocal reached
        while True:
            with contextlib.suppress(OSError), socket.socket() as sock:
                sock.setblocking(False)
                sock.bind(("127.0.0.2", 0))
                await loop.sock_connect(sock, ("127.0.0.1", port))
                await loop.sock_sendall(sock, first)
                reached += 1
                if reached >= 150:
                    enough.set()
                while await loop.sock_recv(sock, 65536):
                    pass
            await asyncio.sleep(0.5)

    tasks = [asyncio.ensure_future(stranger(number % 2 * _client_hello())) for number in range(200)]
    try:
        await asyncio.wait_for(enough.wait(), 20)
        yield reached
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _client_hello() -> bytes:
    """How TLS begins."""
    out = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), out)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


# ---------------------------------------------------------------- time tells nothing


def test_proofs_are_compared_in_constant_time_and_with_every_secret() -> None:
    tree = ast.parse(inspect.getsource(handshake))
    compared = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and re.search(r"\bmac\b|expected", ast.unparse(node))
    ]
    assert not compared
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [call for call in calls if "compare_digest" in call and "expected" in call]
    assert len([call for call in calls if call == "hmac.compare_digest(expected, message.mac)"]) == 2
    loops = [
        node for node in ast.walk(tree) if isinstance(node, ast.For) and "_secrets" in ast.unparse(node.iter)
    ]
    (loop,) = loops
    assert not [node for node in ast.walk(loop) if isinstance(node, ast.Break | ast.Return)]
