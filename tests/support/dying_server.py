"""A server that dies in the middle of a handshake, as seen from the other end: it hangs up, and nobody listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kueue.wire.codec import encode
from kueue.wire.framing import frame
from kueue.wire.handshake import Challenge
from kueue.wire.proof import NONCE_BYTES
from kueue.wire.tls import server_context

CHALLENGE = frame(encode(Challenge(1, bytes(NONCE_BYTES))))


@contextmanager
def dying(port: int, words: bytes) -> Iterator[threading.Event]:
    """Listen at `port` for one connection, say `words` over TLS, and be gone; the event is set then."""
    dead = threading.Event()
    listening = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        plain, _ = listening.accept()
        plain.settimeout(20)
        with server_context()[0].wrap_socket(plain, server_side=True) as secure:
            listening.close()
            secure.sendall(words)
            if words:
                secure.recv(4096)
        dead.set()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield dead
    finally:
        thread.join(20)
        assert not thread.is_alive()
