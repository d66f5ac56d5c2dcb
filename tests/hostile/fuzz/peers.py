"""Hostile workers and clients against the server's core, checked after each event.

The messages go through the real decoders, so only what can come over the wire is met. The journal is dicts, but
what would be written must fit its columns, and what would be told must be such as its receiver can read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from kueue.errors import ProtocolError
from kueue.indices import count_of, fault_of_indices
from kueue.wire import codec
from kueue.wire.messages import (
    TAIL_BYTES,
    Cancel,
    Clean,
    ClientMessage,
    Explain,
    Explanation,
    ForgetWorker,
    Inventory,
    JobPage,
    Leaving,
    ListJobs,
    PauseWorkers,
    ReadLog,
    Register,
    Report,
    ResourcePage,
    ResumeWorkers,
    ShowJob,
    ShowWorker,
    Spec,
    Status,
    Submit,
    SubmitArray,
    WorkerMessage,
    WorkerPage,
)
from kueue_server.core.arrays import task_spec
from kueue_server.core.events import (
    CancelRequested,
    CleanRequested,
    Limits,
    WorkerConnected,
    WorkerDisconnected,
    WorkerHeard,
    WorkerReported,
    WorkerStatus,
)
from kueue_server.core.instructions import DropStop, Instruction, OfferJobs, SaveStop, SaveTails, SendWorker
from tests.hostile.forging import BytesSource, encoded, forge, message_types
from tests.support.core_bench import Bench, make_spec

MOST_STEPS = 60
MOST_TASKS = 5000
_WORKER = [kind for kind in message_types(WorkerMessage) if kind.tag in ("status", "report", "inventory")]
_REGISTER = next(kind for kind in message_types(WorkerMessage) if kind.tag == "register")
_CLIENT = message_types(ClientMessage)


class _Bench(Bench):
    """Fences can't be guessed, as on a real server."""

    def _fences(self) -> Iterator[int]:
        while True:
            self._fence += 1
            yield int.from_bytes(hashlib.sha256(b"%d" % self._fence).digest()[:8], "big") >> 1


class Play:
    """One run: a core with some jobs and an honest worker, and whoever the bytes make of it."""

    def __init__(self, data: bytes) -> None:
        self.source = BytesSource(data, integers=[1, 2, 3, 4], texts=["w1", "honest", "evil", "k1", "b1"])
        self.bench = _Bench(Limits(global_resources=(("genus", 2),)))
        self.honest = self.bench.worker("honest", 2)
        self.bench.submit(*[make_spec("true", resources={"genus": 1}) for _ in range(2)], make_spec("true"))
        self.sessions: list[int] = []
        self.fences: list[int] = []

    def run(self) -> None:
        """Step after step, until the bytes are used up."""
        for _ in range(MOST_STEPS):
            if not self.source.left:
                break
            step = self.source.choose(
                (self._talk, self._talk, self._talk, self._join, self._ask, self._ask, self._pass)
            )
            step()
        self._ask_all()

    # ---------------------------------------------------------------- steps

    def _join(self) -> None:
        """A worker registers, with whatever inventory."""
        register = self._decoded(codec.decode_worker_message, _REGISTER)
        inventory = self._decoded(codec.decode_worker_message, self._kind("inventory"))
        if not isinstance(register, Register) or not isinstance(inventory, Inventory):
            return
        name = self.source.choose(("evil", "other", "honest", register.name))
        if not name or len(name) > 255 or not register.keeper or not register.boot:
            return
        bench = self.bench
        bench._session += 1
        event = WorkerConnected(
            session=bench._session,
            name=name,
            host=register.host,
            version=register.version,
            keeper=register.keeper,
            boot=register.boot,
            capacity=register.capacity,
            system=register.system,
            address="10.0.0.9",
            held=inventory.held,
            running=inventory.running,
            finished=inventory.finished,
            wall=bench.wall,
        )
        self.sessions.append(bench._session)
        self._check(bench.handle(event))

    def _talk(self) -> None:
        """A session says something; it may be over, or never have been."""
        session = self.source.choose([*self.sessions, self.honest, 99])
        message = self._decoded(codec.decode_worker_message, self.source.choose(_WORKER))
        bench = self.bench
        match message:
            case Report():
                self._check(bench.handle(WorkerReported(session, message, bench.wall)))
            case Status():
                self._check(bench.handle(WorkerStatus(session, message, bench.wall)))
            case Leaving():
                self._check(bench.handle(WorkerDisconnected(session, True, bench.wall)))
            case _:
                self._check(bench.handle(WorkerHeard(session, bench.wall)))

    def _pass(self) -> None:
        """Time passes, a connection breaks, or the server starts anew."""
        what = self.source.choose(("second", "minutes", "break", "restart"))
        if what == "restart":
            self.bench.restart()
            self.sessions.clear()
        elif what == "break" and self.sessions:
            self._check(self.bench.disconnect(self.source.choose(self.sessions)))
        else:
            self._check(self.bench.tick(1.0 if what == "second" else 200.0))

    def _ask(self) -> None:
        """A client asks for something."""
        request = self._decoded(codec.decode_client_message, self.source.choose(_CLIENT))
        bench, core = self.bench, self.bench.core
        now, wall = bench.time, bench.wall
        match request:
            case Submit():
                taken = [spec for spec in request.jobs if core.refusal_of(spec) is None]
                if taken:
                    core.warnings_for(request.jobs)
                    self._check(bench.submit(*taken))
            case SubmitArray(spec=spec, indices=steps):
                few = fault_of_indices(steps) is None and count_of(steps) <= MOST_TASKS
                if few and core.refusal_of(task_spec(spec, steps[0][0])) is None:
                    self._check(bench.submit_array(spec, *steps, max_running=spec.max_running))
            case Cancel():
                self._check(bench.handle(CancelRequested(1, request.ranges, request.kill, wall)))
            case Clean():
                self._check(bench.handle(CleanRequested(2, request.failed)))
            case ForgetWorker():
                self._check(bench.forget(request.worker))
            case PauseWorkers():
                self._check(bench.pause(*request.workers, kill=request.kill, reason=request.reason))
            case ResumeWorkers():
                self._check(bench.resume(*request.workers))
            case ListJobs():
                limit = max(1, min(request.limit, 1000))
                jobs, cursor = core.page(
                    request.filter,
                    request.newest_first,
                    request.cursor,
                    limit,
                    request.attempts,
                    now,
                    arrays=request.arrays,
                )
                self._told(JobPage(1, tuple(jobs), cursor, core.counts(now)))
            case ShowJob():
                self._told(core.job_detail(request.job, now))
            case Explain():
                found_job = core.explain(request.job, now)
                if found_job is not None:
                    self._told(Explanation(1, *found_job))
            case ReadLog():
                core.log_place(request.job, request.attempt)
            case ShowWorker():
                found = core.find_worker(request.worker)
                if isinstance(found, int):
                    self._told(core.worker_detail(found, now))
            case _:
                self._ask_all()

    def _ask_all(self) -> None:
        """Whatever hostile ones have said: everybody's questions about all of it are answered."""
        bench, core = self.bench, self.bench.core
        self._told(WorkerPage(1, core.workers(bench.time)))
        self._told(ResourcePage(1, core.resources(), core.parallel_jobs))
        every = ListJobs(1)
        jobs, cursor = core.page(every.filter, False, None, 1000, True, bench.time)
        self._told(JobPage(1, tuple(jobs), cursor, core.counts(bench.time)))
        for job in list(bench.journal.jobs)[:8]:
            self._told(core.job_detail(job, bench.time))

    # ---------------------------------------------------------------- checks

    def _check(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case SaveStop() | DropStop():
                    for number in (instruction.worker, instruction.job, instruction.fence):
                        assert -(2**63) <= number < 2**63, f"{number} does not fit the journal's column"
                case SaveTails():
                    assert max(len(instruction.stdout), len(instruction.stderr)) <= TAIL_BYTES
                case SendWorker():
                    assert codec.decode_to_worker(codec.encode(instruction.message)) == instruction.message
                case OfferJobs():
                    for job, fence, _, spec, _ in instruction.jobs:
                        msgspec.json.decode(spec, type=Spec)
                        self.source.integers[:0] = [job, fence]
                case _:
                    pass

    def _told(self, message: Any) -> None:
        if message is not None:
            codec.decode_to_client(codec.encode(message))

    # ---------------------------------------------------------------- messages

    def _kind(self, tag: str) -> Any:
        return next(kind for kind in _WORKER if kind.tag == tag)

    def _decoded(self, decode: Any, kind: Any) -> Any:
        try:
            return decode(encoded(forge(self.source, kind)))
        except ProtocolError:
            return None


def hostile_peers(data: bytes) -> None:
    """Whatever authenticated peers say: the core goes on, its invariants hold, others are answered."""
    Play(data).run()
