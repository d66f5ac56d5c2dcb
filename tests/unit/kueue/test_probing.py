"""How far one gets on the way to a server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from kueue.probing import Step, probe
from tests.support.lab import SECRET, free_port


def steps(host: str, port: int, secret: str = SECRET) -> list[tuple[str, bool]]:
    """Without their texts."""
    return [(step.name, step.succeeded) for step in probe(host, port, secret, "0.1.0", 1.0)]


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port at which each connection is handed to `talk`."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                talk(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_a_name_that_nobody_knows_is_where_it_ends() -> None:
    (step,) = probe("no-such-host.invalid", 1, SECRET, "0.1.0")
    assert (step.name, step.succeeded) == ("address", False)
    assert "unknown host" in step.text


def test_nobody_listens_there() -> None:
    assert steps("127.0.0.1", free_port()) == [("address", True), ("connection", False)]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_something_else_listens_there(answer: bytes) -> None:
    def talk(sock: socket.socket) -> None:
        with sock:
            sock.sendall(answer)

    with listening(talk) as port:
        assert steps("127.0.0.1", port) == [("address", True), ("connection", True), ("TLS", False)]


def test_who_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[socket.socket] = []
    with listening(kept.append) as port:
        last = list(probe("127.0.0.1", port, SECRET, "0.1.0", 0.2))[-1]
    assert last[:2] == ("TLS", False)
    assert "no answer within 0.2 s" in last.text
    for sock in kept:
        sock.close()


def test_steps_have_times() -> None:
    with listening(lambda sock: sock.close()) as port:
        found: list[Step] = list(probe("127.0.0.1", port, SECRET, "0.1.0", 1.0))
    assert all(step.seconds >= 0 for step in found)
