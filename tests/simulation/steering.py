"""What people do to machines, and what machines lack, as actions of a schedule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

MOST = 8
Drawn = tuple[float, str, dict[str, Any]]


def draw_steering(
    seed: int, seconds: float, lease: float, times: list[float], machines: tuple[str, ...]
) -> Iterator[Drawn]:
    """What happens of this kind, in half of the runs: when, what, how. `times` are those of all else. Drawn apart, so
    that the rest of a schedule stays as it is."""
    dice = random.Random(f"steering {seed}")
    if dice.random() < 0.5:
        return
    for _ in range(dice.randrange(1, MOST + 1)):
        at = dice.uniform(0.0, seconds)
        if dice.random() < 0.5:  # soon after something else: where races are
            at = min(seconds, dice.choice(times) + dice.expovariate(2.0))
        for when, what, how in dice.choice(_DRAW)(dice, lease, machines):
            yield round(min(seconds, at + when), 3), what, how


def _pause(dice: random.Random, lease: float, machines: tuple[str, ...]) -> Iterator[Drawn]:
    host = dice.choice(machines)
    yield 0.0, "pause", {"host": host, "kill": dice.random() < 0.5}
    if dice.random() < 0.5:
        yield dice.uniform(0.0, lease), "resume", {"host": host}
    if dice.random() < 0.3:
        down = round(dice.uniform(0.1, 5.0), 3)
        yield 0.0, "kill", {"part": "server", "down": down, "instruction": dice.randrange(12)}


def _resume(dice: random.Random, lease: float, machines: tuple[str, ...]) -> Iterator[Drawn]:
    yield 0.0, "resume", {"host": dice.choice(machines)}


def _emptied_and_canceled(dice: random.Random, lease: float, machines: tuple[str, ...]) -> Iterator[Drawn]:
    """A machine is emptied, and before it has heard of that somebody cancels what ran there, or it is lost."""
    host = dice.choice(machines)
    yield 0.0, "submit", {"count": 8, "seconds": 20.0, "cpus": 1, "wait": False}
    cut = dice.choice((0.5, 5.0, round(1.3 * lease, 3)))
    yield 2.0, "cut", {"host": host, "ways": dice.choice(("to", "both")), "seconds": cut}
    yield 2.1, "pause", {"host": host, "kill": True}
    if dice.random() < 0.7:
        yield 2.2, "cancel", {"place": 1.0, "width": 40, "kill": True}


def _lack(dice: random.Random, lease: float, machines: tuple[str, ...]) -> Iterator[Drawn]:
    seconds = round(dice.choice((dice.uniform(0.1, 3.0), dice.uniform(0.5, 2.0) * lease)), 3)
    yield 0.0, "lack", {"host": dice.choice((*machines, "all")), "seconds": seconds}
    yield dice.uniform(0.0, 1.0), "submit", _tool(dice)


def _mended_on_one(dice: random.Random, lease: float, machines: tuple[str, ...]) -> Iterator[Drawn]:
    """A program that two machines lack is installed on one of them, and asked for again."""
    first, second = dice.choice((("w2", "w3"), ("w3", "w2")))
    job = {"count": 1, "seconds": 0.5, "cpus": 2, "wait": False, "program": "tool"}
    yield 0.0, "lack", {"host": first, "seconds": 3.0}
    yield 0.0, "lack", {"host": second, "seconds": 20.0}
    yield 0.1, "submit", job
    yield 5.0, "submit", job


def _tool(dice: random.Random) -> dict[str, Any]:
    return {
        "count": dice.choice((1, 3)),
        "seconds": dice.choice((0.05, 2.0)),
        "cpus": dice.choice((1, 1, 2, 4)),
        "wait": dice.random() < 0.3,
        "program": "tool",
    }


_DRAW: tuple[Callable[[random.Random, float, tuple[str, ...]], Iterator[Drawn]], ...] = (
    *(_pause, _pause, _pause, _resume),
    *(_emptied_and_canceled, _lack, _lack, _mended_on_one),
)
