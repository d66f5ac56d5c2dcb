"""What people see of jobs that wait for others: how many they still wait for, and which. Reads the state only."""

from __future__ import annotations

import msgspec

from kueue.job import UNFINISHED
from kueue.wire.messages import MAX_ITEMS, Range, Reason, Waits
from kueue_server.core.gates import Gate
from kueue_server.core.idranges import RangeList
from kueue_server.core.idset import runs
from kueue_server.core.jobs import Job
from kueue_server.core.state import State

PREDECESSORS = "predecessors"
"""Code of the reason of a job that waits for others."""


class Awaited:
    """Answers for the rows of one listing; a gate is counted once, not once a row."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._counts: dict[Gate, int] = {}

    def number(self, job: Job) -> int:
        """How many unfinished jobs a job waits for."""
        gate = self._state.gates.of(job)
        if gate is None:
            return 0
        count = self._counts.get(gate)
        if count is None:
            by_state = self._state.table.by_state
            count = self._counts[gate] = sum(
                by_state[state].count(first, last) for state in UNFINISHED for first, last in gate.ranges
            )
        return count

    def reason(self, job: Job) -> Reason:
        """Why a job waits that waits for others."""
        number = self.number(job)
        if number == 1:
            gate = self._state.gates.of(job)
            return Reason(
                PREDECESSORS, f"waits for job {gate.watched}" if gate and gate.watched else "waits for 1 job"
            )
        return Reason(PREDECESSORS, f"waits for {number} jobs")


def awaited_ranges(state: State, job: Job) -> tuple[Range, ...]:
    """The unfinished ones as ranges, at most `MAX_ITEMS`."""
    gate = state.gates.of(job)
    if gate is None:
        return ()
    found = RangeList(MAX_ITEMS + 1)
    sets = [state.table.by_state[one] for one in UNFINISHED]
    for first, last in gate.ranges:
        for run in runs(sets, first, last):
            found.add(*run)
            if not found.takes(_HIGHEST):
                return found.ranges()[:MAX_ITEMS]
    return found.ranges()[:MAX_ITEMS]


_HIGHEST = 2**63


def shown_waits(waits: Waits | None) -> Waits | None:
    """As much of it as a message may carry."""
    if waits is None or len(waits.after) <= MAX_ITEMS >= len(waits.after_any):
        return waits
    return msgspec.structs.replace(
        waits, after=waits.after[:MAX_ITEMS], after_any=waits.after_any[:MAX_ITEMS]
    )
