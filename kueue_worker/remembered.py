"""Answers about the file system that hold for a second, so that a thousand jobs of one directory ask once.

While a question is being answered, those who ask the same wait for that answer: one thread, however many ask.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from kueue_worker.threads import DeadlineThreads

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MOST_REMEMBERED = 4096


class Remembered(Generic[K, V]):
    """Answers by key. A failure to answer in time is remembered as well, for `hung_seconds`."""

    def __init__(
        self,
        threads: DeadlineThreads,
        clock: Callable[[], float],
        *,
        seconds: float = 1.0,
        hung_seconds: float = 5.0,
        dispose: Callable[[V], None] | None = None,
    ) -> None:
        self._threads = threads
        self._clock = clock
        self._seconds = seconds
        self._hung_seconds = hung_seconds
        self._dispose = dispose
        self._answers: dict[K, tuple[float, V | BaseException]] = {}
        self._asked: dict[K, list[Callable[[V | BaseException], None]]] = {}

    def ask(
        self,
        key: K,
        work: Callable[[], V],
        done: Callable[[V | BaseException], None],
        accept: Callable[[V], V] | None = None,
    ) -> None:
        """`done` with the answer: at once if it is known, else when `work` has found it in a thread.

        `accept` sees a fresh answer once, on the loop, and returns what is remembered in its place.
        """
        known = self._answers.get(key)
        if known is not None and known[0] > self._clock():
            done(known[1])
            return
        waiting = self._asked.get(key)
        if waiting is not None:
            waiting.append(done)
            return
        self._asked[key] = [done]

        def answered(result: V | BaseException) -> None:
            if accept is not None and not isinstance(result, BaseException):
                result = accept(result)
            hung = isinstance(result, TimeoutError)
            if len(self._answers) >= MOST_REMEMBERED:
                self._forget_old()
            self._answers[key] = (self._clock() + (self._hung_seconds if hung else self._seconds), result)
            for tell in self._asked.pop(key):
                tell(result)

        self._threads.run(work, answered, dispose=self._dispose, place=(id(self), key))

    def forget(self) -> None:
        """All answers are void (questions under way are still answered)."""
        self._answers.clear()

    def _forget_old(self) -> None:
        now = self._clock()
        self._answers = {key: entry for key, entry in self._answers.items() if entry[0] > now}
        if len(self._answers) >= MOST_REMEMBERED:
            self._answers.clear()
