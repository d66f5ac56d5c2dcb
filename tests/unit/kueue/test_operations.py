"""Operations without I/O, driven by hand: what they ask for, in which order, and what they make of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from kueue.effects import Close, Emit, Open, Receive, Send, Values, ask, failure
from kueue.errors import ProtocolError, RequestError, UnknownJobError, UnknownWorkerError, UsageError
from kueue.operations import follow, list_jobs, parts_of, ranges_of, read_log, watch
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import (
    Failure,
    JobChange,
    ListJobs,
    ListWorkers,
    LogChunk,
    ReadLog,
    Reason,
    Selector,
    Watch,
    WatchState,
    WorkerPage,
)


class Driver:
    """Performs `Open`, `Send` and `Close`; stops at the others, which the test answers."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation
        self.sent: list[Any] = []
        self.rids = 0
        self.at: Any = None
        self._step(lambda: next(operation))

    def _step(self, step: Any) -> None:
        effect = step()
        while isinstance(effect, Open | Send | Close):
            if isinstance(effect, Open):
                self.rids += 1
                effect = self.operation.send(self.rids)
                continue
            if isinstance(effect, Send):
                self.sent.append(effect.message)
            effect = self.operation.send(None)
        self.at = effect

    def answer(self, result: Any = None) -> Any:
        """Give what was asked for; returns what it waits for or emits next."""
        self._step(lambda: self.operation.send(result))
        return self.at

    def lose(self) -> Any:
        """The connection breaks."""
        self._step(lambda: self.operation.throw(ConnectionLostError("gone")))
        return self.at


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        ("unknown_job", UnknownJobError, 1),
        ("unknown_worker", UnknownWorkerError, 1),
        ("unknown_resource", UsageError, 2),
        ("too_much", UsageError, 2),
        ("empty_command", UsageError, 2),
        ("bad_priority", UsageError, 2),
        ("journal_full", RequestError, 1),
        ("some_code_of_the_future", RequestError, 1),
    ],
)
def test_a_no_becomes_the_error_that_its_code_says(code: str, kind: type, exit_code: int) -> None:
    error = failure(Reason(code, "because"))
    assert type(error) is kind
    assert (str(error), error.exit_code) == ("because", exit_code)


def test_a_question_has_a_fresh_id_each_time_it_is_asked() -> None:
    driver = Driver(ask(ListWorkers, WorkerPage))
    driver.lose()
    assert [message.rid for message in driver.sent] == [1, 2]
    with pytest.raises(StopIteration) as done:
        driver.answer((2, WorkerPage(2, ())))
    assert done.value.value == WorkerPage(2, ())


def test_a_no_to_a_question_is_raised() -> None:
    driver = Driver(ask(ListWorkers, WorkerPage))
    with pytest.raises(RequestError, match="busy"):
        driver.answer((1, Failure(1, Reason("busy", "busy"))))


def test_an_answer_to_another_question_is_a_fault_of_the_server() -> None:
    expected = "answered with LogChunk where WorkerPage was expected"
    driver = Driver(ask(ListWorkers, WorkerPage))
    with pytest.raises(ProtocolError, match=expected):
        driver.answer(chunk(1, b""))
    with pytest.raises(ProtocolError, match="WorkerPage where WatchState"):
        Driver(watch(((1, 2),), None)).answer((1, WorkerPage(1, ())))
    with pytest.raises(ProtocolError, match="WorkerPage where LogChunk"):
        Driver(read_log(3, "stdout", None)).answer((1, WorkerPage(1, ())))


def test_a_watch_goes_on_from_the_last_complete_answer() -> None:
    driver = Driver(watch(((1, 2),), None))
    assert driver.sent == [Watch(1, ((1, 2),), None)]
    assert driver.at == Receive((1,), None)
    first, second = JobChange(1, "pending"), JobChange(2, "pending")
    assert driver.answer((1, WatchState(1, 50, (first,), more=True))) == Emit(first)
    assert driver.answer() == Receive((1,), None)
    driver.lose()  # half of the snapshot is not worth anything
    assert driver.sent[-1] == Watch(2, ((1, 2),), None)
    assert driver.answer((2, WatchState(2, 51, (second,)))) == Emit(second)
    assert driver.answer() == Receive((2,), None)
    driver.lose()
    assert driver.sent[-1] == Watch(3, ((1, 2),), 51)


def test_a_watch_of_nothing_ends() -> None:
    with pytest.raises(StopIteration):
        Driver(watch((), None))


def test_ranges_are_cut_into_what_a_server_takes() -> None:
    assert list(parts_of(((1, 3), (5, 5)))) == [((1, 3), (5, 5))]
    assert list(parts_of(((1, 1_200_000),))) == [((1, 500_000), (500_001, 1_000_000), (1_000_001, 1_200_000))]
    parts = list(parts_of(tuple((n, n) for n in range(1, 50_000, 2))))
    assert [len(part) for part in parts] == [10_000, 10_000, 5_000]
    assert list(parts_of(())) == []


def test_ids_become_ranges() -> None:
    assert ranges_of([5, 3, 1, 2, 2, 9]) == ((1, 3), (5, 5), (9, 9))
    assert ranges_of([]) == ()


def test_a_page_is_asked_for_when_the_one_before_is_used_up() -> None:
    driver = Driver(list_jobs(Selector(states=("failed",)), True, 1500))
    assert driver.sent == [ListJobs(1, Selector(states=("failed",)), True, None, 1000, attempts=True)]


# ---------------------------------------------------------------- following output


def chunk(rid: int, data: bytes, offset: int = 0, **more: Any) -> tuple[int, LogChunk]:
    return rid, LogChunk(rid, 3, offset, data, offset + len(data), **more)


def test_following_goes_on_where_it_was_with_the_attempt_it_began_with() -> None:
    driver = Driver(follow(7, ("stdout",), None))
    (asked,) = driver.sent
    assert (asked.attempt, asked.offset, asked.wait_seconds > 0) == (None, 0, True)
    emitted = driver.answer(chunk(1, b"abc"))
    assert emitted.value[1].data == b"abc"
    driver.answer()
    assert (driver.sent[-1].attempt, driver.sent[-1].offset) == (3, 3)
    driver.lose()
    assert (driver.sent[-1].rid, driver.sent[-1].offset) == (3, 3)
    driver.answer(chunk(3, b"d", 3, at_end=True))
    with pytest.raises(StopIteration) as done:
        driver.answer()
    assert done.value.value == 3


def test_both_streams_are_followed_side_by_side() -> None:
    driver = Driver(follow(7, ("stdout", "stderr"), 1))
    assert [message.stream for message in driver.sent] == ["stdout", "stderr"]
    assert driver.at == Receive((1, 2), None)
    driver.answer(chunk(2, b"oops", at_end=True))
    assert driver.answer() == Receive((1,), None)


def test_a_worker_that_is_away_from_the_start_leaves_the_end_that_the_server_keeps() -> None:
    driver = Driver(follow(7, ("stdout",), 1))
    emitted = driver.answer(chunk(1, b"the end", tail=True))
    assert emitted.value[1].tail
    with pytest.raises(StopIteration):
        driver.answer()


def test_a_worker_that_goes_away_meanwhile_is_waited_for() -> None:
    driver = Driver(follow(7, ("stdout",), 1))
    driver.answer(chunk(1, b"abc"))
    driver.answer()
    pause = driver.answer(chunk(2, b"", tail=True))
    assert pause == Receive((), 1.0)
    driver.answer()
    assert isinstance(driver.sent[-1], ReadLog)
    assert driver.sent[-1].offset == 3
    driver.answer(chunk(3, b"def", 3, at_end=True))
    with pytest.raises(StopIteration):
        driver.answer()


def test_an_attempt_that_ended_with_its_worker_is_not_waited_for() -> None:
    driver = Driver(follow(7, ("stdout",), 1))
    driver.answer(chunk(1, b"abc"))
    driver.answer()
    emitted = driver.answer(chunk(2, b"bc", tail=True, at_end=True))
    assert emitted.value[1].tail
    with pytest.raises(StopIteration):
        driver.answer()


def test_a_server_that_does_not_hold_its_answer_is_not_asked_in_a_tight_loop() -> None:
    driver = Driver(follow(7, ("stdout",), 1))
    assert driver.answer(chunk(1, b"")) == Receive((), 1.0)


def test_values_of_an_operation_can_be_used_in_another() -> None:
    def inner() -> Any:
        yield Emit(1)
        try:
            yield Receive(())
        except ConnectionLostError:
            yield Emit(2)

    def outer() -> Any:
        values: Values[int] = Values(inner())
        found = []
        while (value := (yield from values.next())) is not None:
            found.append(value)
        return found

    driver = Driver(outer())
    assert driver.at == Receive(())
    with pytest.raises(StopIteration) as done:
        driver.lose()
    assert done.value.value == [1, 2]
