"""The pending jobs: one lane per queue, shape and volume, and the lanes in the order of their heads.

Order is priority (higher first), then id. An order key packs both into one integer, so that comparing jobs
is comparing numbers. Nothing here costs more with more jobs, whatever their directories.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

from kueue.resources import Shape
from kueue_server.core.idset import IdSet, walk
from kueue_server.core.queues import Queue, Queues
from kueue_server.core.shapes import Cap, KnownShape, Shapes
from kueue_server.core.turns import overtaken

_ID_BITS = 48
_ID_MASK = (1 << _ID_BITS) - 1
_HIGHEST_PRIORITY = 1000
_OVERTAKEN_LANES = 100


def order_key(priority: int, job: int) -> int:
    """The place of a job among all pending ones: a smaller key comes first."""
    return (_HIGHEST_PRIORITY - priority) << _ID_BITS | job


def job_of(key: int) -> int:
    """The job of an order key."""
    return key & _ID_MASK


class Lane:
    """Pending jobs of one queue and one shape with working directories in one volume.

    It lives as long as a job of the table, in whatever state, belongs to it (`jobs` counts them). `head` is
    the first job's order key, `head_since` the server's time when that job came to the front, `arrivals` a
    number that changes whenever a job is put in. `overtaken`: a job that comes after the first one was handed
    out while that was at the front.
    """

    __slots__ = (
        "_levels",
        "_ranks",
        "_size",
        "arrivals",
        "head",
        "head_since",
        "jobs",
        "number",
        "overtaken",
        "queue",
        "shape",
        "volume",
    )

    def __init__(self, number: int, queue: Queue, shape: KnownShape, volume: bytes) -> None:
        self.number = number
        self.queue = queue
        self.shape = shape
        self.volume = volume
        self.jobs = 0
        self.arrivals = 0
        self.head: int | None = None
        self.head_since = 0.0
        self.overtaken = False
        self._levels: dict[int, IdSet] = {}
        self._ranks: list[int] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: int) -> bool:
        level = self._levels.get(key >> _ID_BITS)
        return level is not None and job_of(key) in level

    def add(self, key: int) -> None:
        """Put a job in. The head is the caller's to update."""
        rank = key >> _ID_BITS
        level = self._levels.get(rank)
        if level is None:
            level = self._levels[rank] = IdSet()
            insort(self._ranks, rank)
        level.add(key & _ID_MASK)
        self._size += 1
        self.arrivals += 1

    def add_block(self, key: int, count: int) -> None:
        """Put in jobs with ids that follow one another. The head is the caller's to update."""
        self.add(key)
        self._levels[key >> _ID_BITS].add_block(job_of(key) + 1, count - 1)
        self._size += count - 1

    def remove_block(self, key: int, count: int) -> None:
        """Take them out, all of which are in. The head is the caller's to update."""
        self._levels[key >> _ID_BITS].discard_block(job_of(key) + 1, job_of(key) + count - 1)
        self._size -= count - 1
        self.remove(key)

    def remove(self, key: int) -> None:
        """Take a job out. The head is the caller's to update."""
        rank = key >> _ID_BITS
        level = self._levels[rank]
        level.discard(key & _ID_MASK)
        self._size -= 1
        if not level:
            del self._levels[rank]
            del self._ranks[bisect_left(self._ranks, rank)]

    def first(self) -> int | None:
        """The order key of the first job."""
        if not self._ranks:
            return None
        rank = self._ranks[0]
        number = self._levels[rank].first()
        assert number is not None
        return rank << _ID_BITS | number

    def keys_from(self, key: int) -> Iterator[int]:
        """The order keys of the jobs from `key` on. The lane must not change meanwhile."""
        rank = key >> _ID_BITS
        for place in range(bisect_left(self._ranks, rank), len(self._ranks)):
            level_rank = self._ranks[place]
            level = self._levels[level_rank]
            start = key & _ID_MASK if level_rank == rank else 0
            for number in walk(level, (level,), start):
                yield level_rank << _ID_BITS | number


class Pending:
    """All lanes. Those that have jobs are found by the order keys of their heads: `queues` says where."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._next_number = 1
        self.queues = Queues()
        self.size = 0

    def lane(self, queue: str, shape: Shape, volume: bytes, cap: Cap | None = None) -> Lane:
        """The lane for such jobs; it is made if it is not there."""
        known = self._shapes.intern(shape, cap)
        lane = known.lanes.get((queue, volume))
        if lane is None:
            made = Lane(self._next_number, self.queues.get(queue), known, volume)
            lane = known.lanes[queue, volume] = made
            self._next_number += 1
        return lane

    def leave(self, lane: Lane, count: int = 1) -> None:
        """Jobs of this lane left the table."""
        lane.jobs -= count
        if lane.jobs == 0:
            del lane.shape.lanes[lane.queue.name, lane.volume]
            if not lane.shape.lanes:
                self._shapes.forget(lane.shape)
            self.queues.tidy(lane.queue)

    def push(self, lane: Lane, key: int, now: float) -> None:
        """Put a job in."""
        lane.add(key)
        self.size += 1
        self._arrived(lane, key, now)

    def push_block(self, lane: Lane, key: int, count: int, now: float) -> None:
        """Put in jobs with ids that follow one another; `key` is that of the first."""
        lane.add_block(key, count)
        self.size += count
        self._arrived(lane, key, now)

    def _arrived(self, lane: Lane, key: int, now: float) -> None:
        head = lane.head
        if head is None or key < head:
            if head is not None:
                del lane.queue.heads[head]
            lane.head = key
            lane.head_since = now
            lane.overtaken = False
            lane.queue.heads[key] = lane

    def remove(self, lane: Lane, key: int, now: float) -> None:
        """Take a job out."""
        lane.remove(key)
        self.size -= 1
        if key == lane.head:
            self._lost_head(lane, now)

    def remove_block(self, lane: Lane, key: int, count: int, now: float) -> None:
        """Take out jobs with ids that follow one another; `key` is that of the first."""
        lane.remove_block(key, count)
        self.size -= count
        if lane.head is not None and key <= lane.head < key + count:
            self._lost_head(lane, now)

    def _lost_head(self, lane: Lane, now: float) -> None:
        if lane.head is not None:
            del lane.queue.heads[lane.head]
            head = lane.head = lane.first()
            if head is not None:
                lane.head_since = now
                lane.overtaken = False
                lane.queue.heads[head] = lane

    def overtake(self, lane: Lane, key: int) -> None:
        """A job of this lane is about to be handed out: those at the front that come before it are overtaken."""
        if not self.queues.apart and self.queues.common.peekitem(0)[0] == key:
            return  # as most often
        for other in overtaken(self.queues, lane, key, _OVERTAKEN_LANES):
            other.overtaken = True
