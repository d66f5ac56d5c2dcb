"""A cluster in virtual time: the server's real core, and workers that are a few numbers each.

What happens takes no time but that which is given: jobs run as long as they are said to, and a message is on its way
for so long, the commit before it included. One heap of what comes next; equal times in the order of their making.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from kueue.job import End
from kueue.wire.messages import AttemptRef, FinishedAttempt, Report, Retract, RunningAttempt, Spec
from kueue_server.core.events import Event, JobsSubmitted, Limits, Tick, WorkerHeard, WorkerReported
from kueue_server.core.instructions import CloseSession, OfferJobs, SaveJob, SendWorker
from tests.support.core_bench import WALL, Bench

TO_WORKER_SECONDS = 0.005
"""A commit and a way through the network."""
TO_SERVER_SECONDS = 0.001
TICK_SECONDS = 1.0
TICKS_PER_HEARTBEAT = 15
BLOCK = 1000
RAM_MB_PER_CPU = 4000

Task = tuple[Spec, float]
"""A job, and how long it runs."""


class VirtualCluster:
    """`run` has all jobs done; then the figures are there.

    `makespan`: from the submit to the last end. `queued_seconds`: until the last job started; `queued_busy`: CPU
    seconds that jobs had had by then. `offered`: jobs handed out; `core_seconds`: of the core, in real time.
    """

    def __init__(self, workers: int, cpus: int, limits: Limits, tasks: Sequence[Task]) -> None:
        self.makespan = self.queued_seconds = self.queued_busy = self.core_seconds = 0.0
        self.offered = 0
        self._tasks = tasks
        self._left = len(tasks)
        self._bench = Bench(limits)
        self._bench.checked = False
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = self._ticks = 0
        self._begin = self.now = self._bench.time
        self._busy = 0
        self._busy_area = 0.0
        self._busy_since = self.now
        self._workers: dict[int, _Worker] = {}
        for number in range(workers):
            session, _ = self._bench.connect(f"w{number}", cpus, ram_mb=RAM_MB_PER_CPU * cpus)
            self._bench.status(session, cpus, RAM_MB_PER_CPU * cpus)
            self._workers[session] = _Worker(self, session, cpus)

    def run(self) -> None:
        """Until the last job has ended, and the server knows it."""
        for first in range(0, len(self._tasks), BLOCK):
            specs = tuple(spec for spec, _ in self._tasks[first : first + BLOCK])
            encoded = tuple(map(msgspec.json.encode, specs))
            self.handle(JobsSubmitted(first + 1, specs, encoded, WALL))
        self.later(TICK_SECONDS, self._tick)
        while self._left:
            self.now, _, happen = heapq.heappop(self._heap)
            happen()

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        """Something will happen."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + seconds, self._number, happen))

    def handle(self, event: Event) -> None:
        """The core is told, and what it wants of workers is on its way."""
        begin = time.thread_time()
        instructions = self._bench.core.handle(event, self.now)
        self.core_seconds += time.thread_time() - begin
        for instruction in instructions:
            match instruction:
                case SaveJob(_, state, _):
                    self._left -= state.value == "succeeded"
                case OfferJobs(session, jobs):
                    self.offered += len(jobs)
                    refs = [(job, fence) for job, fence, _, _, _ in jobs]
                    self.later(TO_WORKER_SECONDS, partial(self._workers[session].take, refs))
                case SendWorker(session, message) if isinstance(message, Retract):
                    self.later(TO_WORKER_SECONDS, partial(self._workers[session].give_back, message.attempts))
                case CloseSession():
                    raise AssertionError(f"the server gave up worker {instruction.session}")
                case _:
                    pass

    def report(self, session: int, report: Report) -> None:
        """A worker says something."""
        self.later(TO_SERVER_SECONDS, lambda: self.handle(WorkerReported(session, report, WALL + self.now)))

    def task(self, job: int) -> Task:
        """What a job is."""
        return self._tasks[job - 1]

    def occupy(self, cpus: int) -> None:
        """So many more CPUs are at work (negative: fewer)."""
        self._busy_area += self._busy * (self.now - self._busy_since)
        self._busy_since = self.now
        self._busy += cpus
        if cpus > 0:
            self.queued_seconds = self.now - self._begin
            self.queued_busy = self._busy_area
        else:
            self.makespan = self.now - self._begin

    def _tick(self) -> None:
        self.handle(Tick(WALL + self.now))
        self._ticks += 1
        if self._ticks % TICKS_PER_HEARTBEAT == 0:
            for session in self._workers:
                self.handle(WorkerHeard(session, WALL + self.now))
        self.later(TICK_SECONDS, self._tick)


class _Worker:
    """Starts what fits in the order in which it came, holds the rest."""

    def __init__(self, cluster: VirtualCluster, session: int, cpus: int) -> None:
        self._cluster = cluster
        self._session = session
        self._free = cpus
        self._held: dict[tuple[int, int], None] = {}

    def take(self, refs: list[tuple[int, int]]) -> None:
        self._held.update(dict.fromkeys(refs))
        self._report(())

    def give_back(self, refs: tuple[AttemptRef, ...]) -> None:
        released, kept = [], []
        for ref in refs:
            key = (ref.job, ref.fence)
            if key in self._held:
                del self._held[key]
                released.append(ref)
            else:
                kept.append(ref)
        self._cluster.report(self._session, Report(released=tuple(released), kept=tuple(kept)))

    def _end(self, job: int, fence: int, cpus: int, seconds: float) -> None:
        self._free += cpus
        self._cluster.occupy(-cpus)
        ended = FinishedAttempt(
            job, fence, 1, End.EXITED, exit_code=0, started_ago=seconds, run_seconds=seconds
        )
        self._report((ended,))

    def _report(self, finished: tuple[FinishedAttempt, ...]) -> None:
        """Start what fits now, and tell all that is new."""
        started = []
        for job, fence in list(self._held) if self._free else ():
            spec, seconds = self._cluster.task(job)
            cpus = spec.shape.cpus
            if cpus <= self._free:
                del self._held[job, fence]
                self._free -= cpus
                self._cluster.occupy(cpus)
                self._cluster.later(seconds, partial(self._end, job, fence, cpus, seconds))
                started.append(RunningAttempt(job, fence, 1, 0.0))
        if started or finished:
            self._cluster.report(self._session, Report(started=tuple(started), finished=finished))


def first_come_first_served(cpus: int, seconds: Sequence[float]) -> float:
    """The makespan of jobs of one CPU each that take the next free one at once: what a scheduler that does not know
    how long jobs run can reach at best, in their order."""
    free_at = [0.0] * cpus
    for taken in seconds:
        heapq.heapreplace(free_at, free_at[0] + taken)
    return max(free_at)
