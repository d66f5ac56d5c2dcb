"""Which jobs failed within the last day, for people who come back: counted without looking at all that ever failed.

Ages count the server's own running time, as those of the retention do. A job that leaves the state of failure
leaves this at once; one that is older than a day leaves it within some ticks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from kueue_server.core.idset import IdSet

LATELY_SECONDS = 86_400.0
PORTION = 5000
"""Jobs that one tick looks at."""
_BUCKET_SECONDS = 60.0


class Lately:
    """`jobs` are those that failed within a day and have not left that state since; whoever changes states takes
    them out."""

    def __init__(self, jobs: IdSet) -> None:
        self.jobs = jobs
        self._buckets: deque[tuple[float, list[int]]] = deque()
        self._done = 0  # how many of the first bucket have been looked at

    def add(self, job: int, now: float) -> None:
        """A job failed at that time, which is not before that of the one before."""
        if not self._buckets or now - self._buckets[-1][0] >= _BUCKET_SECONDS:
            self._buckets.append((now, []))
        self._buckets[-1][1].append(job)
        self.jobs.add(job)

    def expire(self, now: float) -> None:
        """Let go of a portion of those that are too old."""
        left = PORTION
        while left and self._buckets and now - self._buckets[0][0] >= LATELY_SECONDS + _BUCKET_SECONDS:
            bucket = self._buckets[0][1]
            part = bucket[self._done : self._done + left]
            for job in part:
                self.jobs.discard(job)
            left -= len(part)
            self._done += len(part)
            if self._done == len(bucket):
                self._buckets.popleft()
                self._done = 0

    def newest(self) -> Iterator[int]:
        """The jobs that were added, the last one first; some may be there twice, or not any more."""
        for _, bucket in reversed(self._buckets):
            yield from reversed(bucket)
