"""The rows of one page of a listing: a row a job, or one for all latent tasks of an array that follow one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from kueue.wire.messages import JobView
from kueue_server.core.arrays import Tasks
from kueue_server.core.jobs import Job, spec_of
from kueue_server.core.state import State
from kueue_server.core.table import task_of
from kueue_server.core.views import job_view
from kueue_server.core.waiting import WhyWaiting

_encode = msgspec.json.Encoder().encode

Row = Callable[[], JobView]


class Rows:
    """Makes rows, and has those of the page. `size` is about that of all of them when they are sent."""

    def __init__(self, state: State, now: float, *, attempts: bool, arrays: bool) -> None:
        self.made: list[JobView] = []
        self.size = 0
        self._state = state
        self._now = now
        self._attempts = attempts
        self._arrays = arrays
        self.why = WhyWaiting(state)

    def add(self, row: JobView) -> None:
        """Put a row on the page."""
        self.made.append(row)
        self.size += len(_encode(row))

    def of(self, found: Job | Tasks, newest_first: bool) -> Iterator[tuple[int, Row]]:
        """The rows for what a walk came to, not made yet, each with the cursor behind it."""
        if isinstance(found, Job):
            yield found.id, partial(self._of_job, found)
        elif self._arrays and len(found) > 1:
            yield found.first if newest_first else found.last, partial(self._of_tasks, found)
        else:
            for job_id in found.ids(descending=newest_first):
                yield job_id, partial(self._of_task, found, job_id)

    def _of_job(self, job: Job) -> JobView:
        return job_view(self._state, job, spec_of(job), self.why, self._now, attempts=self._attempts)

    def _of_task(self, tasks: Tasks, number: int) -> JobView:
        return self._of_job(task_of(tasks.part, number))

    def _of_tasks(self, tasks: Tasks) -> JobView:
        plan = tasks.part.plan
        first = task_of(tasks.part, tasks.first)
        view = job_view(self._state, first, plan.spec, self.why, self._now, attempts=False)
        return msgspec.structs.replace(
            view, array_index=None, last=tasks.last, indices=plan.indices(tasks.first, tasks.last)
        )


def end_of(found: Job | Tasks, newest_first: bool) -> int:
    """The cursor behind what a walk has come to."""
    if isinstance(found, Job):
        return found.id
    return found.first if newest_first else found.last
