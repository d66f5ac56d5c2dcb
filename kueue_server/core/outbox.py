"""Collects what one step decides and puts it into the order in which it must take effect.

First the journal: changed jobs (each once, as it is at the end of the step), then tails, workers, stop orders
and drops. Then what leaves: acknowledgements, offers, stops and retractions, one message per session where
that is possible; closings, answers and log lines; last the changes for the watchers.
"""

from __future__ import annotations

from typing import Literal

from kueue.wire.messages import MAX_ITEMS, Acknowledge, AttemptRef, Range, Retract, Stop
from kueue_server.core.instructions import (
    Instruction,
    JobsChanged,
    JournalWrite,
    LogLine,
    OfferJobs,
    SaveJob,
    SendWorker,
)
from kueue_server.core.jobs import encoded_progress
from kueue_server.core.table import JobTable

Why = Literal["canceled", "superseded"]
OfferItem = tuple[int, int, int, bytes, str]

CHANGES_PER_INSTRUCTION = 10_000


class Outbox:
    """The instructions of the step that is being made."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._saves: dict[int, None] = {}
        self._changed: dict[int, None] = {}
        self._ranges: list[Range] = []
        self._writes: list[JournalWrite] = []
        self._acknowledged: dict[int, list[AttemptRef]] = {}
        self._stops: dict[tuple[int, Why], list[AttemptRef]] = {}
        self._retracted: dict[int, list[AttemptRef]] = {}
        self._offers: dict[int, list[OfferItem]] = {}
        self._others: list[Instruction] = []

    def save(self, job: int) -> None:
        """The job's row must be written."""
        self._saves[job] = None

    def changed(self, job: int) -> None:
        """People see the job differently now."""
        self._changed[job] = None

    def changed_block(self, first: int, count: int) -> None:
        """The same of jobs with ids that follow one another, each by itself."""
        self._changed.update(dict.fromkeys(range(first, first + count)))

    def changed_range(self, first: int, last: int) -> None:
        """The same of many jobs, as one."""
        self._ranges.append((first, last))

    def write(self, write: JournalWrite) -> None:
        """Anything else for the journal; in this order."""
        self._writes.append(write)

    def acknowledge(self, session: int, ref: AttemptRef) -> None:
        """The worker may drop its record of a finished attempt."""
        self._acknowledged.setdefault(session, []).append(ref)

    def stop(self, session: int, ref: AttemptRef, why: Why) -> None:
        """The worker is to end an attempt."""
        self._stops.setdefault((session, why), []).append(ref)

    def retract(self, session: int, ref: AttemptRef) -> None:
        """The worker is to give back an attempt that has not started."""
        self._retracted.setdefault(session, []).append(ref)

    def offer(self, session: int, item: OfferItem) -> None:
        """Hand a job to a worker."""
        self._offers.setdefault(session, []).append(item)

    def send(self, instruction: Instruction) -> None:
        """Anything else that leaves the server; in this order."""
        self._others.append(instruction)

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str) -> None:
        """A line for the person who runs the server."""
        self._others.append(LogLine(level, text))

    def flush(self, table: JobTable) -> list[Instruction]:
        """The instructions of this step; the outbox is empty after that."""
        result: list[Instruction] = []
        for job_id in self._saves:
            job = table.get(job_id)
            if job is not None:
                result.append(SaveJob(job_id, job.state, encoded_progress(job)))
        result += self._writes
        for session, refs in self._acknowledged.items():
            result += [SendWorker(session, Acknowledge(part)) for part in _parts(refs)]
        # A worker answers for an attempt that it does not know that it will never start: it must know of it first.
        result += [OfferJobs(session, tuple(items)) for session, items in self._offers.items()]
        for (session, why), refs in self._stops.items():
            result += [SendWorker(session, Stop(part, why)) for part in _parts(refs)]
        for session, refs in self._retracted.items():
            result += [SendWorker(session, Retract(part)) for part in _parts(refs)]
        result += self._others
        changed = sorted(self._changed)
        for start in range(0, len(changed), CHANGES_PER_INSTRUCTION):
            result.append(JobsChanged(tuple(changed[start : start + CHANGES_PER_INSTRUCTION])))
        if self._ranges:
            result.append(JobsChanged((), tuple(self._ranges)))
        self._reset()
        return result


def _parts(refs: list[AttemptRef]) -> list[tuple[AttemptRef, ...]]:
    return [tuple(refs[start : start + MAX_ITEMS]) for start in range(0, len(refs), MAX_ITEMS)]
