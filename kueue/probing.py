"""How far one gets on the way to a server, step by step: for people who wonder why it does not answer."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

from kueue.errors import KueueError
from kueue.wire.connection import BlockingConnection
from kueue.wire.dialing import failure_to_connect, place
from kueue.wire.tls import client_context

SECONDS = 5.0
"""For each step."""


class Step(NamedTuple):
    """`name` is `address`, `connection`, `TLS` or `secret`; `text` says what was found, or what was not."""

    name: str
    succeeded: bool
    text: str
    seconds: float


def probe(host: str, port: int, secret: str, version: str, timeout: float = SECONDS) -> Iterator[Step]:
    """The steps in their order, up to the first that fails. `timeout`: seconds for each."""
    began = time.monotonic()

    def done(name: str, text: str) -> Step:
        nonlocal began
        before, began = began, time.monotonic()
        return Step(name, True, text, began - before)

    def failed(name: str, error: Exception) -> Step:
        failure = failure_to_connect(error, place(host, port), timeout, None)
        return Step(name, False, str(failure), time.monotonic() - began)

    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield failed("address", error)
        return
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    text = host if list(addresses) == [host] else f"{host} is {', '.join(addresses)}"
    yield done("address", text)
    try:
        plain = socket.create_connection((host, port), timeout)
    except (OSError, OverflowError) as error:
        yield failed("connection", error)
        return
    with contextlib.closing(plain):
        yield done("connection", f"{place(*plain.getpeername()[:2])} takes connections")
        try:
            with client_context().wrap_socket(plain) as secured:
                yield done("TLS", f"{secured.version()} is spoken")
        except (OSError, ssl.SSLError) as error:
            yield failed("TLS", error)
            return
    try:
        connection = BlockingConnection(host, port, secret, version, timeout)
    except KueueError as error:
        yield Step("secret", False, str(error), time.monotonic() - began)
        return
    connection.close()
    yield done("secret", "both sides have it, and a version in common")
