"""Cancel requests: what each job's state makes of them.

A canceled offer must not run, and neither may an attempt that cannot be reached; so the job shows `canceled`
at once and a durable stop order stays until the worker has confirmed the end. The cost of a request follows
the jobs that exist, not the width of its ranges.
"""

from __future__ import annotations

from kueue.job import FINISHED, JobState
from kueue_server.core import attempts
from kueue_server.core.events import CancelRequested
from kueue_server.core.idset import RangeList, merged
from kueue_server.core.instructions import AnswerCancel
from kueue_server.core.state import State
from kueue_server.core.table import Job

S = JobState

MAX_RANGES = 10_000
"""Ranges in each list of an answer."""


def cancel(state: State, event: CancelRequested) -> None:
    """Cancel what may be canceled, and answer."""
    canceled = 0
    finished, running, unknown = RangeList(MAX_RANGES), RangeList(MAX_RANGES), RangeList(MAX_RANGES)
    for first, last in merged(event.ranges):
        expected = first
        for job_id in state.table.walk(((first, last),)):
            unknown.add(expected, job_id - 1)
            expected = job_id + 1
            job = state.table.jobs[job_id]
            if job.state in FINISHED:
                finished.add(job_id, job_id)
            elif _cancel(state, job, event.kill):
                canceled += 1
            else:
                running.add(job_id, job_id)
        unknown.add(expected, last)
    state.outbox.send(
        AnswerCancel(event.request, canceled, finished.ranges(), running.ranges(), unknown.ranges())
    )


def _cancel(state: State, job: Job, kill: bool) -> bool:
    """Returns False if the job runs and is not to be killed."""
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
