"""Which client has to go when there are too many."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from kueue_server.clients import Clients


class Link:
    def __init__(self, address: str) -> None:
        self.address = address
        self.is_open = True

    def abort(self) -> None:
        self.is_open = False

    close = abort


class Session:
    def __init__(self, address: str) -> None:
        self.link = Link(address)


def connected(clients: Clients, *addresses: str) -> list[Any]:
    sessions: list[Any] = [Session(address) for address in addresses]
    for session in sessions:
        assert clients.add(session)
    return sessions


async def test_whoever_has_the_most_gets_none_more_and_makes_room_for_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    clients = Clients(most=4)
    one, first, second, third = connected(clients, "a", "b", "b", "b")
    refused: Any = Session("b")
    assert not clients.add(refused)
    (newcomer,) = connected(clients, "c")
    assert [each.link.is_open for each in (one, first, second, third, newcomer)] == [
        True,
        True,
        True,
        False,
        True,
    ]
    assert set(clients) == {one, first, second, newcomer}
    assert len(clients) == 4
    assert "4 clients are connected, 3 of them from b" in caplog.text
    assert len(caplog.records) == 1
    clients.close()


async def test_who_has_ended_makes_room() -> None:
    clients = Clients(most=2)
    one, two = connected(clients, "a", "a")
    clients.discard(one)
    clients.discard(one)
    (three,) = connected(clients, "a")
    assert two.link.is_open
    assert set(clients) == {two, three}
    clients.close()
    assert not two.link.is_open


async def test_clients_get_three_quarters_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (16, 16))
    clients = Clients()
    connected(clients, *"a" * 12)
    late: Any = Session("a")
    assert not clients.add(late)
    clients.close()
