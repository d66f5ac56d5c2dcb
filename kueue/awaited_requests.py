"""The requests of the asyncio client that are one question and one answer.

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
from kueue.queue_requests import AwaitedQueues
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


class AwaitedRequests(AwaitedQueues):
    """What a client may ask that has one answer."""

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T:
        """Perform an operation."""

    # ---------------------------------------------------------------- looking

    async def counts(self) -> JobCounts:
        """How many jobs are in which state."""
        return await self._run(requests.counts())

    async def page(
        self,
        which: Selector,
        *,
        newest_first: bool = False,
        cursor: int | None = None,
        limit: int = MAX_ITEMS,
    ) -> JobPage:
        """One page of jobs beyond the id `cursor`, and where the next begins (None: this was the last). It may have
        fewer than `limit` rows where the server had to look at many jobs."""
        return await self._run(requests.page(which, newest_first, cursor, limit))

    async def glance(self, rows: int = 20) -> JobPage:
        """As `Client.glance`."""
        return await self._run(requests.glance(rows))

    async def select(self, which: Selector) -> JobsSelected:
        """Which jobs that is now: `ranges` of ids and `counts` by state. May be waited for as any jobs."""
        return await self._run(requests.select(which))

    async def explain(self, job: Job | int) -> Explanation:
        """Why a job waits: in short, and what each worker lacks for it."""
        return await self._run(requests.explain(job))

    async def workers(self) -> tuple[WorkerView, ...]:
        """All workers that the server knows."""
        return await self._run(requests.workers())

    async def worker(self, name: str | int) -> WorkerDetail:
        """One worker, by id, name or host."""
        return await self._run(requests.worker(name))

    async def resources(self) -> ResourcePage:
        """The global resources and who holds them."""
        return await self._run(requests.resources())

    async def server_info(self) -> ServerState:
        """About the server itself."""
        return await self._run(requests.server_info())

    # ---------------------------------------------------------------- changing

    async def cancel(self, jobs: requests.Jobs | Selector, *, kill: bool = False) -> Canceled:
        """Cancel jobs; those that run only with `kill`."""
        return await self._run(requests.cancel(jobs, kill))

    async def clean(self, *, failed: bool = False) -> int:
        """Drop succeeded and canceled jobs (and failed ones); how many."""
        return (await self._run(requests.clean(None, failed))).dropped

    async def clean_selected(self, which: Selector, *, failed: bool = False) -> Cleaned:
        """Drop those of these jobs that succeeded or were canceled (or failed); if `which` names states, those in
        one of them that have finished. How many went, and how many stay."""
        return await self._run(requests.clean(which, failed))

    async def change(self, jobs: requests.Jobs | Selector, **changes: Unpack[ChangeOptions]) -> Changed:
        """Change jobs that have not started; how many were, and how many had started or finished.

        Raises:
            UsageError: it can't be meant, or nothing is to be changed.
        """
        return await self._run(requests.change(jobs, changes))

    async def forget_worker(self, name: str | int) -> tuple[str, ...]:
        """Confirm that what a lost worker was running is dead."""
        return await self._run(requests.forget_worker(name))

    async def pause_workers(
        self, workers: str | Iterable[str], *, kill: bool = False, reason: str = ""
    ) -> Steered:
        """As `Client.pause_workers`."""
        return await self._run(requests.pause_workers(workers, kill, reason))

    async def resume_workers(self, workers: str | Iterable[str]) -> Steered:
        """As `Client.resume_workers`."""
        return await self._run(requests.resume_workers(workers))

    async def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the journal to a new file on the server's machine."""
        await self._run(requests.backup(path))

    async def reload(self) -> tuple[str, ...]:
        """Have the server reread licences and limits; what changed."""
        return await self._run(requests.reload())

    async def shutdown(self, *, workers: bool = False, kill: bool = False) -> tuple[str, ...]:
        """End the server (and the workers; with `kill` their jobs are interrupted)."""
        return await self._run(requests.shutdown(workers, kill))
