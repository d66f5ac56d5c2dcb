"""Answers those who ask on the agent's lock who this worker is and how it is: one JSON object, then the end.

Only this user and root are answered. What takes no answer at once gets none: the lock is never held up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import msgspec

from kueue_worker.keeper_link import peer_of


class Answer(msgspec.Struct, frozen=True):
    """A worker as it sees itself. `server` is `name:port` as configured, `config` the file that says so.

    `alone_seconds`: for how long no server has taken it; 0 while one has. `leaving`: it takes no more jobs and
    ends when the last has.
    """

    name: str
    version: str
    server: str
    config: str
    connected: bool
    alone_seconds: float
    why_alone: str
    jobs: int
    leaving: bool


class Inquiries:
    """Takes callers on `lock`, a listening socket, until `close`."""

    def __init__(self, lock: socket.socket, answer: Callable[[], Answer]) -> None:
        self._lock = lock
        self._answer = answer
        self._loop = asyncio.get_running_loop()
        lock.setblocking(False)
        self._loop.add_reader(lock, self._on_caller)

    def close(self) -> None:
        """Answer no more."""
        self._loop.remove_reader(self._lock)

    def _on_caller(self) -> None:
        with contextlib.suppress(OSError):
            caller, _ = self._lock.accept()
            with caller:
                if peer_of(caller)[1] in (os.getuid(), 0):
                    caller.setblocking(False)
                    caller.send(msgspec.json.encode(self._answer()))
