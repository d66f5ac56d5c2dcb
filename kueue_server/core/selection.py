"""What a selector means: the jobs it names, found by the indexes as far as there are some.

Ids, group, queue and state have indexes; for the other conditions each job that these leave is looked at. Whoever walks
does so in portions, counted in looks, so that nobody waits for a table of a million jobs. Reads the state and
changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate

import msgspec

from kueue.job import FINISHED, JobState
from kueue.wire.messages import OsString, Selector, Spec
from kueue.wire.selector import looks_at_jobs
from kueue_server.core.arrays import Tasks, is_marked
from kueue_server.core.closed import path_bytes
from kueue_server.core.idranges import RangeList
from kueue_server.core.jobs import Job
from kueue_server.core.state import State
from kueue_server.core.table import task_of
from kueue_server.core.views import worker_name

INDEX_COST = 1
LOOK_COST = 2
"""What it costs to be led to a job by an index, and to look into it, too; about in microseconds."""
TEXT_COST = 2
"""What it costs more to search a job's command."""
PORTION = 8_000
"""What is spent in one go."""


class _Payload(msgspec.Struct, gc=False):
    argv: tuple[OsString, ...]


class _Shown(msgspec.Struct, gc=False):
    """The part of an encoded `Spec` that conditions are about."""

    cwd: OsString
    name: str = ""


class _Told(_Shown, gc=False, kw_only=True):
    """The same with the command."""

    payload: _Payload


_decode_shown = msgspec.json.Decoder(_Shown).decode
_decode_told = msgspec.json.Decoder(_Told).decode


class Selection:
    """The jobs that a selector names; `wall` is what its `since_seconds` goes back from."""

    def __init__(self, state: State, selector: Selector, wall: float) -> None:
        self._state = state
        self._looks = looks_at_jobs(selector)
        # A long pattern may be tried at each character of a long name.
        self.cost = LOOK_COST + len(selector.name or "") // 4 if self._looks else INDEX_COST
        self._text = None if selector.text is None else selector.text.casefold()
        if self._text is not None:
            self.cost += TEXT_COST
        self._name = None if selector.name is None else re.compile(translate(selector.name)).match
        self._cwd = None if selector.cwd is None else path_bytes(selector.cwd).rstrip(b"/") + b"/"
        self._worker = None if selector.worker is None else re.compile(translate(selector.worker)).match
        self._workers: dict[str | None, bool] = {None: False}
        self._since = None if selector.since_seconds is None else wall - selector.since_seconds
        self._exit_code = selector.exit_code
        # Where both are named, the group's index leads, and the queue is looked at.
        self._queue = None if selector.group is None else selector.queue
        if selector.exit_code is not None and not selector.states:
            selector = msgspec.structs.replace(selector, states=tuple(sorted(FINISHED)))
        if selector.last:
            newest = state.table.present.last() or 0
            ranges = (*selector.ranges, (newest, newest))
            selector = msgspec.structs.replace(selector, ranges=ranges, last=False)
        self._by_index = selector

    def walk(self, newest_first: bool = False, cursor: int | None = None) -> Iterator[tuple[Job, bool]]:
        """The jobs that the indexes lead to, beyond `cursor`, and whether each is one. The table may change
        meanwhile. Of tasks of arrays that are named records are made; `walk_tasks` makes none."""
        table = self._state.table
        for found, named in self.walk_tasks(newest_first, cursor):
            if isinstance(found, Job):
                yield found, named
                continue
            # Those that are not named need one step only, to the last of them.
            for job_id in found.ids(descending=newest_first)[0 if named else -1 :]:
                job = table.get(job_id) if named else table.look(job_id)
                if job is not None:
                    yield job, named

    def walk_tasks(
        self, newest_first: bool = False, cursor: int | None = None
    ) -> Iterator[tuple[Job | Tasks, bool]]:
        """The same, but latent tasks come together, as many as are named or not for one reason."""
        table = self._state.table
        for found in table.select(self._by_index, newest_first, cursor):
            if isinstance(found, Tasks):
                yield from self._judged(found, newest_first)
                continue
            job = table.jobs.get(found)
            if job is not None:
                yield job, not self._looks or self._holds(job)

    def _judged(self, tasks: Tasks, newest_first: bool) -> Iterator[tuple[Tasks, bool]]:
        if not self._looks:
            yield tasks, True
        elif not self._tells_apart(tasks.part.plan.spec):
            yield tasks, self._holds(task_of(tasks.part, tasks.first))
        else:
            for job_id in tasks.ids(descending=newest_first):
                yield Tasks(tasks.part, job_id, job_id), self._holds(task_of(tasks.part, job_id))

    def _tells_apart(self, spec: Spec) -> bool:
        """May one task of an array be meant and another not?"""
        return (
            ((self._name or self._text) is not None and is_marked(spec.name))
            or (self._cwd is not None and is_marked(spec.cwd))
            or (self._text is not None and any(map(is_marked, spec.payload.argv)))
        )

    def _holds(self, job: Job) -> bool:
        if self._queue is not None and job.lane.queue.name != self._queue:
            return False
        outcome = job.outcome
        if self._exit_code is not None and (outcome is None or outcome.exit_code != self._exit_code):
            return False
        if self._since is not None:
            finished = outcome.finished_at if outcome is not None and job.state in FINISHED else 0.0
            if max(job.submitted_at, job.started_at or 0.0, finished) < self._since:
                return False
        if self._worker is not None and not self._on_worker(worker_name(self._state, job)):
            return False
        if self._name is None and self._cwd is None and self._text is None:
            return True
        if self._text is None:
            shown = _decode_shown(job.spec)
        else:
            shown = _decode_told(job.spec)
            if not _is_in(self._text, shown):
                return False
        if self._name is not None and not self._name(shown.name):
            return False
        return self._cwd is None or (path_bytes(shown.cwd) + b"/").startswith(self._cwd)

    def _on_worker(self, name: str | None) -> bool:
        known = self._workers.get(name)
        if known is None:
            assert name is not None
            assert self._worker is not None
            worker = self._state.workers.by_name.get(name)
            host = worker is not None and bool(self._worker(worker.record.host))
            known = self._workers[name] = host or bool(self._worker(name))
        return known


def _is_in(text: str, told: _Told) -> bool:
    if text in told.name.casefold():
        return True
    words = [
        word if isinstance(word, str) else word.b64.decode(errors="replace") for word in told.payload.argv
    ]
    return text in " ".join(words).casefold()


class SelectedPart(msgspec.Struct, frozen=True):
    """A portion of what a selector names. `cursor`: where the next begins, None if this was the last."""

    ranges: tuple[tuple[int, int], ...]
    counts: dict[str, int]
    cursor: int | None


def part(selection: Selection, cursor: int | None, most_ranges: int) -> SelectedPart:
    """The next portion beyond `cursor`."""
    found = RangeList(most_ranges)
    counts: dict[JobState, int] = {}
    left = PORTION
    for one, named in selection.walk_tasks(cursor=cursor):
        if isinstance(one, Tasks):
            first, last, state = one.first, one.last, one.part.state
        else:
            first, last, state = one.id, one.id, one.state
        if left <= 0 or (named and not found.takes(first)):
            return SelectedPart(found.ranges(), counts_by_name(counts), cursor)
        left -= selection.cost
        cursor = last
        if named:
            found.add(first, last)
            counts[state] = counts.get(state, 0) + last - first + 1
    return SelectedPart(found.ranges(), counts_by_name(counts), None)


def counts_by_name(counts: dict[JobState, int]) -> dict[str, int]:
    """States by the names that people see."""
    return {state.value: number for state, number in counts.items()}
