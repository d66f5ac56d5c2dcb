"""Runs operations over one plain connection, blocking. Imports no asyncio.

A watch that goes on and other requests share the connection: messages are sorted by their request's id. One
thread at a time; a forked child connects anew.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from kueue import __version__
from kueue.effects import Close, Effect, Emit, Open, Operation, Receive, Send
from kueue.errors import AuthenticationError, ServerUnreachableError, UsageError
from kueue.server_access import ServerAccess
from kueue.wire.connection import SILENCE_SECONDS, BlockingConnection, ConnectionLostError
from kueue.wire.messages import Heartbeat, Unwatch

T = TypeVar("T")

FAREWELL_SECONDS = 1.0
"""How long ending a watch that nobody looks at any more may take."""


class BlockingDriver:
    """The connection to a server, and what waits for its messages. `on_retry` as in `Client`."""

    def __init__(self, access: ServerAccess, on_retry: Callable[[str], None] | None) -> None:
        self._connection: BlockingConnection | None = None
        self._inboxes: dict[int, deque[Any] | None] = {}  # None: its connection is lost
        self._next_rid = 1
        self._on_retry = on_retry
        self._access = access
        self._busy = False
        self._abandoned: list[int] = []
        self._process = os.getpid()

    def connect(self, patience: float | None) -> None:
        """Connect now, if there is no connection; `patience` as in `ServerAccess.dialing`.

        Raises:
            ServerUnreachableError, AuthenticationError, VersionError: why not.
        """
        if self._process != os.getpid():
            self._process = os.getpid()
            self.lose()  # our parent's; closing our descriptor of it says nothing to the server
        if self._connection is not None:
            return
        dialing = self._access.dialing(self._on_retry, patience)
        while True:
            host, port = self._access.resolve()
            try:
                self._connection = BlockingConnection(
                    host, port, self._access.secret, __version__, dialing.timeout
                )
            except (ServerUnreachableError, AuthenticationError) as error:
                time.sleep(dialing.pause_after(error))
            else:
                self._access.reached()
                return

    def run(self, operation: Operation[T]) -> T:
        """What an operation returns."""
        values = self.stream(operation)
        while True:
            try:
                next(values)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def stream(self, operation: Generator[Any, Any, T], *, late: bool = False) -> Generator[Any, None, T]:
        """Perform the effects of an operation; yields what it emits. `late`: the server need not hear at once that
        the operation has come to its end, for there is next to nothing more to be told of what it asked."""
        opened: set[int] = set()
        is_over = False
        result: Any = None
        error: ConnectionLostError | ServerUnreachableError | None = None
        try:
            while True:
                effect = operation.send(result) if error is None else operation.throw(error)
                result, error = None, None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    result = self._perform(effect, opened)
                except (ConnectionLostError, ServerUnreachableError) as lost:
                    error = lost
        except StopIteration as end:
            is_over = True
            return end.value  # type: ignore[no-any-return]
        finally:
            operation.close()
            if is_over and late:
                self._let_go(opened)
            else:
                self._abandon(opened)

    def _perform(self, effect: Effect, opened: set[int]) -> Any:
        if self._busy:
            raise UsageError("this client is in use already; make one for each thread")
        self._busy = True
        try:
            self._say_farewells()
            match effect:
                case Open(patience):
                    rid = self._open(patience)
                    opened.add(rid)
                    return rid
                case Close(rid):
                    opened.discard(rid)
                    self._inboxes.pop(rid, None)
                case Send(message):
                    self._send(message)
                case Receive():
                    return self._receive(effect)
        except (ConnectionLostError, KeyboardInterrupt):
            # When a signal cuts in, half a message may have been sent or received.
            self.lose()
            raise
        finally:
            self._busy = False
        return None

    def _open(self, patience: float | None) -> int:
        self.connect(patience)
        rid = self._next_rid
        self._next_rid += 1
        self._inboxes[rid] = deque()
        return rid

    def _send(self, message: Any) -> None:
        if self._connection is None or self._inboxes.get(message.rid) is None:
            raise ConnectionLostError("the connection was lost meanwhile")
        self._connection.send(message)

    def _receive(self, effect: Receive) -> tuple[int, Any] | None:
        deadline = None if effect.timeout is None else time.monotonic() + effect.timeout
        while True:
            for rid in effect.rids:
                inbox = self._inboxes.get(rid)
                if inbox is None:
                    raise ConnectionLostError("the connection was lost meanwhile")
                if inbox:
                    return rid, inbox.popleft()
            if self._connection is None:
                raise ConnectionLostError("the connection was lost meanwhile")
            left = 2 * SILENCE_SECONDS if deadline is None else deadline - time.monotonic()
            message = self._connection.receive(max(0.0, left))
            if message is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
            elif not isinstance(message, Heartbeat):
                inbox = self._inboxes.get(message.rid)
                if inbox is not None:
                    inbox.append(message)

    def _let_go(self, opened: set[int]) -> None:
        """Forget ids that an operation left open; the server hears of it with our next request."""
        for rid in opened:
            if self._inboxes.pop(rid, None) is not None and self._connection is not None:
                self._connection.send_late(Unwatch(rid))

    def _abandon(self, opened: set[int]) -> None:
        """Forget ids that an operation left open. It may be the garbage collector that calls, at any moment:
        then the server hears of it later."""
        self._abandoned.extend(rid for rid in opened if self._inboxes.pop(rid, None) is not None)
        if self._busy:
            return
        self._busy = True
        try:
            self._say_farewells()
        except (ConnectionLostError, KeyboardInterrupt):
            self.lose()
        finally:
            self._busy = False

    def _say_farewells(self) -> None:
        """End the watches that nobody looks at any more."""
        while self._abandoned:
            rid = self._abandoned.pop()
            if self._connection is not None and self._process == os.getpid():
                self._connection.send(Unwatch(rid), FAREWELL_SECONDS)

    def lose(self) -> None:
        """Close the connection; the next operation makes another one."""
        self._abandoned.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for rid in self._inboxes:
            self._inboxes[rid] = None
