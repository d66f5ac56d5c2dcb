"""Many seeds, one after the other or side by side; their figures go to a file that tells where to go on.

Each line of the file is one finished range of seeds, as JSON. A campaign that was interrupted, or is to be made
longer, begins behind the last seed that the file has.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.simulation.schedule import draw
from tests.simulation.simulation import run

CHUNK = 100
"""Seeds of one line."""


def seeds_done(record: Path) -> int:
    """The first seed that no line of the file covers, counted from 1."""
    after = 1
    for line in _lines(record):
        if line["first"] <= after <= line["last"]:
            after = line["last"] + 1
    return after


def campaign(first: int, last: int, processes: int, record: Path | None) -> Iterator[dict[str, Any]]:
    """Run the seeds from `first` to `last`; yields the figures of each finished part, in order."""
    parts = [(start, min(start + CHUNK - 1, last)) for start in range(first, last + 1, CHUNK)]
    if processes == 1:
        yield from _recorded(map(_part, parts), record)
        return
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        yield from _recorded(pool.imap(_part, parts), record)


def total(record: Path) -> dict[str, Any]:
    """All lines of a file added up."""
    lines = _lines(record)
    return {
        "schedules": sum(line["schedules"] for line in lines),
        "actions": sum(line["actions"] for line in lines),
        "steps": sum(line["steps"] for line in lines),
        "simulated_days": round(sum(line["simulated_days"] for line in lines), 2),
        "failed": [seed for line in lines for seed in line["failed"]],
        "counts": _added([line["counts"] for line in lines]),
    }


def _recorded(parts: Iterator[dict[str, Any]], record: Path | None) -> Iterator[dict[str, Any]]:
    for part in parts:
        if record is not None:
            with record.open("a") as file:
                file.write(json.dumps(part) + "\n")
        yield part


def _part(seeds: tuple[int, int]) -> dict[str, Any]:
    first, last = seeds
    outcomes = [run(draw(seed)) for seed in range(first, last + 1)]
    return {
        "first": first,
        "last": last,
        "schedules": len(outcomes),
        "actions": sum(len(outcome.schedule.actions) for outcome in outcomes),
        "steps": sum(outcome.steps for outcome in outcomes),
        "simulated_days": sum(outcome.seconds for outcome in outcomes) / 86400,
        "failed": [outcome.schedule.seed for outcome in outcomes if outcome.problem is not None],
        "counts": _added([outcome.counts for outcome in outcomes]),
    }


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    whole: dict[str, int] = {}
    for part in counts:
        for name, number in part.items():
            whole[name] = whole.get(name, 0) + number
    return dict(sorted(whole.items()))


def _lines(record: Path) -> list[dict[str, Any]]:
    if not record.exists():
        return []
    return [json.loads(line) for line in record.read_text().splitlines()]
