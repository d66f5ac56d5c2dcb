"""Clean-ups that a person asks for: which finished jobs leave the table, and how many stay."""

from __future__ import annotations

from kueue.job import FINISHED, JobState
from kueue.wire.messages import Selector
from kueue_server.core import retention, tasks, verbs
from kueue_server.core.arrays import Tasks
from kueue_server.core.events import CleanRequested
from kueue_server.core.instructions import AnswerClean
from kueue_server.core.jobs import Job
from kueue_server.core.state import State
from kueue_server.core.table import task_of

S = JobState


def clean(state: State, event: CleanRequested) -> None:
    """Drop what has finished, and answer."""
    states = {S.SUCCEEDED, S.CANCELED} | ({S.FAILED} if event.failed else set())
    selector = event.selector
    if selector is None:
        selector = Selector(states=tuple(sorted(states)))
    elif selector.states:
        states = {state for state in FINISHED if state in selector.states}
    verbs.begin(state, selector, Cleaning(event.request, frozenset(states)), event.wall)


class Cleaning:
    """Drop each job that is in one of these states and of which no attempt may live."""

    needs_stillness = False

    def __init__(self, request: int, states: frozenset[JobState]) -> None:
        self._request = request
        self._states = states
        self._doomed: list[int] = []
        self._dropped = self._kept = 0

    def apply(self, state: State, job: Job) -> None:
        """Doom a job, or count it as kept."""
        if job.state in self._states and not job.holding and not state.gates.needs(job):
            self._doomed.append(job.id)
        else:
            self._kept += 1

    def apply_tasks(self, state: State, found: Tasks) -> None:
        """Drop tasks that were canceled before they started, or count them as kept."""
        if state.table.turned is not None:  # somebody waits for jobs: each of these is looked at
            for number in found.ids():
                self.apply(state, task_of(found.part, number))
            return
        if found.part.state in self._states:
            tasks.drop(state, found)
            self._dropped += len(found)
        else:
            self._kept += len(found)

    def pause(self, state: State) -> None:
        """Drop those of this portion."""
        self._dropped += len(self._doomed)
        retention.drop(state, self._doomed)
        self._doomed = []

    def answer(self) -> AnswerClean:
        """How many went, and how many of the selected stay."""
        return AnswerClean(self._request, self._dropped, self._kept)
