"""What may be changed of jobs that have not started, and be different in a new run of old ones. Plain data."""

from __future__ import annotations

import msgspec


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Each field that is not null takes the place of the job's own. `resources` are pairs of name and amount, of
    those that change only; an amount of 0 takes one away. `time_limit_seconds` 0 is no limit. `release` lets jobs
    go that are held, since one that they waited for failed; others are refused it."""

    cpus: int | None = None
    ram_mb: int | None = None
    job_slots: int | None = None
    resources: tuple[tuple[str, int], ...] = ()
    priority: int | None = None
    group: str | None = None
    time_limit_seconds: float | None = None
    release: bool = False
    queue: str | None = None
