"""A lab of real programs for each test, ended with everything that it started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Call it with the settings of `Lab`; nothing is started yet."""
    labs: list[Lab] = []

    def make(**settings: str) -> Lab:
        place = tmp_path / f"lab{len(labs)}"
        place.mkdir()
        lab = Lab(place, **settings)
        labs.append(lab)
        return lab

    yield make
    for lab in labs:
        lab.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """One server and one worker `w1` with two slots."""
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    lab.start_worker("w1")
    return lab
