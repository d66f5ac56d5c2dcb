"""The blocking client: runs the operations over one plain connection. Imports no asyncio.

A watch that goes on (`as_completed`) and other requests share the connection: messages are sorted by their
request's id. One thread at a time; a forked child connects anew.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from kueue import __version__, operations, requests
from kueue.blocking_requests import BlockingRequests
from kueue.errors import AuthenticationError, ServerUnreachableError, UsageError
from kueue.indices import steps_of
from kueue.job_handle import Job, SubmittedJobs, job_of_change, job_of_view, one_of
from kueue.job_spec import ChangeOptions, JobOptions, JobSpec, Path, spec_of
from kueue.operations import Close, Effect, Emit, Open, Operation, Receive, Send
from kueue.progress import SubmitCounter, counter_of
from kueue.server_access import ServerAccess
from kueue.wire.connection import SILENCE_SECONDS, BlockingConnection, ConnectionLostError
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

FAREWELL_SECONDS = 1.0
"""How long ending a watch that nobody looks at any more may take."""


class Client(BlockingRequests):
    """A client of the server that the configuration names.

    Args:
        config: a `Config`, a path of one, or None for the usual one.
        address, secret: instead of the configuration's, e.g. for tests.
        connect_timeout: seconds of trying to connect at first (None: as configured).
        on_retry: called with one line when the server refuses connections and is tried again.
    """

    def __init__(
        self,
        config: Config | ClientConfig | str | os.PathLike[str] | None = None,
        *,
        address: tuple[str, int] | None = None,
        secret: str | None = None,
        connect_timeout: float | None = None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self._connection: BlockingConnection | None = None
        self._inboxes: dict[int, deque[Any] | None] = {}  # None: its connection is lost
        self._next_rid = 1
        self._on_retry = on_retry
        self._access = ServerAccess(config, address, secret, connect_timeout)
        self._busy = False
        self._abandoned: list[int] = []
        self._process = os.getpid()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call makes another one."""
        self._lose()

    def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            ServerUnreachableError, AuthenticationError, VersionError: why not.
        """
        self._connect(None)

    def _connect(self, patience: float | None) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._lose()  # our parent's; closing our descriptor of it says nothing to the server
        if self._connection is not None:
            return
        dialing = self._access.dialing(self._on_retry, patience)
        while True:
            host, port = self._access.resolve()
            try:
                self._connection = BlockingConnection(
                    host, port, self._access.secret, __version__, dialing.timeout
                )
            except (ServerUnreachableError, AuthenticationError) as error:
                time.sleep(dialing.pause_after(error))
            else:
                self._access.reached()
                return

    # ---------------------------------------------------------------- submitting

    def submit(self, command: Sequence[Path] | JobSpec, **options: Unpack[JobOptions]) -> Job:
        """Submit one job; `options` as in `JobSpec`. It is durable when this returns.

        Raises:
            UsageError: it can't be meant. RequestError: the server can't take it.
        """
        return one_of(self.submit_many([spec_of(command, options)]))

    def submit_many(
        self, jobs: Iterable[JobSpec], *, progress: bool | Callable[[int], None] = False
    ) -> SubmittedJobs[Client]:
        """Submit any number of jobs in constant memory, over a lost connection, too; none becomes two.

        All are durable when this returns. If it raises, a note on the error says which are.

        Args:
            progress: True for a counter on stderr, or a function that is called with the number of durable jobs.

        Raises:
            UsageError: a job can't be meant, e.g. an unknown resource.
            RequestError: the server can't take it.
        """
        return self._submit(jobs, progress, None)

    def submit_once(self, job: JobSpec, token: str) -> SubmittedJobs[Client]:
        """Submit one job under a token (1 to 128 characters): however often that is done with the same job, by
        whatever program, it is one job, for seven days.

        Raises:
            UsageError: it can't be meant. RequestError: the server can't take it.
        """
        return self._submit([job], False, token)

    def submit_array(
        self,
        command: Sequence[Path] | JobSpec,
        indices: str | Iterable[int],
        *,
        max_running: int | None = None,
        **options: Unpack[JobOptions],
    ) -> SubmittedJobs[Client]:
        """Submit a job for each index (`"1-1000:2,2000"`, a range, any numbers), all at once however many they are.

        `{n}` in the command, `cwd`, `stdout`, `stderr` and `name` is the index, which the job also has as
        KUEUE_ARRAY_INDEX. At most `max_running` of them run at the same time.

        Raises:
            UsageError: it can't be meant. RequestError: the server can't take it; then there are none.
        """
        job, steps = spec_of(command, options), steps_of(indices)
        encoder = self._access.new_encoder()
        return SubmittedJobs(self, *self._run(operations.submit_array(job, steps, max_running, encoder)))

    def _submit(
        self, jobs: Iterable[JobSpec], progress: bool | Callable[[int], None], token: str | None
    ) -> SubmittedJobs[Client]:
        report = counter_of(progress)
        counts = self._stream(operations.submit(jobs, self._access.new_encoder(), token))
        try:
            while True:
                try:
                    count = next(counts)
                except StopIteration as end:
                    ranges, warnings = end.value
                    return SubmittedJobs(self, ranges, warnings)
                report(count)
        finally:
            if isinstance(report, SubmitCounter):
                report.finish()

    def rerun(
        self, jobs: requests.Jobs | Selector, **changes: Unpack[ChangeOptions]
    ) -> SubmittedJobs[Client]:
        """Run finished jobs again, as new ones like them but for `changes`. All are durable when this returns.

        Raises:
            UsageError: it can't be meant. RequestError: the server can't take it; then there are none.
        """
        ranges, warnings = self._run(requests.rerun(jobs, changes))
        return SubmittedJobs(self, ranges, warnings)

    # ---------------------------------------------------------------- queues in files

    def dump_queue(self, name: str) -> Iterator[bytes]:
        """The jobs of a queue that have not been handed out, as lines with all that is needed to submit them again,
        their environments too; fetched page by page."""
        from kueue import dumping

        return self._stream(dumping.dump(name))

    def restore_queue(self, lines: Iterable[bytes], queue: str | None = None) -> SubmittedJobs[Client]:
        """Submit the jobs of a dump again, for their queue or another one. All are durable when this returns.

        Raises:
            UsageError: it is none, or a part of one. RequestError: the server can't take a job. A note on the error
            says which jobs were submitted before.
        """
        from kueue import dumping

        ranges, warnings = self._run(operations.submit(dumping.restored(lines, queue), dumping.DumpedSpecs()))
        return SubmittedJobs(self, ranges, warnings)

    # ---------------------------------------------------------------- waiting

    def as_completed(self, jobs: requests.Jobs, timeout: float | None = None) -> Iterator[Job]:
        """Each of the jobs once, when it has finished or was canceled, in the order in which that happens.

        Raises:
            WaitTimeoutError: `timeout` seconds are over and some are unfinished.
        """
        for change in self._stream(operations.as_completed(requests.ranges_of_jobs(jobs), timeout)):
            yield job_of_change(change, self)

    def watch(self, jobs: requests.Jobs, timeout: float | None = None) -> Iterator[JobChange]:
        """Every change of the jobs, beginning with how they are now."""
        return self._stream(operations.watch(requests.ranges_of_jobs(jobs), timeout))

    def watch_cluster(self, *, details: bool = False) -> Iterator[ClusterState | None]:
        """The whole in figures (with `details`, workers and resources, too) as it is now, and whenever it changed;
        None when the connection is lost, after which it begins anew."""
        return self._stream(operations.watch_cluster(details))

    def wait(self, job: Job | int, timeout: float | None = None) -> Job:
        """Wait for one job; the job as it ended.

        Raises:
            WaitTimeoutError: it has not finished within `timeout` seconds.
        """
        return next(iter(self.as_completed(requests.id_of(job), timeout)))

    # ---------------------------------------------------------------- looking

    def jobs(
        self,
        *,
        which: Selector | None = None,
        states: Sequence[str] = (),
        ids: requests.Jobs | None = None,
        group: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs by id, fetched page by page; `which` says more than ids, states and group can."""
        for view in self.job_views(
            which=which, states=states, ids=ids, group=group, newest_first=newest_first, limit=limit
        ):
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
    ) -> Iterator[JobView]:
        """As `jobs`, as the wire has them; with `arrays`, jobs of an array that have not started are one row."""
        wanted = requests.filter_of(which, states, ids, group)
        return self._stream(operations.list_jobs(wanted, newest_first, limit, arrays=arrays))

    def job(self, job: Job | int) -> Job:
        """A job as it is now.

        Raises:
            UnknownJobError: it is not in the table.
        """
        return job_of_view(self.detail(job).job, self)

    def detail(self, job: Job | int, *, context: bool = False) -> JobDetail:
        """All about a job; with `context`, its environment too."""
        return self._run(requests.detail(job, context))

    def logs(self, job: Job | int, *, stream: Stream = "stdout", attempt: int | None = None) -> bytes:
        """What a job has written so far."""
        return b"".join(chunk.data for chunk in self.read_log(job, stream, attempt))

    def read_log(
        self, job: Job | int, stream: Stream, attempt: int | None = None, *, start: int = 0
    ) -> Iterator[LogChunk]:
        """What there is of a stream, in parts, from byte `start` on (negative: so many before its end)."""
        return self._stream(operations.read_log(requests.id_of(job), stream, attempt, start))

    def follow(
        self,
        job: Job | int,
        streams: tuple[Stream, ...] = ("stdout", "stderr"),
        attempt: int | None = None,
        *,
        start: int = 0,
    ) -> Iterator[tuple[Stream, LogChunk]]:
        """The output of an attempt that has started, as it grows, to its end; `start` as in `read_log`."""
        return self._stream(operations.follow(requests.id_of(job), streams, attempt, start))

    # ---------------------------------------------------------------- driving operations

    def _run(self, operation: Operation[T]) -> T:
        values = self._stream(operation)
        while True:
            try:
                next(values)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]

    def _stream(self, operation: Generator[Any, Any, T]) -> Generator[Any, None, T]:
        """Perform the effects of an operation; yields what it emits."""
        opened: set[int] = set()
        result: Any = None
        error: ConnectionLostError | ServerUnreachableError | None = None
        try:
            while True:
                effect = operation.send(result) if error is None else operation.throw(error)
                result, error = None, None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    result = self._perform(effect, opened)
                except (ConnectionLostError, ServerUnreachableError) as lost:
                    error = lost
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            operation.close()
            self._abandon(opened)

    def _perform(self, effect: Effect, opened: set[int]) -> Any:
        if self._busy:
            raise UsageError("this client is in use already; make one for each thread")
        self._busy = True
        try:
            self._say_farewells()
            match effect:
                case Open(patience):
                    rid = self._open(patience)
                    opened.add(rid)
                    return rid
                case Close(rid):
                    opened.discard(rid)
                    self._inboxes.pop(rid, None)
                case Send(message):
                    self._send(message)
                case Receive():
                    return self._receive(effect)
        except (ConnectionLostError, KeyboardInterrupt):
            # When a signal cuts in, half a message may have been sent or received.
            self._lose()
            raise
        finally:
            self._busy = False
        return None

    def _open(self, patience: float | None) -> int:
        self._connect(patience)
        rid = self._next_rid
        self._next_rid += 1
        self._inboxes[rid] = deque()
        return rid

    def _send(self, message: Any) -> None:
        if self._connection is None or self._inboxes.get(message.rid) is None:
            raise ConnectionLostError("the connection was lost meanwhile")
        self._connection.send(message)

    def _receive(self, effect: Receive) -> tuple[int, Any] | None:
        deadline = None if effect.timeout is None else time.monotonic() + effect.timeout
        while True:
            for rid in effect.rids:
                inbox = self._inboxes.get(rid)
                if inbox is None:
                    raise ConnectionLostError("the connection was lost meanwhile")
                if inbox:
                    return rid, inbox.popleft()
            if self._connection is None:
                raise ConnectionLostError("the connection was lost meanwhile")
            left = 2 * SILENCE_SECONDS if deadline is None else deadline - time.monotonic()
            message = self._connection.receive(max(0.0, left))
            if message is None:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
            elif not isinstance(message, Heartbeat):
                inbox = self._inboxes.get(message.rid)
                if inbox is not None:
                    inbox.append(message)

    def _abandon(self, opened: set[int]) -> None:
        """Forget ids that an operation left open. It may be the garbage collector that calls, at any moment:
        then the server hears of it later."""
        self._abandoned.extend(rid for rid in opened if self._inboxes.pop(rid, None) is not None)
        if self._busy:
            return
        self._busy = True
        try:
            self._say_farewells()
        except (ConnectionLostError, KeyboardInterrupt):
            self._lose()
        finally:
            self._busy = False

    def _say_farewells(self) -> None:
        """End the watches that nobody looks at any more."""
        while self._abandoned:
            rid = self._abandoned.pop()
            if self._connection is not None and self._process == os.getpid():
                self._connection.send(Unwatch(rid), FAREWELL_SECONDS)

    def _lose(self) -> None:
        self._abandoned.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for rid in self._inboxes:
            self._inboxes[rid] = None


def as_completed(
    jobs: SubmittedJobs[Client] | Iterable[Job], timeout: float | None = None, *, client: Client | None = None
) -> Iterator[Job]:
    """`Client.as_completed` of the client that the jobs come from (or of `client`).

    Raises:
        UsageError: that can't be told, or it is an `AsyncClient`.
    """
    if not isinstance(jobs, SubmittedJobs):
        jobs = list(jobs)
        if not jobs:
            return iter(())
    if client is None:
        found = jobs.client if isinstance(jobs, SubmittedJobs) else getattr(jobs[0], "client", None)
        if not isinstance(found, Client):
            raise UsageError("as_completed needs jobs that a kueue.Client gave, or client=…")
        client = found
    return client.as_completed(jobs, timeout)
