"""Shapes known to the server, each once, with what of their needs is global and what is a worker's own.

Says nothing about who has room now; that is the workers' and the ledger's business.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from kueue.resources import Capacity, Shape

if TYPE_CHECKING:
    from kueue_server.core.pending import Lane


class KnownShape:
    """One distinct shape. Compared by identity: equal shapes are the same object.

    `global_needs` and `own_needs` split its resources by who counts them. `lanes` are those of
    this shape, by queue and volume.
    """

    __slots__ = ("global_needs", "lanes", "number", "own_needs", "shape")

    def __init__(self, number: int, shape: Shape) -> None:
        self.number = number
        self.shape = shape
        self.global_needs: tuple[tuple[str, int], ...] = ()
        self.own_needs: tuple[tuple[str, int], ...] = ()
        self.lanes: dict[tuple[str, bytes], Lane] = {}

    def split(self, global_names: frozenset[str]) -> None:
        """Sort the resources into global ones and a worker's own."""
        self.global_needs = tuple(need for need in self.shape.resources if need[0] in global_names)
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
        if shape.workers and not any(_names(glob, name, host) for glob in shape.workers):
            return False
        return not any(_names(glob, name, host) for glob in shape.not_workers)


def _names(glob: str, name: str, host: str) -> bool:
    return fnmatchcase(name, glob) or fnmatchcase(host, glob)


class Shapes:
    """All shapes that jobs of the table have."""

    def __init__(self, global_names: frozenset[str]) -> None:
        self._global_names = global_names
        self._known: dict[Shape, KnownShape] = {}
        self._by_number: dict[int, KnownShape] = {}
        self._next_number = 1

    def __len__(self) -> int:
        return len(self._known)

    def intern(self, shape: Shape) -> KnownShape:
        """The one object for this shape."""
        known = self._known.get(shape)
        if known is None:
            known = KnownShape(self._next_number, shape)
            known.split(self._global_names)
            self._next_number += 1
            self._known[shape] = known
            self._by_number[known.number] = known
        return known

    def numbered(self, number: int) -> KnownShape | None:
        """The shape of this number, if jobs of it are left."""
        return self._by_number.get(number)

    def forget(self, known: KnownShape) -> None:
        """No job has this shape any more."""
        del self._known[known.shape]
        del self._by_number[known.number]

    def set_global_names(self, names: frozenset[str]) -> None:
        """The configuration names other global resources now."""
        self._global_names = names
        for known in self._known.values():
            known.split(names)
