"""Verbs of many jobs: done in portions, one after the other, and nothing starts that they are about."""

from __future__ import annotations

from kueue.wire.messages import Selector
from kueue_server.core.events import CancelRequested, CleanRequested, TurnCame
from kueue_server.core.instructions import AnswerCancel, AnswerClean, Instruction, SaveJob
from kueue_server.core.selection import PORTION
from kueue_server.core.verbs import CHANGE_COST
from tests.support.core_bench import Bench, make_spec, offers, plain

STEP = PORTION // CHANGE_COST


def turns(bench: Bench) -> list[Instruction]:
    """All turns that are due."""
    result: list[Instruction] = []
    while bench.core.is_under_way:
        result += bench.handle(TurnCame())
    return result


def cancel(bench: Bench, request: int, selector: Selector, *, kill: bool = False) -> list[Instruction]:
    return bench.handle(CancelRequested(request, (), kill, bench.wall, selector))


def fill(jobs: int) -> Bench:
    bench = Bench()
    bench.checked = False
    for first in range(0, jobs, 1000):
        bench.submit(*[make_spec(group="g")] * min(1000, jobs - first))
    return bench


def test_a_verb_of_some_hundred_jobs_is_one_step() -> None:
    bench = fill(400)
    result = cancel(bench, 1, Selector(group="g"))
    assert sum(isinstance(one, SaveJob) for one in result) == 400
    assert AnswerCancel(1, 400, (), (), ()) in result
    assert not bench.core.is_under_way


def test_a_large_one_changes_a_bounded_number_in_a_step_and_is_answered_once_at_the_end() -> None:
    bench = fill(2000)
    steps = [cancel(bench, 1, Selector(group="g"))]
    while bench.core.is_under_way:
        steps.append(bench.handle(TurnCame()))
    assert all(sum(isinstance(one, SaveJob) for one in step) <= STEP for step in steps)
    answers = [one for step in steps for one in step if isinstance(one, AnswerCancel)]
    assert answers == [AnswerCancel(1, 2000, (), (), ())]
    assert answers[0] in steps[-1]
    bench.core.check_invariants()


def test_nothing_is_handed_out_while_a_cancel_is_under_way_and_all_goes_on_after_it() -> None:
    bench = fill(2000)
    bench.submit(make_spec())
    cancel(bench, 1, Selector(group="g"))
    assert bench.core.is_under_way
    session, first = bench.connect()
    later = bench.status(session)
    ticked = bench.tick()
    assert offers(first + later + ticked) == []
    assert [job for _, job, _ in offers(turns(bench))] == [2001]


def test_what_is_submitted_meanwhile_is_not_among_the_selected() -> None:
    bench = fill(2000)
    cancel(bench, 1, Selector(group="g"))
    bench.submit(make_spec(group="g"))
    result = turns(bench)
    assert AnswerCancel(1, 2000, (), (), ()) in result
    assert bench.state(2001) == "pending"


def test_verbs_wait_for_each_other() -> None:
    bench = fill(2000)
    cancel(bench, 1, Selector(group="g"))
    assert plain(bench.handle(CleanRequested(2, False))) == []
    result = turns(bench)
    answers = [one for one in result if isinstance(one, AnswerCancel | AnswerClean)]
    assert answers == [AnswerCancel(1, 2000, (), (), ()), AnswerClean(2, 2000)]


def test_jobs_in_other_states_are_counted_and_no_error() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    other = make_spec(group="g", ram_mb=200)  # of another shape, so not handed out ahead
    bench.submit(make_spec(group="g"), make_spec(group="g"), other, other)
    bench.started(session, (1, 1), (2, 2))
    bench.status(session, 0)
    bench.finished(session, (1, 1))
    result = cancel(bench, 1, Selector(group="g"))
    (answer,) = [one for one in result if isinstance(one, AnswerCancel)]
    assert (answer.canceled, answer.finished, answer.unknown) == (2, ((1, 1),), ())
    assert answer.running == ((2, 2),)
    result = bench.handle(CleanRequested(2, False, bench.wall, Selector(group="g", states=("succeeded",))))
    assert AnswerClean(2, 1) in result
    result = bench.handle(CleanRequested(3, True, bench.wall, Selector(group="g")))
    assert [one.kept for one in result if isinstance(one, AnswerClean)] == [1]


def test_ids_that_there_are_not_are_told_of_over_all_portions() -> None:
    bench = fill(1500)
    bench.cancel((1, 10))
    bench.clean()
    result = bench.cancel((1, 3000), (5000, 5001)) + turns(bench)
    (answer,) = [one for one in result if isinstance(one, AnswerCancel)]
    assert answer.unknown == ((1, 10), (1501, 3000), (5000, 5001))
    assert answer.canceled == 1490
