"""The server: everything of it between an open journal and its links is the product's own.

The core is watched: after each event its invariants are checked, and `truth` hears what it has heard, what it
hands out, and what it acknowledges.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

from kueue.config import Config
from kueue.config_model import ConfigModel
from kueue.wire.messages import Acknowledge, Retract, Stop
from kueue_server.core.core import Core
from kueue_server.core.events import (
    ChangeRequested,
    Event,
    ForgetWorkerRequested,
    Tick,
    WorkerConnected,
    WorkerHeard,
    WorkerReported,
    WorkerStatus,
)
from kueue_server.core.instructions import (
    AnswerChange,
    AnswerQueues,
    AnswerSteering,
    DropJobs,
    Instruction,
    OfferJobs,
    SendWorker,
)
from kueue_server.engine import TICK_SECONDS
from kueue_server.journal.interface import JournalBrokenError
from kueue_server.server import Server
from tests.simulation.disk import Disk, SimulatedJournal
from tests.simulation.following import FollowTruth
from tests.simulation.network import SECRET
from tests.simulation.queueing import QueueWatcher
from tests.simulation.sickness import Sickness
from tests.simulation.steered import Watcher
from tests.simulation.truth import Truth
from tests.simulation.verbs import VerbTruth
from tests.simulation.world import Host, Process, World


def config_with(lease_seconds: float, licences: int, pause_after: int) -> Config:
    """The configuration of the server."""
    model = ConfigModel.model_validate(
        {
            "common_settings": {"shared_secret": SECRET, "server_name": "server"},
            "server_settings": {
                "worker_timeout_seconds": lease_seconds,
                "job_offer_timeout_seconds": 10,
                "starvation_seconds": 15,
                "maintenance_interval_seconds": 20,
                "worker_pause_after_failures": pause_after,
            },
            "global_resources": {"lic": licences},
        }
    )
    return Config(model, Path("/nowhere/config.toml"))


class _ListeningServer(Server):
    """The server without a listener: the simulated host takes its connections."""

    def begin(self, host: Host, process: Process) -> None:
        """Take connections, begin to tick."""
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        host.listening = (process, self._accept)


class SimulatedServer:
    """One life of the server. `ended` is called when it ends by itself."""

    def __init__(
        self,
        world: World,
        host: Host,
        disk: Disk,
        truth: Truth,
        verbs: VerbTruth,
        following: FollowTruth,
        hosts: list[str],
        config: Callable[[], Config],
        wall_offset: float,
        ended: Callable[[], None],
    ) -> None:
        self.disk = disk
        self.since = truth.awake
        self.process = Process(world, "server", host)
        self.process.wall_offset = wall_offset
        self.journal = SimulatedJournal(disk, self.process)
        self.server: _ListeningServer
        self._world = world
        self._host = host
        self._truth = truth
        self._verbs = verbs
        self._following = following
        self._hosts = hosts
        self._config = config
        self._ended = ended
        self._sessions: dict[int, str] = {}
        self._marks: dict[int, float] = {}  # of changes, by request
        self.process.died.append(self._on_death)
        self.process.call(self._begin)

    def _begin(self) -> None:
        thresholds = gc.get_threshold()
        self.server = _ListeningServer(self._config(), self.journal, self._config)
        gc.unfreeze()  # what the one server of a process may do does not suit a thousand of them
        gc.set_threshold(*thresholds)
        core = self.server.core
        self._following.core = core
        core.check_invariants()
        self._watch(core)
        self.server.begin(self._host, self.process)
        self.process.start(self._run())

    async def _run(self) -> None:
        try:
            await self.server.run()
        except JournalBrokenError:
            self._truth.tell("server: the journal failed, it ends")
        self._host.listening = None
        self.process.loop.call_soon(self.process.kill)
        self._ended()

    def _on_death(self) -> None:
        self._truth.server_died(self._hosts, self.since, self.journal.waiting_since)
        self._host.listening = None

    # ---------------------------------------------------------------- watching the core

    def _watch(self, core: Core) -> None:
        watcher = self._watcher = Watcher(self._truth, self.disk)
        queues = self._queues = QueueWatcher(self._truth, self.disk)
        sickness = Sickness(self._truth, self.journal.uuid, self.disk.steered.resumed)
        handle = core.handle
        perform = self.server.engine._perform

        def handle_and_check(event: Event, now: float) -> list[Instruction]:
            sickness.before(core, event)
            watcher.before(core)
            self._hear_ends(core, event)
            instructions = handle(event, now)
            sickness.after(core, event)
            watcher.after(core, event)
            queues.after(core, event)
            self._hear(core, event)
            self._note_offers(core, instructions)
            if instructions or not isinstance(event, Tick | WorkerHeard):
                core.check_invariants()
            return instructions

        def perform_and_tell(instruction: Instruction) -> None:
            self.process.instruction()
            self._tell(instruction)
            perform(instruction)

        core.handle = handle_and_check  # type: ignore[method-assign]
        self.server.engine._perform = perform_and_tell

    def _note_offers(self, core: Core, instructions: list[Instruction]) -> None:
        licences = dict(core._state.limits.global_resources)["lic"]
        for instruction in instructions:
            if isinstance(instruction, OfferJobs):
                host = self._sessions[instruction.session]
                for job, fence, *_ in instruction.jobs:
                    self._watcher.handed_out(host, job)
                    self._queues.handed_out(core, job, fence)
                    self._truth.handed_out(
                        self.journal.uuid, job, fence, host, self._hosts, self.since, licences
                    )

    def _hear(self, core: Core, event: Event) -> None:
        match event:
            case WorkerConnected():
                found = core.find_worker(event.name)
                if isinstance(found, int) and core.session_of(found) == event.session:
                    self._sessions[event.session] = event.name
                    self._truth.server_heard(event.name, self.since)
            case WorkerHeard() | WorkerReported() | WorkerStatus():
                name = self._worker_of(core, event.session)
                if name is not None:
                    self._truth.server_heard(name, self.since)
            case ForgetWorkerRequested():
                if not isinstance(core.find_worker(event.worker), int):
                    self._truth.worker_forgotten(event.worker)
            case _:
                pass

    def _worker_of(self, core: Core, session: int) -> str | None:
        """The worker whose session this is; None if it is over: what still comes of it counts for nothing."""
        name = self._sessions.get(session)
        worker = None if name is None else core.find_worker(name)
        return name if isinstance(worker, int) and core.session_of(worker) == session else None

    def _hear_ends(self, core: Core, event: Event) -> None:
        if isinstance(event, WorkerReported):
            ends = event.report.finished if self._worker_of(core, event.session) is not None else ()
        elif isinstance(event, WorkerConnected):
            ends = event.finished
        else:
            ends = ()
            if isinstance(event, ChangeRequested) and event.changes.time_limit_seconds is not None:
                self._marks[event.request] = event.changes.time_limit_seconds
        for end in ends:
            self._truth.end_heard(self.journal.uuid, end.job, end.fence)

    def _tell(self, instruction: Instruction) -> None:
        """It leaves the server now."""
        truth, journal = self._truth, self.journal.uuid
        match instruction:
            case OfferJobs(_, jobs):
                truth.count("offers", len(jobs))
                for job, fence, *_ in jobs:
                    truth.offer_leaves(journal, job, fence)
            case AnswerChange(request) if request in self._marks:
                self._verbs.change_answered(journal, self.server.core, self._marks[request])
            case SendWorker(_, Acknowledge(attempts)):
                for ref in attempts:
                    truth.end_acknowledged(journal, ref.job, ref.fence)
            case SendWorker(_, Retract(attempts)):
                truth.count("retractions", len(attempts))
            case SendWorker(_, Stop(attempts, why)):
                truth.count(f"stops: {why}", len(attempts))
            case AnswerSteering():
                self._watcher.answered(self.server.core, instruction)
            case AnswerQueues():
                self._queues.answered(self.server.core, instruction)
            case DropJobs():
                raise AssertionError("a journal write leaves the server")
            case _:
                pass
