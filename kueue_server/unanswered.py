"""What one client has asked for and not been told yet: so much of it that nobody else is harmed, and no more.

Beyond that the client has to wait, as where it doesn't read its answers. What is to wait itself, for output to
come, would keep everything else waiting; so there is an error for too much of that.
"""

from __future__ import annotations

from collections.abc import Callable

from kueue.wire.messages import (
    Cancel,
    Change,
    Clean,
    ClientMessage,
    Heartbeat,
    ReadLog,
    Reason,
    Rerun,
    Unwatch,
    Watch,
    WatchCluster,
)

MOST_UNANSWERED = 1000
MOST_CHANGES = 100
"""Verbs of many jobs are done one after the other, whoever asks for them."""
MOST_LOG_WAITS = 500
"""A worker has 1,000 readers at most, of all clients."""

_TOO_MANY = Reason("too_many_waits", f"at most {MOST_LOG_WAITS} requests of a connection wait for output")


class Unanswered:
    """`changed` is called when `are_too_many` has changed: then no more is to be taken from the client for now."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.are_too_many = False
        self._changed = changed
        self._counts = {"wait": 0, "change": 0, "other": 0}
        self._kinds: dict[int, list[str]] = {}

    def begin(self, message: ClientMessage) -> Reason | None:
        """A request arrived; why it is refused, if it is: then that is its answer."""
        if isinstance(message, Watch | WatchCluster | Unwatch | Heartbeat):
            return None  # these have no answer that ends them
        kind = "other"
        refusal = None
        if isinstance(message, ReadLog) and message.wait_seconds > 0:
            kind = "wait" if self._counts["wait"] < MOST_LOG_WAITS else "other"
            refusal = _TOO_MANY if kind == "other" else None
        elif isinstance(message, Cancel | Clean | Change | Rerun):
            kind = "change"
        self._kinds.setdefault(message.rid, []).append(kind)
        self._counts[kind] += 1
        if self._counts["other"] >= MOST_UNANSWERED or self._counts["change"] >= MOST_CHANGES:
            self._set(True)
        return refusal

    def end(self, rid: int) -> None:
        """It is being answered."""
        kinds = self._kinds.get(rid)
        if kinds is None:
            return
        self._counts[kinds.pop(0)] -= 1
        if not kinds:
            del self._kinds[rid]
        if self._counts["other"] <= MOST_UNANSWERED // 2 and self._counts["change"] <= MOST_CHANGES // 2:
            self._set(False)

    def _set(self, too_many: bool) -> None:
        if too_many != self.are_too_many:
            self.are_too_many = too_many
            self._changed()
