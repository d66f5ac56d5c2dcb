"""Handshakes with words changed, lost, doubled and out of order: nobody is let in but by the proof."""

from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.errors import KueueError
from kueue.wire.handshake import ClientHandshake, ClientProof, Role, ServerHandshake
from tests.hostile.drawing import Drawn
from tests.hostile.forging import bent, encoded
from tests.hostile.fuzz.seeds import CLIENT_NONCE, DER, SECRET, SERVER_NONCE, VERSION, transcript
from tests.hostile.fuzz.targets import TARGETS

LINES = [body for role in ("client", "worker") for _, body in transcript(role)]


def changed(draw: st.DataObject, line: bytes) -> bytes:
    """A line of a handshake, with some of its bytes or of its structure changed."""
    match draw.draw(st.sampled_from(["as it is", "structure", "bytes", "cut"])):
        case "structure":
            return encoded(bent(Drawn(draw, strict=False), json.loads(line)))
        case "bytes":
            place = draw.draw(st.integers(0, len(line)))
            width = draw.draw(st.integers(0, 5))
            return line[:place] + draw.draw(st.binary(max_size=5)) + line[place + width :]
        case "cut":
            return line[: draw.draw(st.integers(0, len(line)))]
        case _:
            return line


@given(st.data())
def test_no_change_of_what_is_said_lets_anybody_in_without_the_proof(data: st.DataObject) -> None:
    said = data.draw(st.lists(st.sampled_from(LINES), max_size=8))
    TARGETS["handshake"](b"\n".join(changed(data, line) for line in said))


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_are_anything_but_a_documented_error(lines: list[bytes]) -> None:
    TARGETS["handshake"](b"\n".join(lines))


@pytest.mark.parametrize("role", ["client", "worker"])
@given(st.data())
def test_a_server_is_done_after_proof_and_versions_in_this_order_only(
    role: Role, data: st.DataObject
) -> None:
    said = [body for who, body in transcript(role) if who == "client"]
    order = data.draw(st.lists(st.sampled_from(said), max_size=4))
    server = ServerHandshake([SECRET], DER, VERSION, SERVER_NONCE)
    taken = 0
    with suppress(KueueError):
        for line in order:
            server.receive(line)
            taken += 1
    assert order[:taken] == said[:taken]
    assert server.authenticated == (taken >= 1)
    assert server.done == (taken == 2)


@pytest.mark.parametrize("role", ["client", "worker"])
@given(st.data())
def test_a_client_is_done_after_challenge_proof_and_versions_in_this_order_only(
    role: Role, data: st.DataObject
) -> None:
    said = [body for who, body in transcript(role) if who == "server"]
    order = data.draw(st.lists(st.sampled_from(said), max_size=5))
    client = ClientHandshake(role, SECRET, DER, VERSION, CLIENT_NONCE)
    taken = 0
    with suppress(KueueError):
        for line in order:
            client.receive(line)
            taken += 1
    assert order[:taken] == said[:taken]
    assert client.done == (taken == 3)


@pytest.mark.parametrize("role", ["client", "worker"])
@given(st.data())
def test_one_changed_bit_of_a_proof_is_refused(role: Role, data: st.DataObject) -> None:
    proof = next(body for who, body in transcript(role) if who == "client")
    place = data.draw(st.integers(0, 8 * len(proof) - 1))
    flipped = bytearray(proof)
    flipped[place // 8] ^= 1 << place % 8
    server = ServerHandshake([SECRET], DER, VERSION, SERVER_NONCE)
    with suppress(KueueError):
        server.receive(bytes(flipped))
        # The last character of base64 has bits that mean nothing.
        said = msgspec.json.decode(bytes(flipped), type=ClientProof)
        assert said == msgspec.json.decode(proof, type=ClientProof), "taken though it says something else"
        return
    assert not server.authenticated
