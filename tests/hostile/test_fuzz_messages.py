"""Each message of the protocol, sensible and not: it is read as it was written, or is the documented error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from kueue.errors import ProtocolError
from kueue.wire import codec
from kueue.wire.codec import from_os, os_bytes, to_os
from tests.hostile.drawing import Drawn
from tests.hostile.forging import UNIONS, bent, encoded, forge, message_types, odd, tag_of
from tests.hostile.fuzz.seeds import seeds
from tests.hostile.fuzz.targets import DECODERS, TARGETS, messages

DECODE: dict[str, Any] = {
    "worker to server": codec.decode_worker_message,
    "server to worker": codec.decode_to_worker,
    "client to server": codec.decode_client_message,
    "server to client": codec.decode_to_client,
}
KINDS = [
    pytest.param(direction, kind, id=f"{direction.replace(' ', '-')}-{tag_of(kind)}")
    for direction, union in UNIONS.items()
    for kind in message_types(union)
]
SAMPLES = list(seeds("messages"))
ONE_JOB = b'{"type":"show_job","rid":1,"job":%s}'


@pytest.mark.parametrize(("direction", "kind"), KINDS)
@settings(max_examples=30)
@given(st.data())
def test_a_message_is_read_as_it_was_written(
    direction: str, kind: inspect.StructType, data: st.DataObject
) -> None:
    body = encoded(forge(Drawn(data, strict=True), kind))
    decode = DECODE[direction]
    message = decode(body)
    assert type(message) is kind.cls
    assert decode(codec.encode(message)) == message
    assert codec.encode(decode(codec.encode(message))) == codec.encode(message)


@pytest.mark.parametrize(("direction", "kind"), KINDS)
@settings(max_examples=30)
@given(st.data())
def test_a_message_bent_out_of_shape_is_read_or_the_one_error(
    direction: str, kind: inspect.StructType, data: st.DataObject
) -> None:
    source = Drawn(data, strict=False)
    messages(encoded(bent(source, forge(source, kind))))


@given(st.data())
def test_anything_that_json_has_is_read_or_the_one_error(data: st.DataObject) -> None:
    messages(encoded(odd(Drawn(data, strict=False))))


@given(st.sampled_from(SAMPLES), st.integers(0, 5000), st.integers(0, 8), st.binary(max_size=8))
def test_a_message_with_other_bytes_in_it_is_read_or_the_one_error(
    sample: bytes, place: int, width: int, other: bytes
) -> None:
    place %= len(sample)
    messages(sample[:place] + other + sample[place + width :])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_the_one_error(data: bytes) -> None:
    messages(data)
    TARGETS["forged_messages"](data)


@pytest.mark.parametrize(
    "body",
    [
        ONE_JOB % b"NaN",
        ONE_JOB % b"Infinity",
        ONE_JOB % b"1e999",
        ONE_JOB % b"1.5",
        ONE_JOB % b"-",
        ONE_JOB % b"0x1",
        ONE_JOB % (b"9" * 5000),
        ONE_JOB % b'"1"',
        ONE_JOB % b"null",
        ONE_JOB % b"true",
        ONE_JOB % b"[1]",
        ONE_JOB % b'1,"type":"list_jobs"',
        b'{"type":"show_job","rid":1}',
        b'{"type":"backup","rid":1,"path":"\xff"}',
        b'{"type":"backup","rid":1,"path":"\xed\xb2\x80"}',
        b'{"type":"backup","rid":1,"path":"\\udc80"}',
        b'{"type":"backup","rid":1,"path":"\\ud800x"}',
        b'{"type":"backup","rid":1,"path":{"b64":"_-_-"}}',
        b'{"type":"backup","rid":1,"path":{"b64":"YQ"}}',
        b'{"type":"backup","rid":1,"path":{"b64":"YQ==="}}',
        b'{"type":"backup","rid":1,"path":{"b64":"Y Q=="}}',
        b'{"type":"backup","rid":1,"path":{}}',
        b'{"type":"show_job","rid":1,"job":1',
        b'{"type":"show_job","rid":1,"job":1}}',
        b'{"type":"show_job","rid":1,"job":1}\0',
        b'\xef\xbb\xbf{"type":"show_job","rid":1,"job":1}',
        b'{"type":["show_job"],"rid":1,"job":1}',
        b'{"rid":1,"job":1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":"show_job","rid":1,"job":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"",
        b"null",
        b"\0",
    ],
    ids=lambda body: body[:60].decode("ascii", "backslashreplace"),
)
def test_what_is_no_message_is_the_one_error_of_one_short_line(body: bytes) -> None:
    for decode in DECODERS:
        with pytest.raises(ProtocolError) as raised:
            decode(body)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 1500


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    assert codec.decode_client_message(ONE_JOB % b'1,"job":2') == codec.decode_client_message(ONE_JOB % b"2")


def test_an_unknown_field_is_left_out_however_it_looks() -> None:
    unknown = json.dumps({"x": [None, {"y": 10**40}]})[1:-1].encode()
    assert codec.decode_client_message(ONE_JOB % (b"2," + unknown)) == codec.decode_client_message(
        ONE_JOB % b"2"
    )


@pytest.mark.parametrize("number", [-1, 2**63, 2**64 - 1, 2**64, 10**40])
@pytest.mark.parametrize("field", ["job", "fence", "attempt"])
def test_a_worker_says_no_number_that_the_journal_cannot_hold(field: str, number: int) -> None:
    end = {"job": 1, "fence": 2, "attempt": 1, "end": "exited", field: number}
    with pytest.raises(ProtocolError):
        codec.decode_worker_message(encoded({"type": "report", "finished": [end]}))
    refs = [number if field == name else 1 for name in ("job", "fence")]
    if number in refs:
        with pytest.raises(ProtocolError):
            codec.decode_worker_message(encoded({"type": "report", "released": [refs]}))


@given(st.binary(max_size=50))
def test_the_systems_strings_arrive_as_they_were(data: bytes) -> None:
    text = to_os(data)
    assert os_bytes(text) == data
    assert to_os(from_os(text)) == text
