"""Asks the server for pages and listens to it, for as long as the screen is there.

Three listeners: to the whole (figures each second), to workers and resources while these are looked at, and to the jobs
in view. Pages are fetched when the window needs some; nothing is asked again and again. A server that is away is
waited for; then all begins anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from kueue import AsyncClient
from kueue.errors import KueueError
from kueue.top.board import Board
from kueue.top.window import Window
from kueue.wire.messages import JobView

SETTLE_SECONDS = 0.1
"""How long a view stands still before its jobs are listened to."""
AGAIN_SECONDS = 2.0
"""Pause after the server could not be reached, or said no."""
AWAY = "the server is away; waiting for it"


class Feed:
    """`changed` is called whenever there is something new to be seen."""

    def __init__(
        self, client: AsyncClient, board: Board, window: Window, changed: Callable[[], None]
    ) -> None:
        self.client = client
        self._board = board
        self._window = window
        self._changed = changed
        self._page_wanted = asyncio.Event()
        self._view_moved = asyncio.Event()
        self._details: asyncio.Task[None] | None = None
        self._rows: asyncio.Task[None] | None = None
        self._watched: frozenset[int] = frozenset()
        self.pages = 0
        """How many were asked for."""

    async def run(self) -> None:
        """For ever; ends what it began when it is canceled."""
        self.moved()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._for_ever(self._listen))
                tasks.create_task(self._for_ever(self._fetch))
                tasks.create_task(self._follow_view())
        finally:
            self.look_closer(False)
            self._watch_rows(frozenset())

    def moved(self) -> None:
        """Something else is in view, or is to be."""
        self._page_wanted.set()
        self._view_moved.set()

    def look_closer(self, wanted: bool) -> None:
        """Are workers and resources looked at?"""
        if wanted and self._details is None:
            self._details = asyncio.ensure_future(self._for_ever(self._listen_closer))
        elif not wanted and self._details is not None:
            self._details.cancel()
            self._details = None

    async def _for_ever(self, listen: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await listen()
            except KueueError as error:
                self._board.away = str(error)
                self._changed()
                await asyncio.sleep(AGAIN_SECONDS)

    # ---------------------------------------------------------------- the whole

    async def _listen(self) -> None:
        async with contextlib.aclosing(self.client.watch_cluster()) as states:
            async for state in states:
                if state is None:
                    self._board.away = AWAY
                else:
                    was_away = self._board.away is not None
                    before = self._board.figures
                    self._board.take(state)
                    self._window.table_is(state.oldest, state.newest)
                    # Jobs that have come into a state that is asked for are told by their number only.
                    if was_away or (
                        self._window.selector.states and before is not None and before.counts != state.counts
                    ):
                        self._window.reload()
                    self.moved()
                self._changed()

    async def _listen_closer(self) -> None:
        begins = True
        async with contextlib.aclosing(self.client.watch_cluster(details=True)) as states:
            async for state in states:
                if state is None:
                    begins = True
                    continue
                if begins:
                    self._board.begin_details()
                begins = False
                self._board.take_details(state)
                self._changed()

    # ---------------------------------------------------------------- jobs

    async def _fetch(self) -> None:
        while True:
            await self._page_wanted.wait()
            self._page_wanted.clear()
            while (fetch := self._window.need()) is not None:
                self.pages += 1
                page = await self.client.page(
                    fetch.selector, newest_first=fetch.newest_first, cursor=fetch.cursor, limit=fetch.limit
                )
                self._window.take(fetch, page.jobs, page.cursor, time.time())
                self._view_moved.set()
                self._changed()

    async def all_jobs(self, most: int) -> list[JobView] | None:
        """All that the filter names, None if they are more than so many."""
        found: list[JobView] = []
        cursor: int | None = None
        while True:
            page = await self.client.page(self._window.selector, newest_first=True, cursor=cursor)
            found += page.jobs
            cursor = page.cursor
            if len(found) > most:
                return None
            if cursor is None:
                return found

    async def _follow_view(self) -> None:
        while True:
            await self._view_moved.wait()
            await asyncio.sleep(SETTLE_SECONDS)
            self._view_moved.clear()
            self._watch_rows(frozenset(job.id for job in self._window.visible()))

    def _watch_rows(self, ids: frozenset[int]) -> None:
        if ids == self._watched:
            return
        self._watched = ids
        if self._rows is not None:
            self._rows.cancel()
        self._rows = asyncio.ensure_future(self._listen_to(ids)) if ids else None

    async def _listen_to(self, ids: frozenset[int]) -> None:
        async def listen() -> None:
            async with contextlib.aclosing(self.client.watch(ids)) as changes:
                async for change in changes:
                    if self._window.apply(change, time.time()):
                        self._changed()

        await self._for_ever(listen)
