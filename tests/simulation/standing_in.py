"""What is stood in for in a run: clocks, randomness, connecting."""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import kueue.async_client
import kueue_server.core.core
import kueue_server.core.dependencies
import kueue_server.core.rerunning
import kueue_server.core.selection
import kueue_server.core.verbs
import kueue_worker.server_session
from kueue.wire.handshake import Role
from kueue.wire.link import Handler, Link
from kueue_server.core.verbs import CHANGE_COST
from tests.simulation.parts import Parts
from tests.simulation.world import WALL, World


@contextlib.contextmanager
def stood_in(parts: Parts) -> Iterator[None]:
    """Clocks, randomness and connecting are the simulation's; errors in logs are faults."""
    world, network = parts.world, parts.network
    bits = world.stream("secrets")

    async def connect(
        host: str,
        port: int,
        *,
        role: Role,
        secret: str,
        version: str,
        handler: Handler,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Link:
        process = world.current
        assert process is not None
        return await network.connect(process, process.host, parts.server_host, role, handler, timeout)

    def wall() -> float:
        return WALL + world.now if world.current is None else world.current.wall

    patches: list[tuple[Any, str, Any]] = [
        (kueue.async_client, "connect", connect),
        (kueue_worker.server_session, "connect", connect),
        (time, "time", wall),
        (time, "monotonic", lambda: 1000.0 + world.now),
        (secrets, "randbits", bits.getrandbits),
        (secrets, "token_hex", lambda size=16: f"{bits.getrandbits(8 * size):0{2 * size}x}"),
        (random, "uniform", world.stream("uniform").uniform),
    ]
    # So that verbs of some ten jobs go through the table in several portions.
    core = kueue_server.core
    patches += [
        (module, "PORTION", 3 * CHANGE_COST)
        for module in (core.core, core.selection, core.verbs, core.rerunning, core.dependencies)
    ]
    handler = _Faults(world)
    loggers = [logging.getLogger(name) for name in ("kueue", "kueue_server", "kueue_worker")]
    kept = [(logger.level, logger.propagate) for logger in loggers]
    with contextlib.ExitStack() as stack:
        for target, name, replacement in patches:
            stack.enter_context(mock.patch.object(target, name, replacement))
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.ERROR)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, (level, propagate) in zip(loggers, kept, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate


class _Faults(logging.Handler):
    """An exception that ends up in the log is a fault of the product."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if record.exc_info and record.exc_info[1] is not None:
            self._world.faults.append(record.exc_info[1])
