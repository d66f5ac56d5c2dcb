"""Programs that a worker lacks: what it has refused to run, which jobs that holds for, and when to ask again.

One object per worker. A program that is missing on one machine may be on another, so it is no failure of the
job, but closes the worker to that program: for the jobs that were there when it refused, not for later ones, which
may have been submitted because it was mended. One job a minute probes; a job that starts opens it again.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kueue_server.core.closed import PROBE_SECONDS, Sight
from kueue_server.core.pending import Lane

MOST_PROGRAMS = 10_000
"""Of those that are remembered of one worker; over that the first are forgotten, and so asked for again."""


class Program(NamedTuple):
    """What decides which program a job means: its first word, the digest of its environment, and its directory
    if that matters."""

    name: bytes
    context: str
    cwd: bytes | None


class _Lack(msgspec.Struct, gc=False):
    last_job: int
    probe_at: float


class MissingPrograms:
    """What one worker is known not to have, by lane, so that each kind of job is asked about by itself."""

    __slots__ = ("_count", "_lacks")

    def __init__(self) -> None:
        self._lacks: dict[Lane, dict[Program, _Lack]] = {}
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._lacks)

    def __contains__(self, lane: Lane) -> bool:
        return lane in self._lacks

    def refuse(self, lane: Lane, program: Program, last_job: int, now: float) -> None:
        """The worker has refused to run it for want of it; `last_job`: the last one that is there so far."""
        self.forget(lane, program)
        self._lacks.setdefault(lane, {})[program] = _Lack(last_job, now + PROBE_SECONDS)
        self._count += 1
        if self._count > MOST_PROGRAMS:
            first = next(iter(self._lacks))
            self.forget(first, next(iter(self._lacks[first])))

    def forget(self, lane: Lane, program: Program) -> bool:
        """It may be asked for again. Returns whether it was not."""
        lacks = self._lacks.get(lane)
        if lacks is None or lacks.pop(program, None) is None:
            return False
        self._count -= 1
        if not lacks:
            del self._lacks[lane]
        return True

    def open(self, lane: Lane, program: Program) -> bool:
        """A job of this program has started. Returns whether that opened anything."""
        found = [self.forget(lane, each) for each in (program, program._replace(cwd=None))]
        return any(found)

    def clear(self) -> None:
        """Forget everything, e.g. because the machine was rebooted."""
        self._lacks.clear()
        self._count = 0

    def has_refused(self, lane: Lane, program: Program, job: int) -> bool:
        """Has it refused this job, or one that means the same program since that was submitted?"""
        return bool(self._of(lane, program, job))

    def sight(self, lane: Lane, program: Program, job: int, now: float) -> Sight:
        """May the worker be asked to run this job?"""
        found = self._of(lane, program, job)
        if not found:
            return Sight.OPEN
        return Sight.PROBE if all(now >= lack.probe_at for lack in found) else Sight.CLOSED

    def probing(self, lane: Lane, program: Program, job: int, now: float) -> None:
        """A probe is on its way: no other for the same program within the next minute."""
        for lack in self._of(lane, program, job):
            lack.probe_at = now + PROBE_SECONDS

    def probe_due(self, since: float, now: float) -> bool:
        """Whether a probe became due after `since`, up to `now`. Drops what no job asks for any more."""
        due = False
        for lane, lacks in list(self._lacks.items()):
            if lane.head is None:
                for program in [each for each, lack in lacks.items() if now > lack.probe_at + PROBE_SECONDS]:
                    self.forget(lane, program)
            else:
                due = due or any(since < lack.probe_at <= now for lack in lacks.values())
        return due

    def _of(self, lane: Lane, program: Program, job: int) -> list[_Lack]:
        lacks = self._lacks.get(lane)
        if lacks is None:
            return []
        found = (lacks.get(program), lacks.get(program._replace(cwd=None)))
        return [lack for lack in found if lack is not None and job <= lack.last_job]
