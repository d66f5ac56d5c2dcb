"""What is fuzzed: functions of bytes that return if all is as promised, and raise if it is not.

They know no fuzzer: the tests run them with hypothesis, `__main__.py` with atheris.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kueue.config import load_config
from kueue.errors import AuthenticationError, ConfigError, ProtocolError, ServerUnreachableError, VersionError
from kueue.text import visible
from kueue.wire import codec
from kueue.wire.framing import HEADER, FrameDecoder, frame
from kueue.wire.handshake import (
    FROZEN,
    MAX_FRAME,
    Challenge,
    ClientHandshake,
    ClientProof,
    ServerHandshake,
    ServerProof,
)
from kueue.wire.proof import proof
from kueue.wire.versions import PROTOCOL_MAX, PROTOCOL_MIN
from kueue_worker.keeper import records
from kueue_worker.keeper.__main__ import settle_lost
from kueue_worker.keeper.orders import read_spawn
from kueue_worker.keeper.wire import LENGTH, Wire, WireError, decode_body, encode_frame
from kueue_worker.keeper_link import KeeperFaultError, decode_messages
from kueue_worker.keeper_messages import ended_of, kept_of
from tests.hostile.forging import UNIONS, BytesSource, bent, encoded, forge_message
from tests.hostile.fuzz.peers import hostile_peers
from tests.hostile.fuzz.seeds import CLIENT_NONCE, DER, SECRET, SERVER_NONCE, VERSION

LIMIT = 64
"""Bytes of a frame, small so that its ends are met often."""
DECODERS = (
    codec.decode_worker_message,
    codec.decode_to_worker,
    codec.decode_client_message,
    codec.decode_to_client,
)


def frames(data: bytes) -> None:
    """Any bytes in any pieces: the same frames, or one clean error; never much more kept than the limit."""
    piece, stream = (data[0] or 1, data[1:]) if data else (1, b"")
    expected, refused = _frames_of(stream)
    found: list[bytes] = []
    decoder = FrameDecoder(LIMIT)
    with suppress(ProtocolError):
        for start in range(0, len(stream), piece):
            found += decoder.frames(stream[start : start + piece])
            assert len(decoder._buffer) < HEADER + LIMIT, "more is kept than one frame can need"
        assert not refused, "a length that is not allowed was taken"
    assert found == expected


def _frames_of(stream: bytes) -> tuple[list[bytes], bool]:
    found: list[bytes] = []
    while len(stream) >= HEADER:
        length = int.from_bytes(stream[:HEADER], "big")
        if not 0 < length <= LIMIT:
            return found, True
        if len(stream) < HEADER + length:
            break
        found.append(stream[HEADER : HEADER + length])
        stream = stream[HEADER + length :]
    return found, False


def handshake(data: bytes) -> None:
    """Lines of anything to both sides: one of the documented errors. Who is let in has said the proof that
    only the secret gives (the seeds have it, for these nonces)."""
    server = ServerHandshake([SECRET], DER, VERSION, nonce=SERVER_NONCE)
    client = ClientHandshake("client", SECRET, DER, VERSION, nonce=CLIENT_NONCE)
    server.start()
    for line in data.split(b"\n"):
        before = server.authenticated
        with suppress(ProtocolError, AuthenticationError, VersionError):
            for body in server.receive(line):
                assert len(frame(body)) < MAX_FRAME
        with suppress(ProtocolError, AuthenticationError, VersionError, ServerUnreachableError):
            for body in client.receive(line):
                assert len(frame(body)) < MAX_FRAME
        if server.authenticated and not before:
            assert _is_proof_of_a_client(line), f"let in: {line!r}"
    if client.done:
        assert _proved_by_a_server(data.split(b"\n")), "took a server that has not proved the secret"
    for side in (server, client):
        side.mismatch.encode()
        assert side.protocol in (FROZEN, *range(PROTOCOL_MIN, PROTOCOL_MAX + 1))


def _is_proof_of_a_client(line: bytes) -> bool:
    said = msgspec.json.decode(line, type=ClientProof)
    return said.mac == proof(SECRET, "client", said.role, SERVER_NONCE, said.nonce, DER)


def _proved_by_a_server(lines: list[bytes]) -> bool:
    nonces, macs = [], []
    for line in lines:
        with suppress(msgspec.MsgspecError, ValueError):
            nonces.append(msgspec.json.decode(line, type=Challenge).nonce)
        with suppress(msgspec.MsgspecError, ValueError):
            macs.append(msgspec.json.decode(line, type=ServerProof).mac)
    return any(proof(SECRET, "server", "client", nonce, CLIENT_NONCE, DER) in macs for nonce in nonces)


def messages(data: bytes) -> None:
    """Any bytes as a message of each direction: the documented error, or what is encoded and read as the same."""
    for decode in DECODERS:
        try:
            message = decode(data)
        except ProtocolError as error:
            str(error).encode()
            continue
        assert decode(codec.encode(message)) == message


def forged_messages(data: bytes) -> None:
    """Messages of each direction with absurd values, some of them bent out of shape: as `messages`."""
    source = BytesSource(data)
    while source.left:
        made = forge_message(source, source.choose(list(UNIONS.values())))
        match source.choose(("as it is", "bent", "bytes")):
            case "bent":
                made = bent(source, made)
                messages(encoded(made))
            case "bytes":
                body = bytearray(encoded(made))
                for _ in range(source.choose(range(1, 5))):
                    place = source.integer() % len(body)
                    body[place : place + source.choose((0, 1, 1, 20))] = source.take(
                        source.choose((0, 1, 1, 4))
                    )
                    body = body or bytearray(b"0")
                messages(bytes(body))
            case _:
                messages(encoded(made))


def keeper_frames(data: bytes) -> None:
    """Any bytes over a real socket pair to the keeper's end: messages or a `WireError`, never another error."""
    ours, theirs = socket.socketpair()
    wire = Wire(theirs)
    try:
        ours.sendall(data[:65536])
        ours.shutdown(socket.SHUT_WR)
        with suppress(WireError):
            while (found := wire.receive()) is not None:
                for message in (message for part in found for message in part):
                    encode_frame([message])
                    with suppress(WireError):
                        read_spawn(message, wire.take_descriptor)
    finally:
        ours.close()
        wire.close()


def keeper_bodies(data: bytes) -> None:
    """Any bytes as the body of a frame to the keeper, and each message in it as an order."""
    try:
        found = decode_body(data)
    except WireError:
        return
    keeper_frames(LENGTH.pack(len(data)) + data)
    assert decode_body(encode_frame(found)[LENGTH.size :]) == found or b"NaN" in data


def agent_bodies(data: bytes) -> None:
    """Any bytes as the body of a frame to the agent, and each message in it as an end and as a record."""
    try:
        found = decode_messages(data)
    except KeeperFaultError:
        return
    for message in found:
        with suppress(KeeperFaultError):
            encoded_end = msgspec.to_builtins(ended_of(message))
            assert None not in (encoded_end["cpu_seconds"], encoded_end["peak_ram_mb"])
        with suppress(KeeperFaultError):
            kept_of(message)


def keeper_records(data: bytes) -> None:
    """Any bytes as the record file: a next keeper starts, or says that the file is of a later version. What it
    writes anew is read back without a fault, and an agent understands what it tells of it."""
    place = _place()
    (place / records.NAME).write_bytes(data)
    try:
        found = records.read(str(place))
    except records.RecordsError:
        return
    if found.boot:  # else it would look for their processes on this machine
        settle_lost(found, f"not {found.boot}", lambda line: None)
    made = records.Records(str(place), "boot", found.attempts)
    try:
        again = records.read(str(place))
    finally:
        os.close(made._descriptor)
    assert again.damaged == 0, "what a keeper wrote is damaged"
    assert set(again.attempts) == set(found.attempts)
    told = [attempt.record() for attempt in again.attempts.values()]
    (state,) = decode_messages(encode_frame([{"m": "state", "records": told}])[LENGTH.size :])
    for record in state["records"]:
        kept_of(record)  # None for a note that is not an agent's of ours


def config(data: bytes) -> None:
    """Any bytes as the configuration: it loads, or there is one line that says why not."""
    path = _place() / "config.toml"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
    try:
        loaded = load_config(path, create=False)
        loaded.worker_settings_for("host")
        _ = loaded.state_dir
        loaded.spool_dir_for("w", "host")
    except ConfigError as error:
        text = str(error)
        text.encode()
        assert visible(text) == text, f"not one line of plain text: {text!r}"


_places: dict[int, Path] = {}


def _place() -> Path:
    """A directory of this process's own."""
    if os.getpid() not in _places:
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        _places[os.getpid()] = Path(tempfile.mkdtemp(prefix="kueue-fuzz-", dir=parent))
    return _places[os.getpid()]


TARGETS: dict[str, Callable[[bytes], Any]] = {
    "frames": frames,
    "handshake": handshake,
    "messages": messages,
    "forged_messages": forged_messages,
    "keeper_frames": keeper_frames,
    "keeper_bodies": keeper_bodies,
    "agent_bodies": agent_bodies,
    "keeper_records": keeper_records,
    "config": config,
    "peers": hostile_peers,
}
