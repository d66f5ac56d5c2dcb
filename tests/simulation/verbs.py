"""What people do to many jobs by selectors, and whether what they were told of it is so (G9).

A change gives its jobs a time limit that no other change has, a rerun its new jobs a group of their own: by these
marks one sees afterwards what came of each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kueue.job import JobState
from kueue.wire.messages import Changes
from kueue.wire.selector import Selector
from tests.simulation.truth import PromiseBrokenError, Run, Truth

FIRST_MARK = 1_000_000
"""Seconds; no job of a simulation runs so long."""
MOST_VERBS = 6
FIRST_JOURNAL = "journal-1"


def draw_verbs(seed: int, seconds: float, times: list[float]) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """What people do of this kind, in half of the runs: when, what, how. `times` are those of all else. Drawn apart,
    so that the rest of a schedule stays as it is."""
    dice = random.Random(f"verbs {seed}")
    if dice.random() < 0.5:
        return
    for _ in range(dice.randrange(1, MOST_VERBS + 1)):
        at = round(dice.uniform(0.0, seconds), 3)
        if dice.random() < 0.5:  # soon after something else: where races are
            at = round(min(seconds, dice.choice(times) + dice.expovariate(2.0)), 3)
        what = dice.choice(("set", "set", "rerun", "rerun", "submit", "submit", "cancel selected"))
        yield at, what, _DRAW[what](dice)
        if dice.random() < 0.3:
            down = round(dice.uniform(0.1, 5.0), 3)
            how = {"part": "server", "down": down, "instruction": dice.randrange(12)}
            yield at, "kill", how


def _which(dice: random.Random) -> dict[str, Any]:
    return {
        "place": round(dice.random(), 3),
        "width": dice.choice((0, 2, 8, 40)),
        "state": dice.choice(_STATES),
    }


_STATES = ("", "", "", "pending", "failed", "succeeded")


def _retrying(dice: random.Random) -> dict[str, Any]:
    how: dict[str, Any] = {
        "count": dice.choice((1, 2, 3)),
        "seconds": dice.choice((0.01, 0.5, 5.0)),
        "cpus": 1,
        "wait": dice.random() < 0.3,
        "code": dice.choice((7, 7, 1)),
        "retries": dice.choice((1, 2, 4)),
    }
    if dice.random() < 0.6:
        how["retry_delay"] = dice.choice((0.5, 3.0, 15.0))
    if dice.random() < 0.3:
        how["retry_on"] = (7,)
    if dice.random() < 0.3:
        how["licences"] = 1
    if dice.random() < 0.3:
        how["time_limit"] = dice.choice((0.4, 2.0))
    return how


_DRAW: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "set": _which,
    "rerun": _which,
    "submit": _retrying,
    "cancel selected": lambda dice: {**_which(dice), "kill": dice.random() < 0.7},
}


def selector_of(place: float, width: int, state: str, highest: int) -> Selector:
    """About `width` jobs among the newest."""
    first = max(1, highest - int(place * min(highest, 40)))
    return Selector(ranges=((first, first + width),), states=(state,) if state else ())


@dataclass
class VerbTruth:
    """What was asked and told."""

    truth: Truth
    unanswered: set[float] = field(default_factory=set)
    """Marks of changes that nobody was told of: they may have been done, or not, or in part."""
    marked: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Of a job the mark of the last change that was answered, and when."""
    reruns: dict[str, tuple[str, int, int] | None] = field(default_factory=dict)
    """By group: journal, first id and how many, as told; None: not told."""
    to_kill: set[int] = field(default_factory=set)
    """Jobs that somebody wanted killed: they need not be tried again."""
    _changes: int = 0

    def __post_init__(self) -> None:
        self.truth.on_start.append(self._started)

    def _started(self, run: Run) -> None:
        """What was promised to be changed is what starts, if it was handed out since."""
        mark, when = self.marked.get((run.journal, run.job), (0.0, math.inf))
        if self.truth.offers[run.key].when > when:
            try:
                self.check_mark(run.journal, run.job, run.spec.time_limit_seconds, mark)
            except PromiseBrokenError as error:
                self.truth.broken(error)

    def new_changes(self) -> Changes:
        """A change with a mark of its own."""
        self._changes += 1
        mark = float(FIRST_MARK + self._changes)
        self.unanswered.add(mark)
        return Changes(time_limit_seconds=mark, priority=self._changes % 7)

    def new_group(self) -> str:
        """For the jobs of a rerun."""
        group = f"rerun{len(self.reruns) + 1}"
        self.reruns[group] = None
        return group

    def change_answered(self, journal: str, core: Any, mark: float) -> None:
        """The answer to a change leaves the server: what it has done is durable."""
        self.unanswered.discard(mark)
        for number in core._state.table.jobs:
            if self._limit(core, number) == mark:
                self.marked[journal, number] = (mark, self.truth.world.now)
                self.truth.tell_of(journal, number, f"change {mark:.0f} answered")

    def rerun_answered(self, journal: str, group: str, first: int, count: int) -> None:
        """A client was told."""
        self.reruns[group] = (journal, first, count)
        for number in range(first, first + count):
            self.truth.acknowledged[journal, number] = group

    def check(self, journal: str, core: Any, dropped: set[int]) -> None:
        """When all is quiet."""
        jobs = core._state.table.jobs
        for (uuid, number), (mark, _) in self.marked.items():
            if uuid == journal and number in jobs:
                self.check_mark(journal, number, self._limit(core, number), mark)
        for number, job in jobs.items():
            ran = [run for run in self.truth.runs.get((journal, number), ()) if run.fence == job.fence]
            if job.state is JobState.CANCELED or not ran:
                continue
            limits = (ran[0].spec.time_limit_seconds, self._limit(core, number))
            if limits[0] != limits[1]:
                text = f"job {number} ran with the limit {limits[0]}, and shows {limits[1]}"
                raise PromiseBrokenError("G9", text, (journal, number))
        for group, told in self.reruns.items():
            found = {
                number: core.job_view(number, 0.0).rerun_of
                for number, job in jobs.items()
                if job.group == group
            }
            if len(set(found.values())) < len(found):
                raise PromiseBrokenError("G9", f"{group} was made twice: {found}", (journal, max(found)))
            first, last = (min(found), max(found)) if found else (1, 0)
            if told is not None and told[0] == journal:
                first, last = told[1], told[1] + told[2] - 1
                if found and (min(found) < first or max(found) > last):
                    raise PromiseBrokenError("G9", f"{group} is {sorted(found)}, {told} was told")
            if journal != FIRST_JOURNAL and (told is None or told[0] != journal):
                continue  # an older copy of a journal has forgotten what was dropped
            missing = set(range(first, last + 1)) - found.keys() - dropped
            if missing:
                raise PromiseBrokenError("G9", f"{group} lacks {sorted(missing)}", (journal, min(missing)))

    def check_mark(self, journal: str, number: int, limit: float | None, mark: float) -> None:
        """Is a job as the last answered change, or as one that nobody was told of?"""
        if limit != mark and limit not in self.unanswered:
            text = f"job {number} has the limit {limit}, {mark} was promised"
            raise PromiseBrokenError("G9", text, (journal, number))

    @staticmethod
    def _limit(core: Any, number: int) -> float | None:
        limit: float | None = core.job_detail(number, 0.0).time_limit_seconds
        return limit
