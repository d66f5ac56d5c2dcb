"""The ledger of global resources (licences), of the caps of arrays, and of `global_max_parallel_jobs`.

Counted are offered, running and unconfirmed attempts. The ledger is only ever changed along with those, and
can be recomputed from them; `invariants.py` compares. It decides nothing but whether there is room.
"""

from __future__ import annotations

from collections.abc import Mapping

from kueue_server.core.events import Limits

Needs = tuple[tuple[str, int], ...]


class Ledger:
    """What is in use of what is shared by all workers. `caps`, which are `Shapes`', count as resources do."""

    def __init__(self, limits: Limits, caps: Mapping[str, int]) -> None:
        self.totals: dict[str, int] = {}
        self.caps = caps
        self.max_parallel: int | None = None
        self.used: dict[str, int] = {}
        self.holders: dict[str, dict[int, int]] = {}  # name -> job -> units
        self.parallel = 0
        self.set_limits(limits)

    def set_limits(self, limits: Limits) -> None:
        """Take over new amounts. What is in use stays so; if a name came or went, recount after this."""
        self.totals = dict(limits.global_resources)
        self.max_parallel = limits.global_max_parallel_jobs

    def reset(self) -> None:
        """Nothing is in use; the caller counts anew."""
        self.used = {}
        self.holders = {}
        self.parallel = 0

    def total(self, name: str) -> int | None:
        """How much there is in all; None if there is no such thing any more."""
        total = self.totals.get(name)
        return self.caps.get(name) if total is None else total

    def has_room(self, needs: Needs) -> bool:
        """Whether that much is free of each."""
        return not self.lacking(needs)

    def lacking(self, needs: Needs) -> list[str]:
        """The names of which there is not enough."""
        return [name for name, amount in needs if self.used.get(name, 0) + amount > (self.total(name) or 0)]

    @property
    def full(self) -> bool:
        """Whether as many jobs run as may."""
        return self.max_parallel is not None and self.parallel >= self.max_parallel

    def take(self, job: int, needs: Needs) -> None:
        """An attempt of a job uses this from now on."""
        self.parallel += 1
        for name, amount in needs:
            self.used[name] = self.used.get(name, 0) + amount
            holders = self.holders.setdefault(name, {})
            holders[job] = holders.get(job, 0) + amount

    def give(self, job: int, needs: Needs) -> None:
        """An attempt of a job does not use this any more."""
        self.parallel -= 1
        for name, amount in needs:
            self.used[name] -= amount
            holders = self.holders[name]
            holders[job] -= amount
            if not holders[job]:
                del holders[job]
            if not holders and name in self.caps:  # there are many over time, and most are never met again
                del self.used[name], self.holders[name]
