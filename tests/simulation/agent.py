"""The agent: the real core and the real session with the server, in a shell of simulated parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import assert_never

from kueue import __version__
from kueue.errors import KueueError
from kueue.resources import Capacity
from kueue.wire.codec import from_os
from kueue.wire.messages import FetchLog, Forget, Leaving, LogData, Reason, Register, SystemInfo
from kueue_worker.contexts import Contexts
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.machine import Machine as Core
from kueue_worker.core.machine import Settings
from kueue_worker.server_session import ServerSession
from tests.simulation.keeper import SimulatedKeeper
from tests.simulation.machine import Machine
from tests.simulation.network import SECRET
from tests.simulation.steered import TOOL

PING_SECONDS = 2.0
SILENT_SECONDS = 10.0


class SimulatedAgent:
    """One life of an agent. `over` is called when its program ends."""

    def __init__(
        self,
        machine: Machine,
        *,
        stop_when_alone_seconds: float | None,
        over: Callable[[], None],
    ) -> None:
        self.machine = machine
        self.process = machine.new_process("agent")
        self.over = over
        self.core: Core
        self.session: ServerSession
        self.process.call(self._begin, stop_when_alone_seconds)

    def _begin(self, stop_when_alone_seconds: float | None) -> None:
        machine = self.machine
        self.core = Core(
            Settings(
                Capacity(machine.cpus, 64_000, machine.cpus),
                dynamic_check=False,
                stop_when_alone_seconds=stop_when_alone_seconds,
            ),
            machine.clock(),
        )
        # Jobs are longer here, and more is to happen while some are in line.
        self.core.ahead.seconds = machine.random.choice((0.2, 10.0, 100.0))
        self.core.ahead.until_seconds = machine.random.choice((0.1, 1.0, 20.0))
        self._queue: deque[e.Event] = deque()
        self._busy = False
        self._deadline_at: float | None = None
        self._prepared: set[str] = set()
        self._keeper: SimulatedKeeper | None = None
        self._keeper_name: str | None = None
        self._tell: Callable[[e.Event], None] | None = None
        self._heard = self.process.loop.time()
        self._last_words: Leaving | None = None
        self._end_keeper = False
        self.session = ServerSession(
            resolve=self._resolve,
            secret=SECRET,
            version=__version__,
            contexts=Contexts(),
            register=self._registration,
            highest_job=lambda journal: machine.highest.get(journal, 0),
            has_attempts=lambda journal: True,
            post=self.post,
            fetch_log=self._fetch_log,
            forget=self._forget,
        )
        self._reach_keeper()
        self.process.start(self._serve())
        self.process.later(PING_SECONDS, self._ping)

    async def _serve(self) -> None:
        try:
            await self.session.run()
        except KueueError as error:
            self.machine.truth.tell(f"{self.machine.name}: the agent ends: {error}")
            self._gone()

    # ---------------------------------------------------------------- as `kueue_worker.agent.Agent`

    def post(self, event: e.Event) -> None:
        """Tell the core, carry out what it says."""
        self._queue.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._queue:
                event = self._queue.popleft()
                if isinstance(event, e.KeeperReady):
                    self._keeper_name = event.keeper
                for instruction in self.core.handle(event, self.machine.clock()):
                    self.process.instruction()
                    self._perform(instruction)
                if isinstance(event, e.KeeperReady):
                    self.session.wake()
        finally:
            self._busy = False
        self._set_deadline()

    def _perform(self, order: i.Instruction) -> None:
        random = self.machine.random
        match order:
            case i.Prepare():
                self._note_job(order.key, order.job)
                self._prepared.add(order.key)
                self.process.later(random.choice((0.0, 0.001, 0.3)), self._prepare_done, order)
            case i.Look():
                self.process.later(random.choice((0.0, 0.001, 0.3)), self._look_done, order)
            case i.Discard():
                self._prepared.discard(order.key)
            case i.Spawn():
                self._prepared.discard(order.key)
                start = order
                self._order(
                    lambda keeper: keeper.spawn(start.key, start.spec, start.note, start.room, start.until)
                )
            case i.Go():
                self._order(lambda keeper: keeper.go(order.key))
            case i.DropStart():
                self._order(lambda keeper: keeper.drop(order.key))
            case i.Kill():
                end = order.end
                assert end != "output_limit", "simulated jobs write nothing"
                self._order(lambda keeper: keeper.kill(order.key, order.grace_seconds, end))
            case i.DropRecords():
                self._order(lambda keeper: keeper.forget(order.keys))
            case i.ReadTails():
                text = f"{order.note.fence} of {order.note.job}".encode()
                self.process.later(random.choice((0.0, 0.001)), self.post, e.TailsRead(order.key, text, b""))
            case i.TellStarted() | i.TellFinished() | i.TellRefused() | i.TellReleased() | i.TellKept():
                self.session.tell(order, more=bool(self.core.book.held))
            case i.SendStatus():
                self.session.send(order.status)
            case i.SendInventory():
                for message in order.messages:
                    self.session.send(message)
            case i.Reconnect():
                self.process.loop.call_soon(self.session.reconnect)
            case i.SendLeaving():
                self._last_words = Leaving(order.jobs_stay, order.text)
            case i.EndKeeper():
                self._end_keeper = True
            case i.Quit():
                self.process.start(self._quit())
            case i.Say() | i.AttemptOver():
                pass
            case _:
                assert_never(order)

    async def _quit(self) -> None:
        if self._last_words is not None:
            await self.session.leave(self._last_words, 2.0)
        if self._end_keeper:
            self._order(lambda keeper: keeper.exit())
        self._gone()

    def _gone(self) -> None:
        self.process.loop.call_soon(self.process.kill)
        self.over()

    def _set_deadline(self) -> None:
        at = self.core.next_deadline()
        if at == self._deadline_at:
            return
        self._deadline_at = at
        if at is not None:
            seconds = max(0.001, at - self.machine.clock())
            self.process.later(seconds, self._deadline_over, at)

    def _deadline_over(self, at: float) -> None:
        if at == self._deadline_at:
            self._deadline_at = None
            self.post(e.TimePassed())

    # ---------------------------------------------------------------- this machine

    def _note_job(self, key: str, job: int) -> None:
        journal = key.split("/", 1)[0]
        self.machine.highest[journal] = max(job, self.machine.highest.get(journal, 0))

    def _prepare_done(self, order: i.Prepare) -> None:
        directory = from_os(order.spec.cwd)
        if directory in self.machine.hidden:
            refusal = Reason("no_directory", f"{directory} is not there")
            self.post(e.PrepareDone(order.key, refusal, "/data"))
        elif self.machine.lacks_tool and order.spec.payload.argv[0] == TOOL:
            self.post(e.PrepareDone(order.key, Reason("no_program", f"no {TOOL} in PATH")))
        else:
            self.post(e.PrepareDone(order.key))

    def _look_done(self, order: i.Look) -> None:
        if from_os(order.cwd) in self.machine.hidden:
            self.post(e.LookDone(order.key, Reason("no_directory", "it is not there"), "/data"))
        else:
            self.post(e.LookDone(order.key))

    # ---------------------------------------------------------------- the keeper

    def _reach_keeper(self) -> None:
        machine = self.machine
        if machine.keeper is None or not machine.keeper.process.alive:
            machine.keeper = SimulatedKeeper(machine)
        keeper = machine.keeper
        process = self.process

        def tell(event: e.Event) -> None:
            if process.alive:
                process.loop.call_soon(heard, event)

        def heard(event: e.Event) -> None:
            if self._keeper is keeper:
                self._heard = process.loop.time()
                self.post(event)

        def lost() -> None:
            if process.alive:
                process.loop.call_soon(self._keeper_gone, keeper)

        self._keeper, self._tell = keeper, tell
        process.died.append(lambda: keeper.discard_agent(tell))
        keeper.process.died.append(lost)
        keeper.process.loop.call_soon(keeper.hello, tell, lost)

    def _order(self, order: Callable[[SimulatedKeeper], None]) -> None:
        keeper, tell = self._keeper, self._tell
        if keeper is None or not keeper.process.alive:
            return  # `KeeperGone` is on its way

        def arrive() -> None:
            if keeper._agent is tell:
                order(keeper)

        keeper.process.loop.call_soon(arrive)

    def _keeper_gone(self, keeper: SimulatedKeeper) -> None:
        if self._keeper is not keeper:
            return
        self._keeper = None
        self.post(e.KeeperGone())
        self.process.later(0.2, self._reach_keeper)

    def _ping(self) -> None:
        keeper = self._keeper
        if keeper is not None:
            silence = self.process.loop.time() - self._heard
            if silence >= SILENT_SECONDS:
                self.post(e.KeeperSilent(silence))
            keeper.process.loop.call_soon(self._pong, keeper)
        self.process.later(PING_SECONDS, self._ping)

    def _pong(self, keeper: SimulatedKeeper) -> None:
        """In the keeper's process."""
        if self.process.alive:
            self.process.loop.call_soon(self._answered, keeper)

    def _answered(self, keeper: SimulatedKeeper) -> None:
        if self._keeper is not keeper or self._keeper_name != keeper.name:
            return
        silent = self.core.conditions.keeper_silent > 0
        self._heard = self.process.loop.time()
        if silent:
            self.post(e.KeeperSilent(0.0))

    # ---------------------------------------------------------------- the server

    async def _resolve(self) -> tuple[str, int]:
        return "server", 1

    def _registration(self) -> Register | None:
        if self._keeper_name is None or self._keeper is None:
            return None
        machine = self.machine
        return Register(
            name=machine.name,
            host=machine.name,
            version=__version__,
            keeper=self._keeper_name,
            boot=machine.boot,
            capacity=self.core.settings.capacity,
            system=SystemInfo(),
            pid=1,
        )

    def _fetch_log(self, journal: str, request: FetchLog) -> None:
        self.session.send(LogData(request.rid, at_end=True))

    def _forget(self, journal: str, message: Forget) -> None:
        """Its spool has room for everything."""

    # ---------------------------------------------------------------- people

    def interrupt(self) -> None:
        """Ctrl-C."""
        begun = self.core.conditions.departure.begun
        why = "the worker was told to end"
        self.process.loop.call_soon(self.post, e.EndRequested(why) if begun else e.DrainRequested(why))

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.loop.call_soon(self.post, e.EndRequested("the worker was told to end"))

    def depart(self) -> None:
        """SIGUSR2."""
        self.process.loop.call_soon(self.post, e.DepartRequested())
