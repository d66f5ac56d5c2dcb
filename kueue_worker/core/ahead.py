"""Starts ordered ahead: some of those that wait are in the keeper's line before there is room for them.

Where jobs are short, the news of an end and the order for the next start take longer than a job. So the keeper
lets each that waits in its line take the place of one of the same shape that ends, and says so with the end. That is
only done while all that wait are of one shape, and without named units: then whose place it is makes no difference.
"""

from __future__ import annotations

import msgspec

from kueue.resources import Shape
from kueue_worker.core import instructions as i
from kueue_worker.core.attempts import Attempt, Phase
from kueue_worker.core.book import Book

AHEAD_SECONDS = 0.2
"""Of work that is ordered ahead: what is ordered can't go elsewhere, and stands for little."""
MOST_AHEAD = 64
UNTIL_SECONDS = 1.0
STALE_SECONDS = 10.0
"""After that the preparation of one that is in line may be out of date: it is taken back and made anew."""
LEAST_RUN_SECONDS = 0.001
MOST_ROOMS = 1000
"""Names that are remembered; they are made anew at little cost."""
SHARE = 8
"""The mean of the times that jobs ran follows the last ones: each counts for one in so many."""


class Ahead:
    """`able`: the keeper knows how. `seconds` of work are ordered ahead; `until_seconds`: the keeper may start it for
    so long without being told again."""

    def __init__(self, book: Book) -> None:
        self.able = False
        self.seconds = AHEAD_SECONDS
        self.until_seconds = UNTIL_SECONDS
        self._book = book
        self._mean_seconds: float | None = None
        self._rooms: dict[Shape, str] = {}
        self._taken_back: set[str] = set()

    def ran(self, seconds: float) -> None:
        """A job ran for so long."""
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean + (seconds - mean) / SHARE

    def room_of(self, shape: Shape) -> str:
        """What an attempt of this shape takes up, for the keeper; empty if nobody can take its place."""
        if not self.able:
            return ""
        room = self._rooms.get(shape)
        if room is None:
            if len(self._rooms) == MOST_ROOMS:
                self._rooms.clear()
            has_units = self._book.room.has_units(shape)
            room = self._rooms[shape] = "" if has_units else msgspec.json.encode(shape).decode()
        return room

    def order(self, until: float, now: float) -> None:
        """Order some more, if that is worth while. `until`: none of them may start later by itself."""
        book = self._book
        shape = book.held.only_shape()
        if shape is None or self._mean_seconds is None or not self.room_of(shape):
            return
        wanted = book.reserved_count * self.seconds / max(self._mean_seconds, LEAST_RUN_SECONDS)
        most = min(MOST_AHEAD, int(wanted))
        until = min(until, now + self.until_seconds)
        if len(book.line) > most // 2 or until <= now:
            return
        for key in book.held.first(most - len(book.line)):
            book.prepare_ahead(book.attempts[key], until)

    def go(self, now: float) -> None:
        """There may be room that the keeper knows nothing of: those in line come first."""
        book = self._book
        for key in list(book.line):
            attempt = book.attempts[key]
            if not book.room.fits(attempt.shape):
                return
            if key in self._taken_back:
                continue
            if attempt.until is not None and now > attempt.until + STALE_SECONDS:
                self.take_back(now)
                return
            if attempt.phase is Phase.NEXT:
                book.out.append(i.Go(key))
                book.take_place(attempt, now)
            else:
                book.take_room(attempt, now)

    def take_back(self, now: float) -> None:
        """None of them is to start now: they wait like others again."""
        book = self._book
        for key in list(book.line):
            attempt = book.attempts[key]
            if attempt.phase is Phase.NEXT:
                self.drop(attempt)
            else:
                book.out.append(i.Discard(key))
                book.hold_again(attempt, now)

    def drop(self, attempt: Attempt) -> None:
        """Ask the keeper for this one."""
        if attempt.key not in self._taken_back:
            self._taken_back.add(attempt.key)
            self._book.out.append(i.DropStart(attempt.key))

    def left_line(self, key: str) -> None:
        """The keeper has said what became of it."""
        self._taken_back.discard(key)

    def keeper_came(self, able: bool) -> None:
        """Another keeper, or another connection: its line is empty."""
        self.able = able
        self._rooms.clear()
        self._taken_back.clear()
