"""Keys of jobs: a second job of the same key makes no second entry of a queue.

The core knows the keys of what is in the table. What is on its way there (being written, or written and not yet
handled by the core) is known here, so that two submits at the same time make one job, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from kueue.wire.messages import Spec
from kueue_server.core.core import Core
from kueue_server.core.queues import digest_of

Name = tuple[str, bytes]
"""A queue, and the digest of a key."""


class Flight:
    """Jobs with keys on their way into the table, the last of which has the id `last`."""

    def __init__(self, names: Iterable[Name], last: int) -> None:
        self.names = tuple(names)
        self.last = last
        self.is_durable = False
        self.waiting: list[Callable[[], None]] = []


class Keys:
    """What is on its way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_name: dict[Name, Flight] = {}
        self._durable: deque[Flight] = deque()

    def sift(self, specs: Sequence[Spec]) -> tuple[list[int], list[Name]] | Flight:
        """Which of these are no duplicates, by their places, and the names of their keys; or what has to be waited for,
        since nobody can tell before it is durable or has failed."""
        while self._durable and self._durable[0].last <= self._core.newest_submitted:
            self._drop(self._durable.popleft())
        fresh: list[int] = []
        names: dict[Name, None] = {}
        for place, spec in enumerate(specs):
            if spec.key:
                name = (spec.queue, digest_of(spec.key))
                flight = self._by_name.get(name)
                if flight is not None and not flight.is_durable:
                    return flight
                if flight is not None or name in names or self._core.has_key(*name):
                    continue
                names[name] = None
            fresh.append(place)
        return fresh, list(names)

    def take_off(self, names: Iterable[Name], last: int) -> Flight:
        """Jobs of these keys are being written."""
        flight = Flight(names, last)
        self._by_name.update(dict.fromkeys(flight.names, flight))
        return flight

    def land(self, flight: Flight, *, durable: bool) -> None:
        """They are durable, and the core will be told; or they were refused."""
        flight.is_durable = durable
        if durable:
            self._durable.append(flight)
        else:
            self._drop(flight)
        for go_on in flight.waiting:
            go_on()

    def _drop(self, flight: Flight) -> None:
        for name in flight.names:
            del self._by_name[name]
