"""Cuts a failing schedule down to the actions that its failure needs."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.schedule import Action, Schedule
from tests.simulation.simulation import Outcome, run

MOST_RUNS = 400


def shrink(outcome: Outcome, most_runs: int = MOST_RUNS) -> Outcome:
    """The outcome of the smallest schedule found that breaks the same promise."""
    best = outcome
    runs = 0
    size = max(1, len(best.schedule.actions) // 2)
    while size and runs < most_runs:
        start, smaller = 0, False
        while start < len(best.schedule.actions) and runs < most_runs:
            actions = best.schedule.actions
            tried = run(_with(best.schedule, actions[:start] + actions[start + size :]))
            runs += 1
            if tried.problem is not None and tried.promise == outcome.promise:
                best, smaller = tried, True
            else:
                start += size
        if not smaller or size > 1:
            size //= 2
    return best


def _with(schedule: Schedule, actions: tuple[Action, ...]) -> Schedule:
    return replace(schedule, actions=actions)
