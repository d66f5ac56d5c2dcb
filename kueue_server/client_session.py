"""One client's connection: requests in, answers out.

Reads are answered from the core as it is; whatever changes something goes through the engine and is answered
when it is durable. A request that can't be meant is answered with a `Failure`; only a broken protocol ends
the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar, assert_never

import msgspec

from kueue.text import visible
from kueue.wire.codec import os_bytes
from kueue.wire.link import Link
from kueue.wire.messages import (
    MAX_ITEMS,
    Backup,
    Cancel,
    Canceled,
    Change,
    Changed,
    Clean,
    Cleaned,
    ClientMessage,
    Done,
    DumpJobs,
    Explain,
    Explanation,
    Failure,
    ForgetWorker,
    Heartbeat,
    JobCounts,
    JobPage,
    JobsSelected,
    ListJobs,
    ListQueues,
    ListResources,
    ListWorkers,
    PauseQueues,
    PauseWorkers,
    ReadLog,
    Reason,
    Reload,
    RemoveQueue,
    Reran,
    Rerun,
    ResourcePage,
    ResumeQueues,
    ResumeWorkers,
    SelectJobs,
    Selector,
    ServerInfo,
    SetQueue,
    ShowJob,
    ShowWorker,
    Shutdown,
    Spec,
    Steered,
    Submit,
    SubmitArray,
    Submitted,
    ToClient,
    Unwatch,
    Watch,
    WatchCluster,
    WorkerPage,
)
from kueue.wire.selector import MAX_RANGES, fault_of
from kueue_server import queue_requests
from kueue_server.core.events import (
    CancelRequested,
    ChangeRequested,
    CleanRequested,
    ForgetWorkerRequested,
    PauseRequested,
    ResumeRequested,
)
from kueue_server.core.instructions import (
    AnswerCancel,
    AnswerChange,
    AnswerClean,
    AnswerForgetWorker,
    AnswerSteering,
)
from kueue_server.output_requests import read_log
from kueue_server.services import Services
from kueue_server.submissions import Answer
from kueue_server.unanswered import Unanswered

T = TypeVar("T", Submit, SubmitArray)

PAUSE_JOURNAL_BYTES = 64 * 1024 * 1024
"""Bytes not yet committed at which submitters are read from no more, until the journal has caught up."""
MAX_UNREAD_BYTES = 1024 * 1024
"""Bytes of answers that may wait for a client before its further requests have to."""


class ClientSession:
    """Handler of an authenticated client link."""

    def __init__(self, link: Link, services: Services) -> None:
        self.link = link
        self._services = services
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._paused = False
        self._unanswered = Unanswered(self._set_reading)
        self._stuck_since: float | None = None
        self._stuck_ticks = 0
        self.last_sent = self._loop.time()
        link.max_unread = MAX_UNREAD_BYTES

    # ---------------------------------------------------------------- the link's side

    def on_message(self, message: ClientMessage) -> None:
        """A decoded request arrived."""
        if isinstance(message, Heartbeat):
            return
        refusal = self._unanswered.begin(message)
        if refusal is not None:
            self._send(Failure(message.rid, refusal))
            return
        match message:
            case Submit():
                self._submit(message, message.jobs, self._services.submissions.submit)
            case SubmitArray():
                self._submit(message, (message.spec,), self._services.submissions.submit_array)
            case ListJobs():
                self._list_jobs(message)
            case SelectJobs():
                self._select_jobs(message)
            case ShowJob():
                self._show_job(message)
            case Explain():
                self._explain(message)
            case ReadLog():
                read_log(self._services, message, self._send)
            case Watch():
                self._watch(message)
            case WatchCluster():
                self._refuse(
                    message.rid, self._services.overview.watch(self.link, message, self._loop.time())
                )
            case Unwatch():
                self._services.hub.unwatch(self.link, message.rid)
                self._services.overview.unwatch(self.link, message.rid)
            case Cancel():
                self._cancel(message)
            case Clean():
                self._clean(message)
            case Rerun():
                self._rerun(message)
            case Change():
                self._change(message)
            case ListWorkers():
                workers = self._services.core.workers(self._loop.time())
                self._send(WorkerPage(message.rid, workers))
            case ShowWorker():
                self._show_worker(message)
            case ListResources():
                core = self._services.core
                page = ResourcePage(
                    message.rid,
                    core.resources(),
                    core.parallel_jobs,
                    self._services.limits.global_max_parallel_jobs,
                )
                self._send(page)
            case PauseWorkers():
                request = self._expect_steering(message.rid)
                globs, now = message.workers, time.time()
                self._services.engine.post(PauseRequested(request, globs, message.kill, message.reason, now))
            case ResumeWorkers():
                self._services.engine.post(
                    ResumeRequested(self._expect_steering(message.rid), message.workers)
                )
            case ListQueues() | PauseQueues() | ResumeQueues() | SetQueue() | RemoveQueue() | DumpJobs():
                queue_requests.take(self._services, message, self._send)
            case ForgetWorker():
                self._forget_worker(message)
            case Backup():
                self._backup(message)
            case Reload():
                self._reload(message)
            case Shutdown():
                lines = self._services.shut_down(message.workers, message.kill)
                self._send(Done(message.rid, lines))
            case ServerInfo():
                state = self._services.server_state(self._loop.time())
                self._send(msgspec.structs.replace(state, rid=message.rid))
            case _:
                assert_never(message)

    def on_closed(self, error: BaseException | None) -> None:
        """The connection is gone; what it asked for goes on, nobody is told."""
        self._closed = True
        self._services.hub.drop(self.link)
        self._services.overview.drop(self.link)
        self._services.client_closed(self)

    def heartbeat(self) -> None:
        """Say that we live."""
        self._send(Heartbeat())

    def stuck_ticks(self) -> int:
        """For how many ticks in a row the client has taken nothing of what waits for it; to be called at each.

        Not by the clock: a server that slept finds everybody stuck.
        """
        since = self.link.stuck_since
        goes_on = since is not None and since == self._stuck_since
        self._stuck_ticks = self._stuck_ticks + 1 if goes_on else 0
        self._stuck_since = since
        return self._stuck_ticks

    def _send(self, message: ToClient) -> None:
        if not self._closed:
            self.last_sent = self._loop.time()
            self.link.send(message)
            if not isinstance(message, Heartbeat):
                self._unanswered.end(message.rid)

    def _set_reading(self) -> None:
        if self._paused or self._unanswered.are_too_many:
            self.link.pause_reading()
        elif not self._closed:
            self.link.resume_reading()

    def _fail(self, rid: int, code: str, text: str) -> None:
        self._send(Failure(rid, Reason(code, text)))

    def _refuse(self, rid: int, refusal: Reason | None) -> None:
        if refusal is not None:
            self._send(Failure(rid, refusal))

    # ---------------------------------------------------------------- jobs

    def _submit(self, message: T, specs: tuple[Spec, ...], submit: Callable[[T, Answer], None]) -> None:
        core = self._services.core

        def answer(first: int, count: int, reason: Reason | None) -> None:
            if reason is not None:
                self._send(Failure(message.rid, reason))
            elif not self._closed:
                warnings = core.warnings_for(specs) if count else ()
                duplicates = len(specs) - count if isinstance(message, Submit) else 0
                self._send(Submitted(message.rid, first, count, warnings, duplicates))
            self._resume_when_written()

        submit(message, answer)
        if not self._paused and self._services.journal.pending_bytes > PAUSE_JOURNAL_BYTES:
            self._paused = True
            self._set_reading()

    def _resume_when_written(self) -> None:
        if self._paused and self._services.journal.pending_bytes < PAUSE_JOURNAL_BYTES // 2:
            self._paused = False
            self._set_reading()

    def _list_jobs(self, message: ListJobs) -> None:
        limit = max(1, min(message.limit, MAX_ITEMS))
        if self._refused(message.rid, message.filter):
            return
        core, now = self._services.core, self._loop.time()
        if message.glance:
            rows, left_out, waits = core.glance(limit, now, arrays=message.arrays)
            self._send(JobPage(message.rid, tuple(rows), None, core.counts(now), left_out, waits))
            return
        jobs, cursor = core.page(
            message.filter,
            message.newest_first,
            message.cursor,
            limit,
            message.attempts,
            now,
            time.time(),
            arrays=message.arrays,
        )
        counts = core.counts(now) if message.counts else None
        self._send(JobPage(message.rid, tuple(jobs), cursor, counts))

    def _refused(self, rid: int, selector: Selector, *, changes: bool = False) -> bool:
        """Whether a selector can't be meant; that has been answered then."""
        fault = fault_of(selector, changes=changes)
        if fault is not None:
            self._send(Failure(rid, Reason(*fault)))
        return fault is not None

    def _select_jobs(self, message: SelectJobs) -> None:
        if self._refused(message.rid, message.selector):
            return
        core = self._services.core
        found = core.select(message.selector, message.cursor, MAX_ITEMS, time.time())
        self._send(
            JobsSelected(message.rid, found.ranges, JobCounts(**found.counts), found.cursor, core.newest)
        )

    def _show_job(self, message: ShowJob) -> None:
        core, journal = self._services.core, self._services.journal
        detail = core.job_detail(message.job, self._loop.time())
        if detail is None:
            self._fail(message.rid, "unknown_job", f"no job {message.job}")
            return
        digest = core.context_of(message.job) if message.context else None
        answer = msgspec.structs.replace(detail, rid=message.rid)

        def with_tails(tails: tuple[bytes, bytes] | None) -> None:
            nonlocal answer
            if tails is not None:
                answer = msgspec.structs.replace(answer, stdout_tail=tails[0], stderr_tail=tails[1])
            if digest is None:
                self._send(answer)
            else:
                journal.read_context(digest, with_context)

        def with_context(content: bytes | None) -> None:
            self._send(msgspec.structs.replace(answer, context=content))

        if detail.job.attempt:
            journal.read_tails(message.job, detail.job.attempt, with_tails)
        else:
            with_tails(None)

    def _explain(self, message: Explain) -> None:
        found = self._services.core.explain(message.job, self._loop.time())
        if found is None:
            self._fail(message.rid, "unknown_job", f"no job {message.job}")
        else:
            self._send(Explanation(message.rid, *found))

    def _watch(self, message: Watch) -> None:
        if len(message.ranges) > MAX_RANGES or not message.ranges:
            self._fail(message.rid, "too_many_ranges", f"a watch names 1 to {MAX_RANGES} ranges of ids")
            return
        self._refuse(message.rid, self._services.hub.watch(self.link, message))

    def _cancel(self, message: Cancel) -> None:
        if len(message.ranges) > MAX_RANGES:
            self._fail(message.rid, "too_many_ranges", f"at most {MAX_RANGES} ranges of ids in one request")
            return
        selector = message.selector
        if selector is not None and message.ranges:
            self._fail(message.rid, "bad_selector", "a cancel has ranges or a selector")
            return
        if selector is not None and self._refused(message.rid, selector, changes=True):
            return

        def answer(given: AnswerCancel) -> None:
            self._send(Canceled(message.rid, given.canceled, given.finished, given.running, given.unknown))

        request = self._services.desk.expect(answer)
        self._services.engine.post(
            CancelRequested(request, message.ranges, message.kill, time.time(), selector)
        )

    def _clean(self, message: Clean) -> None:
        if message.selector is not None and self._refused(message.rid, message.selector, changes=True):
            return

        def answer(given: AnswerClean) -> None:
            self._send(Cleaned(message.rid, given.dropped, given.kept))

        request = self._services.desk.expect(answer)
        self._services.engine.post(CleanRequested(request, message.failed, time.time(), message.selector))

    def _rerun(self, message: Rerun) -> None:
        core = self._services.core
        if self._refused(message.rid, message.selector, changes=True):
            return
        refusal = core.refusal_of_changes(message.changes, may_be_none=True)
        if refusal is not None:
            self._send(Failure(message.rid, refusal))
            return

        def answer(given: Reran | Reason) -> None:
            self._send(Failure(message.rid, given) if isinstance(given, Reason) else given)

        self._services.reruns.rerun(message, answer)

    def _change(self, message: Change) -> None:
        if self._refused(message.rid, message.selector, changes=True):
            return
        refusal = self._services.core.refusal_of_changes(message.changes, may_be_none=False)
        if refusal is not None:
            self._send(Failure(message.rid, refusal))
            return

        def answer(given: AnswerChange) -> None:
            self._send(
                Changed(
                    message.rid, given.changed, given.started, given.finished, given.refused, given.reason
                )
            )

        request = self._services.desk.expect(answer)
        self._services.engine.post(ChangeRequested(request, message.selector, message.changes, time.time()))

    # ---------------------------------------------------------------- workers and the server itself

    def _show_worker(self, message: ShowWorker) -> None:
        core = self._services.core
        found = core.find_worker(message.worker)
        if isinstance(found, Reason):
            self._send(Failure(message.rid, found))
            return
        detail = core.worker_detail(found, self._loop.time())
        if detail is None:
            self._fail(message.rid, "unknown_worker", f"no worker {message.worker}")
            return
        self._send(msgspec.structs.replace(detail, rid=message.rid))

    def _forget_worker(self, message: ForgetWorker) -> None:
        def answer(given: AnswerForgetWorker) -> None:
            if given.error is not None:
                self._send(Failure(message.rid, given.error))
            else:
                self._send(Done(message.rid, given.lines))

        request = self._services.desk.expect(answer)
        self._services.engine.post(ForgetWorkerRequested(request, message.worker, time.time()))

    def _expect_steering(self, rid: int) -> int:
        def answer(given: AnswerSteering) -> None:
            if given.error is not None:
                self._send(Failure(rid, given.error))
            else:
                self._send(Steered(rid, given.workers, given.lines))

        return self._services.desk.expect(answer)

    def _backup(self, message: Backup) -> None:
        def done(error: Exception | None) -> None:
            if error is not None:
                self._fail(message.rid, "backup_failed", f"no backup: {visible(str(error))}")
            else:
                self._send(Done(message.rid))

        self._services.journal.backup(os_bytes(message.path), done)

    def _reload(self, message: Reload) -> None:
        lines = self._services.reload()
        if isinstance(lines, Reason):
            self._send(Failure(message.rid, lines))
        else:
            self._send(Done(message.rid, lines))
