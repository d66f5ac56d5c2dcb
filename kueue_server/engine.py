"""The engine: one inbox, one consumer. Event → core → journal → outside.

Whatever happens is posted here and handled in order by the core; the instructions that come back are split
into journal writes and the rest. The one rule this module exists for: nothing leaves the server before
every journal change that was decided earlier is committed. It knows no messages and no sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import get_args

from kueue_server.core.core import Core
from kueue_server.core.events import Event
from kueue_server.core.instructions import Instruction, JournalWrite
from kueue_server.journal.interface import Journal, JournalBrokenError, JournalFullError

log = logging.getLogger(__name__)

SLICE_SECONDS = 0.02
"""How long one run over the inbox may keep the loop; peers' bytes are read in between."""

_WRITES: frozenset[type] = frozenset(get_args(JournalWrite))


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
        self._inbox: deque[Event] = deque()
        self._scheduled = False
        self._stopped = False
        # Instructions that wait for the journal, with the number of the group they wait for. They leave in
        # the order of the core's decisions, so groups that changed nothing on disk queue up here as well.
        self._outbox: deque[tuple[int, list[Instruction]]] = deque()
        self._last_group = 0
        self._committed = 0
        self._idle_waiters: list[asyncio.Future[None]] = []

    def post(self, event: Event) -> None:
        """Queue an event; it is handled within this run of the loop or the next."""
        if self._stopped:
            return
        self._inbox.append(event)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

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
        if not self._stopped:
            self.stop()
            self._broken(error)

    def _drain(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        now = self._loop.time()
        writes: list[JournalWrite] = []
        leaving: list[Instruction] = []
        while self._inbox:
            event = self._inbox.popleft()
            for instruction in self.core.handle(event, now):
                if type(instruction) in _WRITES:
                    writes.append(instruction)  # type: ignore[arg-type]
                else:
                    leaving.append(instruction)
            if self._inbox and self._loop.time() - now > SLICE_SECONDS:
                self._scheduled = True
                self._loop.call_soon(self._drain)
                break
        if writes:
            self._last_group += 1
            group = self._last_group
            self._outbox.append((group, leaving))
            self._journal.write(
                tuple(writes), lambda error: self._on_written(group, error), give_up_when_full=False
            )
        elif leaving:
            if self._outbox:
                self._outbox.append((self._last_group, leaving))
            else:
                self._leave(leaving)
        if not self._inbox and not self._outbox:
            self._wake_idle()

    def _on_written(self, group: int, error: JournalFullError | JournalBrokenError | None) -> None:
        if self._stopped:
            return
        if error is not None:
            assert isinstance(error, JournalBrokenError)
            self.fail(error)
            return
        self._committed = group
        while self._outbox and self._outbox[0][0] <= self._committed and not self._stopped:
            self._leave(self._outbox.popleft()[1])
        if not self._inbox and not self._outbox:
            self._wake_idle()

    def _leave(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            try:
                self._perform(instruction)
            except Exception:
                # One peer's trouble must not keep the others' messages back.
                log.exception("could not perform %s", type(instruction).__name__)

    def _wake_idle(self) -> None:
        for waiter in self._idle_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._idle_waiters.clear()
