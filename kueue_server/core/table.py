"""The job table: one record a job (`jobs.py`), and the indexes by state and group.

A state changes only through `JobTable.move`, which keeps the indexes true. Who runs what where is
the workers' and the ledger's business. Tasks of arrays are in the indexes, too, but get a record only when somebody
asks for one (`arrays.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from kueue.job import FINISHED, UNFINISHED, JobId, JobState, check_transition
from kueue.wire.messages import Range, Reason, Selector
from kueue_server.core.arrays import Part, Parts, Tasks
from kueue_server.core.idranges import merged
from kueue_server.core.idset import IdSet, spans, walk
from kueue_server.core.jobs import Job, key_of
from kueue_server.core.outcomes import CANCELED
from kueue_server.core.queues import Queue, Queues
from kueue_server.core.records import Outcome


def reason_of(part: Part) -> Reason | None:
    """Why its tasks are as they are."""
    return part.reason or (CANCELED if part.state is JobState.CANCELED else None)


def task_of(part: Part, number: int) -> Job:
    """The record of a latent task."""
    plan, spec = part.plan, part.plan.spec
    job = Job(
        number,
        plan.encoded_spec(number),
        plan.lane,
        spec.context,
        spec.group,
        plan.submitted_at,
        spec.priority,
        spec.restart,
        part.state,
    )
    job.reason = reason_of(part)
    if part.state is JobState.CANCELED:
        job.outcome = Outcome(part.finished_at)
    return job


class _Jobs(dict[int, Job]):
    """Records by id; one that is missing is made, if it is a latent task's. `get` makes none."""

    def __init__(self, table: JobTable) -> None:
        self._table = table

    def __missing__(self, number: int) -> Job:
        table = self._table
        part = table.parts.of(number) if number in table.latent else None
        if part is None:
            raise KeyError(number)
        job = self[number] = task_of(part, number)
        table.latent.discard(number)
        return job


class JobTable:
    """All jobs by id. What is counted by queue is kept in `queues`. `latent` are those of which there is no record
    yet."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self.jobs: dict[int, Job] = _Jobs(self)
        self.parts = Parts()
        self.latent = IdSet()
        self.present = IdSet()
        self.by_state: dict[JobState, IdSet] = {state: IdSet() for state in JobState}
        self.groups: dict[str, IdSet] = {}
        self.failed_lately = IdSet()  # see `lately`
        self.turned: deque[int] | None = None
        """If somebody wants to know: jobs that finish, or come back from it, in their order."""

    def __len__(self) -> int:
        return len(self.present)

    def get(self, job_id: int) -> Job | None:
        """The job of this id, if it is in the table."""
        job = self.jobs.get(job_id)
        return self.jobs[job_id] if job is None and job_id in self.latent else job

    def look(self, job_id: int) -> Job | None:
        """The same to look at only: what is done to it may be forgotten."""
        job = self.jobs.get(job_id)
        if job is None and job_id in self.latent:
            part = self.parts.of(job_id)
            assert part is not None, f"task {job_id} is latent, and of no array"
            return task_of(part, job_id)
        return job

    def add_part(self, part: Part) -> None:
        """Put in tasks of an array, all of them latent."""
        spec, count = part.plan.spec, part.last - part.first + 1
        self.parts.add(part)
        for ids in (self.latent, self.present, self.by_state[part.state], *self._group(spec.group)):
            ids.add_block(part.first, count)
        lane = part.plan.lane
        lane.jobs += count
        lane.queue.jobs.add_block(part.first, count)
        lane.queue.counts[part.state.place] += count

    def latent_of(self, part: Part) -> Iterator[Tasks]:
        """The tasks of a part that are latent."""
        for first, last, _ in spans(self.latent, (self.latent,), self.latent, part.first, part.last):
            yield Tasks(part, first, last)

    def run_from(self, number: int) -> Tasks | None:
        """The latent tasks of a part that follow one another from this one on; None if it is not latent."""
        part = self.parts.of(number) if number in self.latent else None
        if part is None:
            return None
        _, last, _ = next(spans(self.latent, (self.latent,), self.latent, number, part.last))
        return Tasks(part, number, last)

    def move_latent(self, tasks: Tasks, state: JobState) -> None:
        """Latent tasks change their state; their part is the caller's to update."""
        self.by_state[tasks.part.state].discard_block(tasks.first, tasks.last)
        self.by_state[state].add_block(tasks.first, len(tasks))
        counts = tasks.part.plan.lane.queue.counts
        counts[tasks.part.state.place] -= len(tasks)
        counts[state.place] += len(tasks)
        if self.turned is not None and state in FINISHED:
            self.turned.extend(tasks.ids())

    def take_out(self, tasks: Tasks) -> None:
        """Take latent tasks out of all indexes; their part and their queue are the caller's to update."""
        queue = tasks.part.plan.lane.queue
        queue.counts[tasks.part.state.place] -= len(tasks)
        for ids in (self.latent, self.present, self.by_state[tasks.part.state], queue.jobs):
            ids.discard_block(tasks.first, tasks.last)
        group = tasks.part.plan.spec.group
        for ids in self._group(group):
            ids.discard_block(tasks.first, tasks.last)
            if not ids:
                del self.groups[group]

    def _group(self, name: str) -> tuple[IdSet, ...]:
        return (self.groups.setdefault(name, IdSet()),) if name else ()

    def add(self, job: Job) -> None:
        """Put in a job that is not there."""
        assert job.id not in self.jobs, f"job {job.id} exists"
        self.jobs[job.id] = job
        self.present.add(job.id)
        self.by_state[job.state].add(job.id)
        job.lane.jobs += 1
        queue = job.lane.queue
        queue.jobs.add(job.id)
        queue.counts[job.state.place] += 1
        self._join_group(job)

    def add_block(self, jobs: Sequence[Job]) -> None:
        """Put in jobs that are not there, with ids that follow one another, of one lane, state and group."""
        first, count = jobs[0], len(jobs)
        fresh = {job.id: job for job in jobs}
        assert self.jobs.keys().isdisjoint(fresh), f"a job of {first.id} to {jobs[-1].id} exists"
        self.jobs.update(fresh)
        queue = first.lane.queue
        for ids in (self.present, self.by_state[first.state], queue.jobs, *self._group(first.group)):
            ids.add_block(first.id, count)
        first.lane.jobs += count
        queue.counts[first.state.place] += count

    def _join_group(self, job: Job) -> None:
        for ids in self._group(job.group):
            ids.add(job.id)

    def _leave_group(self, job: Job) -> None:
        if job.group:
            group = self.groups[job.group]
            group.discard(job.id)
            if not group:
                del self.groups[job.group]

    def regroup(self, job: Job, group: str) -> None:
        """Put a job into another group."""
        self._leave_group(job)
        job.group = group
        self._join_group(job)

    def requeue(self, job: Job, queue: Queue) -> None:
        """Count a job in another queue; its lane is the caller's to change."""
        old = job.lane.queue
        if queue is old:
            return
        place = job.state.place
        old.jobs.discard(job.id)
        old.counts[place] -= 1
        queue.jobs.add(job.id)
        queue.counts[place] += 1
        if old.keys and (key := key_of(job)):
            old.unlearn(key)
            queue.learn(key)

    def move(self, job: Job, state: JobState) -> None:
        """Change a job's state.

        Raises:
            IllegalTransitionError: that move is not in the table of `kueue.job`; nothing has changed.
        """
        check_transition(JobId(job.id), job.state, state)
        if job.state is JobState.FAILED:
            self.failed_lately.discard(job.id)
        self.by_state[job.state].discard(job.id)
        self.by_state[state].add(job.id)
        counts = job.lane.queue.counts
        counts[job.state.place] -= 1
        counts[state.place] += 1
        if self.turned is not None and (state in FINISHED or job.state in FINISHED):
            self.turned.append(job.id)
        job.state = state

    def correct(self, job: Job, state: JobState) -> None:
        """A job is in this state, whatever it was taken for: for what the journal says."""
        self.by_state[job.state].discard(job.id)
        self.by_state[state].add(job.id)
        counts = job.lane.queue.counts
        counts[job.state.place] -= 1
        counts[state.place] += 1
        job.state = state

    def drop(self, job: Job) -> None:
        """Take a job out."""
        if job.state is JobState.FAILED:
            self.failed_lately.discard(job.id)
        if self.jobs.pop(job.id, None) is None:
            self.latent.discard(job.id)
        self.present.discard(job.id)
        self.by_state[job.state].discard(job.id)
        queue = job.lane.queue
        queue.jobs.discard(job.id)
        queue.counts[job.state.place] -= 1
        if queue.keys and (key := key_of(job)):
            queue.unlearn(key)
        self._leave_group(job)

    def count(self, *states: JobState) -> int:
        """How many jobs are in these states."""
        return sum(len(self.by_state[state]) for state in states)

    @property
    def finished(self) -> int:
        """How many jobs have finished."""
        return self.count(*FINISHED)

    @property
    def unfinished(self) -> int:
        """How many jobs have not."""
        return self.count(*UNFINISHED)

    def walk(self, ranges: tuple[Range, ...]) -> Iterator[int]:
        """The ids in the table that are in any of the ranges, in order. The table may change meanwhile."""
        for first, last in merged(ranges):
            yield from walk(self.present, (self.present,), first, last)

    def in_states(self, states: tuple[JobState, ...], first: int, last: int) -> Iterator[int]:
        """The ids of jobs in these states, from `first` to `last`. The table may change meanwhile."""
        return walk(self.present, [self.by_state[state] for state in states], first, last)

    def select(self, wanted: Selector, newest_first: bool, cursor: int | None) -> Iterator[int | Tasks]:
        """The ids that a filter lets through, beyond `cursor`; latent tasks that follow one another at once."""
        base = self.present
        if wanted.queue is not None:
            queue = self._queues.by_name.get(wanted.queue)
            if queue is None:
                return
            base = queue.jobs
        if wanted.group is not None:
            found = self.groups.get(wanted.group) if wanted.group else None
            if found is None:
                return
            base = found
        sets = [base]
        if wanted.states:
            sets = [self.by_state[state] for state in JobState if state.value in wanted.states]
        ranges = merged(wanted.ranges) if wanted.ranges else [(0, _HIGHEST_ID)]
        if newest_first:
            ranges.reverse()
        for first, last in ranges:
            if cursor is not None and newest_first:
                last = min(last, cursor - 1)
            elif cursor is not None:
                first = max(first, cursor + 1)
            if first <= last and not self.latent:
                yield from walk(base, sets, first, last, descending=newest_first)
            elif first <= last:
                yield from self._select_runs(base, sets, first, last, newest_first)

    def _select_runs(
        self, base: IdSet, sets: list[IdSet], first: int, last: int, newest_first: bool
    ) -> Iterator[int | Tasks]:
        for low, high, latent in spans(base, sets, self.latent, first, last, descending=newest_first):
            if latent:
                found = list(self.parts.split(low, high))
                yield from reversed(found) if newest_first else found
            else:
                yield from range(high, low - 1, -1) if newest_first else range(low, high + 1)


_HIGHEST_ID = 2**63 - 1
