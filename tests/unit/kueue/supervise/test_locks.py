"""How a machine's agents are asked on their locks, where others ask at the same time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from kueue.supervise.remote import locks

TOLD = dict.fromkeys(locks.TOLD, "")


@pytest.fixture
def full_lock() -> Iterator[socket.socket]:
    """An agent's lock, of this process, on which so many wait already that nobody else gets in."""
    address = f"\0{locks.AGENT_LOCK[1:]}{os.urandom(16).hex()}"
    with socket.socket(socket.AF_UNIX) as lock, socket.socket(socket.AF_UNIX) as first:
        lock.bind(address)
        lock.listen(0)
        lock.settimeout(30)
        first.connect(address)
        with socket.socket(socket.AF_UNIX) as second:
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.connect(address)
        yield lock


def ours(seconds: float) -> dict[str, object]:
    """What is found out about the agent that this process stands in for."""
    (agent,) = [agent for agent in locks.agents(seconds) if agent["pid"] == os.getpid()]
    return agent


def test_an_agent_with_many_callers_is_asked_again_until_it_takes_us(full_lock: socket.socket) -> None:
    def serve() -> None:
        for _ in range(2):
            with contextlib.suppress(OSError), full_lock.accept()[0] as caller:
                caller.sendall(json.dumps({**TOLD, "name": "w1"}).encode())

    serving = threading.Timer(0.5, serve)
    serving.start()
    try:
        agent = ours(30.0)
    finally:
        serving.join()
    assert agent["answers"]
    assert agent["name"] == "w1"


def test_an_agent_that_takes_nobody_is_one_that_does_not_answer(full_lock: socket.socket) -> None:
    assert ours(0.3)["answers"] is False
    assert ours(0.0)["answers"] is False
