"""The indices of an array of jobs: `1-1000:2`, `1-10,20,30-40`. Plain arithmetic, for client and server alike.

They are kept as steps, `(first, last, step)` each, whatever their number; the position of a task in its array (0 is
the first) says which of them is its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kueue.errors import UsageError
from kueue.wire.words import Step as Step

MARK = "{n}"
"""In what an array is submitted as: the index of each task."""
MAX_STEPS = 1000
"""Of one array."""
MAX_INDEX = 2**53
"""Exact also where numbers are floating ones."""
MAX_TASKS = 10_000_000
"""Of one array."""

_PART = re.compile(r"(\d{1,16})(?:-(\d{1,16})(?::(\d{1,16}))?)?")


def parse_indices(text: str) -> tuple[Step, ...]:
    """What people write.

    Raises:
        UsageError: it can't be meant.
    """
    found: list[Step] = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip()) if part.isascii() else None
        if match is None:
            raise UsageError(
                f"--array {text}: {part.strip()!r} is no range of indices, as 7, 1-100 or 1-1000:2"
            )
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        step = 1 if match[3] is None else int(match[3])
        if last < first or step < 1:
            raise UsageError(f"--array {text}: there is no index in {part.strip()!r}")
        found.append(_exact(first, last, step))
    return tuple(found)


def steps_of(indices: str | Iterable[int]) -> tuple[Step, ...]:
    """Indices as Python has them: text as on the command line, a range, any numbers.

    Raises:
        UsageError: they can't be meant.
    """
    if isinstance(indices, str):
        return parse_indices(indices)
    if isinstance(indices, range) and indices.step > 0 and len(indices):
        return ((indices[0], indices[-1], indices.step if len(indices) > 1 else 1),)
    found: list[Step] = []
    for number in indices:
        if isinstance(number, bool) or not isinstance(number, int):
            raise UsageError(f"an index is a whole number, not {number!r}")
        if found:
            first, last, step = found[-1]
            if first == last and number > last:
                found[-1] = (first, number, number - first)
                continue
            if number == last + step:
                found[-1] = (first, number, step)
                continue
        found.append((number, number, 1))
    return tuple(found)


def fault_of_indices(steps: Sequence[Step]) -> str | None:
    """What is wrong with indices that a peer has sent, None if nothing is."""
    if not 0 < len(steps) <= MAX_STEPS:
        return f"an array has 1 to {MAX_STEPS} ranges of indices"
    if any(not (0 <= first <= last <= MAX_INDEX and 1 <= step <= MAX_INDEX) for first, last, step in steps):
        return f"an index is 0 to {MAX_INDEX}, and a range goes upwards"
    if any((last - first) % step for first, last, step in steps):
        return "a range of indices must end with one of them"
    if count_of(steps) > MAX_TASKS:
        return f"an array has at most {MAX_TASKS} tasks"
    return None


def count_of(steps: Sequence[Step]) -> int:
    """How many indices these are."""
    return sum(map(_count, steps))


def index_at(steps: Sequence[Step], position: int) -> int:
    """The index at a position, from 0 on."""
    for first, last, step in steps:
        count = (last - first) // step + 1
        if position < count:
            return first + position * step
        position -= count
    raise IndexError(position)


def part_of(steps: Sequence[Step], start: int, stop: int) -> Iterator[Step]:
    """The indices at the positions from `start` to `stop`, both included."""
    for first, last, step in steps:
        count = (last - first) // step + 1
        low, high = max(start, 0), min(stop, count - 1)
        if low <= high:
            yield _exact(first + low * step, first + high * step, step)
        start, stop = start - count, stop - count
        if stop < 0:
            return


def text_of(steps: Iterable[Step]) -> str:
    """As people write them."""
    return ",".join(_text(*step) for step in steps)


def _text(first: int, last: int, step: int) -> str:
    if first == last:
        return str(first)
    return f"{first}-{last}" if step == 1 else f"{first}-{last}:{step}"


def _exact(first: int, last: int, step: int) -> Step:
    """Ending with an index that is there."""
    last -= (last - first) % step
    return first, last, 1 if last == first else step


def _count(step: Step) -> int:
    return (step[1] - step[0]) // step[2] + 1
