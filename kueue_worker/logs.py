"""Answers to `FetchLog`: a portion of a job's output, now or when there is some.

Reading is done in threads with a deadline. Waiting for more is waiting for the file to grow or the attempt to
end, whichever comes first, at most as long as the server said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from kueue.wire.codec import from_os
from kueue.wire.messages import LOG_CHUNK_BYTES, FetchLog, LogData, Reason
from kueue_worker.core.attempts import key_of
from kueue_worker.core.events import Note
from kueue_worker.growth import NO_WATCH, Growth
from kueue_worker.output_reading import Portion, read_portion
from kueue_worker.preparation import DISCARDED
from kueue_worker.spool import Spool
from kueue_worker.threads import DeadlineThreads

MOST_WAITING = 1000
LONGEST_WAIT_SECONDS = 600.0


@dataclass(slots=True, eq=False)
class _Fetch:
    request: FetchLog
    key: str
    path: str
    answer: Callable[[LogData], None]
    timer: asyncio.TimerHandle | None = None
    ticket: int | None = None
    last: bool = False  # the next portion is answered even if it is empty
    look_again: bool = False  # something happened while it was being read
    reading: bool = False
    over: bool = False


class Logs:
    """`note_of` knows where the output of an attempt goes while it is known here; `is_over`: it has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threads: DeadlineThreads,
        growth: Growth,
        spool: Spool,
        note_of: Callable[[str], Note | None],
        is_over: Callable[[str], bool],
    ) -> None:
        self._loop = loop
        self._threads = threads
        self._growth = growth
        self._spool = spool
        self._note_of = note_of
        self._is_over = is_over
        self._fetches: dict[str, list[_Fetch]] = {}
        self._count = 0

    def fetch(self, journal: str, request: FetchLog, answer: Callable[[LogData], None]) -> None:
        """Answer one request, once."""
        key = key_of(journal, request.job, request.fence)
        path = self._path(journal, key, request)
        if path is None:
            text = f"{request.stream} of job {request.job} is discarded"
            answer(LogData(request.rid, at_end=True, error=Reason("discarded", text)))
            return
        if self._count >= MOST_WAITING:
            answer(LogData(request.rid, error=Reason("busy", "too many readers of output at this worker")))
            return
        fetch = _Fetch(request, key, path, answer)
        self._count += 1
        self._fetches.setdefault(key, []).append(fetch)
        wait = min(request.wait_seconds, LONGEST_WAIT_SECONDS)
        if wait > 0:
            fetch.timer = self._loop.call_later(wait, self._last_time, fetch)
        else:
            fetch.last = True
        self._read(fetch)

    def look_again(self, key: str) -> None:
        """The attempt has started or ended: its readers look whether that changes their answer."""
        for fetch in list(self._fetches.get(key, ())):
            self._look(fetch)

    def close(self) -> None:
        """The session is over; nobody waits for answers."""
        for fetches in list(self._fetches.values()):
            for fetch in list(fetches):
                self._end(fetch)

    def _path(self, journal: str, key: str, request: FetchLog) -> str | None:
        note = self._note_of(key)
        if note is not None:
            place = note.stdout if request.stream == "stdout" else note.stderr
        else:
            place = request.path
        if place == DISCARDED:
            return None
        if place is None or not os.path.isabs(from_os(place)):
            return self._spool.path(journal, request.job, request.attempt, request.stream)
        return from_os(place)

    def _last_time(self, fetch: _Fetch) -> None:
        fetch.timer = None
        fetch.last = True
        self._look(fetch)

    def _look(self, fetch: _Fetch) -> None:
        if fetch.reading:
            fetch.look_again = True
        elif not fetch.over:
            self._read(fetch)

    def _read(self, fetch: _Fetch) -> None:
        fetch.reading, fetch.look_again = True, False
        self._forget_ticket(fetch)
        over = self._is_over(fetch.key)
        limit = max(1, min(fetch.request.limit, LOG_CHUNK_BYTES))
        path, offset, watched = fetch.path, fetch.request.offset, not (fetch.last or over)

        def read() -> tuple[int, Portion]:
            watch = self._growth.watch(path) if watched else NO_WATCH
            try:
                return watch, read_portion(path, offset, limit)
            except FileNotFoundError:
                if over:
                    raise
                return watch, Portion(0, b"", 0)  # it has not started yet

        self._threads.run(read, lambda result: self._done(fetch, result, over))

    def _done(self, fetch: _Fetch, result: tuple[int, Portion] | BaseException, over: bool) -> None:
        fetch.reading = False
        if fetch.over:
            return
        rid, request = fetch.request.rid, fetch.request
        if isinstance(result, TimeoutError):
            self._answer(fetch, LogData(rid, error=Reason("timeout", f"{fetch.path} does not answer")))
        elif isinstance(result, FileNotFoundError):
            text = f"{request.stream} of job {request.job} is not kept here any more"
            self._answer(fetch, LogData(rid, error=Reason("no_output", text)))
        elif isinstance(result, BaseException):
            text = result.strerror if isinstance(result, OSError) and result.strerror else str(result)
            self._answer(fetch, LogData(rid, error=Reason("unreadable", f"{fetch.path}: {text}")))
        else:
            watch, portion = result
            at_end = over and portion.offset + len(portion.data) >= portion.size
            if portion.data or at_end or (fetch.last and not fetch.look_again):
                self._answer(fetch, LogData(rid, portion.offset, portion.data, portion.size, at_end))
            elif fetch.look_again:
                self._read(fetch)
            else:
                fetch.ticket = self._growth.wait(watch, lambda: self._look(fetch))

    def _forget_ticket(self, fetch: _Fetch) -> None:
        if fetch.ticket is not None:
            self._growth.forget(fetch.ticket)
            fetch.ticket = None

    def _answer(self, fetch: _Fetch, data: LogData) -> None:
        self._end(fetch)
        fetch.answer(data)

    def _end(self, fetch: _Fetch) -> None:
        if fetch.over:
            return
        fetch.over = True
        if fetch.timer is not None:
            fetch.timer.cancel()
        self._forget_ticket(fetch)
        fetches = self._fetches[fetch.key]
        fetches.remove(fetch)
        if not fetches:
            del self._fetches[fetch.key]
        self._count -= 1
