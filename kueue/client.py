"""The blocking client: runs the operations over one plain connection. Imports no asyncio.

Not for several threads at once. A watch that goes on (`as_completed`) and other requests share the connection:
messages are sorted by their request's id.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kueue import __version__, operations, requests
from kueue.errors import ServerUnreachableError, UsageError
from kueue.job_handle import Job, SubmittedJobs, job_of_change, job_of_view
from kueue.job_spec import Encoder, JobSpec
from kueue.operations import Close, Emit, Open, Operation, Receive, Send
from kueue.wire.connection import BlockingConnection, ConnectionLostError, RefusedError
from kueue.wire.messages import (
    Canceled,
    Heartbeat,
    JobChange,
    JobCounts,
    JobDetail,
    JobView,
    LogChunk,
    ResourcePage,
    ServerState,
    Stream,
    Unwatch,
    WorkerDetail,
    WorkerView,
)

if TYPE_CHECKING:
    from kueue.config import Config

T = TypeVar("T")

SILENCE_SECONDS = 60.0
"""A server says something every 15 s at least; one that doesn't is gone."""
RETRY_SECONDS = 0.25


class Client:
    """A client of the server that the configuration names.

    Args:
        config: a `Config`, a path of one, or None for the usual one.
        address, secret: instead of the configuration's, e.g. for tests.
        on_retry: called with one line when the server refuses connections and is tried again.
    """

    def __init__(
        self,
        config: Config | str | os.PathLike[str] | None = None,
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
        cpus, ram_mb = 1, 1024
        if address is not None and secret is not None:
            fixed = address
            self._resolve: Callable[[], tuple[str, int]] = lambda: fixed
            self._secret = secret
            self._patience = 0.0 if connect_timeout is None else connect_timeout
        else:
            from kueue.address import resolve_address
            from kueue.config import Config, load_config

            loaded = config if isinstance(config, Config) else load_config(config)
            self._resolve = lambda: resolve_address(loaded)
            self._secret = loaded.common_settings.shared_secret
            settings = loaded.client_settings
            cpus, ram_mb = settings.job_default_cpus, settings.job_default_ram_mb
            self._patience = (
                float(settings.connect_timeout_seconds) if connect_timeout is None else connect_timeout
            )
        self._encoder = Encoder(cpus, ram_mb)

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
        if self._connection is not None:
            return
        deadline = time.monotonic() + self._patience
        said = False
        while True:
            host, port = self._resolve()
            try:
                self._connection = BlockingConnection(host, port, self._secret, __version__)
                return
            except RefusedError as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                if not said and self._on_retry is not None:
                    self._on_retry(f"{error}; trying for {self._patience:g} s")
                said = True
                time.sleep(min(RETRY_SECONDS, left))

    # ---------------------------------------------------------------- submitting

    def submit(self, command: Sequence[Any] | JobSpec, **options: Any) -> Job:
        """Submit one job; `options` as in `JobSpec`. It is durable when this returns."""
        spec = command if isinstance(command, JobSpec) else JobSpec(command, **options)
        return self.submit_many([spec])[0]

    def submit_many(
        self, jobs: Iterable[JobSpec], *, progress: bool | Callable[[int], None] = False
    ) -> SubmittedJobs[Client]:
        """Submit any number of jobs in constant memory. All are durable when this returns; if it raises, those of
        earlier batches are. `progress`: a counter on stderr, or a function that gets the count."""
        report = _counter if progress is True else (progress or None)
        operation = operations.submit(jobs, self._encoder)
        effect_of = self._stream(operation)
        result: Any = None
        while True:
            try:
                count = next(effect_of)
            except StopIteration as end:
                result = end.value
                break
            if report is not None:
                report(count)
        if progress is True:
            _counter(None)
        ranges, warnings = result
        return SubmittedJobs(self, ranges, warnings)

    # ---------------------------------------------------------------- waiting

    def as_completed(self, jobs: requests.Jobs, timeout: float | None = None) -> Iterator[Job]:
        """Each of the jobs once, when it has finished or was canceled, in the order in which that happens.

        Raises:
            WaitTimeoutError: `timeout` seconds are over and some are unfinished.
        """
        for change in self._stream(operations.as_completed(requests.ranges_of_jobs(jobs), timeout)):
            yield job_of_change(change)

    def watch(self, jobs: requests.Jobs, timeout: float | None = None) -> Iterator[JobChange]:
        """Every change of the jobs, beginning with how they are now."""
        return self._stream(operations.watch(requests.ranges_of_jobs(jobs), timeout))

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
        states: Sequence[str] = (),
        ids: requests.Jobs | None = None,
        group: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs by id, fetched page by page."""
        for view in self.job_views(
            states=states, ids=ids, group=group, newest_first=newest_first, limit=limit
        ):
            yield job_of_view(view)

    def job_views(
        self,
        *,
        states: Sequence[str] = (),
        ids: requests.Jobs | None = None,
        group: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> Iterator[JobView]:
        """As `jobs`, as the wire has them."""
        wanted = requests.filter_of(states, ids, group)
        return self._stream(operations.list_jobs(wanted, newest_first, limit))

    def job(self, job: Job | int) -> Job:
        """A job as it is now.

        Raises:
            UnknownJobError: it is not in the table.
        """
        return job_of_view(self.detail(job).job)

    def detail(self, job: Job | int, *, context: bool = False) -> JobDetail:
        """All about a job; with `context`, its environment too."""
        return self._run(requests.detail(job, context))

    def counts(self) -> JobCounts:
        """How many jobs are in which state."""
        return self._run(requests.counts())

    def logs(self, job: Job | int, *, stream: Stream = "stdout", attempt: int | None = None) -> bytes:
        """What a job has written so far."""
        return b"".join(chunk.data for chunk in self.read_log(job, stream, attempt))

    def read_log(self, job: Job | int, stream: Stream, attempt: int | None = None) -> Iterator[LogChunk]:
        """What there is of a stream, in parts."""
        return self._stream(operations.read_log(requests.id_of(job), stream, attempt))

    def follow(
        self, job: Job | int, streams: tuple[Stream, ...] = ("stdout", "stderr"), attempt: int | None = None
    ) -> Iterator[tuple[Stream, LogChunk]]:
        """The output of an attempt that has started, as it grows, to its end."""
        return self._stream(operations.follow(requests.id_of(job), streams, attempt))

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

    def cancel(self, jobs: requests.Jobs, *, kill: bool = False) -> Canceled:
        """Cancel jobs; those that run only with `kill`."""
        return self._run(requests.cancel(jobs, kill))

    def clean(self, *, failed: bool = False) -> int:
        """Drop succeeded and canceled jobs (and failed ones); how many."""
        return self._run(requests.clean(failed))

    def forget_worker(self, name: str | int) -> tuple[str, ...]:
        """Confirm that what a lost worker was running is dead."""
        return self._run(requests.forget_worker(name))

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Copy the journal to a new file on the server's machine."""
        self._run(requests.backup(path))

    def reload(self) -> tuple[str, ...]:
        """Have the server reread licences and limits; what changed."""
        return self._run(requests.reload())

    def shutdown(self, *, workers: bool = False, kill: bool = False) -> tuple[str, ...]:
        """End the server (and the workers; with `kill` their jobs are interrupted)."""
        return self._run(requests.shutdown(workers, kill))

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
        error: ConnectionLostError | None = None
        try:
            while True:
                effect = operation.send(result) if error is None else operation.throw(error)
                result, error = None, None
                try:
                    if isinstance(effect, Emit):
                        yield effect.value
                    elif isinstance(effect, Open):
                        result = self._open()
                        opened.add(result)
                    elif isinstance(effect, Close):
                        opened.discard(effect.rid)
                        self._inboxes.pop(effect.rid, None)
                    elif isinstance(effect, Send):
                        self._send(effect.message)
                    else:
                        result = self._receive(effect)
                except ConnectionLostError as lost:
                    self._lose()
                    error = lost
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            for rid in opened:
                if self._inboxes.pop(rid, None) is not None and self._connection is not None:
                    try:  # of a watch that nobody looks at any more
                        self._connection.send(Unwatch(rid), SILENCE_SECONDS)
                    except ConnectionLostError:
                        self._lose()
            operation.close()

    def _open(self) -> int:
        self.connect()
        rid = self._next_rid
        self._next_rid += 1
        self._inboxes[rid] = deque()
        return rid

    def _send(self, message: Any) -> None:
        inbox = self._inboxes.get(message.rid)
        if inbox is None or self._connection is None:
            raise ConnectionLostError("the connection was lost meanwhile")
        self._connection.send(message, SILENCE_SECONDS)

    def _receive(self, effect: Receive) -> tuple[int, Any] | None:
        deadline = None if effect.timeout is None else time.monotonic() + effect.timeout
        heard = time.monotonic()
        while True:
            for rid in effect.rids:
                inbox = self._inboxes.get(rid)
                if inbox is None:
                    raise ConnectionLostError("the connection was lost meanwhile")
                if inbox:
                    return rid, inbox.popleft()
            if self._connection is None:
                raise ConnectionLostError("there is no connection")
            now = time.monotonic()
            silence = heard + SILENCE_SECONDS - now
            if silence <= 0:
                raise ConnectionLostError(f"the server has been silent for {SILENCE_SECONDS:g} s")
            left = silence if deadline is None else min(silence, deadline - now)
            if deadline is not None and now >= deadline:
                return None
            message = self._connection.receive(left)
            if message is None:
                continue
            heard = time.monotonic()
            if isinstance(message, Heartbeat):
                continue
            inbox = self._inboxes.get(message.rid)
            if inbox is not None:
                inbox.append(message)

    def _lose(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for rid in self._inboxes:
            self._inboxes[rid] = None


def as_completed(
    jobs: SubmittedJobs[Client] | Iterable[Job], timeout: float | None = None, *, client: Client | None = None
) -> Iterator[Job]:
    """`Client.as_completed` of the client that the jobs were submitted with."""
    if client is None:
        if not isinstance(jobs, SubmittedJobs):
            raise UsageError("as_completed needs the jobs of one submit_many, or client=…")
        client = jobs.client
    return client.as_completed(jobs, timeout)


def _counter(count: int | None) -> None:
    import sys

    if count is None:
        sys.stderr.write("\n")
    else:
        sys.stderr.write(f"\r{count} jobs submitted")
    sys.stderr.flush()


__all__ = ["Client", "ServerUnreachableError", "as_completed"]
