"""Arrays of jobs: tasks that are all the same but for their index, kept as one record until something becomes of them.

A *task* is a job like any other: it has an id, and is in all indexes of the table from its submit on. But its record
(`Job`) is made only when somebody asks the table for it; until then it is *latent*, and a `Part` stands for it and
its neighbours, in memory as in the journal. See `docs/decisions/0007-arrays.md`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from kueue.indices import MARK, count_of, part_of, text_of
from kueue.job import JobState
from kueue.wire.messages import Command, OsString, RawBytes, Reason, Spec, Step
from kueue_server.core.pending import Lane
from kueue_server.core.shapes import Cap

_MARK_BYTES = MARK.encode()

_TRIED = (8_112_963_548_317, 7_935_064_281_729)

_encode = msgspec.json.Encoder().encode


def cap_of(array: int | None, max_running: int | None) -> Cap | None:
    """What a task of this array shares with the others: a place among those that run at the same time."""
    return None if array is None or max_running is None else (f"array {array}", max_running)


def task_spec(spec: Spec, index: int) -> Spec:
    """The spec of one task: the mark filled in where people may write it."""
    text = str(index)
    return msgspec.structs.replace(
        spec,
        payload=Command(tuple([_filled(word, text) for word in spec.payload.argv])),
        cwd=_filled(spec.cwd, text),
        stdout=None if spec.stdout is None else _filled(spec.stdout, text),
        stderr=None if spec.stderr is None else _filled(spec.stderr, text),
        name=spec.name.replace(MARK, text),
        array_index=index,
    )


def _filled(text: OsString, index: str) -> OsString:
    if isinstance(text, str):
        return text.replace(MARK, index)
    return RawBytes(text.b64.replace(_MARK_BYTES, index.encode()))


def is_marked(text: OsString) -> bool:
    """Does it differ from task to task?"""
    return MARK in text if isinstance(text, str) else _MARK_BYTES in text.b64


def _pieces_of(spec: Spec) -> list[bytes]:
    """What an encoded task has between its indices, so that none need be encoded; empty if that is not always the
    same, for bytes that are no text, or if one of the indices that this is tried with is there anyway."""
    one, other = (_encode(task_spec(spec, index)).split(b"%d" % index) for index in _TRIED)
    return one if one == other else []


class Plan:
    """What an array was submitted as. `spec` still has its marks; `array` is the array's id, that of its first task."""

    __slots__ = ("_ends", "_pieces", "array", "lane", "spec", "steps", "submitted_at")

    def __init__(self, spec: Spec, steps: tuple[Step, ...], submitted_at: float, lane: Lane) -> None:
        assert spec.array is not None
        self.array = spec.array
        self.spec = spec
        self.steps = steps
        self.submitted_at = submitted_at
        self.lane = lane
        self._ends = list(accumulate(count_of((step,)) for step in steps))
        self._pieces: list[bytes] | None = None

    @property
    def last(self) -> int:
        """The id of the last task."""
        return self.array + self._ends[-1] - 1

    def index(self, job: int) -> int:
        """The index of a task."""
        position = job - self.array
        place = bisect_right(self._ends, position)
        first, _, distance = self.steps[place]
        return first + (position - (self._ends[place - 1] if place else 0)) * distance

    def encoded_spec(self, job: int) -> bytes:
        """The spec of a task."""
        pieces = self._pieces
        if pieces is None:
            pieces = self._pieces = _pieces_of(self.spec)
        if pieces:
            return (b"%d" % self.index(job)).join(pieces)
        return _encode(task_spec(self.spec, self.index(job)))

    def indices(self, first: int, last: int) -> str:
        """The indices of these tasks, as people write them."""
        return text_of(part_of(self.steps, first - self.array, last - self.array))


class Part(msgspec.Struct, frozen=True):
    """The tasks of an array with the ids `first … last`: as long as they are latent, this is all there is of them.

    They are pending, wait for other jobs, or were canceled before they started (`finished_at`). `reason`: why they were
    canceled, if no person did it, or are held.
    """

    first: int
    last: int
    plan: Plan
    state: JobState = JobState.PENDING
    finished_at: float = 0.0
    reason: Reason | None = None


class Tasks(msgspec.Struct, frozen=True):
    """Some latent tasks of a part that follow one another."""

    part: Part
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def ids(self, *, descending: bool = False) -> range:
        """Their ids."""
        if descending:
            return range(self.last, self.first - 1, -1)
        return range(self.first, self.last + 1)


class Parts:
    """The parts of all arrays, by id. No two have an id in common."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._by_first: dict[int, Part] = {}

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __iter__(self) -> Iterator[Part]:
        return (self._by_first[first] for first in self._firsts)

    def of(self, job: int) -> Part | None:
        """The part that a job belongs to, whether it is latent or not."""
        place = bisect_right(self._firsts, job) - 1
        if place < 0:
            return None
        part = self._by_first[self._firsts[place]]
        return part if part.last >= job else None

    def split(self, first: int, last: int) -> Iterator[Tasks]:
        """Latent tasks that follow one another, by their parts."""
        while first <= last:
            part = self.of(first)
            assert part is not None, f"task {first} is latent, and of no array"
            end = min(last, part.last)
            yield Tasks(part, first, end)
            first = end + 1

    def add(self, part: Part) -> None:
        """Put a part in."""
        insort(self._firsts, part.first)
        self._by_first[part.first] = part

    def cut(self, first: int, last: int) -> tuple[list[int], list[Part]]:
        """Take ids out. Returns what the journal must know: which parts (by their first id) are no more, and which
        are new or shorter."""
        gone: list[int] = []
        changed: list[Part] = []
        place = max(0, bisect_right(self._firsts, first) - 1)
        stop = bisect_right(self._firsts, last)
        for number in self._firsts[place:stop]:
            part = self._by_first[number]
            if part.last < first:
                continue
            self._remove(part)
            left = [
                msgspec.structs.replace(part, first=low, last=high)
                for low, high in ((part.first, first - 1), (last + 1, part.last))
                if low <= high
            ]
            for piece in left:
                self.add(piece)
            changed += left
            if not left or left[0].first != part.first:
                gone.append(part.first)
        return gone, changed

    def _remove(self, part: Part) -> None:
        del self._by_first[part.first]
        del self._firsts[bisect_left(self._firsts, part.first)]
