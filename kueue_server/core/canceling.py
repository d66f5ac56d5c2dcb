"""Cancel requests: what each job's state makes of them.

A canceled offer must not run, and neither may an attempt that cannot be reached; so the job shows `canceled`
at once and a durable stop order stays until the worker has confirmed the end. The cost of a request follows
the jobs that exist, not the width of its ranges.
"""

from __future__ import annotations

from collections.abc import Sequence

from kueue.job import FINISHED, JobState
from kueue.wire.messages import Range, Selector
from kueue_server.core import attempts, tasks, verbs
from kueue_server.core.arrays import Tasks
from kueue_server.core.events import CancelRequested
from kueue_server.core.idranges import RangeList, merged, without
from kueue_server.core.instructions import AnswerCancel
from kueue_server.core.jobs import Job
from kueue_server.core.state import State

S = JobState

MAX_RANGES = 10_000
"""Ranges in each list of an answer."""
_NO_LIMIT = 2**62


def cancel(state: State, event: CancelRequested) -> None:
    """Cancel what may be canceled, and answer."""
    wanted = merged(event.ranges)
    verb = Canceling(event.request, event.kill, wanted if event.selector is None else ())
    if event.selector is not None:
        verbs.begin(state, event.selector, verb, event.wall)
    elif wanted:
        verbs.begin(state, Selector(ranges=tuple(wanted)), verb, event.wall)
    else:
        state.outbox.send(verb.answer())


class Canceling:
    """Cancel each job. `wanted` are ids of which all are told about, also if there is no such job."""

    needs_stillness = True

    def __init__(self, request: int, kill: bool, wanted: Sequence[Range]) -> None:
        self._request = request
        self._kill = kill
        self._wanted = wanted
        self._canceled = 0
        self._known = RangeList(_NO_LIMIT)
        self._finished = RangeList(MAX_RANGES)
        self._running = RangeList(MAX_RANGES)

    def apply(self, state: State, job: Job) -> None:
        """Cancel one job if that may be."""
        if self._wanted:
            self._known.add(job.id, job.id)
        if job.state in FINISHED:
            self._finished.add(job.id, job.id)
        elif cancel_one(state, job, kill=self._kill):
            self._canceled += 1
        else:
            self._running.add(job.id, job.id)

    def apply_tasks(self, state: State, found: Tasks) -> None:
        """Cancel tasks of which nothing has become, if that has not been done."""
        if self._wanted:
            self._known.add(found.first, found.last)
        if found.part.state in FINISHED:
            self._finished.add(found.first, found.last)
        else:
            tasks.cancel(state, found)
            self._canceled += len(found)

    def pause(self, state: State) -> None:
        """Nothing is left over."""

    def answer(self) -> AnswerCancel:
        """How many were, and which were not."""
        unknown = RangeList(MAX_RANGES)
        for first, last in without(self._wanted, self._known.ranges()):
            unknown.add(first, last)
        finished, running = self._finished.ranges(), self._running.ranges()
        return AnswerCancel(self._request, self._canceled, finished, running, unknown.ranges())


def cancel_one(state: State, job: Job, *, kill: bool) -> bool:
    """Cancel an unfinished job. Returns False if it runs and is not to be killed."""
    if job.state in (S.WAITING, S.PENDING):
        attempts.cancel_pending(state, job)
        return True
    worker = state.workers.by_id[job.worker]
    # Starts are not journaled: after a restart of the server an offered job may be running.
    may_run = job.state is S.RUNNING or (worker.restored and worker.session is None)
    if may_run and not kill:
        return False
    if job.state is S.RUNNING and worker.session is not None:
        attempts.order_stop(state, worker, job, job.fence, "canceled")
    else:
        attempts.cancel_at_once(state, worker, job)
    return True
