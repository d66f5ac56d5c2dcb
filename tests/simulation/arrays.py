"""Arrays in the simulation: what people submit and do to them, and what must be so of each task that starts.

Each task has the index that belongs to its id, and at most `max_running` of an array run at a time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kueue.indices import Step, count_of, index_at
from kueue_server.core.core import Core
from kueue_server.core.jobs import Job
from tests.simulation.truth import PromiseBrokenError, Run, Truth


def draw_arrays(seed: int, seconds: float, times: list[float]) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """What people do of this kind, in a third of the runs: when, what, how. Drawn apart, so that the rest of a
    schedule stays as it is."""
    dice = random.Random(f"arrays {seed}")
    if dice.random() < 2 / 3:
        return
    for _ in range(dice.choice((1, 1, 2, 3))):
        at = round(dice.uniform(0.0, seconds), 3)
        if dice.random() < 0.5:  # soon after something else: where races are
            at = round(min(seconds, dice.choice(times) + dice.expovariate(2.0)), 3)
        yield at, "submit array", _array(dice)
        for _ in range(dice.choice((0, 1, 2))):
            what = dice.choice(("cancel", "cancel", "cancel selected", "set", "clean", "rerun"))
            yield _soon(dice, at, seconds), what, _HOW[what](dice)
        if dice.random() < 0.4:
            down = round(dice.uniform(0.1, 5.0), 3)
            how = {"part": "server", "down": down, "instruction": dice.randrange(20)}
            yield _soon(dice, at, seconds), "kill", how


def _soon(dice: random.Random, at: float, seconds: float) -> float:
    return round(min(seconds, at + dice.expovariate(0.3)), 3)


def _array(dice: random.Random) -> dict[str, Any]:
    how: dict[str, Any] = {
        "indices": dice.choice((((1, 5, 1),), ((1, 19, 2),), ((0, 2, 1), (10, 30, 5)), ((1, 40, 1),))),
        "seconds": dice.choice((0.01, 0.5, 3.0)),
    }
    if dice.random() < 0.5:
        how["max_running"] = dice.choice((1, 2, 3))
    if dice.random() < 0.2:
        how["code"] = 7
        how["retries"] = dice.choice((0, 1))
    if dice.random() < 0.3:
        how["licences"] = 1
    if dice.random() < 0.2:
        how["restart"] = how.get("retries", 0) > 0
    if dice.random() < 0.3:
        how["priority"] = dice.choice((-5, 5))
    if dice.random() < 0.2:
        how["wait"] = True
    if dice.random() < 0.2:
        how["dies"] = dice.randrange(6)
    elif dice.random() < 0.3:
        how["server_dies"] = dice.randrange(10)
    return how


def _which(dice: random.Random) -> dict[str, Any]:
    return {
        "place": round(dice.random(), 3),
        "width": dice.choice((0, 3, 10, 40)),
        "state": dice.choice(("", "", "pending")),
    }


_HOW: dict[str, Any] = {
    "cancel": lambda dice: {
        "place": round(dice.random(), 3),
        "width": dice.choice((0, 4, 15, 40)),
        "kill": dice.random() < 0.5,
    },
    "cancel selected": lambda dice: {**_which(dice), "kill": dice.random() < 0.5},
    "set": _which,
    "rerun": lambda dice: {**_which(dice), "state": dice.choice(("", "canceled", "succeeded"))},
    "clean": lambda dice: {"failed": dice.random() < 0.5},
}


@dataclass
class ArrayTruth:
    """Which indices the arrays of a name have."""

    truth: Truth
    steps: dict[str, tuple[Step, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.truth.on_start.append(self._started)

    def new_name(self, steps: tuple[Step, ...]) -> str:
        """For an array; all its tasks carry it."""
        name = f"array{len(self.steps) + 1}"
        self.steps[name] = steps
        return name

    def count(self, name: str) -> int:
        """How many tasks it has."""
        return count_of(self.steps[name])

    def _started(self, run: Run) -> None:
        spec = run.spec
        if spec.array is None:
            return
        task = spec.rerun_of or run.job
        index = (
            index_at(self.steps[spec.name], task - spec.array) if spec.rerun_of is None else spec.array_index
        )
        if spec.array_index != index or spec.payload.argv[-1] != str(spec.array_index):
            text = f"job {run.job} has the index {spec.array_index} and runs {spec.payload.argv}"
            self.truth.broken(PromiseBrokenError("array", text, (run.journal, run.job)))
        live = [
            other
            for other in (*self.truth.live.values(), run)
            if other.journal == run.journal and other.spec.array == spec.array
        ]
        if spec.max_running is not None and len(live) > spec.max_running:
            text = f"{len(live)} tasks of array {spec.array} run, at most {spec.max_running} may"
            self.truth.broken(PromiseBrokenError("array", text, (run.journal, run.job)))


def all_jobs(core: Core) -> dict[int, Job]:
    """All jobs of a core's table by id, tasks without a record, too."""
    table = core._state.table
    found = {number: table.look(number) for number in table.present}
    return {number: job for number, job in found.items() if job is not None}
