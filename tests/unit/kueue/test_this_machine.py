"""Which names of hosts are this machine's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from kueue.this_machine import is_this_machine


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """We are ralab04; the resolver knows us by an alias, and one other machine."""
    known = {
        "alias.example.org": "127.0.0.1",
        "ralab29": "203.0.113.9",
        "ralab04.elsewhere.org": "203.0.113.9",
    }
    known |= {address: address for address in ("127.0.0.1", "203.0.113.9", "10.255.255.1")}

    def resolve(name: str, port: int, **_: Any) -> list[Any]:
        if name not in known:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (known[name], port))]

    monkeypatch.setattr(socket, "gethostname", lambda: "ralab04")
    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "ralab04", "RALAB04", "ralab04.", "alias.example.org"]
)
def test_ours(name: str) -> None:
    assert is_this_machine(name)


@pytest.mark.parametrize("name", ["ralab29", "nobody-knows-it", "10.255.255.1", "203.0.113.9"])
def test_others(name: str) -> None:
    assert not is_this_machine(name)


def test_a_name_with_a_domain_is_ours_if_its_first_part_is_and_we_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_this_machine("ralab04.example.org")
    monkeypatch.setattr(socket, "gethostname", lambda: "ralab04.here.org")
    assert not is_this_machine("ralab04.elsewhere.org")
    assert is_this_machine("ralab04")
