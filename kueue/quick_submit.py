"""Submitting one plain job with the standard library alone, over a connection of its own.

`kueue cmd` is called a thousand times in a row, and importing the client takes longer than all that the server
does. What is done here is what `Client.submit` does, for the usual case; wherever anything is not as it should
be, nothing is said, and the caller goes the long way with the same token, so that no job is made twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import ssl
import time
from typing import Any

from kueue.client_config import ClientConfig
from kueue.errors import ProtocolError
from kueue.inherited import current_umask, soft_limits
from kueue.wire.framing import FrameDecoder, frame
from kueue.wire.proof import HANDSHAKE_VERSION, NONCE_BYTES, proof
from kueue.wire.versions import PROTOCOL_MAX, PROTOCOL_MIN

CONNECT_SECONDS = 5.0
"""Until authenticated; a server that takes longer is left to the client's patience."""
ANSWER_SECONDS = 20.0
_HANDSHAKE_FRAME = 4096
_FRAME = 1024 * 1024
_READ_BYTES = 65536


class Submitted:
    """A job that is durable; `warnings` are pairs of code and text."""

    def __init__(self, job: int, warnings: list[tuple[str, str]]) -> None:
        self.job = job
        self.warnings = warnings


class _NotPlainError(Exception):
    """Something is not as usual."""


def encoded(value: dict[str, Any]) -> bytes:
    """As the wire has it; the same bytes as msgspec's, so that equal environments have one digest.

    Raises:
        UnicodeEncodeError: a text has bytes that are not UTF-8.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def context(environment: list[tuple[str, str]]) -> bytes:
    """The encoded `Context` of `environment` and this process's umask and limits."""
    whole: dict[str, Any] = {"env": environment} if environment else {}
    return encoded({**whole, "umask": current_umask(), "limits": soft_limits()})


def spec(values: dict[str, Any], inherited: bytes) -> dict[str, Any]:
    """The wire's `Spec`: `values` are its fields besides `context` and `submit_host`."""
    digest = hashlib.sha256(inherited).hexdigest()
    return {**values, "context": digest, "submit_host": socket.gethostname()}


def submit(
    config: ClientConfig,
    address: tuple[str, int],
    token: str,
    job: dict[str, Any],
    inherited: bytes,
    version: str,
) -> Submitted | None:
    """Submit `job` with the context `inherited`; None if that was not possible or nobody knows: the caller
    submits it again, with the same `token`.
    """
    try:
        blob = base64.b64encode(inherited).decode()
        request = encoded({"type": "submit", "rid": 1, "token": token, "jobs": [job], "contexts": [blob]})
        with _Conversation(address) as conversation:
            conversation.authenticate(config.shared_secret, version)
            conversation.send(request)
            return _understood(conversation.answer())
    except (OSError, ValueError, KeyError, TypeError, ProtocolError, _NotPlainError):
        return None


def _understood(message: dict[str, Any]) -> Submitted:
    if message["type"] != "submitted" or message["rid"] != 1 or message["count"] != 1:
        raise _NotPlainError
    job = message["first"]
    if type(job) is not int:
        raise _NotPlainError
    warnings = [(str(reason["code"]), str(reason["text"])) for reason in message.get("warnings", ())]
    return Submitted(job, warnings)


class _Conversation:
    """A TLS connection, frame by frame."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._until = time.monotonic() + CONNECT_SECONDS
        self._decoder = FrameDecoder(_HANDSHAKE_FRAME)
        self._bodies: list[bytes] = []
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname = False  # the proof, bound to the certificate, is what makes it trustworthy
        tls.verify_mode = ssl.CERT_NONE
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        plain = socket.create_connection(address, CONNECT_SECONDS)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = tls.wrap_socket(plain)
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> _Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def authenticate(self, secret: str, version: str) -> None:
        """Both sides prove the secret, as `ClientHandshake` does it."""
        certificate = self._socket.getpeercert(True)
        if certificate is None:
            raise _NotPlainError
        challenge = self._receive("challenge")
        if challenge["handshake"] != HANDSHAKE_VERSION:
            raise _NotPlainError
        theirs, ours = base64.b64decode(challenge["nonce"], validate=True), os.urandom(NONCE_BYTES)
        mac = proof(secret, "client", "client", theirs, ours, certificate)
        self.send(encoded({"type": "client_proof", "role": "client", "nonce": _b64(ours), "mac": _b64(mac)}))
        expected = proof(secret, "server", "client", theirs, ours, certificate)
        if not hmac.compare_digest(
            expected, base64.b64decode(self._receive("server_proof")["mac"], validate=True)
        ):
            raise _NotPlainError
        low, high = self._receive("versions")["protocol"]
        if high < PROTOCOL_MIN or low > PROTOCOL_MAX:
            raise _NotPlainError
        self._decoder.limit = _FRAME
        self.send(encoded({"type": "versions", "protocol": [PROTOCOL_MIN, PROTOCOL_MAX], "version": version}))

    def send(self, body: bytes) -> None:
        """Send a frame."""
        self._socket.sendall(frame(body))

    def answer(self) -> dict[str, Any]:
        """The next message that is no heartbeat."""
        self._until = time.monotonic() + ANSWER_SECONDS
        while True:
            message = self._next()
            if message["type"] != "heartbeat":
                return message

    def _receive(self, kind: str) -> dict[str, Any]:
        message = self._next()
        if message["type"] != kind:
            raise _NotPlainError
        return message

    def _next(self) -> dict[str, Any]:
        while not self._bodies:
            left = self._until - time.monotonic()
            if left <= 0:
                raise _NotPlainError
            self._socket.settimeout(left)
            data = self._socket.recv(_READ_BYTES)
            if not data:
                raise _NotPlainError
            self._bodies = self._decoder.feed(data)
        message = json.loads(self._bodies.pop(0))
        if type(message) is not dict:
            raise _NotPlainError
        return message


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
