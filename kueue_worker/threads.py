"""Threads for calls that may hang: a dead NFS mount must cost one thread, not the agent.

A call has a deadline. When it passes, the caller is told, and the thread is written off until the call
returns after all. What such a late call brings is disposed of. There is a bound on threads; when all of them
hang, calls run into their deadline without having begun. So that a dead mount, asked again and again, doesn't take
them all, a call may name what it may hang on: while one hangs there, others of that name fail at once.

Not `concurrent.futures`: its threads are joined at exit, and a hung one would hang that too.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS = 5.0
LATE_SECONDS = 0.5
"""A deadline that is noticed later than this has passed while we slept, and so did the threads, maybe."""
MOST_THREADS = 48
MOST_IDLE = 4


class _Call(Generic[T]):
    __slots__ = (
        "begun",
        "deadline_seconds",
        "dispose",
        "done",
        "due",
        "hangs",
        "over",
        "place",
        "timer",
        "work",
    )

    def __init__(
        self,
        work: Callable[[], T],
        done: Callable[[T | BaseException], None],
        dispose: Callable[[T], None] | None,
        place: Hashable,
        deadline_seconds: float,
    ) -> None:
        self.work = work
        self.done = done
        self.dispose = dispose
        self.place = place
        self.deadline_seconds = deadline_seconds
        self.due = 0.0
        self.begun = False  # set by its thread
        self.over = False  # touched on the loop only
        self.hangs = False  # likewise
        self.timer: asyncio.TimerHandle | None = None


class DeadlineThreads:
    """Runs calls in threads; results come back on the loop that made it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most_threads: int = MOST_THREADS) -> None:
        self._loop = loop
        self._most = most_threads
        self._calls: queue.SimpleQueue[_Call[object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._closed = False
        self._hung: dict[Hashable, int] = {}  # calls beyond their deadline by place; touched on the loop only

    def run(
        self,
        work: Callable[[], T],
        done: Callable[[T | BaseException], None],
        *,
        dispose: Callable[[T], None] | None = None,
        place: Hashable = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """Call `work()` in a thread, then `done` with its result, its exception, or `TimeoutError`.

        `dispose` gets a result that came after the deadline (to close what it opened). `place` names what the
        call may hang on; if another one hangs there, `done` is called before this returns.
        """
        if place in self._hung:
            done(TimeoutError("no answer yet"))
            return
        call = _Call(work, done, dispose, place, deadline_seconds)
        self._set_deadline(call)
        with self._lock:
            waiting = self._calls.qsize()
            start = self._idle <= waiting and self._threads < self._most and not self._closed
            self._threads += start
        self._calls.put(call)  # type: ignore[arg-type]
        if start:
            try:
                threading.Thread(target=self._serve, name="check", daemon=True).start()
            except RuntimeError:  # no room for a thread: one that there is takes it, or the deadline passes
                with self._lock:
                    self._threads -= 1

    def close(self) -> None:
        """Let idle threads end; nobody waits for hung ones."""
        with self._lock:
            self._closed = True
            count = self._threads
        for _ in range(count):
            self._calls.put(None)

    def _set_deadline(self, call: _Call[T]) -> None:
        call.due = self._loop.time() + call.deadline_seconds
        call.timer = self._loop.call_at(call.due, self._expire, call)

    def _expire(self, call: _Call[T]) -> None:
        """Who was frozen, or got no CPU, finds the timers before the answers that came meanwhile: a place that answers
        would seem to hang, and nothing be started there for a minute."""
        if self._loop.time() - call.due > LATE_SECONDS:
            self._set_deadline(call)
        elif not call.over:
            call.over = True
            if call.begun and call.place is not None:
                call.hangs = True
                self._hung[call.place] = self._hung.get(call.place, 0) + 1
            call.done(TimeoutError("no answer in time"))

    def _deliver(self, call: _Call[T], result: T | BaseException) -> None:
        if call.timer is not None:
            call.timer.cancel()
        if call.hangs:
            self._hung[call.place] -= 1
            if not self._hung[call.place]:
                del self._hung[call.place]
        if not call.over:
            call.over = True
            call.done(result)
        elif call.dispose is not None and not isinstance(result, BaseException):
            call.dispose(result)

    def _serve(self) -> None:
        while True:
            with self._lock:
                if self._idle >= MOST_IDLE and self._calls.empty():
                    self._threads -= 1
                    return
                self._idle += 1
            call = self._calls.get()
            with self._lock:
                self._idle -= 1
                if call is None:
                    self._threads -= 1
                    return
            if call.over:
                continue  # it expired in the queue
            call.begun = True
            result: object
            try:
                result = call.work()
            except BaseException as error:
                result = error
            try:
                self._loop.call_soon_threadsafe(self._deliver, call, result)
            except RuntimeError:
                return  # the loop has ended
