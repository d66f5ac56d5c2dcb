"""Shapes known to the server, each once, with what of their needs is global and what is a worker's own.

Says nothing about who has room now; that is the workers' and the ledger's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kueue.resources import Capacity, Shape

if TYPE_CHECKING:
    from kueue_server.core.pending import Lane


Cap = tuple[str, int]
"""What some jobs share beside resources: a name that no resource has, and how many of them may run at a time."""


class KnownShape:
    """One distinct shape. Compared by identity: equal shapes (with the same cap) are the same object.

    `global_needs` and `own_needs` split its resources by who counts them; a cap is a global one. `lanes` are those of
    this shape, by queue and volume.
    """

    __slots__ = ("cap", "global_needs", "lanes", "number", "own_needs", "shape")

    def __init__(self, number: int, shape: Shape, cap: Cap | None = None) -> None:
        self.number = number
        self.shape = shape
        self.cap = cap
        self.global_needs: tuple[tuple[str, int], ...] = ()
        self.own_needs: tuple[tuple[str, int], ...] = ()
        self.lanes: dict[tuple[str, bytes], Lane] = {}

    def split(self, global_names: frozenset[str]) -> None:
        """Sort the resources into global ones and a worker's own."""
        self.global_needs = tuple(need for need in self.shape.resources if need[0] in global_names)
        if self.cap is not None:
            self.global_needs += ((self.cap[0], 1),)
        self.own_needs = tuple(need for need in self.shape.resources if need[0] not in global_names)

    def could_run_on(self, name: str, host: str, capacity: Capacity) -> bool:
        """Whether an empty worker of this name and capacity could run it."""
        shape = self.shape
        if (
            shape.cpus > capacity.cpus
            or shape.ram_mb > capacity.ram_mb
            or shape.job_slots > capacity.job_slots
        ):
            return False
        if self.own_needs:
            has = dict(capacity.resources)
            if any(amount > has.get(resource, 0) for resource, amount in self.own_needs):
                return False
        return self.takes_name(name, host)

    def takes_name(self, name: str, host: str) -> bool:
        """Whether it may run on a worker of this name, as far as people named some."""
        shape = self.shape
        if shape.workers and not any(_names(glob, name, host) for glob in shape.workers):
            return False
        return not any(_names(glob, name, host) for glob in shape.not_workers)


def _names(glob: str, name: str, host: str) -> bool:
    return fnmatchcase(name, glob) or fnmatchcase(host, glob)


class Shapes:
    """All shapes that jobs of the table have. `caps`: how many jobs may run at a time, by the names of the caps."""

    def __init__(self, global_names: frozenset[str]) -> None:
        self.caps: dict[str, int] = {}
        self._capped: Counter[str] = Counter()  # shapes that have this cap
        self._global_names = global_names
        self._known: dict[tuple[Shape, Cap | None], KnownShape] = {}
        self._by_number: dict[int, KnownShape] = {}
        self._next_number = 1

    def __len__(self) -> int:
        return len(self._known)

    def intern(self, shape: Shape, cap: Cap | None = None) -> KnownShape:
        """The one object for this shape."""
        known = self._known.get((shape, cap))
        if known is None:
            known = KnownShape(self._next_number, shape, cap)
            known.split(self._global_names)
            self._next_number += 1
            self._known[shape, cap] = known
            self._by_number[known.number] = known
            if cap is not None:
                self._capped[cap[0]] += 1
                self.caps[cap[0]] = cap[1]
        return known

    def known(self) -> Iterable[KnownShape]:
        """All of them."""
        return self._known.values()

    def numbered(self, number: int) -> KnownShape | None:
        """The shape of this number, if jobs of it are left."""
        return self._by_number.get(number)

    def forget(self, known: KnownShape) -> None:
        """No job has this shape any more."""
        del self._known[known.shape, known.cap]
        del self._by_number[known.number]
        if known.cap is not None:
            name = known.cap[0]
            self._capped[name] -= 1
            if not self._capped[name]:
                del self._capped[name], self.caps[name]

    def set_global_names(self, names: frozenset[str]) -> None:
        """The configuration names other global resources now."""
        self._global_names = names
        for known in self._known.values():
            known.split(names)
