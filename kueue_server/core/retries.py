"""Jobs that failed by their own exit code and are tried again: which, and when.

A job that is to wait before its next try is `waiting`; it becomes `pending` on the tick after its time, by attentive
seconds. After a restart what is left goes by the wall clock, and is never more than the whole delay.
"""

from __future__ import annotations

import heapq

import msgspec

from kueue.job import End
from kueue.wire.messages import FinishedAttempt, Reason
from kueue_server.core.jobs import Job

DUE_PER_TICK = 2000


class _Retries(msgspec.Struct, gc=False):
    """The part of an encoded `Spec` that says how often, when and why a job is tried again."""

    max_retries: int = 0
    retry_delay_seconds: float | None = None
    retry_on: tuple[int, ...] = ()


_decode = msgspec.json.Decoder(_Retries).decode


def delay_of(job: Job) -> float:
    """Seconds between a failure and the next try."""
    return _decode(job.spec).retry_delay_seconds or 0.0


def may_retry(job: Job, end: FinishedAttempt) -> bool:
    """Did an attempt fail by its own exit code, and is the job to be tried again for that?"""
    if end.end is not End.EXITED or end.signal is not None or not end.exit_code:
        return False
    asked = _decode(job.spec)
    return job.retries < asked.max_retries and (not asked.retry_on or end.exit_code in asked.retry_on)


def why_waiting(job: Job, end: FinishedAttempt) -> Reason:
    """In words, for a job whose `retries` count the next try already."""
    return Reason("retry", f"exit {end.exit_code}; retry {job.retries} of {_decode(job.spec).max_retries}")


class RetryLine:
    """When jobs that wait for a retry are due. One that was canceled meanwhile stays until its time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []

    def add(self, due: float, job: int) -> None:
        """A job is due at this attentive second."""
        heapq.heappush(self._heap, (due, job))

    def pop_due(self, now: float) -> list[int]:
        """The jobs whose time has come, the earliest first; not all at once if they are many."""
        due: list[int] = []
        while self._heap and self._heap[0][0] <= now and len(due) < DUE_PER_TICK:
            due.append(heapq.heappop(self._heap)[1])
        return due

    def jobs(self) -> set[int]:
        """All that are in the line; for the invariants."""
        return {job for _, job in self._heap}
