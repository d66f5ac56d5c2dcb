"""Starts that were ordered ahead: each waits for another attempt of the same room to end, and takes its place.

So a short job is followed by the next one at once, and the agent hears of many at a time. Nothing here outlives the
agent that ordered it, nor the time that it gave: later the job may be somebody else's.
"""

from __future__ import annotations

from collections import OrderedDict

from kueue_worker.keeper.orders import SpawnOrder


class Line:
    """Orders by room, in their order."""

    def __init__(self) -> None:
        self._rooms: dict[str, OrderedDict[str, SpawnOrder]] = {}
        self._room_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._room_of)

    def __contains__(self, key: str) -> bool:
        return key in self._room_of

    def add(self, order: SpawnOrder) -> None:
        """The last of its room."""
        self._rooms.setdefault(order.room, OrderedDict())[order.key] = order
        self._room_of[order.key] = order.room

    def next(self, room: str, now: float) -> SpawnOrder | None:
        """Take out the first of a room whose time is not over."""
        for key, order in self._rooms.get(room, {}).items():
            if order.until is not None and now <= order.until:
                return self.take(key)
        return None

    def take(self, key: str) -> SpawnOrder | None:
        """Take out this one, if it waits."""
        room = self._room_of.pop(key, None)
        if room is None:
            return None
        waiting = self._rooms[room]
        order = waiting.pop(key)
        if not waiting:
            del self._rooms[room]
        return order

    def clear(self) -> list[SpawnOrder]:
        """Take out all."""
        orders = [order for waiting in self._rooms.values() for order in waiting.values()]
        self._rooms.clear()
        self._room_of.clear()
        return orders
