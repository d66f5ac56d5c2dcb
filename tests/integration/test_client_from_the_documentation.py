"""A client made from docs/protocol.md alone: sockets, TLS, JSON, HMAC, and nothing of ours."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kueue.config import load_config
from kueue_server.journal.store import open_journal
from kueue_server.server import Server

SECRET = "a-secret-for-tests-only-0123456789abcdef"


class BookClient:
    """Blocking; as somebody would write it in another language."""

    def __init__(self, port: int, secret: str = SECRET) -> None:
        self.others: list[Any] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10))
        try:
            self.shake_hands(secret)
        except BaseException:
            self.socket.close()
            raise

    def shake_hands(self, secret: str) -> None:
        assert self.socket.version() == "TLSv1.3"
        certificate = self.socket.getpeercert(True)
        assert certificate is not None
        challenge = self.read()
        assert challenge["handshake"] == 1
        theirs, ours = base64.b64decode(challenge["nonce"]), b"0123456789abcdef" * 2
        mac = self.mac(secret, "client", theirs, ours, certificate)
        nonce = base64.b64encode(ours).decode()
        self.write({"type": "client_proof", "role": "client", "nonce": nonce, "mac": mac})
        assert self.read() == {
            "type": "server_proof",
            "mac": self.mac(secret, "server", theirs, ours, certificate),
        }
        assert self.read()["protocol"] == [1, 1]
        self.write({"type": "versions", "protocol": [1, 1], "version": "book"})

    @staticmethod
    def mac(secret: str, direction: str, theirs: bytes, ours: bytes, certificate: bytes) -> str:
        label = b"kueue handshake 1"
        prk = hmac.digest(label, secret.encode(), "sha256")
        key = hmac.digest(prk, direction.encode() + b" proves to be client\x01", "sha256")
        transcript = b""
        for part in (label, b"client", theirs, ours, hashlib.sha256(certificate).digest()):
            transcript += len(part).to_bytes(4, "big") + part
        return base64.b64encode(hmac.digest(key, transcript, "sha256")).decode()

    def write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self.socket.sendall(len(body).to_bytes(4, "big") + body)

    def take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def read(self) -> Any:
        return json.loads(self.take(int.from_bytes(self.take(4), "big")))

    def ask(self, **message: Any) -> Any:
        """The first answer to this request; what comes for others meanwhile is kept in `others`."""
        self.write(message)
        while True:
            answer = self.read()
            if answer.get("rid") == message["rid"]:
                return answer
            self.others.append(answer)


@pytest.fixture
async def port(tmp_path: Path) -> Any:
    """Of a server without workers."""
    path = tmp_path / "config.toml"
    path.touch(mode=0o600)
    path.write_text(f'[common_settings]\nshared_secret = "{SECRET}"\n')
    config = load_config(path)
    server = Server(config, open_journal(tmp_path / "j.sqlite", asyncio.get_running_loop()), lambda: config)
    (port,) = await server.start([("127.0.0.1", 0)])
    running = asyncio.ensure_future(server.run())
    yield port
    server.stop()
    await running


def talk(port: int) -> Iterator[Any]:
    """Answers, then what came unasked."""
    client = BookClient(port)
    context = b'{"env":[["PATH","/bin"]]}'
    job = {
        "payload": {"kind": "command", "argv": ["uname", {"b64": "/w=="}]},
        "cwd": "/home/me",
        "volume": "/home",
        "shape": {"cpus": 2},
        "context": hashlib.sha256(context).hexdigest(),
    }
    block = {
        "type": "submit",
        "token": "t1",
        "jobs": [job, job],
        "contexts": [base64.b64encode(context).decode()],
    }
    yield client.ask(rid=1, **block)
    yield client.ask(rid=2, **block)
    yield client.ask(type="watch", rid=3, ranges=[[1, 1]])
    yield client.ask(type="cancel", rid=4, ranges=[[1, 1]])
    yield client.ask(type="list_jobs", rid=5, newest_first=True, limit=1)
    yield client.ask(type="show_job", rid=6, job=9)
    yield client.others
    client.socket.close()


async def test_a_client_written_from_the_documentation_works(port: int) -> None:
    answers = await asyncio.to_thread(lambda: list(talk(port)))
    submitted, again, watched, canceled, page, failure, others = answers
    assert (submitted["type"], submitted["first"], submitted["count"]) == ("submitted", 1, 2)
    assert (again["first"], again["count"]) == (1, 2)
    assert [(job["id"], job["state"]) for job in watched["jobs"]] == [(1, "pending")]
    assert (canceled["type"], canceled["canceled"]) == ("canceled", 1)
    (row,) = page["jobs"]
    assert (row["id"], row["command"], row["cpus"]) == (2, ["uname", {"b64": "/w=="}], 2)
    assert page["cursor"] == 2
    assert (failure["type"], failure["reason"]["code"]) == ("failure", "unknown_job")
    changes = [job for message in others if message["type"] == "watch_state" for job in message["jobs"]]
    assert [(job["id"], job["state"]) for job in changes] == [(1, "canceled")]


async def test_a_wrong_secret_is_closed_without_a_word(port: int) -> None:
    with pytest.raises((EOFError, ConnectionError, ssl.SSLError)):
        await asyncio.to_thread(BookClient, port, "another-secret-for-tests-0123456789")
