"""The requests of the blocking client that are one question and one answer.

Apart from the client that drives them: there is one for each of the server's verbs.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar, Unpack

from kueue import requests
from kueue.effects import Operation
from kueue.job_handle import Job
from kueue.job_spec import ChangeOptions
from kueue.queue_requests import BlockingQueues
from kueue.wire.messages import (
    MAX_ITEMS,
    Canceled,
    Changed,
    Cleaned,
    Explanation,
    JobCounts,
    JobPage,
    JobsSelected,
    ResourcePage,
    Selector,
    ServerState,
    Steered,
    WorkerDetail,
    WorkerView,
)

T = TypeVar("T")


class BlockingRequests(BlockingQueues):
    """What a client may ask that has one answer."""

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T:
        """Perform an operation."""

    # ---------------------------------------------------------------- looking

    def counts(self) -> JobCounts:
        """How many jobs are in which state."""
        return self._run(requests.counts())

    def page(
        self,
        which: Selector,
        *,
        newest_first: bool = False,
        cursor: int | None = None,
        limit: int = MAX_ITEMS,
    ) -> JobPage:
        """One page of jobs beyond the id `cursor`, and where the next begins (None: this was the last). It may have
        fewer than `limit` rows where the server had to look at many jobs."""
        return self._run(requests.page(which, newest_first, cursor, limit))

    def glance(self, rows: int = 20) -> JobPage:
        """The rows that tell most of the whole table: what runs, what failed within a day, what is next, what has
        finished last; with `counts`, how many of each kind are `left_out`, and why pending jobs wait (`waits`)."""
        return self._run(requests.glance(rows))

    def select(self, which: Selector) -> JobsSelected:
        """Which jobs that is now: `ranges` of ids and `counts` by state. May be waited for as any jobs."""
        return self._run(requests.select(which))

    def explain(self, job: Job | int) -> Explanation:
        """Why a job waits: in short, and what each worker lacks for it."""
        return self._run(requests.explain(job))

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that the server knows."""
        return self._run(requests.workers())

    def worker(self, name: str | int) -> WorkerDetail:
        """One worker, by id, name or host."""
        return self._run(requests.worker(name))

    def resources(self) -> ResourcePage:
        """The global resources and who holds them."""
        return self._run(requests.resources())

    def server_info(self) -> ServerState:
        """About the server itself."""
        return self._run(requests.server_info())

    # ---------------------------------------------------------------- changing

    def cancel(self, jobs: requests.Jobs | Selector, *, kill: bool = False) -> Canceled:
        """Cancel jobs; those that run only with `kill`."""
        return self._run(requests.cancel(jobs, kill))

    def clean(self, *, failed: bool = False) -> int:
        """Drop succeeded and canceled jobs (and failed ones); how many."""
        return (self._run(requests.clean(None, failed))).dropped

    def clean_selected(self, which: Selector, *, failed: bool = False) -> Cleaned:
        """Drop those of these jobs that succeeded or were canceled (or failed); if `which` names states, those in
        one of them that have finished. How many went, and how many stay."""
        return self._run(requests.clean(which, failed))

    def change(self, jobs: requests.Jobs | Selector, **changes: Unpack[ChangeOptions]) -> Changed:
        """Change jobs that have not started; how many were, and how many had started or finished.

        Raises:
            UsageError: it can't be meant, or nothing is to be changed.
        """
        return self._run(requests.change(jobs, changes))

    def forget_worker(self, name: str | int) -> tuple[str, ...]:
        """Confirm that what a lost worker was running is dead."""
        return self._run(requests.forget_worker(name))

    def pause_workers(self, workers: str | Iterable[str], *, kill: bool = False, reason: str = "") -> Steered:
        """Have workers (ids, or globs over names and hosts) take no more jobs, until `resume_workers`; with `kill`
        their jobs go back to the queue, without counting a loss."""
        return self._run(requests.pause_workers(workers, kill, reason))

    def resume_workers(self, workers: str | Iterable[str]) -> Steered:
        """Have workers take jobs again; those that were paused."""
        return self._run(requests.resume_workers(workers))

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the journal to a new file on the server's machine."""
        self._run(requests.backup(path))

    def reload(self) -> tuple[str, ...]:
        """Have the server reread licences and limits; what changed."""
        return self._run(requests.reload())

    def shutdown(self, *, workers: bool = False, kill: bool = False) -> tuple[str, ...]:
        """End the server (and the workers; with `kill` their jobs are interrupted)."""
        return self._run(requests.shutdown(workers, kill))
