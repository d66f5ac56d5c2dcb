"""The handshake inside TLS: both sides prove the shared secret, bound to the certificate, then agree on
versions.

    server                                              client
      challenge {handshake, nonce}            ─────▶
                                              ◀─────    proof {role, nonce, mac}
      proof {mac}, versions {protocol, version} ────▶
                                              ◀─────    versions {protocol, version}

A proof is HMAC-SHA256 over length-prefixed label, role, server's nonce, client's nonce and SHA-256 of the
server's certificate (DER). The key is derived from the secret by HKDF-SHA256 (RFC 5869), one per role and
direction, so a proof can't be reflected or used for another role; a man in the middle has another
certificate, so his proofs fail. The handshake has a version of its own, which is part of the label.

A worker and a server without a common version go on with the frozen subset of the protocol, so that the
results of what runs arrive across an upgrade; a client is told which side to upgrade.

No I/O: feed frames in, send out what comes back.
"""

from __future__ import annotations

import enum
import hmac
import secrets as random
from collections.abc import Sequence
from typing import Literal

import msgspec

from kueue.errors import AuthenticationError, ProtocolError, ServerUnreachableError, VersionError
from kueue.wire.proof import HANDSHAKE_VERSION, NONCE_BYTES, proof
from kueue.wire.versions import PROTOCOL_MAX, PROTOCOL_MIN

MAX_FRAME = 4096
"""Bytes of a frame before both sides are authenticated."""
FROZEN = 0
"""In place of a protocol version: none is common, only the frozen subset is spoken."""
SECONDS = 10.0
"""From the first byte to authenticated, in all."""

Role = Literal["client", "worker"]


class Challenge(msgspec.Struct, frozen=True, tag="challenge"):
    handshake: int
    nonce: bytes


class ClientProof(msgspec.Struct, frozen=True, tag="client_proof"):
    role: Role
    nonce: bytes
    mac: bytes


class ServerProof(msgspec.Struct, frozen=True, tag="server_proof"):
    mac: bytes


class Versions(msgspec.Struct, frozen=True, tag="versions"):
    """Oldest and newest protocol version spoken, and the program's own version."""

    protocol: tuple[int, int]
    version: str


_encode = msgspec.json.Encoder().encode
_from_server = msgspec.json.Decoder(Challenge | ServerProof | Versions)
_from_client = msgspec.json.Decoder(ClientProof | Versions)


class _State(enum.Enum):
    CHALLENGE = enum.auto()
    PROOF = enum.auto()
    VERSIONS = enum.auto()
    DONE = enum.auto()


class _Agreement:
    """What both sides know in the end."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.protocol = FROZEN
        self.peer_version = ""
        self.mismatch = ""
        """Why only the frozen subset is spoken: which side to upgrade."""

    @property
    def _versions(self) -> bytes:
        return _encode(Versions((PROTOCOL_MIN, PROTOCOL_MAX), self._version))

    def _agree(self, peer: Versions, peer_is: str, we_are: str) -> None:
        self.peer_version = peer.version[:64]
        low, high = peer.protocol
        if high < PROTOCOL_MIN:
            self.mismatch = (
                f"the {peer_is} is Kueue {self.peer_version}, too old for this {we_are} ({self._version}): "
                f"upgrade the {peer_is}"
            )
        elif low > PROTOCOL_MAX:
            self.mismatch = (
                f"this {we_are} is Kueue {self._version}, too old for the {peer_is} ({self.peer_version}): "
                f"upgrade the {we_are}"
            )
        else:
            self.protocol = min(high, PROTOCOL_MAX)
        if self.mismatch and "worker" not in (peer_is, we_are):
            raise VersionError(self.mismatch)


class ServerHandshake(_Agreement):
    """The server's side. `secrets`: the current one and previous ones that are still accepted."""

    def __init__(
        self, secrets: Sequence[str], certificate_der: bytes, version: str, nonce: bytes | None = None
    ) -> None:
        super().__init__(version)
        self._secrets = tuple(secrets)
        self._der = certificate_der
        self._nonce = nonce if nonce is not None else random.token_bytes(NONCE_BYTES)
        self._state = _State.PROOF
        self.role: Role = "client"
        self.secret = ""
        """The one that the peer proved to have."""

    @property
    def authenticated(self) -> bool:
        """The peer has proved the secret."""
        return self._state in (_State.VERSIONS, _State.DONE)

    @property
    def done(self) -> bool:
        """Versions are agreed; messages may flow."""
        return self._state is _State.DONE

    def start(self) -> list[bytes]:
        """Bodies to send when TLS is up."""
        return [_encode(Challenge(HANDSHAKE_VERSION, self._nonce))]

    def receive(self, body: bytes) -> list[bytes]:
        """Take a frame's body, return bodies to send.

        Raises:
            ProtocolError: not the handshake. AuthenticationError: wrong proof.
            VersionError: no common version with a client.
        """
        message = _decoded(_from_client, body)
        match message:
            case ClientProof() if self._state is _State.PROOF:
                return self._on_proof(message)
            case Versions() if self._state is _State.VERSIONS:
                self._agree(message, self.role, "server")
                self._state = _State.DONE
                return []
        raise ProtocolError("handshake out of order")

    def _on_proof(self, message: ClientProof) -> list[bytes]:
        if len(message.nonce) != NONCE_BYTES:
            raise ProtocolError("a nonce of the wrong length")
        matching = None
        for secret in self._secrets:  # all of them, always: time tells nothing
            expected = proof(secret, "client", message.role, self._nonce, message.nonce, self._der)
            if hmac.compare_digest(expected, message.mac) and matching is None:
                matching = secret
        if matching is None:
            raise AuthenticationError("wrong proof: the peer's shared_secret differs")
        self.role = message.role
        self.secret = matching
        self._state = _State.VERSIONS
        mac = proof(matching, "server", message.role, self._nonce, message.nonce, self._der)
        return [_encode(ServerProof(mac)), self._versions]


class ClientHandshake(_Agreement):
    """The connecting side, of either role. `certificate_der` is the one that TLS showed."""

    def __init__(
        self, role: Role, secret: str, certificate_der: bytes, version: str, nonce: bytes | None = None
    ) -> None:
        super().__init__(version)
        self.role = role
        self._secret = secret
        self._der = certificate_der
        self._nonce = nonce if nonce is not None else random.token_bytes(NONCE_BYTES)
        self._server_nonce = b""
        self._state = _State.CHALLENGE

    @property
    def done(self) -> bool:
        """Both sides are proved and versions are agreed."""
        return self._state is _State.DONE

    def receive(self, body: bytes) -> list[bytes]:
        """Take a frame's body, return bodies to send.

        Raises:
            ServerUnreachableError: not Kueue. AuthenticationError: the server does not have the secret.
            VersionError: no common version for a client. ProtocolError: out of order.
        """
        try:
            message = _decoded(_from_server, body)
        except ProtocolError:
            if self._state is _State.CHALLENGE:
                raise ServerUnreachableError(NOT_KUEUE) from None
            raise
        match message:
            case Challenge() if self._state is _State.CHALLENGE:
                if message.handshake != HANDSHAKE_VERSION:
                    raise VersionError(
                        f"the server's handshake has version {message.handshake}, ours {HANDSHAKE_VERSION}: "
                        f"upgrade the {'client' if message.handshake > HANDSHAKE_VERSION else 'server'}"
                    )
                self._server_nonce = message.nonce
                self._state = _State.PROOF
                mac = proof(self._secret, "client", self.role, message.nonce, self._nonce, self._der)
                return [_encode(ClientProof(self.role, self._nonce, mac))]
            case ServerProof() if self._state is _State.PROOF:
                expected = proof(
                    self._secret, "server", self.role, self._server_nonce, self._nonce, self._der
                )
                if not hmac.compare_digest(expected, message.mac):
                    raise AuthenticationError("the server could not prove that it has our shared_secret")
                self._state = _State.VERSIONS
                return []
            case Versions() if self._state is _State.VERSIONS:
                self._agree(message, "server", self.role)
                self._state = _State.DONE
                return [self._versions]
        raise ProtocolError("handshake out of order")

    def closed(self) -> Exception:
        """What it means that the server closed now."""
        if self._state is _State.CHALLENGE:
            return ServerUnreachableError(NOT_KUEUE)
        if self._state is _State.PROOF:
            return AuthenticationError(SECRET_DIFFERS)
        return ServerUnreachableError("the server closed the connection")


NOT_KUEUE = "something answers there, but not as a Kueue server"
SECRET_DIFFERS = "the server refused us: shared_secret differs from the server's"


def _decoded(decoder: object, body: bytes) -> object:
    try:
        return decoder.decode(body)  # type: ignore[attr-defined]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        raise ProtocolError("not a handshake") from None
