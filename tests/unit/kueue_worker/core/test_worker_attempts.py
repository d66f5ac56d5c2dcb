"""How long a bad end is held back, because it may turn out to be an interruption."""

from __future__ import annotations

import pytest

from kueue.job import End
from kueue_worker.core.attempts import (
    DOUBT_SECONDS,
    INTERRUPTION_SECONDS,
    doubt_seconds,
    may_be_interruption,
)
from kueue_worker.core.events import Ended


@pytest.mark.parametrize(
    ("exit_code", "signal", "seconds"),
    [
        (None, 15, INTERRUPTION_SECONDS),
        (143, None, INTERRUPTION_SECONDS),
        (None, 9, DOUBT_SECONDS),
        (1, None, DOUBT_SECONDS),
        (15, None, DOUBT_SECONDS),
    ],
)
def test_an_end_by_term_is_held_back_longer_than_others(
    exit_code: int | None, signal: int | None, seconds: float
) -> None:
    assert doubt_seconds(Ended(End.EXITED, exit_code=exit_code, signal=signal)) == seconds


def test_an_end_of_an_earlier_boot_is_no_interruption_of_this_one_however_young_it_is() -> None:
    before = Ended(End.EXITED, exit_code=7, started=-10.0, ended=0.0)
    assert not may_be_interruption(before, 3.0, INTERRUPTION_SECONDS)
    assert may_be_interruption(
        Ended(End.EXITED, exit_code=7, started=-10.0, ended=0.1), 3.0, INTERRUPTION_SECONDS
    )
