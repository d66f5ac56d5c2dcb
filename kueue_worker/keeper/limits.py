"""A job's soft resource limits, set without the keeper itself ever falling under one that could end it.

Most are set in the keeper for the moment of the spawn, so that the job has them from its first instruction. Those
that would kill or starve the keeper (`cpu`, `as`, …) are set on the job right after its start.
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
REMEMBERED = 256


class Plan(NamedTuple):
    """What to set for the spawn, what to set back after it, and what to set on the job: (resource, soft)."""

    around: tuple[tuple[int, int], ...]
    back: tuple[tuple[int, int], ...]
    afterwards: tuple[tuple[int, int], ...]


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
            if name in AFTERWARDS:
                afterwards.append((number, asked))
            else:
                around.append((number, asked))
                back.append((number, soft))
        return Plan(tuple(around), tuple(back), tuple(afterwards)) if around or afterwards else NOTHING

    def set_own(self, softs: tuple[tuple[int, int], ...]) -> None:
        """Set limits of the keeper."""
        for number, soft in softs:
            _, hard = resource.getrlimit(number)
            with contextlib.suppress(OSError, ValueError, OverflowError):
                resource.setrlimit(number, (soft, hard))

    def set_on(self, pid: int, softs: tuple[tuple[int, int], ...]) -> None:
        """Set limits of a job that has just been started; it may be gone, or be another user's by now."""
        for number, soft in softs:
            with contextlib.suppress(OSError, ValueError, OverflowError):
                _, hard = resource.prlimit(pid, number)
                resource.prlimit(pid, number, (soft, hard))


def raise_open_files() -> dict[int, int]:
    """Let this process open as many files as it may; the soft limit that was, for `Limits`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return {resource.RLIMIT_NOFILE: soft}
