"""TLS 1.3 for both sides. Nobody checks certificates: the shared secret, bound to the certificate by the
handshake, is what makes a connection trustworthy (`handshake.py`)."""

from __future__ import annotations

import os
import ssl

HANDSHAKE_SECONDS = 10.0


def client_context() -> ssl.SSLContext:
    """For the side that connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def server_context() -> tuple[ssl.SSLContext, bytes]:
    """For the listening side: a fresh self-signed P-256 certificate; also returns it in DER."""
    # Imported here: the client never needs them, and they are most of what importing this module would cost.
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kueue")])
    begin = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # clocks of a lab may be anywhere
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _load(context, pem)
    return context, certificate.public_bytes(serialization.Encoding.DER)


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """`ssl` reads keys from files only: one in memory where there is such a thing, for a temporary directory
    may be on another machine's disk, and whoever has the key can stand between."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("kueue")
        try:
            os.write(descriptor, pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix="kueue-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)
