"""What people ask of many jobs at once: one verb at a time, in portions, as if it were done in one go.

A verb of up to some hundred jobs is one step. A larger one goes on in further steps, which the shell makes follow
each other at once (`TurnCame`): peers are heard in between, but nothing is handed out, so no job that the verb is
about starts before its turn. See `docs/decisions/0005-verbs-of-many-jobs.md`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from kueue.wire.messages import Selector
from kueue_server.core.arrays import Tasks
from kueue_server.core.instructions import Instruction
from kueue_server.core.jobs import Job
from kueue_server.core.selection import PORTION, Selection
from kueue_server.core.state import State

CHANGE_COST = 15
"""What it costs to change a job (see `selection`): a step changes five hundred."""


class Verb(Protocol):
    """Something that is done to each job of a selection."""

    needs_stillness: bool
    """Nothing is to be handed out while it is under way."""

    def apply(self, state: State, job: Job) -> None:
        """Do it to one job, or count why not."""
        ...

    def pause(self, state: State) -> None:
        """A portion is over."""
        ...

    def answer(self) -> Instruction | None:
        """All is done; what is to be said of it."""
        ...


@runtime_checkable
class VerbOfTasks(Verb, Protocol):
    """A verb that can do it to many latent tasks at once, whatever their number; any other gets each as a job."""

    def apply_tasks(self, state: State, found: Tasks) -> None:
        """Do it to all of them, or count why not."""
        ...


class UnderWay:
    """A verb with the jobs that are still to come. Jobs that were submitted after it began are not among them."""

    def __init__(self, state: State, selection: Selection, verb: Verb) -> None:
        self.verb = verb
        self.cost = selection.cost
        self._selection = selection
        self._last = state.table.present.last() or 0
        self._cursor: int | None = None

    def jobs(self) -> Iterator[tuple[Job | Tasks, bool]]:
        """Those that are led to, and whether they are named, from where the last portion ended."""
        walk = self._selection.walk_tasks if isinstance(self.verb, VerbOfTasks) else self._selection.walk
        for found, named in walk(cursor=self._cursor):
            last = found.last if isinstance(found, Tasks) else found.id
            if last > self._last:
                return
            self._cursor = last
            yield found, named


def begin(state: State, selector: Selector, verb: Verb, wall: float) -> None:
    """A verb comes to the end of the line, and is done at once if it is small and alone."""
    state.verbs.append(UnderWay(state, Selection(state, selector, wall), verb))
    if len(state.verbs) == 1:
        go_on(state)


def go_on(state: State) -> None:
    """Do a portion."""
    left = PORTION
    while state.verbs and left > 0:
        current = state.verbs[0]
        for found, named in current.jobs():
            left -= current.cost
            if named:
                left -= CHANGE_COST
                _apply(state, current.verb, found)
            if left <= 0:
                break
        else:
            state.verbs.popleft()
        current.verb.pause(state)
        if not state.verbs or state.verbs[0] is not current:
            answer = current.verb.answer()
            if answer is not None:
                state.outbox.send(answer)


def _apply(state: State, verb: Verb, found: Job | Tasks) -> None:
    if isinstance(found, Job):
        verb.apply(state, found)
    else:
        assert isinstance(verb, VerbOfTasks)
        verb.apply_tasks(state, found)


def need_stillness(state: State) -> bool:
    """Is something under way that would be disturbed if jobs started?"""
    return any(current.verb.needs_stillness for current in state.verbs)
