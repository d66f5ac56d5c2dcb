"""The blocking client: what can be asked of a server, in plain calls. Imports no asyncio.

One thread at a time; a forked child connects anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from kueue import operations, requests
from kueue.blocking_driver import BlockingDriver
from kueue.blocking_requests import BlockingRequests
from kueue.errors import UsageError
from kueue.indices import steps_of
from kueue.job_handle import Job, SubmittedJobs, job_of_change, job_of_view, one_of
from kueue.job_spec import ChangeOptions, JobOptions, JobSpec, Path, spec_of
from kueue.operations import Operation
from kueue.progress import SubmitCounter, counter_of
from kueue.server_access import ServerAccess
from kueue.wire.messages import (
    ClusterState,
    JobChange,
    JobDetail,
    JobView,
    LogChunk,
    Selector,
    Stream,
)

if TYPE_CHECKING:
    from kueue.client_config import ClientConfig
    from kueue.config import Config

T = TypeVar("T")


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
        self._access = ServerAccess(config, address, secret, connect_timeout)
        self._driver = BlockingDriver(self._access, on_retry)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call makes another one."""
        self._driver.lose()

    def connect(self) -> None:
        """Connect now, if there is no connection.

        Raises:
            ServerUnreachableError, AuthenticationError, VersionError: why not.
        """
        self._driver.connect(None)

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
        operation = operations.as_completed(requests.ranges_of_jobs(requests.id_of(job)), timeout)
        (change,) = self._driver.stream(operation, late=True)
        return job_of_change(change, self)

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
        return self._driver.run(operation)

    def _stream(self, operation: Generator[Any, Any, T]) -> Generator[Any, None, T]:
        return self._driver.stream(operation)


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
