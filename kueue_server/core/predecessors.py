"""Which jobs are meant by those that are to be submitted and wait for others.

Ids that are not in the table are refused by name: what became of them nobody knows. Selectors are looked up as those of
any verb, in portions and in the line of the verbs. The answer fixes the set; from then on the gates are pinned, so that
nothing that happens to a predecessor while the new jobs are on their way to the disk is missed.
"""

from __future__ import annotations

from collections.abc import Sequence

from kueue.wire.messages import Range, Reason, Selector, Waits
from kueue.wire.selector import MAX_RANGES
from kueue.wire.waits import nobody
from kueue_server.core import verbs
from kueue_server.core.events import PredecessorsAsked
from kueue_server.core.idranges import RangeList, merged, without
from kueue_server.core.idset import runs
from kueue_server.core.instructions import AnswerPredecessors
from kueue_server.core.jobs import Job
from kueue_server.core.state import State

MOST_NAMED = 10
"""Ranges of unknown ids that a refusal names."""
MOST_RANGES = 2 * MAX_RANGES
"""Of the ids in one question: they are looked up in one go."""


def asked(state: State, event: PredecessorsAsked) -> None:
    """Find out, and answer; at once where only ids are named."""
    if sum(len(waits.after) + len(waits.after_any) for waits in event.waits) > MOST_RANGES:
        text = f"at most {MOST_RANGES} ranges of ids to be waited for in one submit"
        state.outbox.send(AnswerPredecessors(event.request, Reason("too_many_ranges", text)))
        return
    asking = _Asking(state, event)
    selectors = dict.fromkeys(one for waits in event.waits for one in (*waits.select, *waits.select_any))
    asking.left = len(selectors)
    for selector in selectors:
        verbs.begin(state, selector, _Gathering(asking, selector), event.wall)
    if not selectors:
        state.outbox.send(asking.answer())


class _Asking:
    """One question, and what its selectors have been found to mean."""

    def __init__(self, state: State, event: PredecessorsAsked) -> None:
        self._state = state
        self._event = event
        self.left = 0
        self.found: dict[Selector, tuple[Range, ...]] = {}

    def answer(self) -> AnswerPredecessors:
        """All is found."""
        request = self._event.request
        resolved: list[Waits] = []
        for waits in self._event.waits:
            after = self._ids(waits.after, waits.select)
            after_any = self._ids(waits.after_any, waits.select_any)
            if isinstance(after, Reason):
                return AnswerPredecessors(request, after)
            if isinstance(after_any, Reason):
                return AnswerPredecessors(request, after_any)
            resolved.append(Waits(after, after_any, waits.on_failure))
        self._state.gates.pin(request, list(dict.fromkeys(resolved)))
        return AnswerPredecessors(request, None, tuple(resolved))

    def _ids(self, named: Sequence[Range], selectors: Sequence[Selector]) -> tuple[Range, ...] | Reason:
        present = (self._state.table.present,)
        ids = merged(named)
        lacking: list[Range] = []
        for first, last in ids:
            if present[0].count(first, last) <= last - first:
                lacking += without([(first, last)], list(runs(present, first, last)))
            if len(lacking) > MOST_NAMED:
                break
        if lacking:
            return Reason("unknown_job", _unknown(lacking))
        for selector in selectors:
            found = [run for span in self.found[selector] for run in runs(present, *span)]
            if not found:
                return Reason("unknown_job", nobody(selector))
            ids = merged([*ids, *found])
        if len(ids) > MAX_RANGES:
            text = (
                f"the jobs to be waited for lie in more than {MAX_RANGES} ranges of ids: let some jobs wait for a part"
                " of them each, and this one for those"
            )
            return Reason("too_many_ranges", text)
        return tuple(ids)


class _Gathering:
    """Notes each job that a selector names."""

    needs_stillness = False

    def __init__(self, asking: _Asking, selector: Selector) -> None:
        self._asking = asking
        self._selector = selector
        self._ids = RangeList(MAX_RANGES + 1)

    def apply(self, state: State, job: Job) -> None:
        """It is one."""
        self._ids.add(job.id, job.id)

    def pause(self, state: State) -> None:
        """Nothing is left over."""

    def answer(self) -> AnswerPredecessors | None:
        """When this was the last one, all is found."""
        self._asking.found[self._selector] = self._ids.ranges()
        self._asking.left -= 1
        return None if self._asking.left else self._asking.answer()


def _unknown(lacking: Sequence[Range]) -> str:
    shown = " ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in lacking[:MOST_NAMED]
    )
    more = " and more" if len(lacking) > MOST_NAMED else ""
    if len(lacking) == 1 and lacking[0][0] == lacking[0][1]:
        return f"no job {shown} that could be waited for"
    return f"no jobs {shown}{more} that could be waited for"
