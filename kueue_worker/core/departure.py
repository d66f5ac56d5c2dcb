"""How far the worker is on its way out, and by when each step must be over.

Draining waits for running jobs as long as they take; ending interrupts them. Either way the server gets a
moment to acknowledge what ended, so that the next start has nothing old to tell.
"""

from __future__ import annotations

from dataclasses import dataclass

ACKNOWLEDGE_SECONDS = 5.0
"""How long a worker that could exit waits for the server to acknowledge the last ends."""
KILL_SLACK_SECONDS = 5.0
"""Over the grace time: until the keeper has told of every end."""


@dataclass(slots=True)
class Departure:
    """`begun`: draining or ending; `ending`: running jobs are being interrupted; `done`: `Quit` was given."""

    begun: bool = False
    ending: bool = False
    done: bool = False
    why: str = ""
    jobs_until: float | None = None
    acknowledge_until: float | None = None

    def drain(self, why: str) -> None:
        """Take no more."""
        if not self.begun:
            self.begun, self.why = True, why

    def end(self, why: str, grace_seconds: float, now: float) -> None:
        """Interrupt what runs."""
        self.begun = self.ending = True
        self.why = why
        self.jobs_until = now + grace_seconds + KILL_SLACK_SECONDS

    def may_quit(self, busy: bool, unacknowledged: bool, now: float) -> bool:
        """Is it time? `busy`: an attempt has not ended; `unacknowledged`: an end waits for the server."""
        if busy:
            return self.jobs_until is not None and now >= self.jobs_until
        if not unacknowledged:
            return True
        if self.acknowledge_until is None:
            self.acknowledge_until = now + ACKNOWLEDGE_SECONDS
        return now >= self.acknowledge_until

    def deadlines(self) -> list[float]:
        """When to look again."""
        if self.done:
            return []
        return [until for until in (self.jobs_until, self.acknowledge_until) if until is not None]
