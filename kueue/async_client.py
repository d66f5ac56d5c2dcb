"""The asyncio client: runs the same operations as `Client`, each awaiting its own answers, side by side."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from kueue import __version__, operations, requests
from kueue.awaited_requests import AwaitedRequests
from kueue.errors import AuthenticationError, ServerUnreachableError
from kueue.indices import steps_of
from kueue.job_handle import Job, SubmittedJobs, job_of_change, job_of_view, one_of
from kueue.job_spec import ChangeOptions, JobOptions, JobSpec, Path, spec_of
from kueue.operations import Close, Emit, Open, Operation, Receive, Send
from kueue.progress import SubmitCounter, counter_of
from kueue.server_access import Dialing, ServerAccess
from kueue.wire.connection import SILENCE_SECONDS, ConnectionLostError
from kueue.wire.link import Link, connect
from kueue.wire.messages import (
    ClusterState,
    Heartbeat,
    JobChange,
    JobDetail,
    JobView,
    LogChunk,
    Selector,
    Stream,
    Unwatch,
)

if TYPE_CHECKING:
    from kueue.client_config import ClientConfig
    from kueue.config import Config

T = TypeVar("T")

CLOSE_SECONDS = 2.0
"""How long a server may take to answer our close."""


class _Inboxes:
    """Handler of one link: sorts messages by request id, wakes who waits for that one."""

    def __init__(self) -> None:
        self.by_rid: dict[int, deque[Any]] = {}
        self.closed = False
        self._waiters: dict[int, asyncio.Future[None]] = {}  # an id is one operation's, so one waits for it
        self._all: set[asyncio.Future[None]] = set()

    def on_message(self, message: Any) -> None:
        """A message arrived."""
        if isinstance(message, Heartbeat):
            return  # the link knows that it heard something
        inbox = self.by_rid.get(message.rid)
        if inbox is None:
            return
        inbox.append(message)
        waiter = self._waiters.get(message.rid)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def on_closed(self, error: BaseException | None) -> None:
        """The link is gone."""
        self.closed = True
        for waiter in self._all:
            if not waiter.done():
                waiter.set_result(None)

    async def something(self, rids: tuple[int, ...], seconds: float) -> None:
        """Wait for the next message for one of these ids, or the link's end, at most so long."""
        if self.closed:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._all.add(waiter)
        self._waiters.update(dict.fromkeys(rids, waiter))
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._all.discard(waiter)
            for rid in rids:
                self._waiters.pop(rid, None)


class AsyncClient(AwaitedRequests):
    """As `Client`; requests of several tasks go over one connection at the same time."""

    def __init__(
        self,
        config: Config | ClientConfig | str | os.PathLike[str] | None = None,
        *,
        address: tuple[str, int] | None = None,
        secret: str | None = None,
        connect_timeout: float | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self._link: Link | None = None
        self._inboxes = _Inboxes()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Lock
        self._next_rid = 1
        self._on_retry = on_retry
        self._access = ServerAccess(config, address, secret, connect_timeout)
        self._failed: tuple[float, ServerUnreachableError | AuthenticationError] | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next call makes another one."""
        link, self._link = self._link, None
        if link is None or self._loop is not asyncio.get_running_loop():
            return
        link.close()
        await self._inboxes.something((), CLOSE_SECONDS)
        if not self._inboxes.closed:
            link.abort()  # a server that does not answer even that
            await self._inboxes.something((), CLOSE_SECONDS)

    async def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            ServerUnreachableError, AuthenticationError, VersionError: why not.
        """
        await self._connect(None)

    async def _connect(self, patience: float | None) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # of another `asyncio.run`, which took its connections along
            self._loop, self._connecting = loop, asyncio.Lock()
            self._link, self._inboxes, self._failed = None, _Inboxes(), None
        dialing: Dialing | None = None
        while True:
            asked = loop.time()
            async with self._connecting:
                if self._link is not None and not self._inboxes.closed:
                    return
                self._link = None
                dialing = dialing or self._access.dialing(self._on_retry, patience)
                # An attempt that failed while we stood in line was ours, too.
                if self._failed is None or self._failed[0] < asked:
                    self._failed = await self._attempt(dialing.timeout)
                if self._failed is None:
                    return
                error = self._failed[1]
            # Others may try now: some have less patience.
            await asyncio.sleep(dialing.pause_after(error))

    async def _attempt(
        self,
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[float, ServerUnreachableError | AuthenticationError] | None:
        """Try once; if it failed, when and why."""
        inboxes = _Inboxes()
        try:
            host, port = self._access.resolve()
            self._link = await connect(
                host,
                port,
                role="client",
                secret=self._access.secret,
                version=__version__,
                handler=inboxes,
                timeout=timeout,
            )
        except (ServerUnreachableError, AuthenticationError) as error:
            return asyncio.get_running_loop().time(), error
        self._inboxes = inboxes
        self._access.reached()
        return None

    # ---------------------------------------------------------------- submitting

    async def submit(self, command: Sequence[Path] | JobSpec, **options: Unpack[JobOptions]) -> Job:
        """Submit one job; `options` as in `JobSpec`. It is durable when this returns."""
        return one_of(await self.submit_many([spec_of(command, options)]))

    async def submit_many(
        self, jobs: Iterable[JobSpec], *, progress: bool | Callable[[int], None] = False
    ) -> SubmittedJobs[AsyncClient]:
        """Submit any number of jobs in constant memory; everything as in `Client.submit_many`."""
        return await self._submit(jobs, progress, None)

    async def submit_once(self, job: JobSpec, token: str) -> SubmittedJobs[AsyncClient]:
        """Submit one job under a token, as `Client.submit_once`."""
        return await self._submit([job], False, token)

    async def submit_array(
        self,
        command: Sequence[Path] | JobSpec,
        indices: str | Iterable[int],
        *,
        max_running: int | None = None,
        **options: Unpack[JobOptions],
    ) -> SubmittedJobs[AsyncClient]:
        """Submit a job for each index, as `Client.submit_array`."""
        job, steps = spec_of(command, options), steps_of(indices)
        encoder = self._access.new_encoder()
        found = await self._run(operations.submit_array(job, steps, max_running, encoder))
        return SubmittedJobs(self, *found)

    async def _submit(
        self, jobs: Iterable[JobSpec], progress: bool | Callable[[int], None], token: str | None
    ) -> SubmittedJobs[AsyncClient]:
        report = counter_of(progress)
        encoder = self._access.new_encoder()
        result: list[Any] = []
        try:
            async for count in self._stream(operations.submit(jobs, encoder, token), result):
                report(count)
        finally:
            if isinstance(report, SubmitCounter):
                report.finish()
        ranges, warnings = result[0]
        return SubmittedJobs(self, ranges, warnings)

    async def rerun(
        self, jobs: requests.Jobs | Selector, **changes: Unpack[ChangeOptions]
    ) -> SubmittedJobs[AsyncClient]:
        """Run finished jobs again, as new ones like them but for `changes`. All are durable when this returns.

        Raises:
            UsageError: it can't be meant. RequestError: the server can't take it; then there are none.
        """
        ranges, warnings = await self._run(requests.rerun(jobs, changes))
        return SubmittedJobs(self, ranges, warnings)

    # ---------------------------------------------------------------- queues in files

    def dump_queue(self, name: str) -> AsyncGenerator[bytes, None]:
        """The jobs of a queue that have not been handed out, as lines; as `Client.dump_queue`."""
        from kueue import dumping

        return self._stream(dumping.dump(name))

    async def restore_queue(
        self, lines: Iterable[bytes], queue: str | None = None
    ) -> SubmittedJobs[AsyncClient]:
        """Submit the jobs of a dump again; as `Client.restore_queue`."""
        from kueue import dumping

        restoring = operations.submit(dumping.restored(lines, queue), dumping.DumpedSpecs())
        return SubmittedJobs(self, *await self._run(restoring))

    # ---------------------------------------------------------------- waiting

    async def as_completed(self, jobs: requests.Jobs, timeout: float | None = None) -> AsyncIterator[Job]:  # noqa: ASYNC109
        """Each of the jobs once, when it has finished or was canceled.

        Raises:
            WaitTimeoutError: `timeout` seconds are over and some are unfinished.
        """
        operation = operations.as_completed(requests.ranges_of_jobs(jobs), timeout)
        async for change in self._stream(operation):
            yield job_of_change(change, self)

    def watch(self, jobs: requests.Jobs, timeout: float | None = None) -> AsyncGenerator[JobChange, None]:
        """Every change of the jobs, beginning with how they are now."""
        return self._stream(operations.watch(requests.ranges_of_jobs(jobs), timeout))

    def watch_cluster(self, *, details: bool = False) -> AsyncGenerator[ClusterState | None, None]:
        """The whole in figures (with `details`, workers and resources, too) as it is now, and whenever it changed;
        None when the connection is lost, after which it begins anew."""
        return self._stream(operations.watch_cluster(details))

    async def wait(self, job: Job | int, timeout: float | None = None) -> Job:  # noqa: ASYNC109
        """Wait for one job; the job as it ended.

        Raises:
            WaitTimeoutError: it has not finished within `timeout` seconds.
        """
        (done,) = [done async for done in self.as_completed(requests.id_of(job), timeout)]
        return done

    # ---------------------------------------------------------------- looking

    async def jobs(
        self,
        *,
        which: Selector | None = None,
        states: Sequence[str] = (),
        ids: requests.Jobs | None = None,
        group: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[Job]:
        """Jobs by id, fetched page by page; `which` says more than ids, states and group can."""
        views = self.job_views(
            which=which, states=states, ids=ids, group=group, newest_first=newest_first, limit=limit
        )
        async for view in views:
            yield job_of_view(view, self)

    def job_views(
        self,
        *,
        which: Selector | None = None,
        states: Sequence[str] = (),
        ids: requests.Jobs | None = None,
        group: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        arrays: bool = False,
    ) -> AsyncGenerator[JobView, None]:
        """As `jobs`, as the wire has them; with `arrays`, jobs of an array that have not started are one row."""
        wanted = requests.filter_of(which, states, ids, group)
        return self._stream(operations.list_jobs(wanted, newest_first, limit, arrays=arrays))

    async def job(self, job: Job | int) -> Job:
        """A job as it is now."""
        return job_of_view((await self.detail(job)).job, self)

    async def detail(self, job: Job | int, *, context: bool = False) -> JobDetail:
        """All about a job; with `context`, its environment too."""
        return await self._run(requests.detail(job, context))

    async def logs(self, job: Job | int, *, stream: Stream = "stdout", attempt: int | None = None) -> bytes:
        """What a job has written so far."""
        return b"".join([chunk.data async for chunk in self.read_log(job, stream, attempt)])

    def read_log(
        self, job: Job | int, stream: Stream, attempt: int | None = None, *, start: int = 0
    ) -> AsyncGenerator[LogChunk, None]:
        """What there is of a stream, in parts, from byte `start` on (negative: so many before its end)."""
        return self._stream(operations.read_log(requests.id_of(job), stream, attempt, start))

    def follow(
        self,
        job: Job | int,
        streams: tuple[Stream, ...] = ("stdout", "stderr"),
        attempt: int | None = None,
        *,
        start: int = 0,
    ) -> AsyncGenerator[tuple[Stream, LogChunk], None]:
        """The output of an attempt that has started, as it grows, to its end; `start` as in `read_log`."""
        return self._stream(operations.follow(requests.id_of(job), streams, attempt, start))

    # ---------------------------------------------------------------- driving operations

    async def _run(self, operation: Operation[T]) -> T:
        result: list[T] = []
        async for _ in self._stream(operation, result):
            pass
        return result[0]

    async def _stream(
        self, operation: Generator[Any, Any, Any], returned: list[Any] | None = None
    ) -> AsyncGenerator[Any, None]:
        """Perform the effects of an operation; yields what it emits, appends what it returns."""
        opened: dict[int, _Inboxes] = {}
        is_over = False
        result: Any = None
        error: ConnectionLostError | ServerUnreachableError | None = None
        try:
            while True:
                try:
                    effect = operation.send(result) if error is None else operation.throw(error)
                except StopIteration as end:
                    if returned is not None:
                        returned.append(end.value)
                    is_over = True
                    return
                result, error = None, None
                try:
                    match effect:
                        case Emit():
                            yield effect.value
                        case Open():
                            await self._connect(effect.patience)
                            result = self._next_rid
                            self._next_rid += 1
                            opened[result] = self._inboxes
                            self._inboxes.by_rid[result] = deque()
                        case Close():
                            inboxes = opened.pop(effect.rid, None)
                            if inboxes is not None:
                                inboxes.by_rid.pop(effect.rid, None)
                        case Send():
                            self._send(effect.message, opened)
                        case Receive():
                            result = await self._receive(effect, opened)
                except (ConnectionLostError, ServerUnreachableError) as lost:
                    error = lost
        finally:
            for rid, inboxes in opened.items():
                inboxes.by_rid.pop(rid, None)
                if self._link is not None and inboxes is self._inboxes and not inboxes.closed:
                    # Of what came to its end there is nothing more to be told: that may wait.
                    self._link.send(Unwatch(rid), late=is_over)
            operation.close()

    def _send(self, message: Any, opened: dict[int, _Inboxes]) -> None:
        inboxes = opened.get(message.rid)
        if self._link is None or inboxes is not self._inboxes or inboxes.closed:
            raise ConnectionLostError("the connection was lost meanwhile")
        self._link.send(message)

    async def _receive(self, effect: Receive, opened: dict[int, _Inboxes]) -> tuple[int, Any] | None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        deadline = None if effect.timeout is None else asked + effect.timeout
        while True:
            for rid in effect.rids:
                inboxes = opened[rid]
                if inboxes.by_rid[rid]:
                    return rid, inboxes.by_rid[rid].popleft()
                if inboxes is not self._inboxes:
                    raise ConnectionLostError("the connection was lost")
            link, inboxes = self._link, self._inboxes
            if link is None or inboxes.closed:
                raise ConnectionLostError("the connection was lost")
            now = loop.time()
            # Counted from when we began to wait: the loop may have been busy elsewhere for long.
            left = max(asked, link.last_received) + SILENCE_SECONDS - now
            if left <= 0:
                link.abort()
                raise ConnectionLostError(f"the server has been silent for {SILENCE_SECONDS:g} s")
            if deadline is not None:
                if now >= deadline:
                    return None
                left = min(left, deadline - now)
            await inboxes.something(effect.rids, left)
