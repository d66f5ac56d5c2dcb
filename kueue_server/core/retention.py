"""Which finished jobs leave the table by themselves, and when: by age and by number.

Ages count the server's own running time, so neither a clock that jumps nor a long downtime empties the table.
Work is done in portions, so that nobody waits for a large clean-up. Jobs of which an attempt is
unconfirmed stay, and so do those that failed while others, which are to follow them, have not been told of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from kueue.job import JobState
from kueue.wire.messages import Forget, Range
from kueue_server.core import tasks
from kueue_server.core.idranges import RangeList
from kueue_server.core.idset import IdSet
from kueue_server.core.instructions import DropJobs, SendWorker
from kueue_server.core.lately import LATELY_SECONDS, Lately

if TYPE_CHECKING:
    from kueue_server.core.state import State

PORTION = 5000
"""Jobs that one step drops."""
LEAST_SECONDS = 60.0
"""However many there are, a finished job stays for so long: whoever waits for it is to hear how it ended, after a lost
connection, too. Where the failed ones alone are too many, the oldest of them go."""
_BUCKET_SECONDS = 1.0
_BUCKET_JOBS = 4096


class _Bucket(msgspec.Struct):
    """Jobs that finished at about the same time, in order; those before `done` have been looked at. One of tasks of
    arrays that were canceled together has no list of them, only their range."""

    since: float
    jobs: Sequence[int]
    done: int = 0


class _Line:
    """Finished jobs, the oldest first."""

    def __init__(self) -> None:
        self._buckets: deque[_Bucket] = deque()

    def append(self, job: int, now: float) -> None:
        last = self._buckets[-1] if self._buckets else None
        jobs = None if last is None or now - last.since >= _BUCKET_SECONDS else last.jobs
        if isinstance(jobs, list) and len(jobs) < _BUCKET_JOBS:
            jobs.append(job)
        else:
            self._buckets.append(_Bucket(now, [job]))

    def append_range(self, jobs: range, now: float) -> None:
        self._buckets.append(_Bucket(now, jobs))

    def newest(self) -> Iterator[int]:
        """All that are left, the last one first."""
        for bucket in reversed(self._buckets):
            yield from reversed(bucket.jobs[bucket.done :])

    def pop(self, before: float) -> int | None:
        """Take out the oldest, if it finished before that time."""
        while self._buckets:
            bucket = self._buckets[0]
            if bucket.since + _BUCKET_SECONDS > before:
                return None
            if bucket.done < len(bucket.jobs):
                bucket.done += 1
                return bucket.jobs[bucket.done - 1]
            self._buckets.popleft()
        return None


class Retention:
    """Remembers in which order jobs finished. `failed_lately`: of the table, kept up here."""

    def __init__(self, now: float, failed_lately: IdSet) -> None:
        self._done = _Line()  # succeeded and canceled
        self._failed = _Line()
        self._looked = now
        self._aging = False
        self.lately = Lately(failed_lately)

    def finished(self, job: int, *, failed: bool, now: float, age: float = 0.0) -> None:
        """A job has finished (again); `age` seconds ago if that was before the server's start."""
        (self._failed if failed else self._done).append(job, now)
        if failed and age < LATELY_SECONDS:
            self.lately.add(job, now - max(0.0, age))

    def newest(self) -> Iterator[int]:
        """Jobs that succeeded or were canceled, the last one first; some may be there twice, or gone."""
        return self._done.newest()

    def finished_range(self, first: int, last: int, *, now: float) -> None:
        """Latent tasks were canceled."""
        self._done.append_range(range(first, last + 1), now)

    def tick(self, state: State) -> None:
        """Drop a portion of what is to go."""
        self.lately.expire(state.now)
        if not self._aging and state.now - self._looked >= state.limits.maintenance_interval_seconds:
            self._aging = True
            self._looked = state.now
        left = PORTION
        doomed: list[int] = []
        if self._aging:
            before = state.now - state.limits.job_cleanup_after_seconds
            while left and (job_id := self._done.pop(before)) is not None:
                left -= 1
                self._choose(state, job_id, failed=False, doomed=doomed)
            self._aging = left == 0
        told = state.now - LEAST_SECONDS
        most = state.limits.max_finished_jobs
        failures = len(state.table.by_state[JobState.FAILED])
        too_many = (self._done, False, state.table.finished - len(doomed)), (self._failed, True, failures)
        for line, failed, count in too_many:
            excess = count - most
            while left and excess > 0 and (popped := line.pop(told)) is not None:
                left -= 1
                before_count = len(doomed)
                self._choose(state, popped, failed=failed, doomed=doomed)
                excess -= len(doomed) - before_count
        drop(state, doomed)

    def _choose(self, state: State, job_id: int, *, failed: bool, doomed: list[int]) -> None:
        job = state.table.look(job_id)
        if job is None:
            return
        wanted = (JobState.FAILED,) if failed else (JobState.SUCCEEDED, JobState.CANCELED)
        if job.state not in wanted:
            return
        if job.holding or state.gates.needs(job):
            line = self._failed if failed else self._done
            line.append(job_id, state.now)  # looked at again when it is old again
        else:
            doomed.append(job_id)


def drop(state: State, doomed: list[int]) -> None:
    """Take finished jobs out of the table, and tell the workers that have output of them."""
    if not doomed:
        return
    ranges = RangeList(len(doomed))
    outputs: dict[int, RangeList] = {}
    for job_id in sorted(set(doomed)):
        job = state.table.look(job_id)
        assert job is not None, f"job {job_id} is dropped, and not there"
        assert not job.holding, f"job {job_id} is dropped while an attempt of it is unconfirmed"
        ranges.add(job_id, job_id)
        for name in {attempt.worker: None for attempt in job.attempts}:
            worker = state.workers.by_name.get(name)
            if worker is not None and worker.session is not None:
                outputs.setdefault(worker.session, RangeList(len(doomed))).add(job_id, job_id)
        state.table.drop(job)
        state.pending.leave(job.lane)
        state.outbox.changed(job_id)
    dropped: tuple[Range, ...] = ranges.ranges()
    if state.table.parts:
        for first, last in dropped:
            tasks.dropped(state, first, last)
    state.outbox.write(DropJobs(dropped))
    for session, output in outputs.items():
        state.outbox.send(SendWorker(session, Forget(output.ranges())))
