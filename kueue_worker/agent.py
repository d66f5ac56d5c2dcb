"""The agent: carries out what the core decides, and tells it what happens.

One queue of events with one consumer: `post` puts an event in; orders of the core are carried out in their
order, and what they bring about at once is the next event. Everything runs on one loop.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, assert_never

import msgspec

from kueue.errors import KueueError, ServerUnreachableError
from kueue.wire.codec import from_os
from kueue.wire.messages import FetchLog, Forget, Leaving, LogData, OsString, Register, Stream
from kueue_worker.contexts import Contexts
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.machine import Machine
from kueue_worker.directories import Directories
from kueue_worker.growth import Growth
from kueue_worker.host import boottime, system_is_stopping
from kueue_worker.housekeeping import HOUSEKEEPING_DEADLINE_SECONDS, keep_house, say_problem
from kueue_worker.inquiries import Answer
from kueue_worker.keeper_process import KeeperProcess
from kueue_worker.logs import Logs
from kueue_worker.options import Options
from kueue_worker.output_cap import LOOK_SECONDS, OutputCap, output_of
from kueue_worker.output_reading import read_tail
from kueue_worker.preparation import DISCARDED, Preparations
from kueue_worker.server_session import RefusedError, ServerSession
from kueue_worker.spawning import Spawner
from kueue_worker.threads import DEADLINE_SECONDS, DeadlineThreads
from kueue_worker.usage import UsageMeter

log = logging.getLogger(__name__)

MEASURE_SECONDS = 3.0
GOODBYE_SECONDS = 2.0
STOPPING_CHECK_SECONDS = 1.0
T = TypeVar("T")
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Agent:
    """Built on a running loop; `run` until it is told to end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop = asyncio.get_running_loop()
        self.machine = Machine(options.settings, boottime())
        self._queue: deque[e.Event] = deque()
        self._draining = False
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_at: float | None = None
        self._quit: asyncio.Future[int] = self._loop.create_future()
        self._last_words: Leaving | None = None
        self._end_keeper = False
        self._keeper_id: str | None = None
        self._threads = DeadlineThreads(self._loop)
        self._spool = options.spool
        self._contexts = Contexts()
        self._keeper = KeeperProcess(self._spool.root, options.keeper_address, self.post, self._on_new_keeper)
        clock = time.monotonic
        self._directories = Directories(
            self._threads,
            clock,
            lambda number, descriptor: self._keeper.send({"m": "dir", "id": number}, (descriptor,)),
            lambda number: self._keeper.send({"m": "undir", "id": number}),
        )
        self._preparations = Preparations(
            self._threads, self._directories, self._contexts, options.host, clock, self.post, self.post
        )
        self._spawner = Spawner(options.name, options.policy, self._spool, self._keeper.send)
        self._growth = Growth(self._loop)
        self._logs = Logs(
            self._loop, self._threads, self._growth, self._spool, self.machine.note_of, self.machine.is_over
        )
        self._session = ServerSession(
            resolve=self._resolve,
            secret=options.secret,
            version=options.version,
            contexts=self._contexts,
            register=self._registration,
            highest_job=self._spool.highest_job,
            has_attempts=self._has_attempts,
            post=self.post,
            fetch_log=self._fetch_log,
            forget=self._forget,
        )
        self._output_cap = OutputCap(
            self._threads, options.max_output_mb * 2**20, lambda key: self.post(e.OutputExceeded(key))
        )
        self._meter = UsageMeter()
        self._spool_full = ""
        self._stopping_asked = -STOPPING_CHECK_SECONDS

    # ---------------------------------------------------------------- life

    async def run(self) -> int:
        """Serve until told to end; the exit code.

        Raises:
            RefusedError: the server does not take this worker.
        """
        tasks = [
            self._loop.create_task(self._keeper.run()),
            self._loop.create_task(self._measure()),
            self._loop.create_task(self._watch_spool()),
            self._loop.create_task(self._keep_house()),
            self._loop.create_task(self._watch_outputs()),
            self._loop.create_task(self._session.run()),
        ]
        try:
            waiting: list[asyncio.Future[Any]] = [self._quit, *tasks]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    if isinstance(error, RefusedError) and not self.machine.running():
                        await self._keeper.exit()
                    raise error
            code = self._quit.result() if self._quit.done() else 1
            await self._end_well()
            return code
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._deadline is not None:
                self._deadline.cancel()
            self._logs.close()
            self._growth.close()
            self._keeper.close()
            self._threads.close()

    def interrupt(self) -> None:
        """Ctrl-C: the first drains, the next one interrupts."""
        if self.machine.conditions.departure.begun:
            self.post(e.EndRequested("the worker was told to end"))
        else:
            self.post(e.DrainRequested("the worker is ending"))

    def terminate(self) -> None:
        """SIGTERM."""
        self.post(e.EndRequested("the worker was told to end"))

    def depart(self) -> None:
        """SIGUSR2: keeper and jobs stay."""
        self.post(e.DepartRequested())

    def answer(self) -> Answer:
        """Who and how it is, for those who ask."""
        options, session = self._options, self._session
        return Answer(
            name=options.name,
            version=options.version,
            server=options.server(),
            config=options.config,
            connected=session.alone_seconds == 0,
            alone_seconds=session.alone_seconds,
            why_alone=session.why_alone,
            jobs=self.machine.running(),
            leaving=self.machine.conditions.departure.begun,
        )

    async def _end_well(self) -> None:
        if self._last_words is not None:
            await self._session.leave(self._last_words, GOODBYE_SECONDS)
        if self._end_keeper:
            await self._keeper.exit()

    # ---------------------------------------------------------------- events in, orders out

    def post(self, event: e.Event) -> None:
        """Tell the core. Events that its orders bring about at once are taken in turn."""
        self._queue.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            while self._queue:
                event = self._queue.popleft()
                if isinstance(event, e.KeeperReady):
                    self._keeper_id = event.keeper
                for instruction in self.machine.handle(event, boottime()):
                    self._perform(instruction)
                if isinstance(event, e.KeeperReady):
                    self._session.wake()
                elif isinstance(event, e.ServerGone):
                    self._logs.close()
                elif isinstance(event, e.AttemptStarted):
                    self._logs.look_again(event.key)
                elif isinstance(event, e.SpawnUndone):
                    self._spawner.forget_environments()
        finally:
            self._draining = False
        self._set_deadline()
        if self.machine.has_doubts():
            self._ask_whether_stopping()

    def _perform(self, order: i.Instruction) -> None:
        match order:
            case i.Prepare():
                self._preparations.prepare(order)
            case i.Spawn():
                self._spawn(order)
            case i.TellStarted() | i.TellFinished() | i.TellRefused() | i.TellReleased() | i.TellKept():
                self._session.tell(order, more=bool(self.machine.book.held))
            case i.ReadTails():
                self._read_tails(order)
            case i.DropRecords():
                self._keeper.send({"m": "forget", "keys": list(order.keys)}, late=True)
            case i.Look():
                self._preparations.look(order.key, order.cwd)
            case i.Discard():
                self._preparations.discard(order.key)
            case i.Go():
                self._keeper.send({"m": "go", "key": order.key})
            case i.DropStart():
                self._keeper.send({"m": "drop", "key": order.key})
            case i.Kill():
                self._kill(order)
            case i.AttemptOver():
                self._logs.look_again(order.key)
            case i.SendStatus():
                self._session.send(order.status)
            case i.SendInventory():
                self._directories.look_anew()
                for message in order.messages:
                    self._session.send(message)
            case i.Reconnect():
                # Not from within the core's step: the session's end is an event of its own.
                self._loop.call_soon(self._session.reconnect)
            case i.SendLeaving():
                self._last_words = Leaving(order.jobs_stay, order.text)
            case i.EndKeeper():
                self._end_keeper = True
            case i.Say():
                log.log(LEVELS[order.level], "%s", order.text)
            case i.Quit():
                if not self._quit.done():
                    self._quit.set_result(order.code)
            case _:
                assert_never(order)

    def _set_deadline(self) -> None:
        at = self.machine.next_deadline()
        if at == self._deadline_at:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline, self._deadline_at = None, at
        if at is not None:
            self._deadline = self._loop.call_later(max(0.001, at - boottime()), self._deadline_over)

    def _deadline_over(self) -> None:
        self._deadline = self._deadline_at = None
        self.post(e.TimePassed())

    # ---------------------------------------------------------------- attempts

    def _spawn(self, order: i.Spawn) -> None:
        prepared = self._preparations.take(order.key)
        if prepared is None:
            self.post(e.SpawnUndone(order.key))
            return
        problem = self._spawner.spawn(prepared, order.note, order.room, order.until)
        if problem is not None:
            self.post(e.AttemptEnded(order.key, problem))

    def _kill(self, order: i.Kill) -> None:
        message = {"m": "kill", "key": order.key, "grace": order.grace_seconds, "end": order.end}
        if order.end == "output_limit":
            message["text"] = f"output over {self._options.max_output_mb} MB"
        self._keeper.send(message)

    def _read_tails(self, order: i.ReadTails) -> None:
        """The spool is on a disk of this machine and read at once; elsewhere a mount may hang."""
        note = order.note

        def read() -> tuple[bytes, bytes]:
            return self._tail(note, "stdout", note.stdout), self._tail(note, "stderr", note.stderr)

        def done(result: tuple[bytes, bytes] | BaseException) -> None:
            stdout, stderr = (b"", b"") if isinstance(result, BaseException) else result
            self.post(e.TailsRead(order.key, stdout, stderr))

        if note.stdout in (None, DISCARDED) and note.stderr in (None, DISCARDED):
            done(read())
        else:
            self._threads.run(read, done)

    def _tail(self, note: e.Note, stream: Stream, place: OsString | None) -> bytes:
        if place == DISCARDED:
            return b""
        in_spool = self._spool.path(note.journal, note.job, note.attempt, stream)
        return read_tail(in_spool if place is None else from_os(place))

    def _on_new_keeper(self) -> None:
        self._preparations.forget_directories()
        self._spawner.forget_environments()

    # ---------------------------------------------------------------- the server

    async def _resolve(self) -> tuple[str, int]:
        """Where the server is. Looks into the state directory, whose mount may hang."""
        found: asyncio.Future[tuple[str, int] | BaseException] = self._loop.create_future()

        def deliver(result: tuple[str, int] | BaseException) -> None:
            if not found.done():
                found.set_result(result)

        self._threads.run(self._options.resolve, deliver)
        result = await found
        if isinstance(result, KueueError):
            raise result
        if isinstance(result, BaseException):
            raise ServerUnreachableError(f"where the server is can't be found out: {result}") from result
        return result

    def _registration(self) -> Register | None:
        if self._keeper_id is None or self._keeper.pid is None:
            return None
        options = self._options
        system = msgspec.structs.replace(options.system, boot_time_ago=boottime())
        return Register(
            name=options.name,
            host=options.host,
            version=options.version,
            keeper=self._keeper_id,
            boot=options.boot,
            capacity=options.settings.capacity,
            system=system,
            pid=options.pid,
        )

    def _has_attempts(self, journal: str) -> bool:
        return any(a.note.journal == journal for a in self.machine.book.attempts.values())

    def _fetch_log(self, journal: str, request: FetchLog) -> None:
        def answer(data: LogData) -> None:
            self._session.send(data)

        self._logs.fetch(journal, request, answer)

    def _forget(self, journal: str, message: Forget) -> None:
        attempts = self.machine.book.attempts.values()
        live = frozenset(a.note.job for a in attempts if a.note.journal == journal)
        self._threads.run(
            lambda: self._spool.forget(journal, message.ranges, live),
            lambda result: say_problem("forgetting old output", result),
            deadline_seconds=HOUSEKEEPING_DEADLINE_SECONDS,
        )

    # ---------------------------------------------------------------- this machine

    async def _measure(self) -> None:
        """Look at the machine from time to time."""
        settings = self._options.settings
        interval = MEASURE_SECONDS if settings.dynamic_check else settings.status_interval_seconds
        while True:
            keeper = self._keeper.pid
            measured = await self._look(functools.partial(self._meter.measure, keeper, boottime()))
            if isinstance(measured, BaseException):
                log.warning("the machine could not be measured: %s", measured)
            else:
                self.post(measured)
            await asyncio.sleep(interval)

    async def _watch_spool(self) -> None:
        """Look whether the spool has room, often: what is taken without it fails for no fault of its own. And, as
        often, whether the kernel has killed something."""
        while True:
            self._keeper.look_for_memory_kills()
            full = await self._look(self._spool.why_full)
            if isinstance(full, BaseException):
                log.warning("the spool could not be looked at: %s", full)
            elif full != self._spool_full:
                if bool(full) != bool(self._spool_full):
                    log.warning("%s", full or "the spool has room again")
                self._spool_full = full
                self.post(e.SpoolChanged(full))
            await asyncio.sleep(MEASURE_SECONDS)

    async def _look(
        self, work: Callable[[], T], deadline_seconds: float = DEADLINE_SECONDS
    ) -> T | BaseException:
        """The result of `work`, done in a thread."""
        done: asyncio.Future[T | BaseException] = self._loop.create_future()

        def deliver(result: T | BaseException) -> None:
            if not done.done():
                done.set_result(result)

        self._threads.run(work, deliver, deadline_seconds=deadline_seconds)
        return await done

    async def _watch_outputs(self) -> None:
        """End jobs that write more than the cap."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            # 0: no cap. A keeper of before the cap would not understand.
            if self._options.max_output_mb and self._keeper.version >= 2:
                attempts = self.machine.with_keeper()
                self._output_cap.look(output_of(key, note, self._spool) for key, note in attempts)

    async def _keep_house(self) -> None:
        options = self._options
        tidied = functools.partial(self._look, deadline_seconds=HOUSEKEEPING_DEADLINE_SECONDS)
        await keep_house(
            self._spool,
            self._directories,
            tidied,
            lambda: None if self._keeper_id is None else self.machine.book.attempts.values(),
            max_bytes=options.spool_max_bytes,
            max_seconds=options.spool_max_seconds,
        )

    def _ask_whether_stopping(self) -> None:
        """A job ended badly: is the whole system being shut down?"""
        now = self._loop.time()
        if now - self._stopping_asked < STOPPING_CHECK_SECONDS:
            return
        self._stopping_asked = now
        self._threads.run(
            system_is_stopping, lambda result: self.post(e.SystemStopping()) if result is True else None
        )
