"""Where a fuzzer begins: valid data of each kind, from the frozen samples and the programs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kueue.config import template_text
from kueue.wire.framing import frame
from kueue.wire.handshake import ClientHandshake, Role, ServerHandshake
from kueue.wire.proof import NONCE_BYTES
from kueue_worker.keeper.wire import LENGTH
from tests.hostile.forging import UNIONS

SECRET = "a-secret-for-tests-only-0123456789abcdef"
VERSION = "0.1.0"
DER = b"certificate"
SERVER_NONCE = b"s" * NONCE_BYTES
CLIENT_NONCE = b"c" * NONCE_BYTES
SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def transcript(role: Role = "client", version: str = VERSION) -> list[tuple[str, bytes]]:
    """A handshake that succeeds, always the same: who says what, in order (`server` or `client`)."""
    server = ServerHandshake([SECRET], DER, version, SERVER_NONCE)
    client = ClientHandshake(role, SECRET, DER, version, CLIENT_NONCE)
    said = [("server", body) for body in server.start()]
    for who, body in said:  # grows while it is read
        receiver = client if who == "server" else server
        said += [("client" if who == "server" else "server", answer) for answer in receiver.receive(body)]
    assert server.done
    assert client.done
    return said


def seeds(target: str) -> Iterator[bytes]:
    """The first inputs of a target."""
    match target:
        case "frames":
            yield b"\x03" + b"".join(map(frame, (b"a", b"bc", b"d" * 64, b"e")))
            yield b"\x05" + frame(b"x" * 65)
            yield b"\x01" + b"\0\0\0\0"
        case "handshake":
            for role in ("client", "worker"):
                said = [body for _, body in transcript(role)]
                yield b"\n".join(said)
                yield b"\n".join(reversed(said))
                yield from said
        case "messages":
            for path in sorted(SAMPLES.glob("wire/*/*.jsonl")):
                yield from path.read_bytes().splitlines()
        case "keeper_frames" | "keeper_bodies" | "agent_bodies":
            for path in sorted(SAMPLES.glob("keeper/*/*keeper*.jsonl")):
                for line in path.read_bytes().splitlines():
                    body = line if line.startswith(b"[") else b"[" + line + b"]"
                    yield LENGTH.pack(len(body)) + body if target == "keeper_frames" else body
        case "keeper_records":
            for path in sorted(SAMPLES.glob("keeper/*/records.jsonl")):
                yield path.read_bytes()
        case "config":
            template = template_text().replace("{fresh secret}", SECRET)
            yield template.encode()
            yield f'[common_settings]\nshared_secret = "{SECRET}"\n'.encode()
            uncommented = template.replace("\n# ", "\n").replace("\n#", "\n")
            yield uncommented.encode()
        case "forged_messages":
            for union in range(len(UNIONS)):
                for kind in range(20):
                    yield bytes([union, kind, 0])
                    yield bytes([union, kind]) + bytes(range(1, 60))
        case _:
            yield bytes(range(256))
            yield bytes(64)
            yield bytes(range(0, 250, 7)) * 8
