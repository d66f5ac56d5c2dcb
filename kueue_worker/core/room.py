"""Room on this machine: what running attempts have reserved, and who has which unit of our own resources.

`resources` of a shape that this worker does not have itself are global ones, the server's business.
"""

from __future__ import annotations

from collections.abc import Mapping

from kueue.resources import Capacity, Shape

Units = tuple[tuple[str, tuple[str, ...]], ...]


class Room:
    """Reservations against a fixed capacity. `unit_names`: the units of resources that have named ones."""

    def __init__(self, capacity: Capacity, unit_names: Mapping[str, tuple[str, ...]]) -> None:
        self.capacity = capacity
        self.cpus = 0
        self.ram_mb = 0
        self.job_slots = 0
        self.used: dict[str, int] = {name: 0 for name, _ in capacity.resources}
        self._totals = dict(capacity.resources)
        self._free_units = {name: list(names) for name, names in unit_names.items()}
        self._order = {name: {unit: i for i, unit in enumerate(names)} for name, names in unit_names.items()}

    def can_ever_fit(self, shape: Shape) -> bool:
        """Would it fit if nothing else ran?"""
        capacity = self.capacity
        return (
            shape.cpus <= capacity.cpus
            and shape.ram_mb <= capacity.ram_mb
            and shape.job_slots <= capacity.job_slots
            and all(amount <= self._totals.get(name, amount) for name, amount in shape.resources)
        )

    def has_units(self, shape: Shape) -> bool:
        """Does it get units by name?"""
        return any(name in self._free_units for name, _ in shape.resources)

    def fits(self, shape: Shape) -> bool:
        """Does it fit beside what is reserved now?"""
        capacity = self.capacity
        if (
            self.cpus + shape.cpus > capacity.cpus
            or self.ram_mb + shape.ram_mb > capacity.ram_mb
            or self.job_slots + shape.job_slots > capacity.job_slots
        ):
            return False
        for name, amount in shape.resources:
            total = self._totals.get(name)
            if total is None:
                continue
            if self.used[name] + amount > total:
                return False
            units = self._free_units.get(name)
            if units is not None and len(units) < amount:
                return False
        return True

    def take(self, shape: Shape) -> Units:
        """Reserve for a shape that fits; the units it got, first free ones first."""
        units = []
        for name, amount in shape.resources:
            free = self._free_units.get(name)
            if free is not None:
                units.append((name, tuple(free[:amount])))
        self.adopt(shape, tuple(units))
        return tuple(units)

    def adopt(self, shape: Shape, units: Units) -> None:
        """Reserve for an attempt that has its units already, whether it fits or not (the configuration may
        have changed since it started)."""
        self._count(shape, 1)
        for name, taken in units:
            free = self._free_units.get(name)
            if free is not None:
                self._free_units[name] = [unit for unit in free if unit not in taken]

    def give_back(self, shape: Shape, units: Units) -> None:
        """End a reservation."""
        self._count(shape, -1)
        for name, taken in units:
            order = self._order.get(name)
            if order is not None:
                known = {unit for unit in taken if unit in order}
                self._free_units[name] = sorted({*self._free_units[name], *known}, key=order.__getitem__)

    def _count(self, shape: Shape, sign: int) -> None:
        self.cpus += sign * shape.cpus
        self.ram_mb += sign * shape.ram_mb
        self.job_slots += sign * shape.job_slots
        for name, amount in shape.resources:
            if name in self.used:
                self.used[name] += sign * amount
