"""The labs of the acceptance tests, and labs whose programs are on networks of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import lab, make_lab
from tests.faults.network import Network, NetworkLab, why_no_networks

__all__ = ["lab", "make_lab", "make_network_lab"]


@pytest.fixture
def make_network_lab(tmp_path: Path) -> Iterator[Callable[..., NetworkLab]]:
    """Call it with the names of the hosts beside the server's and the settings of `Lab`."""
    problem = why_no_networks()
    if problem:
        pytest.skip(problem)
    labs: list[NetworkLab] = []

    def make(*hosts: str, **settings: str) -> NetworkLab:
        place = tmp_path / f"network-lab{len(labs)}"
        place.mkdir()
        found = NetworkLab(place, Network(hosts), **settings)
        labs.append(found)
        return found

    yield make
    for found in labs:
        found.close()
