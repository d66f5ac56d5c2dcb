"""The pending jobs: one queue per shape and volume, and the queues in the order of their heads.

Order is priority (higher first), then id. An order key packs both into one integer, so that comparing jobs
is comparing numbers. Nothing here costs more with more jobs, whatever their directories.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedDict

from kueue.resources import Shape
from kueue_server.core.idset import IdSet, walk
from kueue_server.core.shapes import Cap, KnownShape, Shapes

_ID_BITS = 48
_ID_MASK = (1 << _ID_BITS) - 1
_HIGHEST_PRIORITY = 1000
_OVERTAKEN_QUEUES = 100


def order_key(priority: int, job: int) -> int:
    """The place of a job among all pending ones: a smaller key comes first."""
    return (_HIGHEST_PRIORITY - priority) << _ID_BITS | job


def job_of(key: int) -> int:
    """The job of an order key."""
    return key & _ID_MASK


class Queue:
    """Pending jobs of one shape with working directories in one volume.

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
        "shape",
        "volume",
    )

    def __init__(self, number: int, shape: KnownShape, volume: bytes) -> None:
        self.number = number
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
        """The order keys of the jobs from `key` on. The queue must not change meanwhile."""
        rank = key >> _ID_BITS
        for place in range(bisect_left(self._ranks, rank), len(self._ranks)):
            level_rank = self._ranks[place]
            level = self._levels[level_rank]
            start = key & _ID_MASK if level_rank == rank else 0
            for number in walk(level, (level,), start):
                yield level_rank << _ID_BITS | number


class Pending:
    """All queues. `heads` maps the head's order key to its queue, in order, for the queues that have jobs."""

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._next_number = 1
        self.heads: SortedDict[int, Queue] = SortedDict()
        self.size = 0

    def queue(self, shape: Shape, volume: bytes, cap: Cap | None = None) -> Queue:
        """The queue for jobs of this shape and volume; it is made if it is not there."""
        known = self._shapes.intern(shape, cap)
        queue = known.queues.get(volume)
        if queue is None:
            queue = known.queues[volume] = Queue(self._next_number, known, volume)
            self._next_number += 1
        return queue

    def leave(self, queue: Queue, count: int = 1) -> None:
        """Jobs of this queue left the table."""
        queue.jobs -= count
        if queue.jobs == 0:
            del queue.shape.queues[queue.volume]
            if not queue.shape.queues:
                self._shapes.forget(queue.shape)

    def push(self, queue: Queue, key: int, now: float) -> None:
        """Put a job in."""
        queue.add(key)
        self.size += 1
        self._arrived(queue, key, now)

    def push_block(self, queue: Queue, key: int, count: int, now: float) -> None:
        """Put in jobs with ids that follow one another; `key` is that of the first."""
        queue.add_block(key, count)
        self.size += count
        self._arrived(queue, key, now)

    def _arrived(self, queue: Queue, key: int, now: float) -> None:
        head = queue.head
        if head is None or key < head:
            if head is not None:
                del self.heads[head]
            queue.head = key
            queue.head_since = now
            queue.overtaken = False
            self.heads[key] = queue

    def remove(self, queue: Queue, key: int, now: float) -> None:
        """Take a job out."""
        queue.remove(key)
        self.size -= 1
        if key == queue.head:
            self._lost_head(queue, now)

    def remove_block(self, queue: Queue, key: int, count: int, now: float) -> None:
        """Take out jobs with ids that follow one another; `key` is that of the first."""
        queue.remove_block(key, count)
        self.size -= count
        if queue.head is not None and key <= queue.head < key + count:
            self._lost_head(queue, now)

    def _lost_head(self, queue: Queue, now: float) -> None:
        if queue.head is not None:
            del self.heads[queue.head]
            head = queue.head = queue.first()
            if head is not None:
                queue.head_since = now
                queue.overtaken = False
                self.heads[head] = queue

    def overtake(self, key: int) -> None:
        """A job is about to be handed out: those at the front that come before it are overtaken."""
        if self.heads.peekitem(0)[0] < key:
            for head in islice(self.heads.irange(maximum=key, inclusive=(True, False)), _OVERTAKEN_QUEUES):
                self.heads[head].overtaken = True
