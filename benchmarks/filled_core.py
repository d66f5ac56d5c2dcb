"""A server core with any number of pending jobs and one worker: the real one, on the tests' bench.

Events go straight into the core. What it would write is left out, so that the times are the core's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from kueue.job import End
from kueue.wire.messages import FinishedAttempt, RefusedAttempt, Report, Spec, Status
from kueue_server.core.core import Core
from kueue_server.core.events import Event, JobsSubmitted, Limits, WorkerReported, WorkerStatus
from kueue_server.core.instructions import Instruction
from tests.support.core_bench import WALL, Bench, make_spec, offers

BLOCK = 1000
CPUS = 2
"""Of the worker and of each job: one fits, and a second one is too wide to be held ahead."""
RAM_MB = 16_000.0


class FilledCore:
    """`directory_of(n)` is the working directory of the n-th job that is submitted, from 0."""

    def __init__(self, jobs: int, directory_of: Callable[[int], str]) -> None:
        self._bench = Bench()
        self._bench.checked = False
        self._directory_of = directory_of
        self._submitted = 0
        self.session = self._bench.worker("w1", cpus=CPUS)
        self._say_free(0)
        while self._submitted < jobs:
            self.submit(min(BLOCK, jobs - self._submitted))

    @property
    def core(self) -> Core:
        """The real one."""
        return self._bench.core

    def handle(self, event: Event) -> list[Instruction]:
        """Feed an event past the bench's journal."""
        return self.core.handle(event, self._bench.time)

    def submit(self, count: int) -> None:
        """So many more jobs, each with a command of its own."""
        first = self._submitted
        specs = tuple(self._spec(number) for number in range(first, first + count))
        encoded = tuple(map(msgspec.json.encode, specs))
        self._submitted += count
        self.handle(JobsSubmitted(first + 1, specs, encoded, WALL))

    def _spec(self, number: int) -> Spec:
        directory = self._directory_of(number)
        return make_spec("./simulate", f"--seed={number}", cwd=directory, volume="/data", cpus=CPUS)

    def _say_free(self, cpus: int) -> list[Instruction]:
        return self.handle(WorkerStatus(self.session, Status(float(cpus), RAM_MB), WALL))

    def refuse(self, ancestor: str) -> None:
        """The worker gets a job and refuses it, since nothing is there below this directory."""
        ((_, job, fence),) = offers(self._say_free(CPUS))
        self._say_free(0)
        report = Report(refused=(RefusedAttempt(job, fence, "no_directory", "", ancestor),))
        self.handle(WorkerReported(self.session, report, WALL))

    def decision_seconds(self) -> float:
        """How long it takes from "I have room" to the offer, or to nothing; the job then ends, and a new one
        comes, so that there are as many as before."""
        begin = time.perf_counter()
        instructions = self._say_free(CPUS)
        taken = time.perf_counter() - begin
        self._say_free(0)
        found = offers(instructions)
        for _, job, fence in found:
            end = FinishedAttempt(job, fence, 1, End.EXITED, exit_code=0)
            self.handle(WorkerReported(self.session, Report(finished=(end,)), WALL))
        if found:
            self.submit(len(found))
        return taken


def filled_with_everything(jobs: int) -> Core:
    """A table of all kinds of jobs: forty workers that run something, 200 queues of pending jobs, some of them for a
    licence that is in use, and as many that have succeeded and failed."""
    bench = Bench(Limits(global_resources=(("genus", 3),)))
    bench.checked = False
    core = bench.core
    sessions = [bench.worker(f"w{number}", cpus=16) for number in range(min(40, jobs // 4))]
    part = jobs // 4
    number = 0
    while number < jobs:
        specs = tuple(_spec_of_kind(at, part) for at in range(number, min(jobs, number + BLOCK)))
        core.handle(
            JobsSubmitted(number + 1, specs, tuple(map(msgspec.json.encode, specs)), WALL), bench.time
        )
        number += len(specs)
        while number <= 2 * part and (found := _running(core, sessions)):
            for session, refs in found.items():
                ends = tuple(
                    FinishedAttempt(job, fence, 1, End.EXITED, exit_code=job % 2, run_seconds=60.0)
                    for job, fence in refs
                )
                core.handle(WorkerReported(session, Report(finished=ends), WALL), bench.time)
    return core


def _spec_of_kind(number: int, part: int) -> Spec:
    if number < 2 * part:
        return make_spec("./simulate", f"--seed={number}", cwd="/data/work", volume="/data")
    resources = {"genus": 1} if number % 4 == 0 else None
    return make_spec(
        "./synthesize",
        f"--seed={number}",
        cwd=f"/data/{number % 100}/work",
        volume=f"/data/{number % 100}",
        cpus=2,
        resources=resources,
        group=f"g{number % 1000}",
    )


def _running(core: Core, sessions: list[int]) -> dict[int, list[tuple[int, int]]]:
    """What each session's worker has been handed, held jobs too."""
    state = core._state
    found = {}
    for session in sessions:
        worker = state.workers.by_session[session]
        refs = [(job, state.table.jobs[job].fence) for job in worker.current_jobs()]
        if refs:
            found[session] = refs
    return found
