"""Programs that pass for a Kueue server and don't have the secret, each with what its victims should say."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any, NamedTuple

import msgspec

from kueue.wire.codec import encode
from kueue.wire.framing import frame
from kueue.wire.handshake import Challenge, ServerProof, Versions
from kueue.wire.messages import Submitted, Welcome
from tests.hostile.middle import Talk
from tests.hostile.peers import NONCE, OURS

NOT_KUEUE = "not as a Kueue server"
NO_PROOF = "could not prove"
SILENT = "says nothing|no answer"
CHALLENGE = frame(encode(Challenge(1, NONCE)))
VERSIONS = frame(encode(Versions(OURS, "0.1.0")))


class Impostor(NamedTuple):
    """`talk` to a victim, over TLS or not; `said` is a pattern of what the victim reports."""

    talk: Talk
    said: str
    tls: bool = True


async def _read_proof(reader: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return msgspec.json.decode(await reader.readexactly(size))


async def _wait(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def _saying(*parts: bytes, then_wait: bool = True) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then_wait:
            await _wait(reader)
        else:
            writer.close()
            await writer.wait_closed()

    return talk


async def _proves_at_random(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHALLENGE)
    await _read_proof(reader)
    writer.write(frame(encode(ServerProof(os.urandom(32)))) + VERSIONS)
    await _wait(reader)


async def _reflects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHALLENGE)
    proof = await _read_proof(reader)
    writer.write(frame(encode(ServerProof(base64.b64decode(proof["mac"])))) + VERSIONS)
    await _wait(reader)


async def _proves_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHALLENGE)
    await _read_proof(reader)
    writer.write(VERSIONS + frame(encode(Welcome("journal", 1, 5.0, 60.0, "0.1.0"))))
    await _wait(reader)


async def _empty_proof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHALLENGE)
    await _read_proof(reader)
    writer.write(frame(encode(ServerProof(b""))) + VERSIONS)
    await _wait(reader)


async def _closes_after_the_proof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(CHALLENGE)
    await _read_proof(reader)
    writer.close()


async def _endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(CHALLENGE * 1000)
        await writer.drain()
        await asyncio.sleep(0)  # or nobody notices that the victim has left


async def _endless_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((4096).to_bytes(4, "big"))
    while True:
        writer.write(b" " * 65536)
        await writer.drain()
        await asyncio.sleep(0)


async def _dribbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((4096).to_bytes(4, "big"))
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


IMPOSTORS: dict[str, Impostor] = {
    "closes at once": Impostor(_saying(then_wait=False), NOT_KUEUE, tls=False),
    "closes after TLS": Impostor(_saying(then_wait=False), NOT_KUEUE),
    "closes after the challenge": Impostor(_saying(CHALLENGE, then_wait=False), "shared_secret differs"),
    "closes after our proof": Impostor(_closes_after_the_proof, "shared_secret differs"),
    "speaks no TLS": Impostor(_saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), NOT_KUEUE, tls=False),
    "says nothing": Impostor(_saying(), SILENT, tls=False),
    "says nothing in TLS": Impostor(_saying(), SILENT),
    "dribbles": Impostor(_dribbles, SILENT),
    "garbage": Impostor(_saying(os.urandom(5000)), NOT_KUEUE),
    "a frame of 4 GB": Impostor(_saying(b"\xff\xff\xff\xff", b"x" * 100_000), NOT_KUEUE),
    "a frame above the limit": Impostor(_saying((4097).to_bytes(4, "big")), NOT_KUEUE),
    "an empty frame": Impostor(_saying(bytes(4)), NOT_KUEUE),
    "brackets": Impostor(_saying(frame(b"[" * 4096)), NOT_KUEUE),
    "frames without end": Impostor(_endless, NOT_KUEUE),
    "bytes without end": Impostor(_endless_bytes, NOT_KUEUE),
    "an older handshake": Impostor(_saying(frame(encode(Challenge(0, NONCE)))), "upgrade the server"),
    "a newer handshake": Impostor(_saying(frame(encode(Challenge(2, NONCE)))), "upgrade the (client|worker)"),
    "a proof at random": Impostor(_proves_at_random, NO_PROOF),
    "our own proof": Impostor(_reflects, NO_PROOF),
    "an empty proof": Impostor(_empty_proof, NO_PROOF),
    "no proof": Impostor(_proves_nothing, NOT_KUEUE),
    "orders at once": Impostor(_saying(frame(encode(Welcome("j", 1, 5.0, 60.0, "0.1.0")))), NOT_KUEUE),
    "an answer at once": Impostor(_saying(frame(encode(Submitted(1, 1, 1)))), NOT_KUEUE),
}
