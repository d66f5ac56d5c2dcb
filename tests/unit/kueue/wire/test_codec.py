"""Messages survive the way over JSON; what is none raises `ProtocolError` and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.errors import ProtocolError
from kueue.resources import Shape
from kueue.wire import codec
from kueue.wire.messages import Command, Heartbeat, RawBytes, Spec, Submit, Submitted, Watch


def test_a_submit_with_words_that_are_not_utf_8_comes_back_as_it_was() -> None:
    words = tuple(codec.to_os(word) for word in (b"cp", b"caf\xe9", "\udcff", "ünï"))
    spec = Spec(Command(words), RawBytes(b"/tmp/\xff"), "/tmp", Shape(resources=(("genus", 2),)), "c" * 64)
    message = Submit(3, "token", (spec,), (b"context",))
    assert codec.decode_client_message(codec.encode(message)) == message
    assert codec.decode_to_client(codec.encode(Submitted(3, 1, 1))) == Submitted(3, 1, 1)


@given(st.binary())
def test_bytes_of_an_os_string_come_back_as_they_were(raw: bytes) -> None:
    carried = msgspec.json.decode(msgspec.json.encode(codec.to_os(raw)), type=str | RawBytes)
    assert codec.os_bytes(carried) == raw
    assert os.fsencode(codec.from_os(carried)) == raw


def test_text_paths_and_bytes_name_the_same_os_string() -> None:
    assert codec.to_os("a/b") == codec.to_os(b"a/b") == codec.to_os(Path("a/b")) == "a/b"
    assert codec.to_os("a\udce9") == codec.to_os(b"a\xe9") == RawBytes(b"a\xe9")


DEEP = b"[" * 100_000
BAD = {
    "nothing": b"",
    "no JSON": b"GET / HTTP/1.1\r\n",
    "no object": b"[]",
    "no type": b'{"rid": 1}',
    "unknown type": b'{"type": "format_disk", "rid": 1}',
    "a type of the other direction": b'{"type": "submitted", "rid": 1, "first": 1, "count": 1}',
    "a field of the wrong type": b'{"type": "watch", "rid": "1", "ranges": []}',
    "a missing field": b'{"type": "watch", "rid": 1}',
    "not UTF-8": b'{"type": "list_workers", "rid": \xff}',
    "a lone half of a pair": b'{"type": "show_worker", "rid": 1, "worker": "\xed\xb0\x80"}',
    "a number of 10,000 digits": b'{"type": "list_workers", "rid": ' + b"9" * 10_000 + b"}",
    "deep nesting": DEEP,
    "deep nesting in an unknown field": b'{"type": "list_workers", "rid": 1, "x": ' + DEEP,
    "bad base64": b'{"type": "submit", "rid": 1, "token": "t", "jobs": [], "contexts": ["%%%"]}',
    "trailing bytes": b'{"type": "list_workers", "rid": 1} {}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_what_is_no_message_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        codec.decode_client_message(body)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_a_protocol_error(body: bytes) -> None:
    for decode in (
        codec.decode_client_message,
        codec.decode_to_client,
        codec.decode_worker_message,
        codec.decode_to_worker,
    ):
        with pytest.raises(ProtocolError):
            decode(body)


def test_fields_of_a_newer_version_are_ignored() -> None:
    assert codec.decode_client_message(b'{"type": "heartbeat", "mood": {"good": [1]}}') == Heartbeat()
    assert codec.decode_client_message(b'{"type":"watch","rid":1,"ranges":[[1,2]],"new":0}') == Watch(
        1, ((1, 2),)
    )
