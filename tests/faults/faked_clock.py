"""A wall clock that a test sets for single programs while they run (libfaketime); the monotonic clocks go on."""

from __future__ import annotations

import contextlib
import glob
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab

LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
DAY = 86400.0
YEAR = 365.25 * DAY


class FakedClock:
    """Programs started `with clock.shown(lab)` see the true time and what was added to it since."""

    def __init__(self, place: Path) -> None:
        found = glob.glob(LIBRARIES)
        if not found:
            pytest.skip("libfaketime is not installed (Debian: faketime)")
        self._library = found[0]
        self._file = place / "clock"
        self.set(0.0)

    def set(self, seconds: float) -> None:
        """Off the true time by so much, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+.0f}\n")
        new.rename(self._file)

    @contextlib.contextmanager
    def shown(self, lab: Lab) -> Iterator[None]:
        """What the lab starts meanwhile goes by this clock."""
        before = dict(lab.env)
        lab.env |= {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        try:
            yield
        finally:
            lab.env.clear()
            lab.env.update(before)
