"""What an agent is made of; `daemon.py` puts it together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kueue.wire.messages import SystemInfo
from kueue_worker.core.machine import Settings
from kueue_worker.spawning import JobPolicy
from kueue_worker.spool import Spool


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that an agent is made of."""

    name: str
    host: str
    boot: str
    version: str
    secret: str
    resolve: Callable[[], tuple[str, int]]
    settings: Settings
    system: SystemInfo
    policy: JobPolicy
    spool: Spool
    keeper_address: str
    max_output_mb: int
    spool_max_bytes: int
    spool_max_seconds: float
    pid: int
    server: Callable[[], str]
    """`name:port` as configured now, for those who ask."""
    config: str
