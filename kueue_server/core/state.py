"""All that the core knows, in one place, and what this step has woken.

The modules of the rules are functions over this state. Times are *attentive* seconds: those during which the
server itself was awake, so that a server that was held up holds it against nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kueue_server.core import turns
from kueue_server.core.events import Limits
from kueue_server.core.failing import Streaks
from kueue_server.core.gates import Gates
from kueue_server.core.jobs import Job
from kueue_server.core.ledger import Ledger
from kueue_server.core.outbox import Outbox
from kueue_server.core.pace import Pace
from kueue_server.core.pending import Lane, Pending
from kueue_server.core.retention import Retention
from kueue_server.core.retries import RetryLine
from kueue_server.core.shapes import KnownShape, Shapes
from kueue_server.core.table import JobTable
from kueue_server.core.workers import Worker, Workers

if TYPE_CHECKING:
    from kueue_server.core.queueing import Unsettled
    from kueue_server.core.verbs import UnderWay


class State:
    """The state that `Core.handle` changes. `now` and `wall` are those of the event being handled."""

    def __init__(self, limits: Limits, fences: Iterator[int], now: float, wall: float) -> None:
        self.limits = limits
        self.now = now
        self.wall = wall
        self.late = 0.0  # by how much the server was held up in all
        self.started = now
        self.last_tick = now
        self.shapes = Shapes(frozenset(name for name, _ in limits.global_resources))
        self.pending = Pending(self.shapes)
        self.queues = self.pending.queues
        self.table = JobTable(self.queues)
        self.gates = Gates(self.table)
        self.workers = Workers()
        self.ledger = Ledger(limits, self.shapes.caps)
        self.outbox = Outbox()
        self.pace = Pace()
        self.retention = Retention(now, self.table.failed_lately)
        self.retries = RetryLine()
        self.streaks = Streaks()
        self.judged = now  # when it was last looked how the jobs of suspects fare elsewhere
        self.verbs: deque[UnderWay] = deque()
        self.unsettled: list[Unsettled] = []
        self.newest_submitted = 0
        self.kept: dict[str, tuple[Lane, int]] = {}  # global resource -> the lane and head it is kept for
        self.looks = 0  # pending jobs looked at so far, for tests of what a decision costs
        self._fences = fences
        # What the step has changed, for the placement at its end.
        self.woken: dict[int, Worker] = {}
        self.fresh: dict[Lane, None] = {}
        self.all_fresh = False
        # Workers whose last decision stopped before it had seen everything.
        self.unfinished: dict[int, None] = {}

    def next_fence(self) -> int:
        """A fence that was never used before."""
        return next(self._fences)

    # ---------------------------------------------------------------- waking

    def wake(self, worker: Worker) -> None:
        """A worker may have room for something now."""
        self.woken[worker.id] = worker

    def wake_lane(self, lane: Lane) -> None:
        """A lane has something new for idle workers."""
        if lane.head is not None:
            self.fresh[lane] = None

    def wake_all(self) -> None:
        """Any pending job may be placed anywhere now."""
        self.all_fresh = True

    # ---------------------------------------------------------------- the pending lanes

    def enqueue(self, job: Job) -> None:
        """A job is pending (again)."""
        self.pending.push(job.lane, job.key, self.now)
        self.wake_lane(job.lane)

    def dequeue(self, job: Job) -> None:
        """A job is pending no more."""
        self.pending.remove(job.lane, job.key, self.now)

    # ---------------------------------------------------------------- the ledger

    def take(self, job: Job) -> None:
        """An attempt of a job counts from now on."""
        self.ledger.take(job.id, job.lane.shape.global_needs)

    def give(self, job: Job) -> None:
        """An attempt of a job counts no more: what it had is free for others."""
        was_full = self.ledger.full
        self.ledger.give(job.id, job.lane.shape.global_needs)
        if was_full and not self.ledger.full:
            self.wake_all()
        self.wake_needy(job.lane.shape)

    def wake_needy(self, known: KnownShape) -> None:
        """Something of the global resources that this shape uses became free."""
        if not known.global_needs:
            return
        names = {name for name, _ in known.global_needs}
        for lane in turns.lanes(self.queues):
            if any(name in names for name, _ in lane.shape.global_needs):
                self.fresh[lane] = None
