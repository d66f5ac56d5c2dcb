"""Messages made from their types: every one of the protocol, with sensible, absurd and impossible values.

What comes out is plain JSON data, so that it can break the bounds that the types set, now and then. A new
message or field is covered by itself. Where the values come from is the `Source`'s business: hypothesis, or a
fuzzer's bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, TypeVar, get_args

from msgspec import inspect

from kueue.wire.messages import ClientMessage, ToClient, ToWorker, WorkerMessage

T = TypeVar("T")

UNIONS: dict[str, Any] = {
    "worker to server": WorkerMessage,
    "server to worker": ToWorker,
    "client to server": ClientMessage,
    "server to client": ToClient,
}
ODD_INTEGERS = (
    *(0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, -(2**31), 2**53 + 1),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**30, -(10**30)),
)
ODD_NUMBERS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-308, 1e18, 1e308, -1e308, 1.7976931348623157e308)
ODD_TEXTS = (
    *("", "a", "w1", "null", "/", "/tmp", ".", "..", "a/b", "nul\0byte", "line\nbreak", "\x1b[2J", "\u202e"),
    *("é", "\U0001f600", "0", "-1", "99999999999999999999", "*" * 200, "[" * 50, '"', "\\", "canceled"),
)
MOST_ITEMS = 4


class Source(Protocol):
    """Where values come from. `strict`: none out of the bounds of its type."""

    strict: bool

    def choose(self, options: Sequence[T]) -> T:
        """One of these."""
        ...

    def integer(self) -> int:
        """Any integer, the odd ones often."""
        ...

    def number(self) -> float:
        """Any finite number."""
        ...

    def text(self) -> str:
        """Any text that JSON can carry."""
        ...

    def blob(self) -> bytes:
        """Any bytes."""
        ...


class BytesSource:
    """Values out of a fuzzer's bytes, which are used up; then everything is the first choice. `integers` and
    `texts` are worth trying besides the odd ones."""

    strict = False

    def __init__(self, data: bytes, integers: Sequence[int] = (), texts: Sequence[str] = ()) -> None:
        self._data = data
        self._at = 0
        self.integers = [*integers, *ODD_INTEGERS]
        self.texts = [*texts, *ODD_TEXTS]

    @property
    def left(self) -> int:
        """Bytes that are not used yet."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def choose(self, options: Sequence[T]) -> T:
        """One of these."""
        return options[int.from_bytes(self.take(1 if len(options) <= 256 else 2), "big") % len(options)]

    def integer(self) -> int:
        """One that is worth trying, or any of 64 bits."""
        if int.from_bytes(self.take(1), "big") < 224:
            return self.choose(self.integers)
        return int.from_bytes(self.take(8), "big", signed=True)

    def number(self) -> float:
        """One that is worth trying, or a whole one."""
        return self.choose(ODD_NUMBERS) if self.choose((True, True, False)) else float(self.integer())

    def text(self) -> str:
        """One that is worth trying, or what the bytes are as UTF-8."""
        if self.choose((True, True, True, False)):
            return self.choose(self.texts)
        return self.blob().decode("utf-8", "replace")

    def blob(self) -> bytes:
        """Up to 40 bytes."""
        return self.take(self.choose(range(41)))


@cache
def message_types(union: Any) -> list[inspect.StructType]:
    """The messages of a union."""
    found = [inspect.type_info(kind) for kind in get_args(union)]
    return [kind for kind in found if isinstance(kind, inspect.StructType)]


def tag_of(kind: inspect.StructType) -> str:
    """The `type` of a message."""
    return str(kind.tag)


def forge_message(source: Source, union: Any) -> dict[str, Any]:
    """A message of this union, as JSON data."""
    message: dict[str, Any] = forge(source, source.choose(message_types(union)))
    return message


def forge(source: Source, kind: inspect.Type) -> Any:
    """A value of this type, but perhaps for its bounds, as JSON data."""
    match kind:
        case inspect.StructType(array_like=True):
            return [forge(source, field.type) for field in kind.fields]
        case inspect.StructType():
            made: dict[str, Any] = {} if kind.tag is None else {str(kind.tag_field): kind.tag}
            for field in kind.fields:
                if field.required or source.choose((True, False)):
                    made[field.encode_name] = forge(source, field.type)
            return made
        case inspect.UnionType():
            return forge(source, source.choose(kind.types))
        case inspect.VarTupleType() | inspect.ListType():
            return [forge(source, kind.item_type) for _ in range(source.choose(range(MOST_ITEMS)))]
        case inspect.TupleType():
            return [forge(source, item) for item in kind.item_types]
        case inspect.DictType():
            count = source.choose(range(MOST_ITEMS))
            return {source.text(): forge(source, kind.value_type) for _ in range(count)}
        case inspect.EnumType():
            return source.choose([str(member.value) for member in kind.cls])
        case inspect.LiteralType():
            return source.choose(kind.values)
        case inspect.IntType():
            return _bounded(source, source.integer(), kind.ge, kind.le)
        case inspect.FloatType():
            return _bounded(source, source.number(), kind.ge, kind.le)
        case inspect.BoolType():
            return source.choose((False, True))
        case inspect.StrType():
            return source.text()
        case inspect.BytesType():
            return base64.b64encode(source.blob()).decode()
        case inspect.NoneType():
            return None
        case inspect.RawType():
            return {source.text(): source.integer()}
        case _:
            raise AssertionError(f"a type that no message had so far: {kind}")


def _bounded(source: Source, value: Any, least: float | None, most: float | None) -> Any:
    """Within the bounds of the type, but not always: a message out of bounds gets no further than the codec."""
    if least is None or most is None:
        return value
    if not source.strict and source.choose((False, *[True] * 15)) is False:
        return value
    return min(max(value, least), most)


def bent(source: Source, data: Any) -> Any:
    """The data with one place of it changed: another type, gone, doubled, or nested deep."""
    if isinstance(data, dict) and data and source.choose((True, True, False)):
        key = source.choose(list(data))
        how = source.choose(("within", "gone", "renamed", "unknown"))
        match how:
            case "within":
                return {**data, key: bent(source, data[key])}
            case "gone":
                return {name: value for name, value in data.items() if name != key}
            case "renamed":
                return {source.text() if name == key else name: value for name, value in data.items()}
            case _:
                return {**data, source.text(): odd(source)}
    if isinstance(data, list) and data and source.choose((True, True, False)):
        place = source.choose(range(len(data)))
        how = source.choose(("within", "gone", "doubled", "reversed"))
        match how:
            case "within":
                return [*data[:place], bent(source, data[place]), *data[place + 1 :]]
            case "gone":
                return [*data[:place], *data[place + 1 :]]
            case "doubled":
                return [*data, data[place]]
            case _:
                return data[::-1]
    return odd(source)


def odd(source: Source) -> Any:
    """Anything that JSON has."""
    match source.choose(("null", "bool", "integer", "number", "text", "list", "object", "deep")):
        case "null":
            return None
        case "bool":
            return source.choose((False, True))
        case "integer":
            return source.integer()
        case "number":
            return source.number()
        case "text":
            return source.text()
        case "list":
            return [source.integer(), source.text()]
        case "object":
            return {source.text(): source.integer()}
        case _:
            made: Any = []
            for _ in range(source.choose((10, 100, 400))):
                made = [made]
            return made


def encoded(data: Any) -> bytes:
    """JSON data as bytes."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
