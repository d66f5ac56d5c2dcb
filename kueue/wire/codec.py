"""Between messages and the bytes of one frame, and between OS strings and what JSON can carry.

Decoding validates: what does not fit its union raises `ProtocolError`, and nothing else ever does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec

from kueue.errors import ProtocolError
from kueue.text import visible
from kueue.wire.messages import ClientMessage, OsString, RawBytes, ToClient, ToWorker, WorkerMessage

encode: Callable[[msgspec.Struct], bytes] = msgspec.json.Encoder().encode
"""A message as the body of a frame (UTF-8 JSON)."""


def _decoder(union: object) -> Callable[[bytes], Any]:
    """Made when it is first used: no program needs all of them, and a client starts for a single message."""
    decode: Callable[[bytes], Any] | None = None

    def checked(body: bytes) -> Any:
        nonlocal decode
        if decode is None:
            decode = msgspec.json.Decoder(union).decode
        try:
            return decode(body)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise ProtocolError(f"not a message of the protocol: {visible(str(error)[:200])}") from None

    return checked


decode_worker_message: Callable[[bytes], WorkerMessage] = _decoder(WorkerMessage)
decode_to_worker: Callable[[bytes], ToWorker] = _decoder(ToWorker)
decode_client_message: Callable[[bytes], ClientMessage] = _decoder(ClientMessage)
decode_to_client: Callable[[bytes], ToClient] = _decoder(ToClient)


def known_only(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A decoder for a peer of a version that is not ours: None for what it says beyond the frozen subset."""

    def decode_known(body: bytes) -> Any:
        try:
            return decode(body)
        except ProtocolError:
            return None

    return decode_known


def to_os(value: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> OsString:
    """An OS string for the wire: text where it is UTF-8, else its bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return RawBytes(os.fsencode(value))
        return value
    raw = os.fsencode(value)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return RawBytes(raw)


def from_os(value: OsString) -> str:
    """The OS string as Python's file functions take it (surrogate-escaped)."""
    return value if isinstance(value, str) else os.fsdecode(value.b64)


def os_bytes(value: OsString) -> bytes:
    """The OS string's bytes."""
    return value.encode() if isinstance(value, str) else value.b64
