"""A keeper of each test's own, which is gone afterwards with all its jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.kueue_worker.keeper.keeper_client import Agent, KeeperProcess


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[KeeperProcess]:
    """A keeper that serves, or is about to."""
    process = KeeperProcess(tmp_path / "spool", "--grace", "20")
    process.start()
    yield process
    process.close()


@pytest.fixture
def agent(keeper: KeeperProcess) -> Iterator[Agent]:
    """Its agent, which has said hello."""
    connected = keeper.agent()
    yield connected
    connected.close()
