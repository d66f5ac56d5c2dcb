"""Gates: what jobs wait for, one gate for all jobs that wait for the very same, and how one is found.

A gate watches one predecessor at a time, the first that is unfinished, so the end of one costs the same however many
others there are; those whose end is not a success are found by their ids. A thousand jobs that wait for a thousand
others are one gate, not a million edges.

Whether a job that left the table succeeded need not be known: one that did not stays until all that mind it have been
told (`Gates.needs`), so whatever is not there any more is nothing to wait for. Reads the table and changes nothing
in it; what becomes of the jobs is the business of `dependencies`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from kueue.job import FINISHED, UNFINISHED, JobState
from kueue.wire.messages import Range, Reason
from kueue.wire.waits import Waits
from kueue_server.core.idranges import merged
from kueue_server.core.jobs import Job, waits_of
from kueue_server.core.range_index import RangeIndex
from kueue_server.core.table import JobTable

S = JobState

PREDECESSOR = "predecessor"
"""Code of the reason of a job that is canceled for one that it was to follow."""
HELD = "held"
"""Code of the reason of a job that stays until a person decides."""

_HIGHEST = 2**63
_NOT_A_SUCCESS = (S.FAILED, S.CANCELED)


class Gate(msgspec.Struct, gc=False, eq=False):
    """Keeps its `followers` (in the order of their ids; those before `handled` are through) until nothing is awaited,
    and `spans` of ids of tasks that wait here (not all of a span need do so); the first span is through up to `passed`.

    `watched` is its first unfinished predecessor. When there is none, or with a `reason` not to wait any more, it is
    `settled`. `gone` counts followers that were canceled meanwhile, `pins` submits that are on their way to it.
    """

    waits: Waits
    ranges: tuple[Range, ...]
    followers: list[int]
    handled: int = 0
    gone: int = 0
    pins: int = 0
    watched: int = 0
    settled: bool = False
    reason: Reason | None = None
    spans: tuple[Range, ...] = ()
    passed: int = 0

    @property
    def is_empty(self) -> bool:
        """Has nobody come to it since it was left last?"""
        return not self.followers and not self.spans

    def minds(self, job: int) -> bool:
        """Is it not the same to its followers how this job ends?"""
        return self.waits.on_failure != "run" and is_in(job, self.waits.after)


class Gates:
    """All gates of a table, and what is still to be done to them.

    `turned` are jobs that finished, or came back from it, since they were looked at; `leaving` are settled gates with
    followers to be let go.
    """

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._gates: dict[Waits, Gate] = {}
        self._index: RangeIndex[Gate] = RangeIndex()
        self._watchers: RangeIndex[Gate] = RangeIndex()
        self._pinned: dict[int, list[Gate]] = {}
        self._arriving: set[int] = set()
        # The turned job that is being looked at: the gates that are still to be told, and why it is no success.
        self._turn: Iterator[Gate] = iter(())
        self._turning = False
        self._number = 0
        self._why_not: Reason | None = None
        self.turned: deque[int] = deque()
        self.leaving: deque[Gate] = deque()
        self.looks = 0
        """Gates looked at so far, for tests of what it costs."""

    def __len__(self) -> int:
        return len(self._gates)

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())

    @property
    def has_work(self) -> bool:
        """Is there anything to be done?"""
        return bool(self.turned or self.leaving or self._turning)

    # ---------------------------------------------------------------- who waits

    def of(self, job: Job) -> Gate | None:
        """The gate that a job waits at, if it does."""
        if not self._gates or job.state is not S.WAITING or job.reason is not None:
            return None
        waits = waits_of(job)
        return None if waits is None else self._gates.get(waits)

    def join(self, job: int, waits: Waits) -> None:
        """A job that is `waiting` comes to its gate, which may be open already."""
        gate = self._gate(waits)
        if gate.settled and gate.is_empty:
            self.leaving.append(gate)
        if gate.followers:
            gate.followers.append(job)
        else:
            gate.followers = [job]  # mostly it stays alone: this list has no room to spare

    def join_tasks(self, first: int, last: int, waits: Waits) -> None:
        """The same for tasks of an array, however many."""
        gate = self._gate(waits)
        if gate.settled and gate.is_empty:
            self.leaving.append(gate)
        gate.spans = (*gate.spans, (first, last))

    def leave(self, job: Job) -> None:
        """A follower waits no more, as a person wants it."""
        gate = self.of(job)
        if gate is not None and not gate.settled and _is_follower(gate, job.id):
            gate.gone += 1
            self._forget_idle(gate)

    def pin(self, request: int, all_waits: Sequence[Waits]) -> None:
        """Jobs with these are on their way: from now on it counts how their predecessors end."""
        gates = [self._gate(waits) for waits in all_waits]
        for gate in gates:
            gate.pins += 1
        self._pinned[request] = gates

    def unpin(self, request: int) -> None:
        """They have come, or never will."""
        for gate in self._pinned.pop(request, ()):
            gate.pins -= 1
            self._forget_idle(gate)

    def arrive(self, first: int, *, more: bool) -> None:
        """Of jobs from `first` on, which may follow one another, some have come, and perhaps there are more."""
        if more:
            self._arriving.add(first)
        else:
            self._arriving.discard(first)

    def needs(self, job: Job) -> bool:
        """Must a finished job stay in the table, since somebody has not been told yet that it did not succeed?"""
        if job.state is S.SUCCEEDED:
            return False
        if self._arriving and job.id >= min(self._arriving):
            return True
        if not self._gates:
            return False
        return any(gate.minds(job.id) for gate in self._index.at(job.id))

    # ---------------------------------------------------------------- what happens to whom they wait for

    def next_look(self) -> Gate | None:
        """The next gate to be looked at; None if nothing is left."""
        while True:
            gate = next(self._turn, None)
            if gate is not None:
                self.looks += 1
                return gate
            self._turning = bool(self.turned)
            if not self.turned:
                return None
            self._number = self.turned.popleft()
            job = self._table.get(self._number)
            self._why_not = None
            if job is None or job.state is S.SUCCEEDED:
                self._turn = iter([*self._index.exactly(self._number), *self._watchers.exactly(self._number)])
                continue
            # It failed or was canceled; or it runs again, and some may have taken it for finished.
            self._turn = iter(self._index.at(self._number))
            if job.state in FINISHED:
                self._why_not = why_not(job)

    def look(self, gate: Gate) -> None:
        """See what it means to a gate that the job turned which led to it; it may be settled then."""
        if gate.settled:
            return
        if self._why_not is not None and gate.minds(self._number):
            self._settle(gate, self._why_not)
        elif self._number <= gate.watched:
            self._watch(gate, self._number)

    def done(self, gate: Gate) -> None:
        """All followers of the first leaving gate are through."""
        assert self.leaving.popleft() is gate
        gate.followers = []
        gate.handled = gate.gone = 0
        assert not gate.spans
        self._forget_idle(gate)

    # ---------------------------------------------------------------- inside

    def _gate(self, waits: Waits) -> Gate:
        gate = self._gates.get(waits)
        if gate is not None:
            return gate
        ranges = waits.after
        if waits.after_any:
            ranges = tuple(merged((*waits.after, *waits.after_any)))
        gate = self._gates[waits] = Gate(waits, ranges, [])
        if self._table.turned is None:
            self._table.turned = self.turned
        for first, last in ranges:
            self._index.add(first, last, gate)
        reason = self._reason(gate)
        if reason is not None:
            self._settle(gate, reason)
        else:
            self._watch(gate, 0)
        return gate

    def _reason(self, gate: Gate) -> Reason | None:
        """Why its followers are not to run, if one of those that had to succeed has ended otherwise."""
        if gate.waits.on_failure == "run":
            return None
        failed = first_in(self._table, _NOT_A_SUCCESS, gate.waits.after, 0)
        return None if failed is None else why_not(self._table.jobs[failed])

    def _watch(self, gate: Gate, start: int) -> None:
        """Watch its first unfinished predecessor from `start` on; settled if there is none."""
        found = first_in(self._table, UNFINISHED, gate.ranges, start)
        if found is None:
            # Of several that ended together, one that failed may not have been told yet.
            self._settle(gate, self._reason(gate))
        elif found != gate.watched:
            self._unwatch(gate)
            gate.watched = found
            if not _is_single(gate):
                self._watchers.add(found, found, gate)

    def _unwatch(self, gate: Gate) -> None:
        if gate.watched and not _is_single(gate):
            self._watchers.discard(gate.watched, gate.watched, gate)
        gate.watched = 0

    def _settle(self, gate: Gate, reason: Reason | None) -> None:
        self._unwatch(gate)
        gate.settled = True
        gate.reason = reason
        if not gate.is_empty:
            self.leaving.append(gate)

    def _forget_idle(self, gate: Gate) -> None:
        """A gate nobody comes to any more, and at which nobody waits."""
        if gate.pins or gate.spans or len(gate.followers) > gate.gone or (gate.settled and gate.followers):
            return
        self._unwatch(gate)
        gate.settled = True  # whoever has still to look at it
        for first, last in gate.ranges:
            self._index.discard(first, last, gate)
        del self._gates[gate.waits]
        if not self._gates:
            self._table.turned = None
            self.turned.clear()


def _is_follower(gate: Gate, job: int) -> bool:
    """Is it among the followers, not only in a span?"""
    place = bisect_left(gate.followers, job)
    return place < len(gate.followers) and gate.followers[place] == job


def _is_single(gate: Gate) -> bool:
    """Has it one predecessor? The index leads to it as well then."""
    return len(gate.ranges) == 1 and gate.ranges[0][0] == gate.ranges[0][1]


def is_in(number: int, ranges: Sequence[Range]) -> bool:
    """Is an id in one of these ordered ranges?"""
    place = bisect_right(ranges, (number, _HIGHEST)) - 1
    return place >= 0 and number <= ranges[place][1]


def first_in(table: JobTable, states: Iterable[JobState], ranges: Sequence[Range], start: int) -> int | None:
    """The first job from `start` on that is in one of these ordered ranges and in one of the states."""
    sets = [table.by_state[state] for state in states]
    for place in range(max(0, bisect_right(ranges, (start, _HIGHEST)) - 1), len(ranges)):
        first, last = ranges[place]
        first = max(first, start)
        best = None
        for ids in sets:
            found = ids.at_or_after(first)
            if found is not None and found <= last:
                best = last = found
        if best is not None:
            return best
    return None


def is_held(job: Job) -> bool:
    """Does it stay until a person decides?"""
    return job.state is S.WAITING and job.reason is not None and job.reason.code == HELD


def why_not(job: Job) -> Reason:
    """Why those that follow a job that did not succeed don't run; of a whole chain, that of the first."""
    reason = job.reason
    if job.state is S.CANCELED:
        if reason is not None and reason.code == PREDECESSOR:
            return reason
        return Reason(PREDECESSOR, f"job {job.id} was canceled")
    return Reason(PREDECESSOR, f"job {job.id} failed" + (f" ({reason.text})" if reason is not None else ""))
