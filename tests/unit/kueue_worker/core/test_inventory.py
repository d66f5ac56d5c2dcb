"""Inventories and reports are cut into messages of a bounded size."""

from __future__ import annotations

from kueue.job import End
from kueue.resources import Shape
from kueue.wire.messages import (
    BATCH_BYTES,
    MAX_FRAME,
    MAX_ITEMS,
    TAIL_BYTES,
    AttemptRef,
    FinishedAttempt,
    Inventory,
    Report,
)
from kueue_worker.core.attempts import Attempt, Phase, key_of
from kueue_worker.core.events import Ended, Note
from kueue_worker.core.instructions import TellFinished, TellReleased, TellStarted
from kueue_worker.core.inventory import inventory
from kueue_worker.reports import Reports


def attempt(job: int, phase: Phase, tail: bytes = b"") -> Attempt:
    """An attempt in a phase."""
    note = Note("j", job, job, 1, Shape())
    ended = Ended(End.EXITED, exit_code=0, started=1.0, ended=2.0)
    return Attempt(
        key_of("j", job, job), note, phase, started=1.0, ended=ended, stdout_tail=tail, stderr_tail=tail
    )


def test_a_small_inventory_is_one_message() -> None:
    attempts = [attempt(1, Phase.HELD), attempt(2, Phase.RUNNING), attempt(3, Phase.FINISHED)]
    (message,) = inventory("j", attempts, 0, 5.0)
    assert [item.job for item in message.held] == [1]
    assert [item.job for item in message.running] == [2]
    assert [item.job for item in message.finished] == [3]
    assert (message.more, message.highest_job) == (False, 3)


def test_nothing_is_an_inventory_too() -> None:
    assert inventory("j", [], 12, 5.0) == (Inventory("j", highest_job=12),)


def test_a_large_inventory_is_cut_and_only_the_last_message_says_that_it_is_all() -> None:
    attempts = [attempt(job, Phase.HELD) for job in range(1, 2501)]
    attempts += [attempt(job, Phase.FINISHED, b"x" * TAIL_BYTES) for job in range(2501, 3001)]
    messages = inventory("j", attempts, 0, 5.0)
    assert [message.more for message in messages] == [True] * (len(messages) - 1) + [False]
    assert sum(len(message.held) for message in messages) == 2500
    assert sum(len(message.finished) for message in messages) == 500
    assert max(len(message.held) for message in messages) <= MAX_ITEMS
    biggest = max(sum(len(item.stdout_tail) for item in message.finished) for message in messages)
    assert biggest * 2 * 4 / 3 < BATCH_BYTES * 1.1 < MAX_FRAME
    assert messages[-1].highest_job == 3000


def test_attempts_of_other_journals_are_not_listed() -> None:
    assert inventory("another", [attempt(9, Phase.RUNNING)], 0, 5.0) == (Inventory("another"),)


def test_reports_gather_and_keep_starts_before_ends() -> None:
    reports = Reports()
    running = attempt(1, Phase.RUNNING).running_at(2.0)
    finished = attempt(1, Phase.FINISHED).finished_at(2.0)
    reports.add(TellFinished(finished))
    reports.add(TellStarted(running))
    reports.add(TellReleased(AttemptRef(2, 2)))
    expected = Report(started=(running,), finished=(finished,), released=(AttemptRef(2, 2),))
    assert reports.take() == [expected]
    assert not reports


def test_many_reports_are_cut_with_all_starts_before_all_ends() -> None:
    reports = Reports()
    for job in range(1500):
        reports.add(TellStarted(attempt(job, Phase.RUNNING).running_at(2.0)))
        reports.add(TellFinished(attempt(job, Phase.FINISHED).finished_at(2.0)))
    messages = reports.take()
    kinds = ["started" if message.started else "finished" for message in messages]
    assert kinds == sorted(kinds, reverse=True)
    assert sum(len(message.finished) for message in messages) == 1500
    items: list[FinishedAttempt] = [item for message in messages for item in message.finished]
    assert [item.job for item in items] == list(range(1500))
