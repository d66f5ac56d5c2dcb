"""The inventory: all that this worker has of one journal, cut into messages of a bounded size."""

from __future__ import annotations

from collections.abc import Iterable

from kueue.wire.messages import (
    BATCH_BYTES,
    MAX_ITEMS,
    AttemptRef,
    FinishedAttempt,
    Inventory,
    RunningAttempt,
)
from kueue_worker.core.attempts import Attempt, Phase

FINISHED_BYTES = 600
"""About the size of a finished attempt on the wire without its tails."""


def inventory(
    journal: str, attempts: Iterable[Attempt], highest_job: int, now: float
) -> tuple[Inventory, ...]:
    """At least one message; all but the last say that more follow.

    An attempt whose end can't be told yet (held back, tails unread) counts as running; the report follows.
    """
    held: list[AttemptRef] = []
    running: list[RunningAttempt] = []
    finished: list[FinishedAttempt] = []
    for attempt in attempts:
        if attempt.note.journal != journal:
            continue
        highest_job = max(highest_job, attempt.note.job)
        match attempt.phase:
            case Phase.HELD | Phase.PREPARING | Phase.NEXT | Phase.STARTING:
                held.append(attempt.ref)
            case Phase.RUNNING | Phase.DOUBTFUL | Phase.READING:
                running.append(attempt.running_at(now))
            case Phase.FINISHED:
                finished.append(attempt.finished_at(now))
    finished_parts = cut(finished)
    if len(held) + len(running) + len(finished) <= MAX_ITEMS and len(finished_parts) <= 1:
        return (Inventory(journal, tuple(held), tuple(running), tuple(finished), highest_job=highest_job),)
    messages = [
        Inventory(journal, held=tuple(held[i : i + MAX_ITEMS]), more=True)
        for i in range(0, len(held), MAX_ITEMS)
    ]
    messages += [
        Inventory(journal, running=tuple(running[i : i + MAX_ITEMS]), more=True)
        for i in range(0, len(running), MAX_ITEMS)
    ]
    messages += [Inventory(journal, finished=part, more=True) for part in finished_parts]
    return (*messages, Inventory(journal, highest_job=highest_job))


def cut(finished: list[FinishedAttempt]) -> list[tuple[FinishedAttempt, ...]]:
    """In portions that fit a message, tails (base64 on the wire) included."""
    portions: list[tuple[FinishedAttempt, ...]] = []
    portion: list[FinishedAttempt] = []
    size = 0
    for item in finished:
        size += FINISHED_BYTES + 4 * (len(item.stdout_tail) + len(item.stderr_tail)) // 3
        portion.append(item)
        if len(portion) >= MAX_ITEMS or size >= BATCH_BYTES:
            portions.append(tuple(portion))
            portion, size = [], 0
    if portion:
        portions.append(tuple(portion))
    return portions
