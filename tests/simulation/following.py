"""Jobs that wait for others, and whether they start, or don't, as their predecessors really ended (G13).

What is looked at is what ran on the machines, not what the server made of it: a job that waits for the success of
others starts only after a process of each of them has ended with 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from kueue.job import JobState
from kueue.wire.messages import Range, Selector, Waits
from kueue_server.core.gates import PREDECESSOR, is_held
from kueue_server.core.instructions import DropJobs, SaveJob, SavePart
from kueue_server.core.jobs import max_restarts_of, waits_of
from kueue_server.core.records import PlanRecord
from kueue_server.journal.interface import AddJobs, Write
from tests.simulation.truth import PromiseBrokenError, Run, Truth
from tests.support.core_bench import MemoryJournal

MOST_SUBMITS = 8
FIRST_JOURNAL = "journal-1"

Wish = dict[str, Any]
"""Of a schedule: which jobs, by their place among the newest, in which way, and what a failure means."""


def draw_following(
    seed: int, seconds: float, times: list[float]
) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Submits of jobs that follow others, in a quarter of the runs. Drawn apart, so that others stay as they are."""
    if seed % 8 not in (0, 6):
        return
    dice = random.Random(f"following {seed}")
    for _ in range(dice.randrange(1, MOST_SUBMITS + 1)):
        at = round(dice.uniform(0.0, seconds), 3)
        if dice.random() < 0.2:
            yield from _cleaned_meanwhile(dice, at)
            continue
        if dice.random() < 0.6:  # while others are under way
            at = round(min(seconds, dice.choice(times) + dice.expovariate(1.0)), 3)
        how: dict[str, Any] = {
            "count": dice.choice((1, 1, 2, 6)),
            "seconds": dice.choice((0.01, 0.5, 5.0)),
            "cpus": 1,
            "wait": dice.random() < 0.3,
            "after": _draw_predecessors(dice),
        }
        if dice.random() < 0.3:
            how["code"] = 7
        if dice.random() < 0.2:
            how["server_dies"] = dice.randrange(10)
        yield at, "submit", how
        if dice.random() < 0.3:
            yield round(min(seconds, at + dice.expovariate(0.5)), 3), "clean", {"failed": True}
        if dice.random() < 0.4:
            down = round(dice.uniform(0.1, 5.0), 3)
            how = {"part": "server", "down": down, "instruction": dice.randrange(12)}
            yield round(min(seconds, at + dice.expovariate(0.5)), 3), "kill", how


def _draw_predecessors(dice: random.Random) -> dict[str, Any]:
    return {
        "place": round(dice.random() ** 2, 3),
        "width": dice.choice((0, 0, 1, 3, 20)),
        "any": dice.random() < 0.25,
        "on_failure": dice.choice(("cancel", "cancel", "hold", "run")),
    }


def draw_following_arrays(
    seed: int, seconds: float, times: list[float]
) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """Arrays that follow others, of which parts are canceled and changed, in one of 16 runs."""
    if seed % 16 != 14:
        return
    dice = random.Random(f"following arrays {seed}")
    for _ in range(dice.choice((1, 1, 3, 5))):
        at = round(min(seconds, dice.choice(times) + dice.expovariate(1.0)), 3)
        how: dict[str, Any] = {
            "indices": dice.choice((((1, 5, 1),), ((0, 2, 1), (10, 30, 5)), ((1, 40, 1),))),
            "seconds": dice.choice((0.01, 0.5)),
            "code": dice.choice((0, 0, 0, 7)),
            "after": _draw_predecessors(dice),
        }
        if dice.random() < 0.3:
            how["server_dies"] = dice.randrange(10)
        yield at, "submit array", how
        for what in dice.sample(("cancel", "set", "clean", "kill"), dice.choice((0, 1, 2))):
            yield round(min(seconds, at + dice.expovariate(0.5)), 3), what, _MEANWHILE[what](dice)


_MEANWHILE: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "cancel": lambda dice: {
        "place": round(dice.random() / 2, 3),
        "width": dice.choice((0, 4)),
        "kill": False,
    },
    "set": lambda dice: {"place": round(dice.random() / 2, 3), "width": dice.choice((0, 3)), "state": ""},
    "clean": lambda dice: {"failed": True},
    "kill": lambda dice: {
        "part": "server",
        "down": round(dice.uniform(0.1, 5.0), 3),
        "instruction": dice.randrange(12),
    },
}


def _cleaned_meanwhile(dice: random.Random, at: float) -> Iterator[tuple[float, str, dict[str, Any]]]:
    """A job fails, and is cleaned while one that follows it is on its way to the disk of a server that dies."""
    yield at, "submit", {"count": 1, "seconds": 0.01, "cpus": 1, "wait": False, "code": 7}
    follows = round(at + dice.choice((0.5, 2.0)), 4)
    after = {"place": 0.0, "width": 0, "any": False, "on_failure": dice.choice(("cancel", "hold"))}
    how = {"count": dice.choice((1, 6)), "seconds": 0.01, "cpus": 1, "wait": False, "after": after}
    yield follows, "submit", {**how, "server_dies": dice.randrange(16)}
    for _ in range(3):
        yield round(follows + dice.uniform(-0.002, 0.006), 4), "clean", {"failed": True}


def waits_for(wish: Wish | None, highest: int) -> Waits | None:
    """What such a job asks for, when these are the ids there are."""
    if wish is None or highest < 1:
        return None
    first = max(1, highest - int(wish["place"] * min(highest, 20)))
    last = min(highest, first + wish["width"])
    ids: tuple[Range, ...] = ((first, last),) if first == last else ()
    select = () if ids else (Selector(ranges=((first, last),)),)
    if wish["any"]:
        return Waits((), ids, wish["on_failure"], (), select)
    return Waits(ids, (), wish["on_failure"], select, ())


class Forgotten:
    """What a disk does not know any more: that jobs which are gone did not succeed. Nobody may wait for them then, as
    whoever starts from this disk would let him go."""

    def __init__(self) -> None:
        self._failed: set[int] = set()
        self._waiting: dict[int, frozenset[int]] = {}

    def note(self, rows: MemoryJournal, write: Write) -> None:
        """Before it is applied."""
        if isinstance(write, AddJobs):
            for number, spec in enumerate(write.specs, write.first):
                self._wait(range(number, number + 1), _decode_waits(spec).waits)
            if write.array is not None:
                ids = range(write.array.first, write.array.last + 1)
                self._wait(ids, _decode_plan(write.array.plan).spec.waits)
        elif isinstance(write, SavePart):
            if write.state is not JobState.WAITING or _decode_plan(write.plan).reason is not None:
                for number in range(write.first, write.last + 1):
                    self._waiting.pop(number, None)
        elif isinstance(write, SaveJob):
            self._waiting.pop(write.job, None)
        elif isinstance(write, DropJobs):
            for first, last in write.ranges:
                for number in range(first, last + 1):
                    self._waiting.pop(number, None)
                    row = rows.jobs.get(number)  # a task that was canceled before it started has none
                    if row is None or row.state is not JobState.SUCCEEDED:
                        self._failed.add(number)
        if isinstance(write, AddJobs | DropJobs):
            lost = [number for number, before in self._waiting.items() if before & self._failed]
            assert not lost, f"G13: a restart would let go of {lost}, though one before each failed"

    def _wait(self, jobs: range, waits: Waits | None) -> None:
        if waits is not None and waits.on_failure != "run":
            before = frozenset(one for first, last in waits.after for one in range(first, last + 1))
            self._waiting.update(dict.fromkeys(jobs, before))


class _Waiting(msgspec.Struct):
    waits: Waits | None = None


_decode_waits = msgspec.json.Decoder(_Waiting).decode
_decode_plan = msgspec.json.Decoder(PlanRecord).decode


class FollowTruth:
    """Looks at each start, and at the end."""

    def __init__(self, truth: Truth) -> None:
        self._truth = truth
        self.core: Any = None
        """Of the server that lives."""
        self.are_let_go = False
        """Held jobs are, from now on."""
        truth.on_start.append(self._started)

    def _started(self, run: Run) -> None:
        waits = run.spec.waits
        if waits is None or (waits.on_failure == "hold" and self.are_let_go):
            return
        self._truth.count("starts after others")
        minds = waits.on_failure != "run"
        for ids, success in ((waits.after, minds), (waits.after_any, False)):
            for number in (number for first, last in ids for number in range(first, last + 1)):
                self._look(run, number, success=success)

    def _look(self, run: Run, number: int, *, success: bool) -> None:
        job = None if self.core is None else self.core._state.table.jobs.get(number)
        ran = self._truth.runs.get((run.journal, number), [])
        if success:
            well = any(other.how == "exited" and not other.code for other in ran)
            if (
                run.journal != FIRST_JOURNAL and not well
            ):  # it may have ended in the journal of which this is a copy
                well = job is None or job.state is JobState.SUCCEEDED
            if not well:
                self._break(run, f"starts after {number}, which has not succeeded: {ran}")
        elif job is not None and job.state in (JobState.PENDING, JobState.WAITING) and not job.attempt:
            self._break(run, f"starts after {number}, which was never handed out")

    def _break(self, run: Run, text: str) -> None:
        key = (run.journal, run.job)
        self._truth.broken(PromiseBrokenError("G13", f"job {run.job}: {text}", key))

    def check(self, journal: str, core: Any) -> None:
        """When all is quiet: nothing was canceled for a job that had succeeded all the while."""
        jobs = core._state.table.jobs
        for number, job in jobs.items():
            if job.reason is None or job.reason.code != PREDECESSOR:
                continue
            self._truth.count("canceled for others")
            waits = waits_of(job)
            assert waits is not None
            before = [jobs.get(one) for first, last in waits.after for one in range(first, last + 1)]
            if all(one is not None and _has_surely_succeeded(one) for one in before):
                text = f"job {number} was canceled ({job.reason.text}), all before it succeeded"
                raise PromiseBrokenError("G13", text, (journal, number))


def _has_surely_succeeded(job: Any) -> bool:
    """It did, and nobody can have taken it for lost in between."""
    return job.state is JobState.SUCCEEDED and job.restart and max_restarts_of(job) > 1


def held_jobs(core: Any) -> bool:
    """Does any job wait for a person?"""
    jobs = core._state.table.jobs
    return any(is_held(jobs[number]) for number in core._state.table.by_state[JobState.WAITING])
