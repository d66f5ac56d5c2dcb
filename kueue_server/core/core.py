"""The core of the server: event in, instructions out, time as an argument.

`handle` is the only thing that changes state; it does no I/O and reads no clock, so a recorded list of events
replays to the same state. This file only dispatches; the rules are in the modules beside it, in the order
in which a job meets them: admission, table, pending, placement, holding, attempts, reports, retention.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from kueue.job import JobState
from kueue.wire.messages import (
    BATCH_BYTES,
    Changes,
    JobChange,
    JobCounts,
    JobDetail,
    JobView,
    LeftOut,
    QueueView,
    Range,
    Reason,
    ResourceView,
    Selector,
    Spec,
    WaitGroup,
    WorkerDetail,
    WorkerLacks,
    WorkerView,
)
from kueue_server.core import (
    arrivals,
    attempts,
    canceling,
    changing,
    cleaning,
    dependencies,
    dumping,
    holding,
    invariants,
    leases,
    placement,
    predecessors,
    queueing,
    reports,
    restoring,
    starvation,
    steering,
    submission,
    tasks,
    verbs,
    views,
)
from kueue_server.core.admission import Admission
from kueue_server.core.awaited import awaited_ranges
from kueue_server.core.events import (
    ArraySubmitted,
    CancelRequested,
    ChangeRequested,
    CleanRequested,
    Event,
    ForgetWorkerRequested,
    JobsSubmitted,
    Limits,
    LimitsChanged,
    PauseQueuesRequested,
    PauseRequested,
    PredecessorsAsked,
    RemoveQueueRequested,
    ResumeQueuesRequested,
    ResumeRequested,
    SetQueueRequested,
    SubmitFailed,
    Tick,
    TurnCame,
    WorkerConnected,
    WorkerDisconnected,
    WorkerHeard,
    WorkerReported,
    WorkerStatus,
)
from kueue_server.core.explaining import explain
from kueue_server.core.glance import Glance
from kueue_server.core.grouping import why_many_wait
from kueue_server.core.instructions import AnswerForgetWorker, Instruction
from kueue_server.core.jobs import spec_of
from kueue_server.core.records import Restored, RestoredJob
from kueue_server.core.rerunning import Reruns, gather
from kueue_server.core.rows import Rows, end_of
from kueue_server.core.selection import PORTION, SelectedPart, Selection, part
from kueue_server.core.state import State
from kueue_server.core.waiting import WhyWaiting

_ALL_IDS_UP_TO = 1_000_000


class Core:
    """The state machine of the server.

    Args:
        limits: what the configuration says.
        restored, jobs: what the journal kept; `jobs` by id, read once.
        fences: random numbers of 63 bits, none of them 0, never the same twice.
        now: monotonic seconds; wall: seconds since the epoch, only stored and shown.
    """

    def __init__(
        self,
        limits: Limits,
        restored: Restored,
        jobs: Iterable[RestoredJob],
        fences: Iterator[int],
        now: float,
        wall: float,
    ) -> None:
        self._state = State(limits, fences, now, wall)
        self._admission = Admission(self._state)
        restoring.restore(self._state, restored, jobs)

    # ---------------------------------------------------------------- events

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Take in an event that happened at `now`; the orders that follow from it, in order."""
        state = self._state
        if isinstance(event, Tick):
            state.late += max(0.0, event.late)
        # Never backwards, even if a held-up server took its lateness for granted too early.
        state.now = max(state.now, now - state.late)
        match event:
            case JobsSubmitted():
                state.wall = event.wall
                submission.submitted(state, event)
            case ArraySubmitted():
                state.wall = event.wall
                tasks.submitted(state, event)
            case PredecessorsAsked():
                predecessors.asked(state, event)
            case SubmitFailed():
                state.gates.unpin(event.request)
            case WorkerReported():
                state.wall = event.wall
                reports.reported(state, event)
            case WorkerStatus():
                state.wall = event.wall
                reports.status(state, event)
            case WorkerHeard():
                state.wall = event.wall
                reports.sign_of_life(state, event)
            case WorkerConnected():
                state.wall = event.wall
                arrivals.connected(state, event)
            case WorkerDisconnected():
                state.wall = event.wall
                arrivals.disconnected(state, event)
            case CancelRequested():
                state.wall = event.wall
                canceling.cancel(state, event)
            case CleanRequested():
                cleaning.clean(state, event)
            case ChangeRequested():
                state.wall = event.wall
                changing.change(state, event, self._admission)
            case TurnCame():
                verbs.go_on(state)
            case ForgetWorkerRequested():
                state.wall = event.wall
                self._forget_worker(event)
            case PauseRequested():
                state.wall = event.wall
                steering.pause(state, event)
            case ResumeRequested():
                steering.resume(state, event)
            case PauseQueuesRequested():
                state.wall = event.wall
                queueing.pause(state, event)
            case ResumeQueuesRequested():
                queueing.resume(state, event)
            case SetQueueRequested():
                queueing.set_queue(state, event)
            case RemoveQueueRequested():
                state.wall = event.wall
                queueing.remove(state, event)
            case LimitsChanged():
                self._set_limits(event.limits)
            case Tick():
                state.wall = event.wall
                self._tick()
            case _:
                assert_never(event)
        if state.unsettled:
            queueing.settle(state)
        if state.gates.has_work:
            dependencies.go_on(state)
        if not verbs.need_stillness(state):
            placement.place(state)
        return state.outbox.flush(state.table)

    def _tick(self) -> None:
        state = self._state
        leases.review(state)
        starvation.review(state)
        holding.give_up_surplus(state)
        holding.steal(state, holding.hungry_workers(state))
        state.retention.tick(state)
        steering.review_failures(state)
        attempts.retry_due(state)
        verbs.go_on(state)
        if not verbs.need_stillness(state):
            placement.resume(state)
        state.last_tick = state.now

    @property
    def is_under_way(self) -> bool:
        """Does a verb of many jobs wait for its turn, or what follows from ends of jobs?"""
        return bool(self._state.verbs) or self._state.gates.has_work

    def _forget_worker(self, event: ForgetWorkerRequested) -> None:
        state = self._state
        found = views.find_worker(state, event.worker)
        if isinstance(found, Reason):
            state.outbox.send(AnswerForgetWorker(event.request, found, ()))
        else:
            leases.forget(state, event.request, state.workers.by_id[found])

    def _set_limits(self, limits: Limits) -> None:
        state = self._state
        state.limits = limits
        names = frozenset(name for name, _ in limits.global_resources)
        renamed = names != frozenset(state.ledger.totals)
        state.ledger.set_limits(limits)
        if renamed:
            submission.recount(state, names)
        if limits.global_max_parallel_jobs is not None:
            holding.give_up_surplus(state)
        for worker in state.workers.connected():
            state.wake(worker)
        state.wake_all()

    def check_invariants(self) -> None:
        """Compare everything with everything; for tests.

        Raises:
            AssertionError: something does not hold, with the story of the job or worker.
        """
        invariants.check(self._state)

    # ---------------------------------------------------------------- reads: submitting

    def refusal_of(self, spec: Spec) -> Reason | None:
        """Why a job can never run; None if it may."""
        return self._admission.refusal_of(spec)

    def warnings_for(self, specs: Sequence[Spec]) -> tuple[Reason, ...]:
        """What the submitter of accepted jobs should know, each reason once."""
        return self._admission.warnings_for(specs)

    def refusal_of_changes(self, changes: Changes, *, may_be_none: bool) -> Reason | None:
        """Why no job can be changed so; None if some may."""
        return changing.refusal_of(changes, self._admission, may_be_none=may_be_none)

    def select_reruns(self, selector: Selector, wall: float) -> Selection:
        """For `gather_reruns`."""
        return Selection(self._state, selector, wall)

    def gather_reruns(
        self, selection: Selection, changes: Changes, last: int, most: int, found: Reruns
    ) -> None:
        """Add a portion of the specs of jobs that are to be run again."""
        gather(selection, changes, self._admission, last, most, found)

    # ---------------------------------------------------------------- reads: jobs

    def job_view(self, job_id: int, now: float, attempts: bool = True) -> JobView | None:
        """A job as a row; None if it is not in the table."""
        job = self._state.table.look(job_id)
        if job is None:
            return None
        why = WhyWaiting(self._state)
        return views.job_view(self._state, job, spec_of(job), why, now, attempts=attempts)

    def job_detail(self, job_id: int, now: float) -> JobDetail | None:
        """All about a job, but its tails and context; `rid` is 0."""
        job = self._state.table.look(job_id)
        return None if job is None else views.job_detail(self._state, job, now)

    def context_of(self, job_id: int) -> str | None:
        """The hash of a job's context."""
        job = self._state.table.look(job_id)
        return None if job is None else job.context

    def change_of(self, job_id: int) -> JobChange:
        """A job as its watchers see it; state `unknown` if it is not in the table."""
        table = self._state.table
        if job_id in table.latent:
            return views.task_change(table, job_id)
        job = table.get(job_id)
        return JobChange(job_id, "unknown") if job is None else views.job_change(self._state, job)

    def page(
        self,
        filter: Selector,
        newest_first: bool,
        cursor: int | None,
        limit: int,
        attempts: bool,
        now: float,
        wall: float = 0.0,
        *,
        arrays: bool = False,
    ) -> tuple[list[JobView], int | None]:
        """At most `limit` rows beyond `cursor`, fewer where they are long or far between, and the next cursor;
        None if these were the last. With `arrays`, latent tasks that follow one another are one row."""
        state = self._state
        selection = Selection(state, filter, wall)
        rows = Rows(state, now, attempts=attempts, arrays=arrays)
        left = PORTION
        for found, named in selection.walk_tasks(newest_first, cursor):
            for at, row in rows.of(found, newest_first) if named else ((end_of(found, newest_first), None),):
                if len(rows.made) == limit or rows.size >= BATCH_BYTES or left <= 0:
                    return rows.made, cursor
                left -= selection.cost
                cursor = at
                if row is not None:
                    rows.add(row())
        return rows.made, None

    def glance(
        self, rows: int, now: float, *, arrays: bool = False
    ) -> tuple[list[JobView], LeftOut, tuple[WaitGroup, ...]]:
        """At most so many rows that tell most of the whole table, how many there are of each kind beside them, and
        why the pending ones wait."""
        state = self._state
        glance = Glance(state, rows, arrays=arrays)
        found = Rows(state, now, attempts=False, arrays=arrays)
        for one in glance.take():
            for _, row in found.of(one, False):
                found.add(row())
            if found.size >= BATCH_BYTES:
                break
        return found.made, glance.left_out(), why_many_wait(state, found.why)

    def select(self, selector: Selector, cursor: int | None, most_ranges: int, wall: float) -> SelectedPart:
        """A portion of what a selector names."""
        return part(Selection(self._state, selector, wall), cursor, most_ranges)

    @property
    def ended(self) -> int:
        """How many attempts ended by themselves since the server started."""
        return self._state.pace.total

    @property
    def oldest(self) -> int:
        """The lowest id in the table, 0 if it is empty."""
        return self._state.table.present.first() or 0

    @property
    def newest(self) -> int:
        """The highest id in the table, 0 if it is empty."""
        return self._state.table.present.last() or 0

    def job_ids(self, ranges: tuple[Range, ...]) -> Iterator[int]:
        """The ids to show for ranges, lazily: all of them where they are few, those of jobs in the table
        where a range is wider than a million."""
        for first, last in ranges:
            if last - first < _ALL_IDS_UP_TO:
                yield from range(first, last + 1)
            else:
                yield from self._state.table.walk(((first, last),))

    def counts(self, now: float) -> JobCounts:
        """The table by state, and how fast it goes."""
        state = self._state
        by_state = {name.value: len(ids) for name, ids in state.table.by_state.items()}
        left = state.table.unfinished
        # Where nothing goes on, nobody knows when it is over, however fast it went.
        stands = left and not state.table.count(JobState.OFFERED, JobState.RUNNING)
        eta = None if stands else state.pace.eta_seconds(left, max(state.now, now - state.late))
        return JobCounts(**by_state, average_run_seconds=state.pace.average_run_seconds, eta_seconds=eta)

    def explain(
        self, job_id: int, now: float
    ) -> tuple[JobView, tuple[WorkerLacks, ...], tuple[Range, ...]] | None:
        """A job, what each worker lacks for it, and the jobs that it waits for."""
        job = self._state.table.look(job_id)
        view = self.job_view(job_id, now)
        if job is None or view is None:
            return None
        return view, explain(self._state, job), awaited_ranges(self._state, job)

    def log_place(self, job_id: int, attempt: int | None) -> views.LogPlace | Reason:
        """Where the output of an attempt (None: the current or last one) is to be had."""
        return views.log_place(self._state, job_id, attempt)

    # ---------------------------------------------------------------- reads: workers and resources

    def workers(self, now: float) -> tuple[WorkerView, ...]:
        """All workers, by id."""
        return tuple(views.worker_view(worker, now) for worker in self._state.workers.ordered())

    def cpus(self) -> tuple[int, float]:
        """CPUs of the connected workers, and how many of them are in use."""
        return views.cpus(self._state)

    def find_worker(self, text: str) -> int | Reason:
        """The worker of this id or name, or on this host if that is the only one."""
        return views.find_worker(self._state, text)

    def worker_detail(self, worker_id: int, now: float) -> WorkerDetail | None:
        """All about a worker; `rid` is 0."""
        worker = self._state.workers.by_id.get(worker_id)
        return None if worker is None else views.worker_detail(worker, now)

    def session_of(self, worker_id: int) -> int | None:
        """The session of a connected worker."""
        worker = self._state.workers.by_id.get(worker_id)
        return None if worker is None else worker.session

    def resources(self) -> tuple[ResourceView, ...]:
        """The global resources, by name."""
        return views.resources(self._state)

    def queues(self, now: float) -> tuple[QueueView, ...]:
        """The named queues, by name."""
        state = self._state
        return views.queues(state, max(state.now, now - state.late))

    def dump(self, queue: str, cursor: int | None) -> dumping.Page | None:
        """A page of the jobs of a queue that have not been handed out; None if there is no such queue."""
        return dumping.page(self._state, queue, cursor)

    def has_key(self, queue: str, digest: bytes) -> bool:
        """Has a queue a job with the key of this digest?"""
        found = self._state.queues.by_name.get(queue)
        return found is not None and digest in found.keys

    @property
    def newest_submitted(self) -> int:
        """The highest id that has ever come into the table."""
        return self._state.newest_submitted

    @property
    def parallel_jobs(self) -> int:
        """Attempts that count for `global_max_parallel_jobs`."""
        return self._state.ledger.parallel
