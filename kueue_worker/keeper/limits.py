"""A job's soft resource limits, set without the keeper itself ever falling under one that could end it.

Most are set in the keeper for the moment of the spawn, so that the job has them from its first instruction.
Those that would kill or starve the keeper (`cpu`, `as`, …) are set on the job right after its start.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Mapping
from typing import NamedTuple

NAMES = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
AFTERWARDS = frozenset({"cpu", "as", "data", "rss", "nproc", "rttime", "sigpending", "msgqueue"})
LEAST_STACK_BYTES = 1024 * 1024
"""A smaller stack is nothing for the keeper, not even for a moment."""
REMEMBERED = 256


Setting = tuple[int, tuple[int, int]]
"""A resource, and its soft and hard limit."""


class Plan(NamedTuple):
    """What to set for the spawn, what to set back after it, and what to set on the job."""

    around: tuple[Setting, ...]
    back: tuple[Setting, ...]
    afterwards: tuple[Setting, ...]


NOTHING = Plan((), (), ())


class Limits:
    """Knows the keeper's own limits, as they are when this is made. `inherited`: soft limits that jobs would
    have had if the keeper had not changed its own."""

    def __init__(self, inherited: Mapping[int, int] | None = None) -> None:
        self._own = {name: resource.getrlimit(number) for name, number in NAMES.items()}
        self._inherited = dict(inherited or {})
        self._plans: dict[tuple[tuple[str, int], ...], Plan] = {}

    def plan(self, wanted: Mapping[str, int]) -> Plan:
        """How to give a job these soft limits; names that this system does not know are left out, and a limit
        is never above the hard one."""
        asked = tuple(wanted.items())
        plan = self._plans.get(asked)
        if plan is None:
            if len(self._plans) >= REMEMBERED:
                self._plans.clear()
            plan = self._plans[asked] = self._make_plan(wanted)
        return plan

    def _make_plan(self, wanted: Mapping[str, int]) -> Plan:
        around, back, afterwards = [], [], []
        for name, number in NAMES.items():
            soft, hard = self._own[name]
            asked = wanted.get(name, self._inherited.get(number, soft))
            asked = resource.RLIM_INFINITY if asked < 0 else asked
            if hard != resource.RLIM_INFINITY and (asked == resource.RLIM_INFINITY or asked > hard):
                asked = hard
            if asked == soft:
                continue
            if name in AFTERWARDS or (name == "stack" and 0 <= asked < LEAST_STACK_BYTES):
                afterwards.append((number, (asked, hard)))
            else:
                around.append((number, (asked, hard)))
                back.append((number, (soft, hard)))
        return Plan(tuple(around), tuple(back), tuple(afterwards)) if around or afterwards else NOTHING


def set_own(settings: tuple[Setting, ...]) -> None:
    """Set limits of the keeper."""
    for number, limits in settings:
        with contextlib.suppress(OSError, ValueError, OverflowError):
            resource.setrlimit(number, limits)


def set_on(pid: int, settings: tuple[Setting, ...]) -> None:
    """Set limits of a job that has just been started; it may be gone, or be another user's by now."""
    for number, limits in settings:
        with contextlib.suppress(OSError, ValueError, OverflowError):
            resource.prlimit(pid, number, limits)


def raise_open_files() -> dict[int, int]:
    """Let this process open as many files as it may; the soft limit that was, for `Limits`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return {resource.RLIMIT_NOFILE: soft}
