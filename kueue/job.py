"""A job's life as data: ids, states, the allowed moves between them, and how an attempt ended.

The state table is the one source; `docs/architecture.md` draws it. An illegal move raises
`IllegalTransitionError` and changes nothing.
"""

from __future__ import annotations

import enum
from typing import NewType

JobId = NewType("JobId", int)
WorkerId = NewType("WorkerId", int)
Fence = NewType("Fence", int)
"""Random number (63 bits, so that it fits a signed column) of one handing-over of a job to a worker."""


class JobState(enum.StrEnum):
    """State of a job as people see it. `place`: where it stands in this list."""

    place: int

    WAITING = "waiting"
    PENDING = "pending"
    OFFERED = "offered"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


for _place, _state in enumerate(JobState):
    _state.place = _place

S = JobState

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # waiting for other jobs, or for the time of its retry; canceled when one of them failed or on request
    S.WAITING: frozenset({S.PENDING, S.CANCELED}),
    # an older attempt, silent until now, may still claim or finish a pending job
    S.PENDING: frozenset({S.WAITING, S.OFFERED, S.RUNNING, S.SUCCEEDED, S.FAILED, S.CANCELED}),
    # offered -> finished: a short job's start and end arrive in one report
    S.OFFERED: frozenset({S.WAITING, S.PENDING, S.RUNNING, S.SUCCEEDED, S.FAILED, S.CANCELED}),
    # running -> waiting, pending: failed by its own exit code, to be tried again
    S.RUNNING: frozenset({S.WAITING, S.PENDING, S.SUCCEEDED, S.FAILED, S.CANCELED}),
    S.SUCCEEDED: frozenset({S.PENDING}),  # rerun
    # failed -> running/succeeded/failed: `failed: lost`, and then the attempt was heard of after all
    S.FAILED: frozenset({S.WAITING, S.PENDING, S.RUNNING, S.SUCCEEDED, S.FAILED}),
    S.CANCELED: frozenset(),
}

UNFINISHED = frozenset({S.WAITING, S.PENDING, S.OFFERED, S.RUNNING})
FINISHED = frozenset({S.SUCCEEDED, S.FAILED, S.CANCELED})


class IllegalTransitionError(Exception):
    """A move that the table does not allow: a broken invariant, never a user's mistake."""


def check_transition(job_id: JobId, old: JobState, new: JobState) -> None:
    """Raise `IllegalTransitionError` unless `old` → `new` is in the table."""
    if new not in TRANSITIONS[old]:
        raise IllegalTransitionError(f"job {job_id}: {old.value} -> {new.value}")


class End(enum.StrEnum):
    """How an attempt ended, as the worker saw it."""

    EXITED = "exited"  # by itself: exit code, or a signal that was not ours
    TIME_LIMIT = "time_limit"  # killed by the keeper: its time limit was over
    OUTPUT_LIMIT = "output_limit"  # killed by the worker: it wrote more than its worker's cap
    STOPPED = "stopped"  # killed on a stop order of the server (canceled or superseded)
    INTERRUPTED = "interrupted"  # the worker or its machine was shutting down
    LOST = "lost"  # the keeper died under it; what was left of it has been ended
    NOT_STARTED = "not_started"  # can't be run: program, directory or output; a failure of the job
