"""What a glance at the table costs, counted in calls of functions: the same at any size, a guard that no busy machine
can disturb."""

from __future__ import annotations

import sys

import pytest

from benchmarks.filled_core import FilledCore, filled_with_everything
from kueue_server.core.core import Core

ROWS = 50


def calls_of_a_glance(core: Core) -> int:
    """Of Python's and C's functions."""
    count = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        core.glance(ROWS, 100.0)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("kind", ["pending", "everything"])
def test_more_jobs_cost_no_more(kind: str) -> None:
    def calls(jobs: int) -> int:
        if kind == "everything":
            return calls_of_a_glance(filled_with_everything(jobs))
        return calls_of_a_glance(FilledCore(jobs, lambda number: f"/data/work/{number}").core)

    assert calls(10_000) < 1.2 * calls(4000)


def test_what_nobody_sees_costs_only_so_many_looks() -> None:
    filled = FilledCore(5000, lambda number: f"/data/work/{number}")
    seen = calls_of_a_glance(filled.core)
    filled.refuse("/data")
    assert calls_of_a_glance(filled.core) < 3 * seen
