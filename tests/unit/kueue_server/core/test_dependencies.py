"""Jobs that wait for others: when they are let go, what a failure does to them, what of it a restart knows."""

from __future__ import annotations

import msgspec
import pytest

from kueue.job import End
from kueue.wire.messages import Changes, FinishedAttempt, Report, Selector, Spec, Waits
from kueue_server.core.events import (
    ChangeRequested,
    JobsSubmitted,
    Limits,
    PredecessorsAsked,
    SubmitFailed,
    TurnCame,
)
from kueue_server.core.instructions import (
    AnswerChange,
    AnswerPredecessors,
    AnswerQueues,
    Instruction,
    SaveJob,
)
from kueue_server.core.selection import PORTION
from kueue_server.core.verbs import CHANGE_COST
from tests.support.core_bench import Bench, make_spec, offers

STEP = PORTION // CHANGE_COST + 1


def after(*ids: int | tuple[int, int], on_failure: str = "cancel") -> Waits:
    return Waits(after=_ranges(ids), on_failure=on_failure)


def after_any(*ids: int | tuple[int, int]) -> Waits:
    return Waits(after_any=_ranges(ids))


def _ranges(ids: tuple[int | tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    return tuple(one if isinstance(one, tuple) else (one, one) for one in ids)


def following(waits: Waits) -> Spec:
    return make_spec(waits=waits)


def turns(bench: Bench) -> list[list[Instruction]]:
    """All turns that are due, one by one."""
    steps: list[list[Instruction]] = []
    while bench.core.is_under_way:
        steps.append(bench.handle(TurnCame()))
    return steps


def end(bench: Bench, session: int, job: int, code: int = 0) -> list[Instruction]:
    """A job that was offered ends."""
    return bench.finished(session, (job, bench.core._state.table.jobs[job].fence), code=code)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# ---------------------------------------------------------------- let go


def test_of_several_that_end_together_one_that_failed_is_not_overlooked(bench: Bench) -> None:
    bench.submit(make_spec(), make_spec(), make_spec(), following(after((1, 3))))
    session = bench.worker(cpus=4)
    ends = tuple(
        FinishedAttempt(job, bench.core._state.table.jobs[job].fence, 1, End.EXITED, exit_code=code)
        for job, code in ((1, 0), (3, 0), (2, 7))
    )
    result = bench.report(session, Report(finished=ends))
    assert offers(result) == []
    turns(bench)
    assert bench.state(4) == "canceled"


def test_a_job_waits_until_all_before_it_have_succeeded(bench: Bench) -> None:
    bench.submit(make_spec(), make_spec(), following(after(1, 2)))
    session = bench.worker(cpus=4)
    assert bench.state(3) == "waiting"
    reason = bench.reason(3)
    assert reason is not None
    assert (reason.code, reason.text) == ("predecessors", "waits for 2 jobs")
    end(bench, session, 2)
    reason = bench.reason(3)
    assert reason is not None
    assert reason.text == "waits for job 1"
    assert offers(end(bench, session, 1)) == [(session, 3, 3)]


def test_it_may_come_when_all_is_over_already(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec())
    end(bench, session, 1)
    assert [job for _, job, _ in offers(bench.submit(following(after(1))))] == [2]


def test_after_any_needs_no_success(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec(), make_spec(), following(after_any(1, 2)))
    bench.started(session, (2, 2))
    end(bench, session, 1, code=2)
    bench.cancel((2, 2), kill=True)
    assert bench.state(3) == "waiting"
    bench.finished(session, (2, 2), end=End.STOPPED)
    assert bench.state(3) == "offered"


def test_a_failure_that_is_tried_again_is_none(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(
        msgspec.structs.replace(make_spec(), max_retries=1),
        following(after(1)),
    )
    end(bench, session, 1, code=2)
    assert bench.state(2) == "waiting"
    end(bench, session, 1, code=0)
    assert bench.state(2) == "offered"


def test_those_of_one_gate_are_let_go_in_portions_in_their_order(bench: Bench) -> None:
    bench.checked = False
    session = bench.worker(cpus=1)
    bench.submit(make_spec())
    for _ in range(3):
        bench.submit(*[following(after(1))] * 1000)
    steps = [end(bench, session, 1), *turns(bench)]
    first = [job for step in steps for _, job, _ in offers(step)]
    assert first == [2]
    assert len(steps) > 3000 // STEP
    assert bench.core.counts(bench.time).waiting == 0
    bench.core.check_invariants()


def test_jobs_that_wait_for_the_same_share_what_that_costs(bench: Bench) -> None:
    """A thousand that wait for a thousand: no million of anything."""
    bench.checked = False
    bench.submit(*[make_spec()] * 1000)
    bench.submit(*[following(after((1, 1000)))] * 1000)
    assert len(bench.core._state.gates) == 1
    bench.cancel((1, 1000))
    turns(bench)
    assert bench.core.counts(bench.time).canceled == 2000
    assert bench.core._state.gates.looks <= 1001
    assert len(bench.core._state.gates) == 0
    bench.core.check_invariants()


# ---------------------------------------------------------------- failures


def test_when_one_fails_what_follows_is_canceled_with_the_reason_of_the_first(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec(), following(after(1)), following(after(2)), following(after_any(3)))
    end(bench, session, 1, code=2)
    turns(bench)
    assert [bench.state(job) for job in (2, 3, 4)] == ["canceled", "canceled", "offered"]
    for job in (2, 3):
        reason = bench.reason(job)
        assert reason is not None
        assert (reason.code, reason.text) == ("predecessor", "job 1 failed (exit 2)")


def test_it_is_canceled_at_once_though_others_are_unfinished(bench: Bench) -> None:
    bench.submit(make_spec(), make_spec(), following(after(1, 2)))
    bench.cancel((2, 2))
    assert bench.state(3) == "canceled"
    reason = bench.reason(3)
    assert reason is not None
    assert reason.text == "job 2 was canceled"


def test_one_that_comes_after_the_failure_is_canceled_too(bench: Bench) -> None:
    bench.submit(make_spec())
    bench.cancel((1, 1))
    bench.submit(following(after(1)))
    assert bench.state(2) == "canceled"


def test_it_may_run_all_the_same(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec(), make_spec(), following(after(1, 2, on_failure="run")))
    end(bench, session, 1, code=2)
    assert bench.state(3) == "waiting"
    end(bench, session, 2)
    assert bench.state(3) == "offered"


def test_it_may_be_held_until_a_person_lets_it_go(bench: Bench) -> None:
    bench.submit(make_spec(), following(after(1, on_failure="hold")), following(after(2)))
    bench.cancel((1, 1))
    reason = bench.reason(2)
    assert reason is not None
    assert (reason.code, reason.text) == ("held", "held: job 1 was canceled")
    bench.restart()
    assert [bench.state(job) for job in (2, 3)] == ["waiting", "waiting"]
    session = bench.worker()
    done = release(bench, 2)
    assert [job for _, job, _ in offers(done)] == [2]
    end(bench, session, 2)
    assert bench.state(3) == "offered"


def test_a_held_job_that_was_let_go_stays_so_after_a_restart(bench: Bench) -> None:
    bench.submit(make_spec(), following(after(1, on_failure="hold")))
    bench.cancel((1, 1))
    release(bench, 2)
    bench.restart()
    assert bench.state(2) == "pending"


def test_only_held_jobs_are_let_go(bench: Bench) -> None:
    bench.submit(make_spec(), following(after(1)))
    (answer,) = [one for one in release(bench, 1, 2) if isinstance(one, AnswerChange)]
    assert (answer.changed, answer.refused) == (0, 2)
    assert answer.reason is not None
    assert answer.reason.code == "not_held"
    assert bench.state(2) == "waiting"


def release(bench: Bench, *jobs: int) -> list[Instruction]:
    selector = Selector(ranges=tuple((job, job) for job in jobs))
    return bench.handle(ChangeRequested(1, selector, Changes(release=True), bench.wall))


def test_who_cancels_a_chain_means_each_of_it(bench: Bench) -> None:
    bench.submit(make_spec(), following(after(1)), following(after(2)))
    bench.cancel((1, 3))
    reason = bench.reason(3)
    assert reason is not None
    assert reason.code == "canceled"


def test_a_waiting_job_may_be_canceled_and_nobody_waits_for_it_any_more(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec(), following(after(1)), following(after(1)))
    bench.cancel((2, 3))
    assert len(bench.core._state.gates) == 0
    end(bench, session, 1)
    assert [bench.state(job) for job in (2, 3)] == ["canceled", "canceled"]


def test_a_waiting_job_may_be_changed(bench: Bench) -> None:
    session = bench.worker(cpus=4)
    bench.submit(make_spec(), following(after(1)))
    bench.handle(ChangeRequested(1, Selector(ranges=((2, 2),)), Changes(cpus=3, group="g"), bench.wall))
    end(bench, session, 1)
    view = bench.core.job_view(2, bench.time)
    assert view is not None
    assert (view.state, view.cpus, view.group) == ("offered", 3, "g")


def test_a_loss_that_is_taken_back_makes_others_wait_again(bench: Bench) -> None:
    bench.limits = Limits(worker_timeout_seconds=30.0)
    bench = Bench(bench.limits)
    session = bench.worker(cpus=2)
    bench.submit(make_spec(max_restarts=0), make_spec(), following(after_any(1, 2)))
    bench.started(session, (1, 1), (2, 2))
    bench.disconnect(session)
    for _ in range(40):
        bench.tick()
    assert bench.state(1) == "failed"
    again, _ = bench.connect(running=((1, 1, 1),))
    bench.status(again)
    assert bench.state(1) == "running"
    job = bench.core._state.table.jobs[2]
    assert bench.core._state.gates.of(bench.core._state.table.jobs[3]) is not None
    bench.started(again, (2, job.fence))
    end(bench, again, 2)
    assert bench.state(3) == "waiting"
    end(bench, again, 1)
    assert bench.state(3) == "offered"


# ---------------------------------------------------------------- the disk, and what leaves the table


def test_after_a_restart_all_wait_for_the_same(bench: Bench) -> None:
    session = bench.worker()
    bench.submit(make_spec(), make_spec(), following(after(1, 2)))
    end(bench, session, 1)
    bench.restart()
    assert bench.state(3) == "waiting"
    session = bench.worker()
    bench.status(session)
    bench.cancel((2, 2), kill=True)
    turns(bench)
    assert bench.state(3) in ("waiting", "canceled")


def test_what_a_restart_finds_over_goes_on_with_the_first_event(bench: Bench) -> None:
    bench.checked = False
    bench.submit(make_spec())
    for _ in range(2):
        bench.submit(*[following(after(1))] * 1000)
    bench.cancel((1, 1))  # the rest of what follows is not done yet
    assert bench.core.counts(bench.time).waiting
    bench.restart()
    bench.tick()
    turns(bench)
    assert bench.core.counts(bench.time).canceled == 2001
    bench.core.check_invariants()


def test_one_that_succeeded_may_leave_the_table(bench: Bench) -> None:
    session = bench.worker(cpus=1)
    bench.submit(make_spec(), make_spec(), following(after(1, 2)))
    end(bench, session, 1)
    bench.clean()
    assert bench.state(1) == "unknown"
    bench.restart()
    assert bench.state(3) == "waiting"
    session = bench.worker(cpus=1)
    end(bench, session, 2)
    assert bench.state(3) == "offered"


def test_one_that_failed_stays_until_those_that_mind_have_been_told(bench: Bench) -> None:
    bench.checked = False
    bench.submit(make_spec())
    for _ in range(2):
        bench.submit(*[following(after(1))] * 1000)
    bench.cancel((1, 1))
    bench.handle(PredecessorsAsked(7, (after(1),), bench.wall))
    turns(bench)
    bench.clean()
    turns(bench)
    assert bench.state(1) == "canceled"  # a submit is on its way
    bench.handle(SubmitFailed(7))
    bench.clean()
    assert bench.state(1) == "unknown"
    bench.core.check_invariants()


def test_retention_keeps_one_that_failed_just_as_long() -> None:
    bench = Bench(Limits(max_finished_jobs=0))
    bench.checked = False
    bench.submit(make_spec())
    for _ in range(2):
        bench.submit(*[following(after(1, on_failure="hold"))] * 1000)
    bench.cancel((1, 1))
    bench.core._state.now += 62
    bench.core._state.retention.tick(bench.core._state)
    assert bench.state(1) == "canceled"
    turns(bench)
    bench.pass_time(130)
    assert bench.state(1) == "unknown"
    assert bench.core.counts(bench.time).waiting == 2000


# ---------------------------------------------------------------- which jobs are meant


def ask(bench: Bench, *waits: Waits) -> AnswerPredecessors:
    steps = [bench.handle(PredecessorsAsked(5, waits, bench.wall)), *turns(bench)]
    (answer,) = [one for step in steps for one in step if isinstance(one, AnswerPredecessors)]
    return answer


def test_selectors_become_ids(bench: Bench) -> None:
    bench.submit(*[make_spec(group="g" if number % 3 else "") for number in range(9)])
    waits = Waits(((9, 9), (1, 1)), (), "hold", (Selector(group="g"),), ())
    newest = Waits(select_any=(Selector(last=True),))
    answer = ask(bench, waits, newest)
    assert answer.waits == (
        Waits(((1, 3), (5, 6), (8, 9)), (), "hold"),
        Waits(after_any=((9, 9),)),
    )


def test_jobs_that_are_not_there_are_refused_by_name(bench: Bench) -> None:
    bench.submit(*[make_spec()] * 6)
    bench.cancel((2, 2), (4, 5))
    bench.clean()
    answer = ask(bench, after((1, 6)))
    assert answer.error is not None
    assert (answer.error.code, answer.error.text) == ("unknown_job", "no jobs 2 4-5 that could be waited for")
    answer = ask(bench, after(7))
    assert answer.error is not None
    assert answer.error.text == "no job 7 that could be waited for"
    answer = ask(bench, Waits(select=(Selector(group="nobody"),)))
    assert answer.error is not None
    assert answer.error.code == "unknown_job"
    assert len(bench.core._state.gates) == 0


def test_an_end_between_the_question_and_the_jobs_counts(bench: Bench) -> None:
    bench.submit(make_spec())
    waits = ask(bench, after(1)).waits[0]
    bench.cancel((1, 1))
    bench.clean()
    first = bench.journal.next_job
    bench.submit(following(waits))
    turns(bench)
    assert bench.state(first) == "canceled"
    assert bench.state(1) == "canceled"
    spec = following(waits)
    bench.handle(JobsSubmitted(99, (), (), bench.wall, 5))
    del spec
    bench.clean()
    assert bench.state(1) == "unknown"


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize("count", [500, 2000])
def test_a_chain_costs_a_look_a_link(count: int) -> None:
    bench = Bench()
    bench.checked = False
    bench.submit(make_spec())
    for job in range(2, count + 1):
        bench.submit(following(after(job - 1)))
    bench.cancel((1, 1))
    steps = turns(bench)
    assert bench.core.counts(bench.time).canceled == count
    assert bench.core._state.gates.looks <= count
    assert max(sum(isinstance(one, SaveJob) for one in step) for step in steps) <= STEP


def test_a_fan_in_is_one_entry_on_the_disk_and_a_look_an_end() -> None:
    bench = Bench()
    bench.checked = False
    for _ in range(5):
        bench.submit(*[make_spec()] * 1000)
    bench.submit(following(after((1, 5000))))
    assert len(bench.journal.jobs[5001].spec) < 300
    assert len(bench.core._state.gates._index) < 40
    session = bench.worker(cpus=8)
    for job in range(1, 5001):
        end(bench, session, job)
    assert bench.state(5001) == "offered"
    assert bench.core._state.gates.looks <= 5000 + 40
    assert len(bench.core._state.gates) == 0
    assert len(bench.core._state.gates._index) == 0


@pytest.mark.parametrize("on_failure", ["cancel", "hold"])
def test_who_waits_for_jobs_of_a_queue_that_is_removed_is_not_let_go(bench: Bench, on_failure: str) -> None:
    bench.submit(*[make_spec(queue="night")] * 3, *[following(after((1, 2), on_failure=on_failure))] * 2)
    (answer,) = [one for one in bench.remove_queue("night", cancel=True) if isinstance(one, AnswerQueues)]
    assert answer.lines == (
        "queue night is removed; 3 jobs canceled; 1 job dropped from the list; 2 jobs stay, as others wait for them",
    )
    turns(bench)
    for _ in range(2):
        jobs = [bench.core._state.table.jobs[job] for job in (4, 5)]
        codes = [(job.state, job.reason and job.reason.code) for job in jobs]
        assert codes == [("canceled", "predecessor") if on_failure == "cancel" else ("waiting", "held")] * 2
        bench.restart()
        turns(bench)
