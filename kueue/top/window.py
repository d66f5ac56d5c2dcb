"""The jobs around those that are seen, and which page to ask for next. Pure.

Never the whole table: a window of some hundred rows is filled from its ends with the cursors that the server gave,
one page at a time, and begun anew where somebody jumps. So Home and End cost the same in a table of any size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from kueue.job import FINISHED
from kueue.top.rows import Rows
from kueue.wire.messages import MAX_ITEMS, JobChange, JobView, Selector
from kueue.wire.selector import looks_at_jobs

LEAST_PAGE = 100
"""Rows of one page."""
SCREENS_AHEAD = 2
MOST_ROWS = 1000
"""Rows that are kept; those farthest from the view go first."""

MOST_SORTED = 10_000
"""Jobs that are sorted by anything but their ids: for that all of them have to be here."""


ORDERS: dict[str, Callable[[JobView], Any]] = {
    "time": lambda job: -(job.run_seconds or 0.0),
    "name": lambda job: (not job.name, job.name),
    "worker": lambda job: (job.worker is None, job.worker or ""),
    "state": lambda job: job.state,
}
"""By what jobs can be sorted; the longest time first."""

Place = Literal["start", "end", "here", "before", "after"]


class Fetch(NamedTuple):
    """A page to ask for, as `ListJobs` has it, and where its rows go. `newest`: the newest job known by then."""

    selector: Selector
    newest_first: bool
    cursor: int | None
    limit: int
    place: Place
    newest: int
    age: int


class Window(Rows[JobView]):
    """Rows in the order of their ids, newest first unless turned round."""

    def __init__(self) -> None:
        super().__init__()
        self.selector = Selector()
        self.newest_first = True
        self.order: str | None = None
        """One of `ORDERS`; None: by id."""
        self.oldest = self.newest = 0
        # Where more rows begin on either side; None: there are no more.
        self._before: int | None = None
        self._after: int | None = None
        self._at_start = False
        self._wanted: Place | None = "start"
        self._from: int | None = None
        self._keep: int | None = None
        self._age = 0

    # ---------------------------------------------------------------- what is wanted

    def filter(self, selector: Selector) -> None:
        """Other jobs; what is there is shown until they come."""
        self.selector = selector
        self._go("start")

    def turn_round(self) -> None:
        """The other order."""
        self.newest_first = not self.newest_first
        self._go("start")

    def sort(self, jobs: Sequence[JobView], order: str, now: float) -> None:
        """These, which are all, in one of `ORDERS`. Others don't come among them until the order is by id again."""
        self._go("start")
        self._wanted = self._before = self._after = None
        self.order, self._at_start = order, True
        key = ORDERS[order]
        self.items = [_live(job, now) for job in sorted(jobs, key=lambda job: (key(job), -job.id))]
        self.top = self.selected = 0

    def by_id(self) -> None:
        """In the order of ids again."""
        self._go("start")

    def home(self) -> None:
        """The first one, wherever it is."""
        if self._at_start and self._before is None:
            super().home()
        else:
            self._go("start")

    def end(self) -> None:
        """The last one, wherever it is."""
        if self._after is None and self._wanted is None:
            super().end()
        else:
            self._go("end")

    def jump(self, share: float) -> None:
        """To about this share of the table, 0…1."""
        if self._before is None and self._after is None:
            super().jump(share)
        elif share <= 0.0 or share >= 1.0:
            self._go("start" if share <= 0.0 else "end")
        else:
            share = 1.0 - share if self.newest_first else share
            self._go("here", self._beside(self.oldest + round(share * (self.newest - self.oldest)), -1))

    def reload(self) -> None:
        """The same view anew: others may belong to it by now."""
        if self._wanted is None and self.order is None:
            keep = None if self.is_following or self.current is None else self.current.id
            if self.top == 0 and self._at_start:
                self._go("start")
            elif self.items:
                self._go("here", self._beside(self.items[self.top].id, -1))
            self._keep = keep

    def table_is(self, oldest: int, newest: int) -> None:
        """These are the ends of the table now."""
        before, self.newest = self.newest, newest
        self.oldest = oldest
        if newest <= before or self._wanted is not None or self.order is not None:
            return
        if not self.newest_first:
            self._after = self._known_up_to(before) if self._after is None else self._after
        elif self.is_following and not looks_at_jobs(self.selector):
            self._go("start")
        elif self._before is None:
            self._before = self._known_up_to(before)

    def _known_up_to(self, newest: int) -> int:
        """Of a complete side: all up to this id are there. `newest`: what the newest job was when it was asked for."""
        return max([newest, *(job.id for job in (self.items[:1] + self.items[-1:]))])

    @property
    def is_following(self) -> bool:
        """The view stays at the newest ones."""
        return self.newest_first and self._at_start and self.top == 0 and self.selected == 0

    @property
    def searched_up_to(self) -> int | None:
        """The rows that are seen are not all yet: the search has come so far."""
        if self._wanted is None and len(self.items) - self.top < self.height:
            return self._after if self._after is not None else self._before
        return None

    def _go(self, place: Place, cursor: int | None = None) -> None:
        self._wanted, self._from, self._keep, self.order = place, cursor, None, None
        self._age += 1

    def _beside(self, job: int, by: int) -> int:
        """The id before (-1) or after (1) another in our order."""
        return job - by if self.newest_first else job + by

    def need(self) -> Fetch | None:
        """The page to ask for now, None if all that is near is there."""
        ahead = self.height * SCREENS_AHEAD
        if self._wanted is not None:
            forward, place, cursor = self._wanted != "end", self._wanted, self._from
        elif self._after is not None and self.top + self.height + ahead > len(self.items):
            forward, place, cursor = True, "after", self._after
        elif self._before is not None and self.top < ahead:
            forward, place, cursor = False, "before", self._before
        else:
            return None
        limit = min(MAX_ITEMS, max(LEAST_PAGE, 2 * ahead))
        newest_first = self.newest_first is forward
        return Fetch(self.selector, newest_first, cursor, limit, place, self.newest, self._age)

    # ---------------------------------------------------------------- what comes

    def take(self, fetch: Fetch, jobs: Sequence[JobView], cursor: int | None, now: float) -> None:
        """The page that was asked for; forgotten if something else is wanted by now."""
        if fetch.age != self._age:
            return
        rows = [_live(job, now) for job in jobs]
        if fetch.place == "before":
            self._take_before(rows[::-1], cursor)
        elif fetch.place == "after":
            self.items += rows
            self._after = cursor
        else:
            self._begin(fetch, rows, cursor)
        # What was submitted while the page was on its way is beyond what is complete.
        if self.newest > fetch.newest:
            if self.newest_first and self._before is None:
                self._before = self._known_up_to(fetch.newest)
            elif not self.newest_first and self._after is None:
                self._after = self._known_up_to(fetch.newest)
        self._trim(fetch.place)
        self._keep_in_view()

    def _begin(self, fetch: Fetch, rows: list[JobView], cursor: int | None) -> None:
        self._wanted = None
        self._at_start = fetch.place == "start"
        if fetch.place == "end":
            self.items = rows[::-1]
            self._before, self._after = cursor, None
            self.selected = len(rows) - 1
            return
        self.items = rows
        self._after = cursor
        self._before = None if fetch.cursor is None else self._beside(fetch.cursor, 1)
        self.top = self.selected = 0
        for at, job in enumerate(rows[: self.height]):
            if job.id == self._keep:
                self.selected = at

    def _take_before(self, rows: list[JobView], cursor: int | None) -> None:
        follows = self.is_following
        self.items[:0] = rows
        self._before = cursor
        if cursor is None:
            self._at_start = True
        if not follows:
            self.top += len(rows)
            self.selected += len(rows)

    def _trim(self, place: Place) -> None:
        over = len(self.items) - MOST_ROWS
        if over <= 0:
            return
        if place == "before":
            del self.items[MOST_ROWS:]
            self._after = self.items[-1].id
        else:
            del self.items[:over]
            self.top -= over
            self.selected -= over
            self._before = self.items[0].id
            self._at_start = False

    def place(self) -> tuple[float, float]:
        """Where the view begins and ends, as shares of the table's ids; of the rows if they are all there."""
        seen = self.visible()
        if not seen or (self._before is None and self._after is None):
            return super().place()
        span = max(1, self.newest - self.oldest + 1)
        first, last = (job.id - self.oldest for job in (seen[0], seen[-1]))
        if self.newest_first:
            first, last = span - 1 - first, span - 1 - last
        return max(0.0, first / span), min(1.0, (last + 1) / span)

    def apply(self, change: JobChange, now: float) -> bool:
        """Something happened to a job; whether it is one of ours."""
        at = next((at for at, job in enumerate(self.items) if job.id == change.id), None)
        if at is None:
            return False
        if change.state == "unknown":
            del self.items[at]
            self.selected -= at < self.selected
            self.top -= at < self.top
            self._keep_in_view()
            return True
        self.items[at] = _changed(self.items[at], change, now)
        return True


def _live(job: JobView, now: float) -> JobView:
    """With a start by our own clock: its run time goes on."""
    if job.state != "running" or job.run_seconds is None:
        return job
    return msgspec.structs.replace(job, started_at=now - job.run_seconds, run_seconds=None)


def _changed(job: JobView, change: JobChange, now: float) -> JobView:
    moved = job.state != change.state or job.attempt != change.attempt
    begins = moved and change.state == "running"
    ends = moved and change.state in FINISHED
    # Why a job waits is not told with a change; what was known of it holds until it moves.
    waits = change.state == "pending" and not moved and change.reason is None
    return msgspec.structs.replace(
        job,
        state=change.state,
        worker=change.worker,
        attempt=change.attempt,
        return_code=change.return_code,
        signal=change.signal,
        reason=job.reason if waits else change.reason,
        started_at=now if begins else job.started_at,
        finished_at=now if ends else job.finished_at,
        run_seconds=change.run_seconds,
        cpu_seconds=change.cpu_seconds,
        peak_ram_mb=change.peak_ram_mb,
    )
