"""What the server is told of this worker as a whole: what is usable now, whether it takes jobs, its load.

Also decides when: at an interval, at once when the answer to "do you take jobs" changes or a keeper that was
silent answers again, and soon when what is usable has changed notably.
"""

from __future__ import annotations

import msgspec

from kueue.resources import Capacity
from kueue.wire.messages import Status
from kueue_worker.core.events import Measured
from kueue_worker.core.free import changed_notably, excess, usable, used_by_others, whole_cpus

NOTABLE_INTERVAL_SECONDS = 1.0
"""Least time between two statuses because of a notable change."""


class Standing:
    """Measurements and reservations in, `Status` out. Reservations are those of all journals' attempts."""

    def __init__(
        self, capacity: Capacity, *, dynamic: bool, cpu_scale: float, interval_seconds: float, now: float
    ) -> None:
        self._capacity = capacity
        self._dynamic = dynamic
        self._cpu_scale = cpu_scale
        self._interval = interval_seconds
        self._sample: Measured | None = None
        self._excess = (0.0, 0.0)
        self._reserved_cpus = 0
        self._reserved_ram_mb = 0
        self._area = 0.0  # CPU seconds reserved since the last measurement
        self._area_since = now
        self._area_until = now
        self._sent_at: float | None = None
        self._sent: Status | None = None
        self._news = False  # a measurement that has not been compared with what was sent

    def reserved(self, cpus: int, ram_mb: int, now: float) -> None:
        """So much is reserved from now on."""
        self._area += self._reserved_cpus * max(0.0, now - self._area_until)
        self._area_until = max(self._area_until, now)
        self._reserved_cpus, self._reserved_ram_mb = cpus, ram_mb

    def measured(self, sample: Measured, now: float) -> None:
        """A measurement of the machine since the last one."""
        self.reserved(self._reserved_cpus, self._reserved_ram_mb, now)
        seconds = self._area_until - self._area_since
        average = self._area / seconds if seconds > 0 else float(self._reserved_cpus)
        self._area, self._area_since = 0.0, self._area_until
        self._sample, self._news = sample, True
        self._excess = (
            excess(sample.cpus_used_by_ours, average),
            excess(sample.ram_used_by_ours_mb, self._reserved_ram_mb),
        )

    def usable(self, foreign: tuple[int, int]) -> tuple[float, float]:
        """CPUs and MB for the jobs of the journal that we talk to; `foreign` is reserved for other ones."""
        cpus, ram_mb = float(self._capacity.cpus), float(self._capacity.ram_mb)
        sample = self._sample
        if self._dynamic and sample is not None:
            others = whole_cpus(self._cpu_scale * used_by_others(sample.cpus_used, sample.cpus_used_by_ours))
            cpus = usable(cpus, others, 1.0, self._reserved_cpus, whole_cpus(self._excess[0]))
            others_ram = used_by_others(sample.ram_used_mb, sample.ram_used_by_ours_mb)
            ram_mb = usable(ram_mb, others_ram, 1.0, self._reserved_ram_mb, self._excess[1])
        return max(0.0, cpus - foreign[0]), max(0.0, ram_mb - foreign[1])

    def forget_sent(self) -> None:
        """A session begins or has ended: nothing has been told."""
        self._sent = self._sent_at = None

    def due(
        self, accepting: bool, note: str, silent: float, foreign: tuple[int, int], now: float
    ) -> Status | None:
        """The status to send now, if one is."""
        sent, sent_at = self._sent, self._sent_at
        if sent is not None and sent_at is not None:
            same_answer = (sent.accepting, sent.note) == (accepting, note)
            same_answer = same_answer and not (sent.keeper_silent_seconds > 0 and silent <= 0)
            early = now < sent_at + self._interval
            if same_answer and early and not self._is_notable(sent, sent_at, foreign, now):
                return None
        self._sent_at = now
        self._news = False
        self._sent = self._status(accepting, note, silent, foreign)
        return self._sent

    def next_due(self) -> float | None:
        """When to ask `due` again, if nothing happens before."""
        if self._sent_at is None:
            return None
        return self._sent_at + (
            min(NOTABLE_INTERVAL_SECONDS, self._interval) if self._news else self._interval
        )

    def _is_notable(self, sent: Status, sent_at: float, foreign: tuple[int, int], now: float) -> bool:
        if not self._news or now < sent_at + NOTABLE_INTERVAL_SECONDS:
            return False
        self._news = False
        old = (sent.usable_cpus, sent.usable_ram_mb)
        return changed_notably(old, self.usable(foreign), self._capacity.ram_mb)

    def _status(self, accepting: bool, note: str, silent: float, foreign: tuple[int, int]) -> Status:
        cpus, ram_mb = self.usable(foreign)
        status = Status(cpus, ram_mb, accepting, note, keeper_silent_seconds=silent)
        sample = self._sample
        if sample is None:
            return status
        return msgspec.structs.replace(
            status,
            load=sample.load,
            busy=min(1.0, sample.cpus_used / max(1, self._capacity.cpus)),
            ram_used_mb=sample.ram_used_mb,
            uptime_seconds=sample.uptime_seconds,
        )
