"""When each journal's server was last heard of, and what may still be done for it while it is away."""

from __future__ import annotations


class Contact:
    """Times are the machine's; `now` at first: since when this agent lives."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._heard: dict[str, float] = {}
        self._lease: dict[str, float] = {}  # worker_timeout_seconds

    def welcomed(self, journal: str, lease_seconds: float, now: float) -> None:
        """A session with this journal's server begins."""
        self._heard[journal] = now
        self._lease[journal] = lease_seconds

    def heard(self, journal: str, now: float) -> None:
        """Its server said something."""
        self._heard[journal] = now

    def start_until(self, journal: str) -> float:
        """With the server away, jobs start only in the first half of the lease: later they may be somebody else's."""
        return self._heard.get(journal, self._began) + self._lease.get(journal, 0.0) / 2

    def cut_off_at(self, journal: str, limit: float) -> float:
        """When it will not have been heard of for `limit` seconds."""
        return self._heard.get(journal, self._began) + limit
