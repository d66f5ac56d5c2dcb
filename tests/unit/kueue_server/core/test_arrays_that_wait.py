"""Arrays that wait for other jobs: they wait, go, are canceled and are held as one, however many tasks they have."""

from __future__ import annotations

import msgspec
import pytest

from kueue.job import JobState
from kueue.wire.messages import Changes, JobView, Reason, Selector, Waits
from kueue_server.core.events import ChangeRequested
from kueue_server.core.instructions import AnswerChange, Instruction, SavePart
from tests.support.core_bench import Bench, make_spec, offers

MANY = 2000
FAILED = Reason("predecessor", "job 1 failed (exit 1)")
HELD = Reason("held", "held: job 1 failed (exit 1)")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def submit(bench: Bench, count: int = MANY, on_failure: str = "cancel") -> None:
    """A job, and an array that is to follow it."""
    waits = Waits(after=((1, 1),), on_failure=on_failure)
    bench.submit(make_spec())
    bench.submit_array(make_spec("sim", "{n}", waits=waits), (1, count, 1))


def end(bench: Bench, job: int = 1, code: int = 0) -> list[Instruction]:
    """A job that was offered ends."""
    (session,) = bench.core._state.workers.by_session
    return bench.finished(session, (job, bench.core._state.table.jobs[job].fence), code=code)


def change(bench: Bench, first: int, last: int, changes: Changes) -> AnswerChange:
    found = bench.handle(ChangeRequested(7, Selector(((first, last),)), changes, bench.wall))
    (answer,) = [one for one in found if isinstance(one, AnswerChange)]
    return answer


def parts(bench: Bench) -> list[tuple[int, int, JobState]]:
    return [(part.first, part.last, part.state) for part in bench.core._state.table.parts]


def has_no_record(bench: Bench, first: int, last: int) -> bool:
    return not any(first <= number <= last for number in bench.core._state.table.jobs)


def test_an_array_waits_as_one_row_and_has_no_record(bench: Bench) -> None:
    submit(bench)
    (row,) = [row for row in _rows(bench) if row.id == 2]
    assert (row.last, row.state, row.awaited) == (MANY + 1, "waiting", 1)
    assert row.reason == Reason("predecessors", "waits for job 1")
    jobs, _, waits = bench.core.glance(10, bench.time, arrays=True)
    assert [(row.id, row.last) for row in jobs] == [(1, None), (2, MANY + 1)]
    assert {group.reason.text: group.count for group in waits}["for other jobs"] == MANY
    detail = bench.core.job_detail(77, bench.time)
    assert detail is not None
    assert detail.awaited_ranges == ((1, 1),)
    assert has_no_record(bench, 2, MANY + 1)


def _rows(bench: Bench) -> list[JobView]:
    found, _ = bench.core.page(Selector(), False, None, 1000, False, bench.time, bench.wall, arrays=True)
    return list(found)


def test_when_its_predecessor_has_succeeded_all_are_pending_at_the_cost_of_one(bench: Bench) -> None:
    submit(bench)
    session = bench.worker(cpus=2)
    assert bench.state(2) == "waiting"
    result = end(bench)
    assert [(one.first, one.last, one.state) for one in result if isinstance(one, SavePart)] == [
        (2, MANY + 1, JobState.PENDING)
    ]
    assert [job for _, job, _ in offers(result)] == [2, 3]
    assert has_no_record(bench, 4, MANY + 1)
    assert session


@pytest.mark.parametrize("restarts", [False, True])
def test_when_its_predecessor_has_failed_all_are_canceled_with_that_reason(
    bench: Bench, restarts: bool
) -> None:
    submit(bench)
    bench.worker(cpus=2)
    end(bench, code=1)
    if restarts:
        bench.restart()
    assert parts(bench) == [(2, MANY + 1, JobState.CANCELED)]
    assert bench.core._state.table.look(500) is not None
    assert (bench.state(500), bench.reason(500)) == ("canceled", FAILED)
    assert bench.core.change_of(900).reason == FAILED
    assert has_no_record(bench, 2, MANY + 1)


def test_held_tasks_stay_held_and_a_person_lets_some_of_them_go(bench: Bench) -> None:
    submit(bench, 10, "hold")
    bench.worker(cpus=1)
    end(bench, code=1)
    for _ in range(2):
        assert [(bench.state(job), bench.reason(job)) for job in (2, 11)] == [("waiting", HELD)] * 2
        assert has_no_record(bench, 2, 11)
        bench.clean(failed=True)
        bench.restart()
    assert change(bench, 4, 5, Changes(priority=3)).changed == 2
    assert change(bench, 5, 6, Changes(release=True)).changed == 2
    for _ in range(2):
        states = [bench.state(job) for job in range(2, 12)]
        assert states == ["waiting"] * 3 + ["pending"] * 2 + ["waiting"] * 5
        bench.restart()


def test_a_restart_finds_them_waiting_and_lets_them_go_when_it_is_time(bench: Bench) -> None:
    submit(bench, 10)
    bench.restart()
    assert bench.state(2) == bench.state(11) == "waiting"
    bench.worker(cpus=1)
    before = dict(bench.journal.parts)
    end(bench)
    assert bench.state(11) == "pending"
    # The end was written and the rest was not; meanwhile it has left the table.
    bench.journal.parts = before
    bench.disconnect(*bench.core._state.workers.by_session)
    del bench.journal.jobs[1]
    bench.journal.jobs.pop(2, None)
    bench.restart()
    bench.tick()
    assert bench.state(11) == "pending"


def test_what_a_person_cancels_of_it_stays_canceled_and_the_rest_goes(bench: Bench) -> None:
    submit(bench, 10)
    bench.cancel((3, 5))
    bench.cancel((9, 9))
    bench.worker(cpus=1)
    end(bench)
    assert bench.state(2) == "offered"
    assert [job for job in range(2, 12) if bench.state(job) == "canceled"] == [3, 4, 5, 9]
    assert [job for job in range(2, 12) if bench.state(job) == "pending"] == [6, 7, 8, 10, 11]


def test_tasks_that_are_changed_wait_with_the_others_also_after_a_restart(bench: Bench) -> None:
    submit(bench, 10)
    assert change(bench, 3, 4, Changes(priority=5)).changed == 2
    bench.restart()
    assert change(bench, 6, 6, Changes(priority=4)).changed == 1
    assert [bench.state(job) for job in range(2, 12)] == ["waiting"] * 10
    session = bench.worker(cpus=1)
    bench.cancel((4, 4))
    assert offers(end(bench)) == [(session, 3, bench.core._state.table.jobs[3].fence)]
    states = {job: bench.state(job) for job in range(2, 12)}
    assert states == dict.fromkeys(range(2, 12), "pending") | {3: "offered", 4: "canceled"}


def test_jobs_and_arrays_at_the_same_gate_go_together(bench: Bench) -> None:
    waits = Waits(after=((1, 1),))
    bench.submit(make_spec(), make_spec(waits=waits))
    bench.submit_array(make_spec(waits=waits), (1, 3, 1))
    bench.submit(make_spec(waits=waits))
    bench.submit_array(make_spec(waits=waits), (1, 3, 1))
    assert len(bench.core._state.gates) == 1
    bench.worker(cpus=20)
    assert [job for _, job, _ in offers(end(bench))] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert not len(bench.core._state.gates)


def test_an_array_that_follows_an_array_waits_for_its_last_task(bench: Bench) -> None:
    bench.submit_array(make_spec(), (1, 3, 1))
    bench.submit_array(make_spec(waits=Waits(after=((1, 3),))), (1, 3, 1))
    bench.worker(cpus=3)
    for job in (1, 3):
        end(bench, job)
        assert [bench.state(each) for each in (4, 5, 6)] == ["waiting"] * 3
    assert [job for _, job, _ in offers(end(bench, 2))] == [4, 5, 6]


def test_one_that_is_submitted_after_its_predecessor_has_ended_is_told_at_once(bench: Bench) -> None:
    bench.submit(make_spec())
    bench.worker(cpus=1)
    end(bench, code=1)
    spec = make_spec(waits=Waits(after=((1, 1),)))
    bench.submit_array(spec, (1, 3, 1))
    assert [bench.state(job) for job in (2, 3, 4)] == ["canceled"] * 3
    bench.submit_array(msgspec.structs.replace(spec, waits=Waits(after_any=((1, 1),))), (1, 3, 1))
    assert [bench.state(job) for job in (5, 6, 7)] == ["offered", "pending", "pending"]
