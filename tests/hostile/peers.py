"""What attacks are made with: a server in this process, peers that say anything, and one message of each kind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import inspect

from kueue import AsyncClient
from kueue.config import load_config
from kueue.wire.codec import encode
from kueue.wire.framing import frame
from kueue.wire.handshake import Challenge, ClientProof, Role, ServerProof, Versions
from kueue.wire.messages import ClientMessage, ToClient, ToWorker, WorkerMessage
from kueue.wire.proof import proof
from kueue.wire.tls import client_context
from kueue.wire.versions import PROTOCOL_MAX, PROTOCOL_MIN
from kueue_server.core import invariants
from kueue_server.journal.store import open_journal
from kueue_server.server import Server

SECRET = "a-secret-for-tests-only-0123456789abcdef"
NONCE = bytes(range(32))
OURS = (PROTOCOL_MIN, PROTOCOL_MAX)
SECONDS = 20.0
"""How long a peer waits for what is to come at once."""

HANDSHAKE = (Challenge, ClientProof, ServerProof, Versions)


def kinds() -> dict[str, type[msgspec.Struct]]:
    """Every message of the protocol, the handshake's and all directions', by the name that the wire has."""
    unions = (WorkerMessage, ClientMessage, ToWorker, ToClient)
    every = [*HANDSHAKE, *(kind for union in unions for kind in get_args(union))]
    return {tag_of(kind): kind for kind in every}


def tag_of(kind: type[msgspec.Struct]) -> str:
    """A message's `type` on the wire."""
    return str(kind.__struct_config__.tag)


def tags_of(union: object) -> set[str]:
    """The names of all messages of a union."""
    return {tag_of(kind) for kind in get_args(union)}


def sample(kind: type[msgspec.Struct], *, full: bool) -> Any:
    """A message that decodes: with only what it must have, or with everything, one item in each list."""
    return _value(inspect.type_info(kind), full)


def _value(info: inspect.Type, full: bool) -> Any:
    match info:
        case inspect.StructType():
            return info.cls(
                **{field.name: _value(field.type, full) for field in info.fields if full or field.required}
            )
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.FloatType():
            return 1.0
        case inspect.StrType():
            return "/nowhere/x"
        case inspect.BytesType():
            return b"x"
        case inspect.RawType():
            return msgspec.Raw(b"{}")
        case inspect.LiteralType():
            return info.values[0]
        case inspect.EnumType():
            return next(iter(info.cls))
        case inspect.TupleType():
            return tuple(_value(item, full) for item in info.item_types)
        case inspect.VarTupleType():
            return (_value(info.item_type, full),) if full else ()
        case inspect.DictType():
            return {}
        case inspect.UnionType():
            return _value(next(t for t in info.types if not isinstance(t, inspect.NoneType)), full)
    raise TypeError(f"no sample of {info}")


class Peer:
    """A connection whose every byte is the test's choice. TLS is up; nothing is said yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        der = self.tls.getpeercert(True)
        assert der is not None
        self.der = der

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    def send(self, *messages: msgspec.Struct) -> None:
        """Each in a frame of its own."""
        self.writer.write(b"".join(frame(encode(message)) for message in messages))

    async def read(self) -> dict[str, Any]:
        """The next message, whatever it is."""
        async with asyncio.timeout(SECONDS):
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            found: dict[str, Any] = msgspec.json.decode(await self.reader.readexactly(size))
        return found

    async def read_until(self, tag: str, **fields: Any) -> dict[str, Any]:
        """The next message of this kind and with these values; others are passed over."""
        while True:
            found = await self.read()
            if found["type"] == tag and fields.items() <= found.items():
                return found

    async def read_until_rid(self, rid: int) -> dict[str, Any]:
        """The next answer to this request."""
        while True:
            found = await self.read()
            if found.get("rid") == rid:
                return found

    async def rest(self) -> bytes:
        """What comes until the other side closes, which it must."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except (OSError, ssl.SSLError):
                return b""

    async def challenge(self) -> bytes:
        """The server's nonce."""
        return base64.b64decode((await self.read())["nonce"])

    async def prove(self, role: Role, secret: str = SECRET) -> None:
        """Prove the secret; the server's proof and versions have come then."""
        nonce = await self.challenge()
        mac = proof(secret, "client", role, nonce, NONCE, self.der)
        self.send(ClientProof(role, NONCE, mac))
        assert (await self.read())["type"] == "server_proof"
        assert (await self.read())["type"] == "versions"

    async def authenticate(self, role: Role, versions: tuple[int, int] = OURS) -> None:
        """All of the handshake."""
        await self.prove(role)
        self.send(Versions(versions, "0.1.0"))


async def dial(port: int, host: str = "127.0.0.1", source: str = "127.0.0.1") -> Peer:
    """Connect to a server as far as TLS."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(
            host, port, ssl=client_context(), local_addr=(source, 0)
        )
    return Peer(reader, writer)


class Served:
    """A real server in this process: TCP, TLS, SQLite."""

    def __init__(self, server: Server, port: int, config: Path) -> None:
        self.server = server
        self.port = port
        self.config = config

    def client(self, secret: str = SECRET) -> AsyncClient:
        """A client that behaves."""
        return AsyncClient(address=("127.0.0.1", self.port), secret=secret, connect_timeout=0.0)

    def check(self) -> None:
        """All books of the core agree."""
        invariants.check(self.server.core._state)


@contextlib.asynccontextmanager
async def serving(place: Path) -> AsyncIterator[Served]:
    """A server below `place`, on a port of its own, ended at the end if it has not ended before."""
    path = place / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f'[common_settings]\nshared_secret = "{SECRET}"\n')
    journal = open_journal(place / "journal.sqlite", asyncio.get_running_loop())
    server = Server(load_config(path), journal, lambda: load_config(path, create=False))
    (port,) = await server.start([("127.0.0.1", 0)])
    task = asyncio.ensure_future(server.run())
    try:
        yield Served(server, port, path)
    finally:
        server.stop()
        async with asyncio.timeout(SECONDS):
            await task
