"""Hosts for each test, ended with all that runs on them, and the supervisor on the desk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.desk import Desk
from tests.cluster.hosts import RealHosts, why_no_hosts


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Call it with the names of the hosts beside the desk, and settings of the supervisor."""
    problem = why_no_hosts()
    if problem:
        pytest.skip(problem)
    made: list[RealHosts] = []

    def make(*names: str, supervisor: str = "", worker: str = "", server: str = "") -> Desk:
        place = tmp_path / f"cluster{len(made)}"
        place.mkdir()
        tmp_path.chmod(0o755)
        hosts = RealHosts(place, names)
        made.append(hosts)
        hosts.know_hosts()
        desk = Desk(hosts)
        desk.write_config(supervisor=supervisor, worker=worker, server=server)
        return desk

    yield make
    for hosts in made:
        hosts.close()
