"""A machine that runs jobs: its power, its boot, its processes, and what its disk keeps.

Its keeper is in `keeper`, its agent in `agent`. Jobs are children of the keeper: they live on without it, but
nobody sees them end then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kueue.wire.messages import Spec
from kueue_worker.core.events import Ended, Note
from tests.simulation.sickness import SICK_CODE, SICK_SECONDS
from tests.simulation.truth import Run, Truth
from tests.simulation.world import Host, Process, World

if TYPE_CHECKING:
    from tests.simulation.agent import SimulatedAgent
    from tests.simulation.keeper import SimulatedKeeper

FLUSH_SECONDS = 5.0
"""What was written to the disk in these last seconds may be gone when the power fails."""


@dataclass
class Record:
    """What the keeper's record file says of an attempt. `written`: when the last of it was."""

    key: str
    note: Note
    started: float | None = None
    ended: Ended | None = None
    written: float = 0.0


@dataclass
class Machine:
    """`name` is the host's and the worker's. `hidden` are directories that are not mounted now."""

    name: str
    cpus: int
    world: World
    truth: Truth
    host: Host = field(init=False)
    boots: int = 0
    booted: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    lacks_tool: bool = False
    sick: bool = False
    processes: dict[str, Run] = field(default_factory=dict)
    keeper: SimulatedKeeper | None = None
    agent: SimulatedAgent | None = None
    keepers: int = 0
    keeper_deaths: list[float] = field(default_factory=list)
    stopping: bool = False
    """The system is shutting down: it starts nothing any more."""

    def __post_init__(self) -> None:
        self.host = Host(self.name)
        self.random = self.world.stream(f"machine {self.name}")

    @property
    def boot(self) -> str:
        """Its boot id."""
        return f"{self.name}-boot-{self.boots}"

    def clock(self) -> float:
        """CLOCK_BOOTTIME."""
        return self.world.now - self.booted

    # ---------------------------------------------------------------- processes of jobs

    def spawn(self, key: str, note: Note, spec: Spec) -> Run:
        """The process of a job begins. Its command is `run SECONDS CODE`."""
        _, seconds, code, *_ = (str(word) for word in spec.payload.argv)
        if self.sick:
            seconds, code = str(SICK_SECONDS), str(SICK_CODE)
        now = self.world.now
        run = Run(
            note.journal,
            note.job,
            note.fence,
            note.attempt,
            self.name,
            spec,
            now,
            now + float(seconds),
            int(code),
        )
        self.processes[key] = run
        self.truth.started(run, self.cpus)
        self.world.at(run.ends, lambda: self._exits(key, run))
        return run

    def _exits(self, key: str, run: Run) -> None:
        if run.live and self.host.up:
            self.gone(key, run, "exited")

    def gone(self, key: str, run: Run, how: str) -> None:
        """The process is gone; its parent hears of it if it lives."""
        if not run.live:
            return
        self.truth.ended(run, how)
        self.processes.pop(key, None)
        keeper = self.keeper
        if keeper is not None and keeper.process.alive:
            keeper.process.loop.call_soon(keeper.reap, key, run)

    # ---------------------------------------------------------------- power

    def power_off(self) -> None:
        """Everything stops at once; nobody on the network is told."""
        if not self.host.up:
            return
        self.host.up = self.stopping = False
        lost = self.random.random() < 0.5
        if lost:
            before = self.world.now - FLUSH_SECONDS
            self.records = {key: record for key, record in self.records.items() if record.written < before}
        self.truth.power_lost(self.name, records=lost)
        self.processes.clear()
        for part in (self.agent, self.keeper):
            if part is not None:
                part.process.kill()
        self.agent = self.keeper = None

    def power_on(self) -> None:
        """It boots; nothing of ours runs yet."""
        if not self.host.up:
            self.boots += 1
            self.booted = self.world.now
            self.host.up = True

    def new_process(self, name: str) -> Process:
        """A process on this machine."""
        return Process(self.world, f"{self.name}/{name}", self.host)
