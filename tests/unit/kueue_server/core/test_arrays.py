"""Arrays in the core: tasks are jobs like others, and cost nothing until something becomes of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kueue.job import JobState
from kueue.wire.changes import Changes
from kueue.wire.messages import RawBytes, Selector, Spec
from kueue_server.core.arrays import task_spec
from kueue_server.core.events import ChangeRequested, CleanRequested, Limits
from kueue_server.core.instructions import (
    AnswerCancel,
    AnswerChange,
    AnswerClean,
    Instruction,
    JobsChanged,
    SaveJob,
    SavePart,
)
from tests.support.core_bench import Bench, make_spec, offers

THOUSAND = (1, 1000, 1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def records(bench: Bench) -> int:
    return len(bench.core._state.table.jobs)


def the(kind: type, instructions: list[Instruction]) -> Instruction:
    (found,) = [one for one in instructions if isinstance(one, kind)]
    return found


def rows(bench: Bench, *, arrays: bool = True, **filter: Any) -> list[tuple[int, int | None, str, str]]:
    found, cursor = bench.core.page(
        Selector(**filter),
        False,
        None,
        1000,
        False,
        bench.time,
        bench.wall,
        arrays=arrays,
    )
    assert cursor is None
    return [(row.id, row.last, row.state, row.indices) for row in found]


def spec_of(bench: Bench, job: int) -> Spec:
    found = bench.core._state.table.look(job)
    assert found is not None
    return msgspec.json.decode(found.spec, type=Spec)


def test_the_index_is_filled_in_where_people_may_write_it_and_nowhere_else() -> None:
    spec = make_spec("./sim", "--seed={n}", "{n}{n}", "{m}", cwd="/data/{n}", stdout="{n}.log", group="{n}")
    spec = msgspec.structs.replace(spec, name="run {n}", stderr=RawBytes(b"\xff{n}"))
    found = task_spec(spec, 42)
    assert found.payload.argv == ("./sim", "--seed=42", "4242", "{m}")
    assert (found.cwd, found.stdout, found.stderr) == ("/data/42", "42.log", RawBytes(b"\xff42"))
    assert (found.name, found.group, found.array_index) == ("run 42", "{n}", 42)


def test_tasks_that_have_not_started_are_one_row_and_have_no_record(bench: Bench) -> None:
    bench.submit(make_spec())
    bench.submit_array(make_spec("./sim", "{n}"), (1, 1999, 2))
    assert rows(bench) == [(1, None, "pending", ""), (2, 1001, "pending", "1-1999:2")]
    assert records(bench) == 1
    assert bench.core.counts(bench.time).pending == 1001
    assert len(rows(bench, arrays=False, ranges=((2, 11),))) == 10
    view = bench.core.job_view(12, bench.time)
    assert view is not None
    assert (view.command, view.array, view.array_index) == (("./sim", "21"), 2, 21)
    assert records(bench) == 1


def test_tasks_are_handed_out_in_order_and_only_those_get_a_record(bench: Bench) -> None:
    session = bench.worker(cpus=2)
    found = offers(bench.submit_array(make_spec("./sim", "{n}"), THOUSAND))
    assert [job for _, job, _ in found][:2] == [1, 2]
    assert spec_of(bench, 2).payload.argv == ("./sim", "2")
    assert spec_of(bench, 2).array_index == 2
    handed = len(found)
    assert records(bench) <= handed + 1
    assert rows(bench)[-1] == (handed + 1, 1000, "pending", f"{handed + 1}-1000")
    for _, job, fence in found[:2]:
        bench.finished(session, (job, fence))
    assert bench.state(1) == "succeeded"
    assert bench.core.counts(bench.time).succeeded == 2


def test_a_restart_keeps_what_has_become_of_tasks_and_makes_no_record_of_the_others(bench: Bench) -> None:
    session = bench.worker(cpus=2)
    found = offers(bench.submit_array(make_spec("./sim", "{n}", group="g"), THOUSAND))
    bench.finished(session, (found[0][1], found[0][2]), code=3)
    bench.cancel((900, 950))
    before = rows(bench, arrays=False)
    bench.restart()
    assert rows(bench, arrays=False) == before
    assert records(bench) < 20
    assert bench.state(1) == "failed"
    assert bench.state(925) == "canceled"
    assert len(rows(bench, arrays=False, group="g")) == 1000


def test_the_journal_has_one_row_however_large_the_array_is(bench: Bench) -> None:
    bench.checked = False
    result = bench.submit_array(make_spec("./sim", "{n}"), (1, 1_000_000, 1))
    assert result == [JobsChanged((), ((1, 1_000_000),))]
    assert (len(bench.journal.parts), len(bench.journal.jobs)) == (1, 0)
    core = bench.core
    assert core.counts(bench.time).pending == 1_000_000
    assert (core.oldest, core.newest) == (1, 1_000_000)
    assert rows(bench) == [(1, 1_000_000, "pending", "1-1000000")]
    part = core.select(Selector(states=("pending",)), None, 100, bench.wall)
    assert (part.ranges, part.counts, part.cursor) == (((1, 1_000_000),), {"pending": 1_000_000}, None)


def test_a_range_of_tasks_is_canceled_as_a_range(bench: Bench) -> None:
    bench.submit_array(make_spec("./sim", "{n}"), THOUSAND)
    result = bench.cancel((101, 200))
    answer = the(AnswerCancel, result)
    assert isinstance(answer, AnswerCancel)
    assert (answer.canceled, answer.finished, answer.unknown) == (100, (), ())
    assert not [one for one in result if isinstance(one, SaveJob)]
    assert len([one for one in result if isinstance(one, SavePart)]) == 3
    assert the(JobsChanged, result) == JobsChanged((), ((101, 200),))
    assert rows(bench) == [
        (1, 100, "pending", "1-100"),
        (101, 200, "canceled", "101-200"),
        (201, 1000, "pending", "201-1000"),
    ]
    again = the(AnswerCancel, bench.cancel((1, 2000)))
    assert isinstance(again, AnswerCancel)
    assert (again.canceled, again.finished, again.unknown) == (900, ((101, 200),), ((1001, 2000),))
    assert records(bench) == 0
    assert bench.reason(150) is not None
    bench.restart()
    assert bench.core.counts(bench.time).canceled == 1000


def test_the_rest_of_an_array_is_canceled_beside_what_runs(bench: Bench) -> None:
    session = bench.worker(cpus=1)
    found = offers(bench.submit_array(make_spec("./sim", "{n}"), THOUSAND))
    bench.started(session, (1, found[0][2]))
    answer = the(AnswerCancel, bench.cancel((1, 1000)))
    assert isinstance(answer, AnswerCancel)
    assert (answer.canceled, answer.running) == (999, ((1, 1),))
    assert bench.state(1) == "running"
    assert bench.state(1000) == "canceled"


def test_canceled_tasks_are_cleaned_as_ranges_and_stay_gone(bench: Bench) -> None:
    bench.submit_array(make_spec("./sim", "{n}"), THOUSAND)
    bench.cancel((1, 500))
    answer = the(AnswerClean, bench.clean())
    assert isinstance(answer, AnswerClean)
    assert answer.dropped == 500
    assert rows(bench) == [(501, 1000, "pending", "501-1000")]
    bench.restart()
    assert rows(bench) == [(501, 1000, "pending", "501-1000")]
    bench.cancel((501, 1000))
    bench.clean()
    assert not bench.journal.parts
    assert len(bench.core._state.shapes) == 0


def test_canceled_tasks_leave_by_themselves_when_they_are_old() -> None:
    bench = Bench(Limits(job_cleanup_after_seconds=100.0, maintenance_interval_seconds=5.0))
    bench.submit_array(make_spec("./sim", "{n}"), THOUSAND)
    bench.cancel((1, 400))
    bench.pass_time(150)
    assert rows(bench) == [(401, 1000, "pending", "401-1000")]
    assert records(bench) == 0


def test_tasks_that_ran_leave_and_the_array_goes_with_the_last_of_them(bench: Bench) -> None:
    session = bench.worker(cpus=2)
    found = offers(bench.submit_array(make_spec("./sim", "{n}"), (1, 4, 1)))
    while found:
        for _, job, fence in found:
            bench.started(session, (job, fence))
        found = [one for _, job, fence in found for one in offers(bench.finished(session, (job, fence)))]
    assert bench.core.counts(bench.time).succeeded == 4
    bench.clean()
    assert (len(bench.core._state.table), bench.journal.parts, bench.journal.jobs) == (0, {}, {})


def test_a_task_that_is_changed_is_a_job_by_itself_from_then_on(bench: Bench) -> None:
    bench.submit_array(make_spec("./sim", "{n}"), THOUSAND)
    which = Selector(ranges=((5, 6),))
    answer = the(
        AnswerChange, bench.handle(ChangeRequested(1, which, Changes(priority=7, cpus=2), bench.wall))
    )
    assert isinstance(answer, AnswerChange)
    assert answer.changed == 2
    for _ in range(2):
        assert spec_of(bench, 5).priority == 7
        assert spec_of(bench, 5).payload.argv == ("./sim", "5")
        assert [row[:2] for row in rows(bench)] == [(1, 4), (5, None), (6, None), (7, 1000)]
        bench.restart()
    (first, *_) = offers(bench.status(bench.worker(cpus=2), 2)) or [(0, 0, 0)]
    assert bench.state(5) == "offered"
    assert first[1] in (0, 5)


def test_selectors_find_single_tasks_and_ranges_of_them(bench: Bench) -> None:
    spec = msgspec.structs.replace(make_spec("./sim", "{n}", group="g"), name="run-{n}")
    bench.submit_array(spec, THOUSAND)
    bench.submit_array(msgspec.structs.replace(spec, name="other", group=""), (1, 10, 1))
    assert [row[0] for row in rows(bench, name="run-77*")] == [77, *range(770, 780)]
    assert rows(bench, name="other") == [(1001, 1010, "pending", "1-10")]
    assert rows(bench, group="g", ranges=((990, 1005),)) == [(990, 1000, "pending", "990-1000")]
    assert [row[0] for row in rows(bench, text="sim 500")] == [
        500,
    ]
    assert rows(bench, cwd="/data") == [(1, 1000, "pending", "1-1000"), (1001, 1010, "pending", "1-10")]
    assert rows(bench, exit_code=0) == []
    assert rows(bench, last=True) == [(1010, None, "pending", "")]
    newest, cursor = bench.core.page(Selector(), True, None, 3, False, bench.time, arrays=False)
    assert [row.id for row in newest] == [1010, 1009, 1008]
    newest, cursor = bench.core.page(Selector(), True, cursor, 3, False, bench.time, arrays=True)
    assert [(row.id, row.last, row.indices) for row in newest] == [(1001, 1007, "1-7"), (1, 1000, "1-1000")]
    assert cursor is None
    assert records(bench) == 0


def test_a_cancel_by_name_takes_only_the_tasks_of_that_name(bench: Bench) -> None:
    from kueue_server.core.events import CancelRequested

    bench.submit_array(msgspec.structs.replace(make_spec("./sim"), name="run-{n}"), THOUSAND)
    which = Selector(name="run-77*")
    answer = the(AnswerCancel, bench.handle(CancelRequested(1, (), False, bench.wall, which)))
    assert isinstance(answer, AnswerCancel)
    assert answer.canceled == 11
    assert (bench.state(77), bench.state(78), bench.state(775)) == ("canceled", "pending", "canceled")


def test_at_most_so_many_tasks_of_an_array_run_at_a_time(bench: Bench) -> None:
    session = bench.worker(cpus=8)
    found = offers(bench.submit_array(make_spec("./sim", "{n}"), THOUSAND, max_running=3))
    assert len(found) == 3
    other = offers(bench.submit(make_spec("other")))
    assert [job for _, job, _ in other] == [1001]
    reason = bench.reason(10)
    assert reason is not None
    assert (reason.code, reason.text) == ("max_running", "3 tasks of array 1 run, and at most 3 may")
    assert bench.core.resources() == ()
    bench.started(session, (1, found[0][2]))
    assert [job for _, job, _ in offers(bench.finished(session, (1, found[0][2])))] == [4]
    bench.restart()
    assert bench.core._state.ledger.used["array 1"] == 3


def test_what_may_still_run_on_a_lost_worker_counts_for_the_limit() -> None:
    bench = Bench(Limits(worker_timeout_seconds=10.0))
    session = bench.worker("w1", cpus=2)
    found = offers(bench.submit_array(make_spec("./sim", "{n}"), (1, 10, 1), max_running=2))
    bench.started(session, *[(job, fence) for _, job, fence in found])
    bench.disconnect(session)
    other = bench.worker("w2", cpus=2)
    assert not offers(bench.pass_time(30, other))
    assert bench.state(1) == "pending"
    assert offers(bench.forget("w1"))


def test_the_limit_goes_with_the_last_of_its_jobs(bench: Bench) -> None:
    bench.submit_array(make_spec("./sim", "{n}"), (1, 10, 1), max_running=2)
    assert bench.core._state.shapes.caps == {"array 1": 2}
    bench.handle(ChangeRequested(1, Selector(ranges=((3, 3),)), Changes(cpus=2), bench.wall))
    assert len(bench.core._state.shapes) == 2
    bench.cancel((1, 10))
    bench.clean()
    assert bench.core._state.shapes.caps == {}


def test_tasks_that_a_person_does_not_name_stay(bench: Bench) -> None:
    bench.submit_array(make_spec("./sim", "{n}", group="g"), THOUSAND)
    bench.submit_array(make_spec("./sim", "{n}"), THOUSAND)
    bench.handle(CleanRequested(1, False, bench.wall, Selector(group="g")))
    assert bench.core.counts(bench.time).pending == 2000
    assert bench.core._state.table.count(JobState.PENDING) == 2000


@pytest.mark.parametrize(
    "argv",
    [
        ("./sim",),
        ("./sim", "{n}", "a{n}b{n}"),
        ("{n}", "8112963548317"),
        ("7935064281729{n}", "8112963548317"),
    ],
)
@pytest.mark.parametrize("stderr", [None, "{n}.log", RawBytes(b"\xff"), RawBytes(b"\xff{n}")])
def test_a_task_is_encoded_as_if_it_had_been_submitted_by_itself(
    bench: Bench, argv: tuple[str, ...], stderr: str | RawBytes | None
) -> None:
    spec = msgspec.structs.replace(make_spec(*argv, cwd="/data/{n}"), stderr=stderr, name="é{n}")
    bench.submit_array(spec, (0, 900, 300), (5, 5, 1))
    for job, index in enumerate((0, 300, 600, 900, 5), 1):
        assert spec_of(bench, job) == task_spec(msgspec.structs.replace(spec, array=1), index)
