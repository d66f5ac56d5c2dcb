"""The named queues: what people have set of each, what is in it, and where the heads of its lanes are kept.

A queue is there while it has jobs in the table or something is set of it; `default` always is. As long as nobody has
set anything, the lanes of all queues stand in one order (`Queues.common`), and a queue costs nothing. One that is
paused or limited has the heads of its lanes to itself, so that they can be passed over as a whole; once a weight is
set, each has. Who gets what by that is decided in `turns`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from kueue.job import UNFINISHED, JobState
from kueue.wire.messages import Pause
from kueue.wire.words import DEFAULT_QUEUE
from kueue_server.core.idset import IdSet
from kueue_server.core.pace import Rate

if TYPE_CHECKING:
    from kueue_server.core.pending import Lane

MOST_QUEUES = 1000
"""A decision may have to look at each."""
_STRIDE = 2**40
_OFFERED, _RUNNING = JobState.OFFERED.place, JobState.RUNNING.place


def digest_of(key: str) -> bytes:
    """What is remembered of a key."""
    return blake2b(key.encode(), digest_size=16).digest()


class Queue:
    """One named queue. `heads` are those of its lanes, or the common ones.

    `counts` are its jobs by the place of their state, `unconfirmed` the attempts of them that are, `jobs` their ids,
    `keys` how many of them have which key, by its digest. `progress` is how far it has come by its weight, where
    queues take turns. `was_full`: it had no room when jobs were placed last.
    """

    __slots__ = (
        "counts",
        "heads",
        "jobs",
        "keys",
        "max_running",
        "name",
        "number",
        "paused",
        "progress",
        "rate",
        "unconfirmed",
        "was_full",
        "weight",
    )

    def __init__(self, name: str, number: int, heads: SortedDict[int, Lane]) -> None:
        self.name = name
        self.number = number
        self.heads = heads
        self.weight = 1
        self.max_running: int | None = None
        self.paused: Pause | None = None
        self.jobs = IdSet()
        self.counts = [0] * len(JobState)
        self.unconfirmed = 0
        self.keys: dict[bytes, int] = {}
        self.progress = 0
        self.was_full = False
        self.rate = Rate()

    def learn(self, key: str) -> None:
        """A job of this key is in the table."""
        digest = digest_of(key)
        self.keys[digest] = self.keys.get(digest, 0) + 1

    def unlearn(self, key: str) -> None:
        """It has left the table."""
        digest = digest_of(key)
        self.keys[digest] -= 1
        if not self.keys[digest]:
            del self.keys[digest]

    @property
    def is_set(self) -> bool:
        """Has a person said anything about it?"""
        return self.weight != 1 or self.max_running is not None or self.paused is not None

    @property
    def handed_out(self) -> int:
        """How many attempts of its jobs are offered, run, or may live."""
        return self.counts[_OFFERED] + self.counts[_RUNNING] + self.unconfirmed

    @property
    def is_full(self) -> bool:
        """Do as many of its jobs run as may?"""
        return self.max_running is not None and self.handed_out >= self.max_running

    @property
    def is_open(self) -> bool:
        """May its jobs be handed out, as far as it is concerned?"""
        return self.paused is None and not self.is_full

    @property
    def may_be_held(self) -> bool:
        """May its jobs be handed over ahead? Not while somebody counts, or wants none to start."""
        return self.paused is None and self.max_running is None

    @property
    def unfinished(self) -> int:
        """How many of its jobs have not finished."""
        return sum(self.counts[state.place] for state in UNFINISHED)

    @property
    def stride(self) -> int:
        """By how much a job that is handed out brings it forward: the less, the more it weighs."""
        return _STRIDE // self.weight


class Queues:
    """All queues by name. `apart` are those that have the heads of their lanes to themselves and are not paused.

    `taking_turns`: a weight is set. `pace` is how far the queues have come that had a turn: one that comes later, or
    had nothing that fits, does not catch up with it.
    """

    def __init__(self) -> None:
        self.common: SortedDict[int, Lane] = SortedDict()
        self.by_name: dict[str, Queue] = {}
        self.apart: dict[str, Queue] = {}
        self.taking_turns = False
        self.pace = 0
        self._next_number = 1
        self.get(DEFAULT_QUEUE)

    def get(self, name: str) -> Queue:
        """The queue of this name; it is made if it is not there."""
        queue = self.by_name.get(name)
        if queue is None:
            heads = SortedDict() if self.taking_turns else self.common
            queue = self.by_name[name] = Queue(name, self._next_number, heads)
            self._next_number += 1
            if self.taking_turns:
                self.apart[name] = queue
        return queue

    def takes(self, name: str) -> bool:
        """Is it there, or may it be made?"""
        return name in self.by_name or len(self.by_name) < MOST_QUEUES

    def tidy(self, queue: Queue) -> None:
        """Forget a queue that is nothing but a name."""
        if not queue.jobs and not queue.is_set and queue.name != DEFAULT_QUEUE:
            del self.by_name[queue.name]
            self.apart.pop(queue.name, None)

    def arrange(self) -> None:
        """Something was set: put the heads of all lanes where they belong now."""
        turns = any(queue.weight != 1 for queue in self.by_name.values())
        if turns and not self.taking_turns:
            self.pace = 0
            for queue in self.by_name.values():
                queue.progress = 0
        self.taking_turns = turns
        self.apart.clear()
        some_leave = False
        for queue in self.by_name.values():
            alone = turns or queue.paused is not None or queue.max_running is not None
            if alone and queue.heads is self.common:
                queue.heads = SortedDict()
                some_leave = True
            elif not alone and queue.heads is not self.common:
                self.common.update(queue.heads)
                queue.heads = self.common
            if alone and queue.paused is None:
                self.apart[queue.name] = queue
        if some_leave:
            for head, lane in [*self.common.items()]:
                if lane.queue.heads is not self.common:
                    del self.common[head]
                    lane.queue.heads[head] = lane

    # ---------------------------------------------------------------- weights

    def due(self, queue: Queue) -> int:
        """When it is its turn, where queues take turns: the lowest comes first."""
        return max(queue.progress, self.pace - queue.stride)

    def serve(self, queue: Queue) -> None:
        """It is the turn of this queue: those that are due before it have nothing that fits."""
        if self.taking_turns:
            self.pace = max(self.pace, self.due(queue))

    def charge(self, queue: Queue) -> None:
        """A job of it is handed out."""
        if self.taking_turns:
            queue.progress = self.due(queue) + queue.stride

    def refund(self, queue: Queue) -> None:
        """A job of it came back unstarted."""
        if self.taking_turns:
            queue.progress -= queue.stride
