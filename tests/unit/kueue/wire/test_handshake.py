"""Two peers over a fake link: who has the secret gets in; replay, reflection, a man in the middle do not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import msgspec
import pytest

from kueue.errors import AuthenticationError, ProtocolError, ServerUnreachableError, VersionError
from kueue.wire import handshake
from kueue.wire.handshake import (
    Challenge,
    ClientHandshake,
    ClientProof,
    Role,
    ServerHandshake,
    ServerProof,
    Versions,
)
from kueue.wire.proof import HANDSHAKE_VERSION, NONCE_BYTES, proof

SECRET = "a-secret-for-tests-only-0123456789abcdef"
OTHER = "another-secret-for-tests-0123456789abcdef"
DER = b"the certificate of the server"


def client_of(role: Role = "client", secret: str = SECRET, der: bytes = DER) -> ClientHandshake:
    return ClientHandshake(role, secret, der, "0.1.0")


def server_of(*secrets: str, der: bytes = DER, nonce: bytes | None = None) -> ServerHandshake:
    return ServerHandshake(secrets or (SECRET,), der, "0.1.0", nonce)


def converse(
    server: ServerHandshake,
    client: ClientHandshake,
    to_server: Callable[[bytes], bytes] = lambda body: body,
) -> None:
    """Carry bodies to and fro until nobody has more to say."""
    for_client, for_server = server.start(), list[bytes]()
    while for_client or for_server:
        for body in for_client:
            for_server += client.receive(body)
        for_client = []
        for body in for_server:
            for_client += server.receive(to_server(body))
        for_server = []


@pytest.mark.parametrize("role", ["client", "worker"])
def test_peers_with_one_secret_agree_on_role_and_versions(role: Role) -> None:
    server, client = server_of(), client_of(role)
    converse(server, client)
    assert server.done
    assert client.done
    assert server.role == role
    assert (server.protocol, server.peer_version) == (client.protocol, client.peer_version) == (1, "0.1.0")


def test_a_previous_secret_is_accepted_and_answered_with_itself() -> None:
    server, client = server_of(OTHER, SECRET), client_of()
    converse(server, client)
    assert server.done
    assert client.done


def test_a_wrong_secret_is_refused_and_the_server_proves_nothing() -> None:
    server, client = server_of(OTHER), client_of()
    (answer,) = client.receive(*server.start())
    with pytest.raises(AuthenticationError):
        server.receive(answer)
    assert not server.authenticated


def test_a_server_without_the_secret_is_not_believed() -> None:
    client = client_of()
    client.receive(msgspec.json.encode(Challenge(HANDSHAKE_VERSION, b"n" * NONCE_BYTES)))
    with pytest.raises(AuthenticationError, match="could not prove"):
        client.receive(msgspec.json.encode(ServerProof(b"m" * 32)))
    assert not client.done


def test_a_proof_for_another_certificate_is_worthless() -> None:
    server, client = server_of(der=DER), client_of(der=b"the certificate of a man in the middle")
    (answer,) = client.receive(*server.start())
    with pytest.raises(AuthenticationError):
        server.receive(answer)


def test_a_recorded_proof_opens_no_second_session() -> None:
    server, client = server_of(), client_of()
    (recorded,) = client.receive(*server.start())
    server.receive(recorded)
    with pytest.raises(AuthenticationError):
        server_of().receive(recorded)


def test_a_second_proof_in_one_session_is_out_of_order() -> None:
    server, client = server_of(), client_of()
    (recorded,) = client.receive(*server.start())
    server.receive(recorded)
    with pytest.raises(ProtocolError):
        server.receive(recorded)


def test_a_client_s_proof_does_not_serve_as_a_worker_s() -> None:
    server, client = server_of(), client_of("client")
    (body,) = client.receive(*server.start())
    sent = msgspec.json.decode(body, type=ClientProof)
    with pytest.raises(AuthenticationError):
        server.receive(msgspec.json.encode(msgspec.structs.replace(sent, role="worker")))


def test_a_proof_can_t_be_reflected_to_its_sender() -> None:
    """Whoever has no secret lets the client prove itself, and gives it its own proof back."""
    client = client_of()
    (body,) = client.receive(msgspec.json.encode(Challenge(HANDSHAKE_VERSION, b"n" * NONCE_BYTES)))
    mine = msgspec.json.decode(body, type=ClientProof)
    with pytest.raises(AuthenticationError):
        client.receive(msgspec.json.encode(ServerProof(mine.mac)))


def test_proofs_differ_by_secret_direction_role_nonces_and_certificate() -> None:
    one, two = b"1" * 32, b"2" * 32
    variants = {
        proof(SECRET, "client", "client", one, two, DER),
        proof(OTHER, "client", "client", one, two, DER),
        proof(SECRET, "server", "client", one, two, DER),
        proof(SECRET, "client", "worker", one, two, DER),
        proof(SECRET, "client", "client", two, one, DER),
        proof(SECRET, "client", "client", one, one, DER),
        proof(SECRET, "client", "client", one, two, b""),
        # the borders between the parts count
        proof(SECRET, "client", "client", one + two[:1], two[1:], DER),
    }
    assert len(variants) == 8


def test_the_proof_is_the_documented_one() -> None:
    """Written out from the description, so that a client in another language can be."""
    label = b"kueue handshake 1"
    extracted = hmac.new(label, SECRET.encode(), hashlib.sha256).digest()
    key = hmac.new(extracted, b"client proves to be worker\x01", hashlib.sha256).digest()
    transcript = b""
    for part in (label, b"worker", b"s" * 32, b"c" * 32, hashlib.sha256(DER).digest()):
        transcript += len(part).to_bytes(4, "big") + part
    expected = hmac.new(key, transcript, hashlib.sha256).digest()
    assert proof(SECRET, "client", "worker", b"s" * 32, b"c" * 32, DER) == expected


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 4000, b'{"type":"versions","protocol":[1,1],"version":"x"}']
)
def test_the_server_takes_nothing_but_a_proof_first(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        server_of().receive(body)


def test_nothing_but_versions_follows_the_proof() -> None:
    server, client = server_of(), client_of()
    (body,) = client.receive(*server.start())
    server.receive(body)
    with pytest.raises(ProtocolError):
        server.receive(b'{"type": "list_jobs", "rid": 1}')
    assert not server.done


def test_a_short_nonce_is_refused() -> None:
    mac = proof(SECRET, "client", "client", b"n" * NONCE_BYTES, b"", DER)
    with pytest.raises(ProtocolError):
        server_of(nonce=b"n" * NONCE_BYTES).receive(msgspec.json.encode(ClientProof("client", b"", mac)))


def test_something_else_than_a_challenge_is_no_kueue_server() -> None:
    with pytest.raises(ServerUnreachableError, match="not as a Kueue server"):
        client_of().receive(b"SSH-2.0-OpenSSH_9.2")


def test_what_a_close_means_depends_on_how_far_we_were() -> None:
    client, server = client_of(), server_of()
    assert "not as a Kueue server" in str(client.closed())
    client.receive(*server.start())
    assert isinstance(client.closed(), AuthenticationError)
    assert "shared_secret differs" in str(client.closed())


@pytest.mark.parametrize(
    ("protocol", "says"),
    [((7, 9), "upgrade the client"), ((0, 0), "upgrade the server")],
)
def test_the_client_says_which_side_to_upgrade(protocol: tuple[int, int], says: str) -> None:
    server, client = server_of(), client_of()
    (body,) = client.receive(*server.start())
    client.receive(server.receive(body)[0])
    with pytest.raises(VersionError, match=says):
        client.receive(msgspec.json.encode(Versions(protocol, "9.9.9")))


@pytest.mark.parametrize(
    ("protocol", "says"),
    [((7, 9), "upgrade the server"), ((0, 0), "upgrade the worker")],
)
def test_a_server_goes_on_with_a_worker_of_another_version_but_in_the_frozen_subset_only(
    protocol: tuple[int, int], says: str
) -> None:
    server, client = server_of(), client_of("worker")
    (body,) = client.receive(*server.start())
    server.receive(body)
    server.receive(msgspec.json.encode(Versions(protocol, "9.9.9")))
    assert server.done
    assert server.protocol == handshake.FROZEN
    assert says in server.mismatch


def test_a_worker_goes_on_likewise() -> None:
    server, client = server_of(), client_of("worker")
    (body,) = client.receive(*server.start())
    client.receive(server.receive(body)[0])
    assert client.receive(msgspec.json.encode(Versions((7, 9), "9.9.9")))
    assert client.done
    assert client.protocol == handshake.FROZEN
    assert "upgrade the worker" in client.mismatch


def test_the_newest_version_that_both_speak_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "PROTOCOL_MAX", 4)
    server, client = server_of(), client_of()
    (body,) = client.receive(*server.start())
    client.receive(server.receive(body)[0])
    client.receive(msgspec.json.encode(Versions((2, 3), "1.2.3")))
    assert client.protocol == 3


def test_another_handshake_version_says_which_side_to_upgrade() -> None:
    with pytest.raises(VersionError, match="upgrade the client"):
        client_of().receive(msgspec.json.encode(Challenge(HANDSHAKE_VERSION + 1, b"n" * 32)))
