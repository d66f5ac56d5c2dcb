"""What a job needs and a machine has: CPUs, memory, slots, and counted resources such as licences.

Plain data and arithmetic, used by client, server and worker alike. No I/O.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from kueue.amounts import MAX_AMOUNT

Amount = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT)]
ResourceName = Annotated[str, msgspec.Meta(max_length=1000)]


class Shape(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a job requires of a worker. Jobs of equal shape share lanes in the server.

    cpus, ram_mb and job_slots are whole numbers ≥ 0 (at least one job slot). `resources` are pairs of
    name and amount ≥ 1, sorted by name, global ones (licences) and a worker's own ones alike.
    `workers` and `not_workers` are globs over worker names and host names; empty means any.
    """

    cpus: int = 1
    ram_mb: int = 1024
    job_slots: int = 1
    resources: tuple[tuple[str, int], ...] = ()
    workers: tuple[str, ...] = ()
    not_workers: tuple[str, ...] = ()


class Capacity(msgspec.Struct, frozen=True, gc=False):
    """What a worker has in all: whole CPUs, MB of memory, job slots, units of its own resources."""

    cpus: Amount
    ram_mb: Amount
    job_slots: Amount
    resources: Annotated[tuple[tuple[ResourceName, Amount], ...], msgspec.Meta(max_length=1000)] = ()
