"""Clients: the product's own asyncio client, each in a process that may die at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

from kueue.async_client import AsyncClient
from kueue.directories import Reach
from kueue.effects import Operation
from kueue.errors import KueueError
from kueue.job_encoding import Encoder
from kueue.wire.messages import Canceled, Range, Selector, Spec
from tests.simulation.network import SECRET
from tests.simulation.truth import Truth
from tests.simulation.verbs import VerbTruth
from tests.simulation.world import Host, Process, World

CONTEXT = b'{"umask":18}'


class _ReadySpecs:
    """Stands where the client's encoder of jobs is: these are encoded already."""

    reach = Reach()

    def encode(self, job: Spec) -> tuple[Spec, bytes]:
        return job, CONTEXT


class SimulatedClient:
    """One program of a person, that does one thing and ends. `journal` is the one it talks to."""

    def __init__(
        self,
        world: World,
        name: str,
        truth: Truth,
        verbs: VerbTruth,
        journal: Callable[[], str],
        seconds: float,
    ) -> None:
        self.host = Host(name)
        self.process = Process(world, name, self.host)
        self._truth = truth
        self._verbs = verbs
        self._journal = journal
        self.busy = True  # has not been answered yet
        self._client: AsyncClient
        self.process.call(self._begin, seconds)

    def _begin(self, seconds: float) -> None:
        self._client = AsyncClient(address=("server", 1), secret=SECRET, connect_timeout=seconds)

    # ---------------------------------------------------------------- what it may do

    def submit_and_wait(
        self, submission: Callable[[Encoder], Operation[Any]], name: str, count: int, *, wait: bool
    ) -> None:
        """Submit `count` jobs; with `wait`, stay until all have finished."""
        self._truth.names[name] = count
        self.process.start(self._until_answered(partial(self._submit, submission, name, wait=wait)))

    def cancel(self, ranges: tuple[Range, ...], *, kill: bool) -> None:
        """Cancel jobs."""
        self.process.start(self._until_answered(partial(self._cancel, ranges, kill=kill)))

    def rerun(self, which: Selector, group: str) -> None:
        """Run jobs again, as ones of this group."""
        self.process.start(self._until_answered(partial(self._rerun, which, group)))

    def ask(self, what: Callable[[AsyncClient], Any], *, until_done: bool = False) -> None:
        """Any other request; its answer is nobody's business."""
        self.process.start(self._until_answered(partial(self._ask, what, until_done=until_done)))

    # ---------------------------------------------------------------- how it does it

    async def _until_answered(self, request: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await request()
        self.busy = False

    async def _submit(
        self, submission: Callable[[Encoder], Operation[Any]], name: str, *, wait: bool
    ) -> None:
        result: list[Any] = []
        journal = self._journal()
        try:
            async for _ in self._client._stream(submission(_ReadySpecs()), result):  # type: ignore[arg-type]
                pass
        except KueueError as error:
            self._truth.tell(f"{self.host.name}: submit of {name}: {error}")
            self._truth.count("submits without an answer")
            return
        if journal != self._journal():
            return  # another journal took its place meanwhile: whose answer was it?
        ranges: Iterable[Range] = result[0][0]
        for first, last in ranges:
            self._truth.submitted(journal, first, last - first + 1, name)
        self.busy = False
        if wait:
            await self._wait(journal, [job for first, last in ranges for job in range(first, last + 1)])
        await self._client.close()

    async def _wait(self, journal: str, jobs: list[int]) -> None:
        while jobs:
            try:
                async for job in self._client.as_completed(jobs):
                    jobs = [number for number in jobs if number != job.id]
                    if journal == self._journal():
                        self._truth.tell_of(journal, job.id, f"its submitter sees it {job.state}")
                        self._truth.seen[journal, job.id] = str(job.state)
            except KueueError as error:
                self._truth.tell(f"{self.host.name}: waiting: {error}")
                await asyncio.sleep(5.0)

    async def _cancel(self, ranges: tuple[Range, ...], *, kill: bool) -> None:
        wanted = {job for first, last in ranges for job in range(first, last + 1)}
        journal = self._journal()
        try:
            answer: Canceled = await self._client.cancel(sorted(wanted), kill=kill)
        except KueueError as error:
            self._truth.tell(f"{self.host.name}: cancel: {error}")
            return
        if journal == self._journal():
            for part in (answer.finished, answer.running, answer.unknown):
                for first, last in part:
                    wanted -= set(range(first, last + 1))
            assert len(wanted) == answer.canceled, (wanted, answer)
            self._truth.cancel_acknowledged(journal, sorted(wanted))
        await self._client.close()

    async def _rerun(self, which: Selector, group: str) -> None:
        journal = self._journal()
        try:
            jobs = await self._client.rerun(which, group=group)
        except KueueError as error:
            self._truth.tell(f"{self.host.name}: rerun: {error}")
            return
        if journal == self._journal():
            for first, last in jobs.ranges:
                self._verbs.rerun_answered(journal, group, first, last - first + 1)
        await self._client.close()

    async def _ask(self, what: Callable[[AsyncClient], Any], *, until_done: bool) -> None:
        while True:
            try:
                await what(self._client)
                break
            except KueueError as error:
                self._truth.tell(f"{self.host.name}: {error}")
                if not until_done:
                    break
                await asyncio.sleep(5.0)
        await self._client.close()
