"""What a job is to wait for, as people say it in Python, and how it becomes the wire's `Waits`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from kueue.errors import UsageError
from kueue.wire.messages import Range
from kueue.wire.selector import Selector
from kueue.wire.waits import ON_FAILURE, Waits, fault_of_waits

if TYPE_CHECKING:
    from kueue.job_handle import SubmittedJobs

    _One = SupportsIndex | Selector | SubmittedJobs[Any]
    Predecessors = _One | Iterable[_One | tuple[int, int]]
else:
    Predecessors = Any

NOTHING_AWAITED: tuple[Predecessors, Predecessors, str] = ((), (), "cancel")


def waits_of(after: Predecessors, after_any: Predecessors, on_failure: str) -> Waits | None:
    """As the wire has it; None if nothing is waited for.

    Raises:
        UsageError: it can't be meant.
    """
    ranges: list[Range] = []
    selectors: list[Selector] = []
    others: list[Range] = []
    other_selectors: list[Selector] = []
    _gather("after", after, ranges, selectors)
    _gather("after_any", after_any, others, other_selectors)
    if on_failure not in ON_FAILURE:
        raise UsageError(f"on_failure is one of {', '.join(ON_FAILURE)}, not {on_failure!r}")
    if not (ranges or selectors or others or other_selectors):
        if on_failure != "cancel":
            raise UsageError("on_failure is about jobs that are waited for: give after, too")
        return None
    waits = Waits(tuple(ranges), tuple(others), on_failure, tuple(selectors), tuple(other_selectors))
    fault = fault_of_waits(waits)
    if fault is not None:
        raise UsageError(fault[1])
    return waits


def _gather(what: str, given: Any, ranges: list[Range], selectors: list[Selector]) -> None:
    """Sort what is given into ids and selectors; ids that follow one another become a range."""
    single = hasattr(given, "__index__") or hasattr(given, "ranges") or isinstance(given, Selector)
    if single or isinstance(given, str | bytes) or not isinstance(given, Iterable):
        given = (given,)
    for one in given:
        if isinstance(one, Selector):
            selectors.append(one)
        elif hasattr(one, "__index__"):
            _append(ranges, one.__index__(), one.__index__())
        elif hasattr(one, "ranges"):
            for first, last in one.ranges:
                _append(ranges, first, last)
        elif _is_range(one):
            _append(ranges, *one)
        else:
            raise UsageError(
                f"{what}: a job, a range of ids (first, last) or a Selector is needed, not {one!r}"
            )


def _is_range(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and all(type(number) is int for number in given)


def _append(ranges: list[Range], first: int, last: int) -> None:
    if ranges and ranges[-1][1] + 1 == first:
        ranges[-1] = (ranges[-1][0], last)
    else:
        ranges.append((first, last))
