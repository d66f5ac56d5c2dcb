"""The proof that one has the shared secret, as a function of what both sides have said. `handshake.py` uses it."""

from __future__ import annotations

import hashlib
import hmac

HANDSHAKE_VERSION = 1
NONCE_BYTES = 32


def proof(
    secret: str, direction: str, role: str, server_nonce: bytes, client_nonce: bytes, der: bytes
) -> bytes:
    """The MAC by which one side (`direction`: the `server` or the `client`) shows that it has the secret."""
    label = f"kueue handshake {HANDSHAKE_VERSION}".encode()
    extracted = hmac.digest(label, secret.encode(), "sha256")
    key = hmac.digest(extracted, f"{direction} proves to be {role}".encode() + b"\x01", "sha256")
    parts = (label, role.encode(), server_nonce, client_nonce, hashlib.sha256(der).digest())
    transcript = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(key, transcript, "sha256")
