"""The rule for a machine that is broken: its last jobs failed at once, one after the other, while such jobs ran well on
other machines.

*Such* jobs are of one kind: the same program, environment, requirements and volume. It takes as many good runs
elsewhere as failures here, and among those elsewhere no more than one quick failure for four good ones: a program that
fails everywhere, or at random, is no machine's fault. Pure: what ended where is told.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from kueue_server.core.pending import Lane

QUICK_SECONDS = 10.0
"""A job that fails within this time of its start has failed at once."""
WELL_SECONDS = 2 * QUICK_SECONDS
"""One that runs for longer than this runs well. In between there is room for what is told late: a bad end by up to
5 s, the silence of a keeper by 12 s. And jobs that all fail after as long as that are not told apart by chance."""
GOOD_FOR_BAD = 4
STANDS_OUT = 2
"""So many failures in a row, and it gets no jobs ahead: it would be through with them before anybody knows."""


class Kind(NamedTuple):
    """Jobs that may be expected to fare alike: of one lane, context and program."""

    lane: Lane
    context: str
    program: bytes


class Fared(msgspec.Struct):
    """How often jobs of a kind ran well lately, and how often they failed at once, by the names of workers."""

    well: Counter[str] = msgspec.field(default_factory=Counter)
    badly: Counter[str] = msgspec.field(default_factory=Counter)


class Streaks:
    """Of each worker the kinds of the jobs that failed there last, at once, in a row."""

    def __init__(self) -> None:
        self._streaks: dict[int, deque[Kind]] = {}

    def failed_at_once(self, worker: int, kind: Kind, most: int) -> None:
        """A job failed within seconds of its start; `most`: as many are judged by."""
        streak = self._streaks.setdefault(worker, deque())
        streak.append(kind)
        while len(streak) > most:
            streak.popleft()

    def end(self, worker: int) -> None:
        """A job ran there for a while, or ended well; or a person has looked at the machine."""
        self._streaks.pop(worker, None)

    def of(self, worker: int, most: int) -> frozenset[Kind]:
        """The kinds of its last `most` jobs, if all of them failed at once; else nothing."""
        streak = self._streaks.get(worker)
        return frozenset(streak) if streak is not None and len(streak) >= most else frozenset()

    def stands_out(self, worker: int) -> bool:
        """Do jobs fail at once there, one after the other, that fail so nowhere else now?"""
        streak = self._streaks.get(worker)
        if streak is None or len(streak) < STANDS_OUT:
            return False
        last = streak[-1]
        return not any(last in other for number, other in self._streaks.items() if number != worker)

    def suspects(self, most: int) -> list[int]:
        """The workers whose last `most` jobs failed at once."""
        return [worker for worker, streak in self._streaks.items() if len(streak) >= most]


def is_broken(worker: str, kinds: Iterable[Kind], most: int, fared: Mapping[Kind, Fared]) -> bool:
    """Is it the machine's fault that its last `most` jobs failed at once, which were of these kinds?"""
    good = 0
    for kind in kinds:
        found = fared.get(kind)
        if found is None:
            return False
        well = found.well.total() - found.well[worker]
        badly = found.badly.total() - found.badly[worker]
        if not well or badly * GOOD_FOR_BAD > well:
            return False
        good += well
    return good >= most
