"""What people do and what goes wrong in one run: a list of dated actions, drawn from a seed.

An action is plain data, so a schedule can be cut down to the actions that a failure needs.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.simulation.arrays import draw_arrays
from tests.simulation.following import draw_following, draw_following_arrays
from tests.simulation.queueing import draw_queueing
from tests.simulation.sickness import draw_sickness
from tests.simulation.steering import draw_steering
from tests.simulation.verbs import draw_verbs

MACHINES = ("w1", "w2", "w3")
DIRECTORIES = ("/data/a", "/data/b", "/data/c/d")
MOST_ACTIONS = 500
LICENCES = 3


@dataclass(frozen=True)
class Action:
    """`what` is done at second `at`; `how` are its particulars."""

    at: float
    what: str
    how: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.what} {' '.join(f'{name}={value}' for name, value in self.how.items())}".rstrip()


@dataclass(frozen=True)
class Schedule:
    """One run: actions up to `seconds`, with leases of `lease_seconds`."""

    seed: int
    seconds: float
    lease_seconds: float
    alone_seconds: float | None
    actions: tuple[Action, ...]


def draw(seed: int) -> Schedule:
    """The schedule of a seed."""
    dice = random.Random(f"schedule {seed}")
    seconds = dice.choice((60.0, 120.0, 300.0))
    lease = dice.choice((15.0, 30.0, 60.0))
    count = dice.choice((6, 10, 15, 25, 40))
    if dice.random() < 0.005:
        count = MOST_ACTIONS - 2  # room for `_lost_in_the_middle`
    # Each run has its own mixture: many faults of a few kinds find more than a few of each.
    weights = {kind: dice.choice((0.0, 1.0, 1.0, 4.0)) * usual for kind, usual in USUAL.items()}
    weights["submit"] = max(weights["submit"], 10.0)
    kinds = list(weights)
    actions = [Action(0.0, "submit", _submit(dice, lease))]
    for _ in range(count - 1):
        kind = dice.choices(kinds, [weights[name] for name in kinds])[0]
        at = round(dice.uniform(0.0, seconds), 3)
        if dice.random() < 0.3:  # soon after another one: where races are
            at = round(min(seconds, dice.choice(actions).at + dice.expovariate(10.0)), 3)
        actions.append(Action(at, kind, DRAW[kind](dice, lease)))
    if dice.random() < 0.3:
        actions += _lost_in_the_middle(dice, seconds, lease)
    times = [action.at for action in actions]
    more = (
        *draw_verbs(seed, seconds, times),
        *draw_steering(seed, seconds, lease, times, MACHINES),
        *draw_arrays(seed, seconds, times),
        *draw_queueing(seed, seconds, times),
        *draw_following(seed, seconds, times),
        *draw_following_arrays(seed, seconds, times),
        *draw_sickness(seed, seconds, MACHINES),
    )
    actions += [Action(*drawn) for drawn in more][: max(0, MOST_ACTIONS - len(actions))]
    actions.sort(key=lambda action: action.at)
    alone = dice.choice((None, None, None, 0.8 * lease))
    return Schedule(seed, seconds, lease, alone, tuple(actions))


def _lost_in_the_middle(dice: random.Random, seconds: float, lease: float) -> list[Action]:
    """Jobs that outlast a lease, and a worker that falls silent under them for longer than one."""
    at = dice.uniform(0.0, 0.5 * seconds)
    long = {"count": 4, "seconds": round(lease * dice.uniform(2.0, 4.0), 3), "cpus": 1, "wait": False}
    if dice.random() < 0.5:
        long["licences"] = 1
    if dice.random() < 0.3:
        long["restart"] = False
    silent = round(lease * dice.uniform(1.1, 1.6), 3)
    host = dice.choice(MACHINES)
    what, how = dice.choice(
        (
            ("cut", {"host": host, "ways": "both", "seconds": silent}),
            ("cut", {"host": host, "ways": "from", "seconds": silent}),
            ("freeze", {"part": "agent", "host": host, "seconds": silent}),
            ("freeze", {"part": "both", "host": host, "seconds": silent}),
            ("kill", {"part": "agent", "host": host, "down": silent}),
        )
    )
    return [
        Action(round(at, 3), "submit", long),
        Action(round(at + dice.uniform(0.5, 0.4 * lease), 3), what, how),
    ]


def _submit(dice: random.Random, lease: float) -> dict[str, Any]:
    how: dict[str, Any] = {
        "count": dice.choice((1, 1, 2, 3, 8)),
        "seconds": dice.choice((0.01, 0.05, 0.5, 2.0, 10.0, round(lease * dice.uniform(0.5, 2.0), 3))),
        "cpus": dice.choice((1, 1, 1, 2, 4)),
        "wait": dice.random() < 0.3,
    }
    if dice.random() < 0.2:
        how["code"] = dice.choice((1, 7))
    if dice.random() < 0.35:
        how["licences"] = dice.choice((1, 1, 2, 3))
    if dice.random() < 0.25:
        how["restart"] = False
    if dice.random() < 0.15:
        how["max_restarts"] = dice.choice((0, 1))
    if dice.random() < 0.15:
        how["priority"] = 5
    if dice.random() < 0.1:
        how["time_limit"] = round(dice.uniform(0.02, 20.0), 3)
    if dice.random() < 0.3:
        how["cwd"] = dice.choice(DIRECTORIES)
    if dice.random() < 0.2:
        how["dies"] = dice.randrange(6)  # the submitting program, at this instruction
    elif dice.random() < 0.15:
        how["server_dies"] = dice.randrange(10)
    return how


def _cancel(dice: random.Random, _: float) -> dict[str, Any]:
    return {
        "place": round(dice.random(), 3),
        "width": dice.choice((0, 0, 2, 20)),
        "kill": dice.random() < 0.6,
    }


def _kill(dice: random.Random, lease: float) -> dict[str, Any]:
    part = dice.choice(("server", "server", "agent", "keeper", "both"))
    how: dict[str, Any] = {"part": part, "down": round(_while(dice, lease), 3)}
    if part != "server":
        how["host"] = dice.choice(MACHINES)
    if dice.random() < 0.6:
        how["instruction"] = dice.randrange(25)
    return how


def _freeze(dice: random.Random, lease: float) -> dict[str, Any]:
    part = dice.choice(("server", "agent", "keeper", "both"))
    how: dict[str, Any] = {"part": part, "seconds": round(_while(dice, lease), 3)}
    if part != "server":
        how["host"] = dice.choice(MACHINES)
    return how


def _cut(dice: random.Random, lease: float) -> dict[str, Any]:
    return {
        "host": dice.choice(MACHINES),
        "ways": dice.choice(("to", "from", "both", "both")),
        "seconds": round(_while(dice, lease), 3),
    }


def _power(dice: random.Random, lease: float) -> dict[str, Any]:
    return {"host": dice.choice((*MACHINES, "server")), "seconds": round(_while(dice, lease), 3)}


def _host(dice: random.Random, lease: float) -> dict[str, Any]:
    return {"host": dice.choice(MACHINES)}


def _host_for(dice: random.Random, lease: float) -> dict[str, Any]:
    return {"host": dice.choice(MACHINES), "down": round(_while(dice, lease), 3)}


def _reboot(dice: random.Random, lease: float) -> dict[str, Any]:
    return {**_host_for(dice, lease), "jobs_first": dice.random() < 0.5}


def _wall(dice: random.Random, _: float) -> dict[str, Any]:
    return {"seconds": dice.choice((-3600.0, 3600.0, -30 * 86400.0, 30 * 86400.0, -5.0, 5.0))}


def _hide(dice: random.Random, lease: float) -> dict[str, Any]:
    return {
        "host": dice.choice(MACHINES),
        "directory": dice.choice(DIRECTORIES),
        "seconds": round(_while(dice, lease), 3),
    }


def _for_a_while(dice: random.Random, lease: float) -> dict[str, Any]:
    return {"seconds": round(_while(dice, lease), 3)}


def _restore(dice: random.Random, _: float) -> dict[str, Any]:
    return {"emptied": dice.random() < 0.3}


def _licences(dice: random.Random, _: float) -> dict[str, Any]:
    return {"amount": dice.choice((1, 2, 3, 3, 4))}


def _clean(dice: random.Random, _: float) -> dict[str, Any]:
    return {"failed": dice.random() < 0.5}


def _nothing(dice: random.Random, _: float) -> dict[str, Any]:
    return {}


def _while(dice: random.Random, lease: float) -> float:
    """A moment, some seconds, about a lease, or well beyond one."""
    return dice.choice(
        (
            dice.uniform(0.0, 0.2),
            dice.uniform(0.2, 3.0),
            dice.uniform(3.0, 0.9 * lease),
            dice.uniform(0.95, 1.2) * lease,
            dice.uniform(1.2, 3.0) * lease,
        )
    )


USUAL = {
    "submit": 10.0,
    "cancel": 3.0,
    "clean": 0.5,
    "licences": 0.5,
    "kill": 4.0,
    "freeze": 2.0,
    "cut": 3.0,
    "break": 2.0,
    "power": 1.5,
    "reboot": 1.0,
    "end": 1.0,
    "drain": 0.5,
    "upgrade": 1.0,
    "forget": 0.7,
    "wall": 1.0,
    "hide": 1.0,
    "disk full": 0.7,
    "disk fails": 0.4,
    "slow": 0.7,
    "duplicate": 0.4,
    "restore": 0.1,
}
"""How often each kind comes, beside the others."""

DRAW = {
    "submit": _submit,
    "cancel": _cancel,
    "clean": _clean,
    "licences": _licences,
    "kill": _kill,
    "freeze": _freeze,
    "cut": _cut,
    "break": _host,
    "power": _power,
    "reboot": _reboot,
    "end": _host_for,
    "drain": _host_for,
    "upgrade": _host_for,
    "forget": _host,
    "wall": _wall,
    "hide": _hide,
    "disk full": _for_a_while,
    "disk fails": _nothing,
    "slow": _for_a_while,
    "duplicate": _for_a_while,
    "restore": _restore,
}

FAULTS = frozenset(USUAL) - {"submit", "cancel", "clean", "licences", "forget"}
"""What goes wrong, in distinction to what people do."""
