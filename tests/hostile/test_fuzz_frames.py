"""Any bytes, in any pieces: the same frames or one clean error, and never more kept than a frame needs."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kueue.errors import ProtocolError
from kueue.wire.framing import HEADER, FrameDecoder, frame
from kueue_worker.keeper.wire import LENGTH, Wire, WireError, encode_frame
from tests.hostile.fuzz.seeds import seeds
from tests.hostile.fuzz.targets import LIMIT, TARGETS

BODIES = st.lists(st.binary(min_size=1, max_size=LIMIT), max_size=6)
LENGTHS = st.one_of(st.sampled_from([0, 1, LIMIT, LIMIT + 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The pieces of `data` between these places."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(BODIES, st.lists(st.integers(0, 500), max_size=8))
def test_frames_are_the_same_however_the_stream_is_cut(bodies: list[bytes], places: list[int]) -> None:
    decoder = FrameDecoder(LIMIT)
    pieces = cut(b"".join(map(frame, bodies)), places)
    assert [body for piece in pieces for body in decoder.feed(piece)] == bodies


@given(BODIES, LENGTHS, st.binary(max_size=3 * LIMIT), st.lists(st.integers(0, 500), max_size=8))
def test_any_stream_gives_its_frames_or_one_error_and_keeps_little(
    bodies: list[bytes], length: int, rest: bytes, places: list[int]
) -> None:
    stream = b"".join(map(frame, bodies)) + length.to_bytes(HEADER, "big") + rest
    decoder = FrameDecoder(LIMIT)
    found: list[bytes] = []
    refused = False
    try:
        for piece in cut(stream, places):
            found += decoder.frames(piece)
            assert len(decoder._buffer) < HEADER + LIMIT
    except ProtocolError:
        refused = True
    assert found[: len(bodies)] == bodies
    if not 0 < length <= LIMIT:
        assert refused
        assert found == bodies


@given(st.binary(max_size=600))
def test_the_fuzzers_promise_about_frames_holds(data: bytes) -> None:
    TARGETS["frames"](data)


@pytest.mark.parametrize("target", TARGETS)
def test_where_the_fuzzers_begin_all_is_well(target: str) -> None:
    for seed in seeds(target):
        TARGETS[target](seed)


# ---------------------------------------------------------------- agent and keeper


@settings(max_examples=30)
@given(
    st.lists(
        st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2), max_size=3), max_size=4
    )
)
def test_what_the_agent_sends_arrives_at_the_keeper_however_it_is_cut(
    parts: list[list[dict[str, int]]],
) -> None:
    frames = [[{"m": "x", **message} for message in part] for part in parts]
    stream = b"".join(map(encode_frame, frames))
    ours, theirs = socket.socketpair()
    wire = Wire(theirs)
    try:
        found = []
        for byte in stream:
            ours.send(bytes([byte]))
            found += wire.receive() or []
        assert found == [[{**message, "m": message["m"]} for message in part] for part in frames]
    finally:
        ours.close()
        wire.close()


@given(LENGTHS, st.binary(max_size=200))
def test_any_bytes_to_the_keeper_are_messages_or_a_fault_of_the_wire(length: int, rest: bytes) -> None:
    TARGETS["keeper_frames"](LENGTH.pack(length) + rest)
    TARGETS["keeper_frames"](LENGTH.pack(len(rest)) + rest)


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.sampled_from(["m", "key", "end", "status", "note", "out", "fd"]), JSON)))
def test_any_messages_to_keeper_and_agent_are_read_or_a_fault(messages: list[dict[str, object]]) -> None:
    body = json.dumps(messages).encode()
    TARGETS["keeper_bodies"](body)
    TARGETS["agent_bodies"](body)


def test_a_frame_of_the_keeper_keeps_no_descriptor_that_came_with_nonsense() -> None:
    before = len(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    wire = Wire(theirs)
    reading, writing = os.pipe()
    socket.send_fds(ours, [b"\0\0\0\1["], [reading, writing] * 3)
    with suppress(WireError):
        wire.receive()
    for descriptor in (reading, writing):
        os.close(descriptor)
    wire.close()
    ours.close()
    assert len(os.listdir("/proc/self/fd")) == before
