"""A server core on the bench: events go in by short names, its journal is a few dicts, time stands still.

After each event the invariants are checked, and the writes are applied to the dicts as the real journal
would; `restart` builds a new core from them, as after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from kueue.indices import count_of
from kueue.job import End, JobState
from kueue.resources import Capacity, Shape
from kueue.wire.messages import (
    AttemptRef,
    Command,
    FinishedAttempt,
    OsString,
    Reason,
    RefusedAttempt,
    Report,
    RunningAttempt,
    Spec,
    Status,
    Step,
    SystemInfo,
    Waits,
)
from kueue_server.core.core import Core
from kueue_server.core.events import (
    ArraySubmitted,
    CancelRequested,
    CleanRequested,
    Event,
    ForgetWorkerRequested,
    JobsSubmitted,
    Limits,
    LimitsChanged,
    PauseQueuesRequested,
    PauseRequested,
    RemoveQueueRequested,
    ResumeQueuesRequested,
    ResumeRequested,
    SetQueueRequested,
    Tick,
    WorkerConnected,
    WorkerDisconnected,
    WorkerHeard,
    WorkerReported,
    WorkerStatus,
)
from kueue_server.core.instructions import (
    DropJobs,
    DropPart,
    DropPause,
    DropQueue,
    DropStop,
    DropWorker,
    Instruction,
    JobsChanged,
    LogLine,
    OfferJobs,
    SaveJob,
    SavePart,
    SavePause,
    SaveQueue,
    SaveSpec,
    SaveStop,
    SaveTails,
    SaveTask,
    SaveWorker,
    SendWorker,
)
from kueue_server.core.records import (
    Restored,
    RestoredJob,
    RestoredPart,
    RestoredPause,
    RestoredQueue,
    RestoredStop,
    WorkerRecord,
    encoded_plan,
)
from kueue_server.core.tasks import first_state

WALL = 1_000_000.0
"""The wall clock when the bench's own clock shows 0."""


def make_spec(
    *argv: str,
    cwd: OsString = "/data/work",
    volume: OsString = "/data",
    cpus: int = 1,
    ram_mb: int = 100,
    slots: int = 1,
    resources: dict[str, int] | None = None,
    priority: int = 0,
    restart: bool = True,
    max_restarts: int = 5,
    group: str = "",
    queue: str = "default",
    key: str = "",
    workers: tuple[str, ...] = (),
    not_workers: tuple[str, ...] = (),
    stdout: OsString | None = None,
    waits: Waits | None = None,
) -> Spec:
    """A job as a client would send it."""
    shape = Shape(cpus, ram_mb, slots, tuple(sorted((resources or {}).items())), workers, not_workers)
    return Spec(
        payload=Command(argv or ("true",)),
        cwd=cwd,
        volume=volume,
        shape=shape,
        context="c0",
        priority=priority,
        restart=restart,
        max_restarts=max_restarts,
        group=group,
        queue=queue,
        key=key,
        stdout=stdout,
        waits=waits,
    )


class MemoryJournal:
    """What the real journal would hold."""

    def __init__(self) -> None:
        self.jobs: dict[int, RestoredJob] = {}
        self.workers: dict[int, bytes] = {}
        self.stops: dict[tuple[int, int, int], str] = {}
        self.pauses: dict[int, tuple[float, str]] = {}
        self.queues: dict[str, SaveQueue] = {}
        self.tails: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self.parts: dict[int, RestoredPart] = {}
        self.dropped: set[int] = set()
        self.next_job = 1

    def has_part_of(self, job: int) -> bool:
        """Is it a task of an array, as it was submitted?"""
        return any(part.first <= job <= part.last for part in self.parts.values())

    def restored(self) -> Restored:
        """All but the jobs."""
        decode = msgspec.json.Decoder(WorkerRecord).decode
        return Restored(
            self.next_job,
            tuple((number, decode(record)) for number, record in sorted(self.workers.items())),
            tuple(RestoredStop(*key, why) for key, why in self.stops.items()),
            tuple(RestoredPause(worker, *pause) for worker, pause in self.pauses.items()),
            tuple(RestoredQueue(*msgspec.structs.astuple(queue)) for queue in self.queues.values()),
            tuple(part for _, part in sorted(self.parts.items())),
        )

    def apply(self, instruction: Instruction) -> None:
        """Carry out a write; everything else is none of the journal's business."""
        match instruction:
            case SaveJob(job, state, progress):
                old = self.jobs.get(job)
                if old is None:
                    assert self.has_part_of(job), f"job {job} is saved, and was never submitted"
                    old = RestoredJob(job, 0.0, state, b"", None)
                self.jobs[job] = RestoredJob(job, old.submitted_at, state, old.spec, progress)
            case SaveSpec(job, spec):
                assert self.jobs[job].spec
                self.jobs[job] = msgspec.structs.replace(self.jobs[job], spec=spec)
            case SaveTask(job, submitted_at, _, spec):
                assert not self.has_part_of(job)
                before = self.jobs.get(job, RestoredJob(job, 0.0, JobState.PENDING, b"", None))
                assert not before.spec
                self.jobs[job] = msgspec.structs.replace(before, submitted_at=submitted_at, spec=spec)
            case SavePart(first, last, submitted_at, _, plan, state, finished_at):
                self.parts[first] = RestoredPart(first, last, submitted_at, plan, state, finished_at)
            case DropPart(first):
                del self.parts[first]
            case SaveTails(job, attempt, stdout, stderr):
                self.tails[job, attempt] = (stdout, stderr)
            case SaveWorker(worker, _, record):
                self.workers[worker] = record
            case DropWorker(worker):
                del self.workers[worker]
            case SaveStop(worker, job, fence, why):
                self.stops[worker, job, fence] = why
            case DropStop(worker, job, fence):
                del self.stops[worker, job, fence]
            case SavePause(worker, since, reason):
                self.pauses[worker] = (since, reason)
            case DropPause(worker):
                self.pauses.pop(worker, None)
            case SaveQueue(queue):
                self.queues[queue] = instruction
            case DropQueue(queue):
                self.queues.pop(queue, None)
            case DropJobs(ranges):
                for first, last in ranges:
                    for job in range(first, last + 1):
                        assert job not in self.dropped, f"job {job} is dropped twice"
                        assert not self.has_part_of(job), f"job {job} is dropped, and comes back as a task"
                        self.jobs.pop(job, None)
                        self.dropped.add(job)
            case _:
                pass


class Bench:
    """One core, its journal, and a clock that the test moves."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.journal = MemoryJournal()
        self.time = 100.0
        self._fence = 0
        self._session = 0
        self._request = 0
        self.checked = True
        self.clock_set_by = 0.0  # seconds that somebody has added to the wall clock
        self.core = self._build()

    def _build(self) -> Core:
        jobs = [self.journal.jobs[number] for number in sorted(self.journal.jobs)]
        core = Core(self.limits, self.journal.restored(), jobs, self._fences(), self.time, self.wall)
        core.check_invariants()
        return core

    def _fences(self) -> Iterator[int]:
        while True:
            self._fence += 1
            yield self._fence

    @property
    def wall(self) -> float:
        """Seconds since the epoch."""
        return WALL + self.time + self.clock_set_by

    def handle(self, event: Event) -> list[Instruction]:
        """Feed an event; its instructions, after the journal has had its share."""
        result = self.core.handle(event, self.time)
        for instruction in result:
            self.journal.apply(instruction)
        if self.checked:
            self.core.check_invariants()
        return result

    def restart(self) -> None:
        """The server crashes and starts again; connections are gone."""
        self.core = self._build()

    # ---------------------------------------------------------------- events

    def submit(self, *specs: Spec) -> list[Instruction]:
        """A block of jobs, durable already."""
        first = self.journal.next_job
        encoded = tuple(msgspec.json.encode(spec) for spec in specs)
        for number, body in enumerate(encoded, first):
            self.journal.jobs[number] = RestoredJob(number, self.wall, JobState.PENDING, body, None)
        self.journal.next_job += len(specs)
        return self.handle(JobsSubmitted(first, specs, encoded, self.wall))

    def submit_array(self, spec: Spec, *indices: Step, max_running: int | None = None) -> list[Instruction]:
        """An array, durable already."""
        first, last = self.journal.next_job, self.journal.next_job + count_of(indices) - 1
        spec = msgspec.structs.replace(spec, array=first, max_running=max_running)
        plan = encoded_plan(spec, indices)
        self.journal.parts[first] = RestoredPart(first, last, self.wall, plan, first_state(spec), 0.0)
        self.journal.next_job = last + 1
        return self.handle(ArraySubmitted(first, last, spec, indices, self.wall))

    def connect(
        self,
        name: str = "w1",
        cpus: int = 2,
        *,
        ram_mb: int = 16_000,
        slots: int | None = None,
        own: dict[str, int] | None = None,
        keeper: str = "k1",
        boot: str = "b1",
        held: tuple[tuple[int, int], ...] = (),
        running: tuple[tuple[int, int, int], ...] = (),
        finished: tuple[FinishedAttempt, ...] = (),
    ) -> tuple[int, list[Instruction]]:
        """A worker registers and sends its inventory; the session, and what followed."""
        self._session += 1
        capacity = Capacity(cpus, ram_mb, slots if slots is not None else cpus, tuple((own or {}).items()))
        event = WorkerConnected(
            session=self._session,
            name=name,
            host=name.split("-")[0],
            version="0.1",
            keeper=keeper,
            boot=boot,
            capacity=capacity,
            system=SystemInfo(),
            address="10.0.0.1",
            held=tuple(AttemptRef(*ref) for ref in held),
            running=tuple(RunningAttempt(job, fence, attempt, 5.0) for job, fence, attempt in running),
            finished=finished,
            wall=self.wall,
        )
        return self._session, self.handle(event)

    def worker(self, name: str = "w1", cpus: int = 2, **options: object) -> int:
        """A worker connects and says that all it has is free; its session."""
        session, _ = self.connect(name, cpus, **options)  # type: ignore[arg-type]
        self.status(session, cpus)
        return session

    def status(
        self, session: int, cpus: float = 2, ram_mb: float = 16_000, *, accepting: bool = True, note: str = ""
    ) -> list[Instruction]:
        """A worker says what it can give."""
        status = Status(usable_cpus=cpus, usable_ram_mb=ram_mb, accepting=accepting, note=note)
        return self.handle(WorkerStatus(session, status, self.wall))

    def report(self, session: int, report: Report) -> list[Instruction]:
        """A worker reports."""
        return self.handle(WorkerReported(session, report, self.wall))

    def started(self, session: int, *refs: tuple[int, int]) -> list[Instruction]:
        """Attempts started just now."""
        return self.report(session, Report(started=tuple(RunningAttempt(*ref, 1, 0.0) for ref in refs)))

    def finished(
        self,
        session: int,
        *refs: tuple[int, int],
        code: int | None = 0,
        end: End = End.EXITED,
        run: float = 3.0,
        signal: int | None = None,
        reason: Reason | None = None,
    ) -> list[Instruction]:
        """Attempts ended just now."""
        ends = tuple(
            FinishedAttempt(
                job,
                fence,
                1,
                end,
                exit_code=None if signal is not None else code,
                signal=signal,
                reason=reason,
                run_seconds=run,
            )
            for job, fence in refs
        )
        return self.report(session, Report(finished=ends))

    def refused(
        self, session: int, job: int, fence: int, code: str, ancestor: OsString | None = None
    ) -> list[Instruction]:
        """A worker will not run an attempt."""
        return self.report(session, Report(refused=(RefusedAttempt(job, fence, code, "", ancestor),)))

    def released(self, session: int, *refs: tuple[int, int]) -> list[Instruction]:
        """A worker gives attempts back."""
        return self.report(session, Report(released=tuple(AttemptRef(*ref) for ref in refs)))

    def kept(self, session: int, *refs: tuple[int, int]) -> list[Instruction]:
        """A worker has started what it was asked for."""
        return self.report(session, Report(kept=tuple(AttemptRef(*ref) for ref in refs)))

    def hear(self, session: int) -> list[Instruction]:
        """A heartbeat."""
        return self.handle(WorkerHeard(session, self.wall))

    def disconnect(self, session: int, *, leaving: bool = False) -> list[Instruction]:
        """A session ends."""
        return self.handle(WorkerDisconnected(session, leaving, self.wall))

    def cancel(self, *ranges: tuple[int, int], kill: bool = False) -> list[Instruction]:
        """A client cancels jobs."""
        self._request += 1
        return self.handle(CancelRequested(self._request, ranges, kill, self.wall))

    def clean(self, *, failed: bool = False) -> list[Instruction]:
        """A client cleans the table."""
        self._request += 1
        return self.handle(CleanRequested(self._request, failed))

    def forget(self, worker: str) -> list[Instruction]:
        """A person says that a worker's attempts are dead."""
        self._request += 1
        return self.handle(ForgetWorkerRequested(self._request, worker, self.wall))

    def pause(self, *globs: str, kill: bool = False, reason: str = "") -> list[Instruction]:
        """A person keeps workers from taking jobs."""
        self._request += 1
        return self.handle(PauseRequested(self._request, globs, kill, reason, self.wall))

    def resume(self, *globs: str) -> list[Instruction]:
        """A person lets workers take jobs again."""
        self._request += 1
        return self.handle(ResumeRequested(self._request, globs))

    def pause_queues(self, *queues: str, reason: str = "") -> list[Instruction]:
        """A person wants nothing of queues to start."""
        self._request += 1
        return self.handle(PauseQueuesRequested(self._request, queues, reason, self.wall))

    def resume_queues(self, *queues: str) -> list[Instruction]:
        """A person lets jobs of queues start again."""
        self._request += 1
        return self.handle(ResumeQueuesRequested(self._request, queues))

    def set_queue(
        self, queue: str, *, weight: int | None = None, max_running: int | None = None
    ) -> list[Instruction]:
        """A person sets what a queue may."""
        self._request += 1
        return self.handle(SetQueueRequested(self._request, queue, weight, max_running))

    def remove_queue(self, queue: str, *, cancel: bool = False) -> list[Instruction]:
        """A person wants a queue no more."""
        self._request += 1
        return self.handle(RemoveQueueRequested(self._request, queue, cancel, self.wall))

    def set_limits(self, limits: Limits) -> list[Instruction]:
        """The configuration is read again."""
        self.limits = limits
        return self.handle(LimitsChanged(limits))

    def tick(self, seconds: float = 1.0, *, late: float = 0.0) -> list[Instruction]:
        """Time passes, then the shell ticks."""
        self.time += seconds
        return self.handle(Tick(self.wall, late))

    def pass_time(self, seconds: float, *sessions: int) -> list[Instruction]:
        """Seconds pass one by one; the workers of these sessions are heard of all the while."""
        result: list[Instruction] = []
        for _ in range(int(seconds)):
            for session in sessions:
                result += self.hear(session)
            result += self.tick(1.0)
        return result

    # ---------------------------------------------------------------- looking

    def state(self, job: int) -> str:
        """A job's state, or `unknown`."""
        return self.core.change_of(job).state

    def reason(self, job: int) -> Reason | None:
        """Why a job is as it is."""
        view = self.core.job_view(job, self.time)
        assert view is not None
        return view.reason


def offers(instructions: list[Instruction]) -> list[tuple[int, int, int]]:
    """Session, job and fence of each offer, in order."""
    return [
        (instruction.session, job[0], job[1])
        for instruction in instructions
        if isinstance(instruction, OfferJobs)
        for job in instruction.jobs
    ]


def sent(instructions: list[Instruction]) -> list[tuple[int, object]]:
    """Session and message of everything sent to workers but offers."""
    return [
        (instruction.session, instruction.message)
        for instruction in instructions
        if isinstance(instruction, SendWorker)
    ]


def plain(instructions: list[Instruction]) -> list[Instruction]:
    """The instructions with the bodies of saved jobs and workers left out: what happens, in order."""
    result: list[Instruction] = []
    for instruction in instructions:
        match instruction:
            case SaveJob(job, state, _):
                result.append(SaveJob(job, state, b""))
            case SaveWorker(worker, name, _):
                result.append(SaveWorker(worker, name, b""))
            case OfferJobs(session, jobs):
                cut = tuple((job, fence, attempt, b"", "") for job, fence, attempt, _, _ in jobs)
                result.append(OfferJobs(session, cut))
            case LogLine() | JobsChanged():
                pass
            case _:
                result.append(instruction)
    return result
