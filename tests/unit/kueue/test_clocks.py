"""The clock for ages that are kept."""

from __future__ import annotations

import time

import pytest

from kueue.clocks import SteadyClock


def test_a_steady_clock_begins_right_and_minds_no_setting_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SteadyClock()
    assert abs(clock() - time.time()) < 5
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e8)
    assert abs(clock() - now) < 5
