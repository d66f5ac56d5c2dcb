"""What a job waits for before it may start: other jobs, and what becomes of it if they fail.

Plain data and its judgement. What the server makes of it is in `kueue_server/core/dependencies.py`.
"""

from __future__ import annotations

import msgspec

from kueue.wire.selector import MAX_RANGES, Selector, fault_of
from kueue.wire.words import Range

ON_FAILURE = ("cancel", "run", "hold")
MAX_SELECTORS = 100
HIGHEST_JOB = 2**62


class Waits(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`after`: jobs that must have succeeded, `after_any`: jobs that must have ended, as ids; what `select` and
    `select_any` name when the job is submitted is added to them by the server, which keeps the ids alone.
    `on_failure`: what becomes of the job if one of `after` does not succeed: `cancel`, `run` (all the same) or `hold`.
    """

    after: tuple[Range, ...] = ()
    after_any: tuple[Range, ...] = ()
    on_failure: str = "cancel"
    select: tuple[Selector, ...] = ()
    select_any: tuple[Selector, ...] = ()


def fault_of_waits(waits: Waits) -> tuple[str, str] | None:
    """Code and text of what is wrong with it, None if nothing is."""
    ranges = len(waits.after) + len(waits.after_any)
    selectors = (*waits.select, *waits.select_any)
    if waits.on_failure not in ON_FAILURE:
        return "bad_waits", f"on_failure is one of {', '.join(ON_FAILURE)}"
    if not ranges and not selectors:
        return "bad_waits", "no job is named that is to be waited for"
    if ranges > MAX_RANGES or len(selectors) > MAX_SELECTORS:
        return (
            "too_many_ranges",
            f"at most {MAX_RANGES} ranges of ids and {MAX_SELECTORS} selectors in one job",
        )
    for first, last in (*waits.after, *waits.after_any):
        if not 0 < first <= last < HIGHEST_JOB:
            return "bad_waits", f"{first}-{last} is no range of ids"
    for selector in selectors:
        fault = fault_of(selector, changes=True)
        if fault is not None:
            return fault
    return None


def nobody(selector: Selector) -> str:
    """What is said of a selector that names no job."""
    if selector.last:
        return "there is no job that could be waited for"
    which = "is selected"
    if selector.group is not None:
        which = f"is in group {selector.group}"
    elif selector.name is not None:
        which = f"has a name like {selector.name}"
    return f"no job {which} that could be waited for"
