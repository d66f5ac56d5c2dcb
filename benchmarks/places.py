"""Directories for what is measured: on a disk, and none is removed while the run goes on.

ext4 gives the inodes of files that were deleted within the last minutes out again only after a long search. Where a
round had just removed its 20,000 files, a new one nearby cost 0.2 ms of CPU time instead of 0.03 ms, and the keeper of
the next round four times as much for each job.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_OF_THE_RUN = "BENCHMARK_PLACE"


def place_of_labs() -> Path:
    """The directory below which journals, spools and outputs are: on a disk, which /tmp often is not."""
    return Path(os.environ.get(_OF_THE_RUN) or os.environ.get("TMPDIR", "/var/tmp"))


def new_place() -> Path:
    """A new directory; it goes when the run is over, or this process if it is no part of one."""
    place = tempfile.mkdtemp(prefix="kueue-benchmark-", dir=place_of_labs())
    if _OF_THE_RUN not in os.environ:
        atexit.register(shutil.rmtree, place, ignore_errors=True)
    return Path(place)


@contextlib.contextmanager
def places_of_a_run() -> Iterator[None]:
    """All new places, also those of processes started meanwhile, go at the end."""
    place = tempfile.mkdtemp(prefix="kueue-benchmark-", dir=place_of_labs())
    os.environ[_OF_THE_RUN] = place
    try:
        yield
    finally:
        del os.environ[_OF_THE_RUN]
        shutil.rmtree(place, ignore_errors=True)
