"""What an operation of the client may ask of whoever drives it, and the one-question operation.

Operations are generators without I/O: they yield effects and are sent their results. `blocking_driver.py` and
`async_client.py` drive them, one with blocking sockets, one with asyncio; what an operation means, and how it
survives a lost connection, is written once.

`Open` gives a request id on a living connection (connecting if need be, for as long as its patience lasts);
`Send` sends; `Receive` gives `(rid, message)` for one of the ids, or None after its timeout (with no ids: a
pause); `Close` ends an id; `Emit` gives a value to the caller of a streaming operation. A lost connection is
thrown into `Send` and `Receive` as `ConnectionLostError`; the ids of that connection are dead from then on.
Where none can be made, `Open` is thrown the `ServerUnreachableError`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import msgspec

from kueue.errors import (
    KueueError,
    ProtocolError,
    RequestError,
    ServerUnreachableError,
    UnknownJobError,
    UnknownWorkerError,
    UsageError,
)
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import Failure, Reason

TRIES = 5
"""How often something is sent when the connection breaks under it, without an answer in between."""

T = TypeVar("T")


class Open(msgspec.Struct, frozen=True):
    """A fresh request id. `patience`: seconds for which a server that was there and is away is waited for
    (None: as configured)."""

    patience: float | None = None


class Send(msgspec.Struct, frozen=True):
    """Send a message; its `rid` is an open id."""

    message: Any


class Receive(msgspec.Struct, frozen=True):
    """The next message for one of these ids, or None after `timeout` seconds."""

    rids: tuple[int, ...]
    timeout: float | None = None


class Close(msgspec.Struct, frozen=True):
    """Nothing more is expected for this id."""

    rid: int


class Emit(msgspec.Struct, frozen=True):
    """A value for the caller."""

    value: Any


Effect = Open | Send | Receive | Close | Emit
Operation = Generator[Effect, Any, T]


def failure(reason: Reason) -> KueueError:
    """The error for the server's no."""
    if reason.code == "unknown_job":
        return UnknownJobError(reason.code, reason.text)
    if reason.code == "unknown_worker":
        return UnknownWorkerError(reason.code, reason.text)
    if reason.code in ("unknown_resource", "too_much", "empty_command") or reason.code.startswith("bad_"):
        return UsageError(reason.text)
    return RequestError(reason.code, reason.text)


def broken(error: ConnectionLostError) -> ServerUnreachableError:
    """The error for a connection that breaks again and again."""
    return ServerUnreachableError(f"the connection broke: {error}")


def answer(reply: Any, expected: type[T]) -> T:
    """The answer to a request.

    Raises:
        KueueError: the server says no. ProtocolError: what it sent is no answer to what was asked.
    """
    if isinstance(reply, Failure):
        raise failure(reply.reason)
    if not isinstance(reply, expected):
        said, meant = type(reply).__name__, expected.__name__
        raise ProtocolError(f"the server answered with {said} where {meant} was expected")
    return reply


def ask(make: Callable[[int], Any], expected: type[T], *, repeatable: bool = True) -> Operation[T]:
    """One request, one answer. A `repeatable` one is sent again if the connection breaks before it comes."""
    for left in reversed(range(TRIES)):
        rid = yield Open()
        sent = False
        try:
            yield Send(make(rid))
            sent = True
            _, reply = yield Receive((rid,))
        except ConnectionLostError as error:
            if not left or (sent and not repeatable):
                raise broken(error) from None
            continue
        yield Close(rid)
        return answer(reply, expected)
    raise AssertionError


class Values(Generic[T]):
    """The values that an operation emits, one at a time, for use in another operation."""

    def __init__(self, operation: Operation[Any]) -> None:
        self._operation = operation

    def next(self) -> Operation[T | None]:
        """The next value; None at the end."""
        operation = self._operation
        try:
            effect = next(operation)
            while not isinstance(effect, Emit):
                try:
                    result = yield effect
                except (ConnectionLostError, ServerUnreachableError) as error:
                    effect = operation.throw(error)
                else:
                    effect = operation.send(result)
        except StopIteration:
            return None
        value: T = effect.value
        return value

    def close(self) -> None:
        """No more of them are wanted."""
        self._operation.close()
