"""The engine: one inbox, one consumer. Event → core → journal → outside.

Whatever happens is posted here and handled in order by the core; the instructions that come back are split
into journal writes and the rest. The one rule this module exists for: nothing leaves the server before
every journal change that was decided earlier is committed. It knows no messages and no sockets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, get_args

from kueue.wire.messages import Range
from kueue_server.core.core import Core
from kueue_server.core.events import Event, Tick, TurnCame
from kueue_server.core.instructions import Instruction, JobsChanged, JournalWrite
from kueue_server.journal.interface import Journal, JournalBrokenError, JournalFullError, Write

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
LATE_SECONDS = 0.5
"""A tick that comes later than this was not the network's fault: the server itself slept."""
SLICE_SECONDS = 0.02
"""How long one run over the inbox may keep the loop; peers' bytes are read in between."""

_WRITES: frozenset[type] = frozenset(get_args(JournalWrite))

Done = Callable[[JournalBrokenError | None], None]


class _WithWrite(NamedTuple):
    """An event, and what is to be in the journal before anything that follows from it."""

    event: Event
    write: Write
    done: Done


class _Held(NamedTuple):
    """What may leave when the group of this number is committed."""

    group: int
    instructions: list[Instruction]
    told: list[Done]


class Engine:
    """Owns the core. `perform` is called with each instruction that leaves, when it may leave.

    `broken` is called once if the journal failed for good: nothing is performed after that.
    """

    def __init__(
        self,
        core: Core,
        journal: Journal,
        loop: asyncio.AbstractEventLoop,
        perform: Callable[[Instruction], None],
        broken: Callable[[JournalBrokenError], None],
    ) -> None:
        self.core = core
        self._journal = journal
        self._loop = loop
        self._perform = perform
        self._broken = broken
        self._inbox: deque[Event | _WithWrite] = deque()
        self._scheduled = False
        self._stopped = False
        # Instructions that wait for the journal. They leave in the order of the core's decisions, so groups that
        # changed nothing on disk queue up here as well.
        self._outbox: deque[_Held] = deque()
        self._untold: dict[int, int] = {}  # jobs whose changes wait in the outbox -> how many of them
        self._untold_ranges: list[tuple[Range, ...]] = []
        self._last_group = 0
        self._committed = 0
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._last_tick = loop.time()
        self._tick_due = False
        self._turn_due = False

    def tick(self) -> None:
        """A second is over; to be called every second."""
        self._tick_due = True
        self._wake()

    def post(self, event: Event) -> None:
        """Queue an event; it is handled within this run of the loop or the next."""
        if self._stopped:
            return
        self._inbox.append(event)
        self._wake()

    def post_with(self, event: Event, write: Write, done: Done) -> None:
        """Queue an event that comes true with a write of its own: that and what the core decides of it are one
        commit. `done` is told when that is made, after all that it lets out, or that the journal broke; after
        `stop` it is told nothing."""
        if self._stopped:
            return
        self._inbox.append(_WithWrite(event, write, done))
        self._wake()

    def _wake(self) -> None:
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def is_told(self, job: int) -> bool:
        """Is all that happened to this job durable and told? If not, a `JobsChanged` that names it will be
        performed: until then the core is ahead of what may be promised to a waiter."""
        return job not in self._untold and not any(
            first <= job <= last for ranges in self._untold_ranges for first, last in ranges
        )

    async def settled(self) -> None:
        """Wait until all that was posted is handled, committed and performed."""
        if self._inbox or self._outbox:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await waiter

    def stop(self) -> None:
        """Handle and perform nothing any more."""
        self._stopped = True
        self._inbox.clear()
        self._outbox.clear()
        self._wake_idle()

    def fail(self, error: JournalBrokenError) -> None:
        """The journal failed for good: let nothing out any more, and say so once."""
        if self._stopped:
            return
        told = [done for held in self._outbox for done in held.told]
        told += [entry.done for entry in self._inbox if type(entry) is _WithWrite]
        self.stop()
        self._tell(told, error)
        self._broken(error)

    def _drain(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        now = self._loop.time()
        self._take_tick(now)
        writes: list[Write] = []
        leaving: list[Instruction] = []
        told: list[Done] = []
        try:
            while self._inbox:
                entry = self._inbox.popleft()
                if type(entry) is TurnCame:
                    self._turn_due = False
                event: Event
                if isinstance(entry, _WithWrite):
                    event, write, done = entry
                    writes.append(write)
                    told.append(done)
                else:
                    event = entry
                for instruction in self.core.handle(event, now):
                    if type(instruction) in _WRITES:
                        writes.append(instruction)  # type: ignore[arg-type]
                    else:
                        leaving.append(instruction)
                if self.core.is_under_way and not self._turn_due:
                    self._turn_due = True
                    self._inbox.append(TurnCame())
                if self._inbox and self._loop.time() - now > SLICE_SECONDS:
                    break
        finally:
            # Also when an event can't be handled, which is a fault of ours and told by the loop: what was decided of
            # others is in the core already, and those behind it wait for their turn.
            if self._inbox:
                self._wake()
            self._pass_on(writes, leaving, told)

    def _pass_on(self, writes: list[Write], leaving: list[Instruction], told: list[Done]) -> None:
        if writes:
            self._last_group += 1
            group = self._last_group
            self._keep_back(_Held(group, leaving, told))
            self._journal.write(
                tuple(writes), lambda error: self._on_written(group, error), give_up_when_full=False
            )
        elif leaving:
            if self._outbox:
                self._keep_back(_Held(self._last_group, leaving, told))
            else:
                self._leave(leaving)
        if not self._inbox and not self._outbox:
            self._wake_idle()

    def _take_tick(self, now: float) -> None:
        """Put the tick, or the news that it should have come long ago, before everything else.

        A server that slept finds what its peers sent meanwhile before it finds its timers; were that taken in
        first, time would seem to have passed, and who has sent nothing would seem to have been silent.
        """
        late = now - self._last_tick - TICK_SECONDS
        slept = late > LATE_SECONDS
        if slept:
            log.warning("the server itself was held up for %.1f s; all deadlines move by that", late)
        if slept or self._tick_due:
            self._last_tick, self._tick_due = now, False
            self._inbox.appendleft(Tick(time.time(), late if slept else 0.0))

    def _keep_back(self, held: _Held) -> None:
        self._outbox.append(held)
        untold = self._untold
        for instruction in held.instructions:
            if type(instruction) is JobsChanged:
                for job in instruction.jobs:
                    untold[job] = untold.get(job, 0) + 1
                if instruction.ranges:
                    self._untold_ranges.append(instruction.ranges)

    def _let_go(self, held: _Held) -> None:
        untold = self._untold
        for instruction in held.instructions:
            if type(instruction) is JobsChanged:
                for job in instruction.jobs:
                    if untold[job] == 1:
                        del untold[job]
                    else:
                        untold[job] -= 1
                if instruction.ranges:
                    self._untold_ranges.remove(instruction.ranges)
        self._leave(held.instructions)
        self._tell(held.told, None)

    def _on_written(self, group: int, error: JournalFullError | JournalBrokenError | None) -> None:
        if self._stopped:
            return
        if error is not None:
            assert isinstance(error, JournalBrokenError)
            self.fail(error)
            return
        self._committed = group
        while self._outbox and self._outbox[0].group <= self._committed and not self._stopped:
            self._let_go(self._outbox.popleft())
        if not self._inbox and not self._outbox:
            self._wake_idle()

    def _leave(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            try:
                self._perform(instruction)
            except Exception:
                # One peer's trouble must not keep the others' messages back.
                log.exception("could not perform %s", type(instruction).__name__)

    def _tell(self, told: list[Done], error: JournalBrokenError | None) -> None:
        for done in told:
            try:
                done(error)
            except Exception:  # the others have to hear of theirs
                log.exception("what follows from a write could not be told")

    def _wake_idle(self) -> None:
        for waiter in self._idle_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._idle_waiters.clear()
