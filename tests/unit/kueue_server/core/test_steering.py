"""A person keeps workers from taking jobs, and lets them again."""

from __future__ import annotations

import pytest

from kueue.job import End
from kueue.wire.messages import AttemptRef, Pause, Reason, Retract, Stop
from kueue_server.core.instructions import AnswerSteering, DropPause, Instruction, SavePause
from tests.support.core_bench import WALL, Bench, make_spec, offers, sent


def paused_of(bench: Bench, name: str) -> Pause | None:
    (found,) = [worker.paused for worker in bench.core.workers(bench.time) if worker.name == name]
    return found


def answer_of(instructions: list[Instruction]) -> AnswerSteering:
    (answer,) = [each for each in instructions if isinstance(each, AnswerSteering)]
    return answer


def stops_of(instructions: list[Instruction]) -> list[tuple[int, int]]:
    return [
        (ref.job, ref.fence)
        for _, message in sent(instructions)
        if isinstance(message, Stop)
        for ref in message.attempts
    ]


def test_a_paused_worker_gets_nothing_and_what_runs_goes_on() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec())
    bench.started(one, (1, 1))
    result = bench.pause("w1", reason="new disk")
    assert answer_of(result) == AnswerSteering(
        1, None, ("w1",), ("paused: w1", "1 job there: running on until they have finished")
    )
    assert SavePause(1, WALL + bench.time, "new disk") in result
    assert stops_of(result) == []
    assert offers(bench.submit(make_spec(), make_spec())) == []
    assert bench.state(1) == "running"
    assert offers(bench.finished(one, (1, 1))) == []
    assert offers(bench.status(one)) == offers(bench.pass_time(100, one)) == []
    assert bench.reason(2) == Reason(
        "paused", "every worker that fits is paused (w1: new disk); kueue resume-worker"
    )
    assert paused_of(bench, "w1") == Pause(WALL + 100.0, "new disk")


def test_resume_gives_it_jobs_at_once() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.pause("w1")
    bench.submit(make_spec())
    result = bench.resume("w1")
    assert DropPause(1) in result
    assert offers(result) == [(one, 1, 1)]
    assert answer_of(result) == AnswerSteering(2, None, ("w1",), ("resumed: w1",))
    assert answer_of(bench.resume("w1")) == AnswerSteering(3, None, (), ("none of them was paused",))


def test_what_it_has_not_started_is_asked_back_and_given_to_others() -> None:
    bench = Bench()
    one = bench.worker("w1", cpus=1)
    bench.submit(*[make_spec()] * 4)
    held = bench.core._state.workers.by_id[1].held_count
    assert held
    asked = [
        ref
        for _, message in sent(bench.pause("w1"))
        if isinstance(message, Retract)
        for ref in message.attempts
    ]
    assert len(asked) == 1 + held
    two = bench.worker("w2", cpus=4)
    for ref in asked:
        bench.released(one, (ref.job, ref.fence))
    assert {bench.core.change_of(ref.job).worker for ref in asked} == {"w2"}
    assert two


def test_a_pause_survives_restarts_of_the_server_and_of_the_worker() -> None:
    bench = Bench()
    bench.worker("w1")
    bench.pause("w1", reason="hot")
    bench.restart()
    bench.submit(make_spec())
    bench.worker("w1", keeper="another", boot="another")
    assert bench.state(1) == "pending"
    assert paused_of(bench, "w1") == Pause(WALL + 100.0, "hot")
    bench.resume("w1")
    bench.restart()
    assert paused_of(bench, "w1") is None


def test_one_that_comes_back_with_something_unstarted_is_asked_for_it() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec())
    bench.disconnect(one)
    bench.pause("w1")
    session, result = bench.connect("w1", held=((1, 1),))
    assert (session, Retract((AttemptRef(1, 1),))) in sent(result)


# ---------------------------------------------------------------- with kill


def test_kill_ends_what_runs_and_it_starts_elsewhere_without_counting_a_loss() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec(max_restarts=0))
    bench.started(one, (1, 1))
    two = bench.worker("w2")
    result = bench.pause("w1", kill=True, reason="hot")
    assert stops_of(result) == [(1, 1)]
    assert bench.state(1) == "running"  # until its end is confirmed
    assert offers(bench.finished(one, (1, 1), code=None, end=End.STOPPED, signal=15)) == [(two, 1, 2)]
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.restarts, view.attempts[0].reason) == (0, Reason("paused", "its worker was paused: hot"))
    assert bench.journal.stops == {}


def test_kill_gives_back_what_has_not_started() -> None:
    bench = Bench()
    one = bench.worker("w1", cpus=1)
    bench.submit(*[make_spec()] * 3)
    found = stops_of(bench.pause("w1", kill=True))
    assert len(found) == 3
    bench.released(one, *found)
    assert [bench.state(job) for job in (1, 2, 3)] == ["pending"] * 3
    assert bench.journal.stops == {}
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.attempt, view.restarts) == (0, 0)


def test_kill_tells_what_must_not_start_again() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec(restart=False), make_spec())
    bench.started(one, (1, 1), (2, 2))
    assert answer_of(bench.pause("w1", kill=True)).lines == (
        "paused: w1",
        "2 jobs that ran there: back to the queue, without counting a loss",
        "1 job of them must not start again (--no-restart), and fail",
    )
    bench.finished(one, (1, 1), (2, 2), code=None, end=End.STOPPED, signal=15)
    assert (bench.state(1), bench.state(2)) == ("failed", "pending")


def test_an_order_to_end_reaches_a_worker_that_was_away_and_survives_a_restart() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec())
    bench.started(one, (1, 1))
    bench.disconnect(one)
    bench.pause("w1", kill=True)
    bench.restart()
    _, result = bench.connect("w1", running=((1, 1, 1),))
    assert stops_of(result) == [(1, 1)]


def test_who_is_given_up_before_it_hears_of_it_counts_no_loss_and_is_told_when_it_is_back() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec(max_restarts=0))
    bench.started(one, (1, 1))
    bench.disconnect(one)
    bench.pause("w1", kill=True)
    bench.pass_time(bench.limits.worker_timeout_seconds + 1)
    assert bench.state(1) == "pending"
    _, result = bench.connect("w1", running=((1, 1, 1),))
    assert bench.state(1) == "running"
    assert stops_of(result) == [(1, 1)]


def test_what_is_lost_before_it_could_be_ended_counts_no_loss_either() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec(max_restarts=0), make_spec(max_restarts=0))
    bench.started(one, (1, 1), (2, 2))
    bench.pause("w1", kill=True)
    bench.finished(one, (1, 1), code=None, end=End.LOST)
    bench.disconnect(one)
    bench.connect("w1", keeper="another")  # and the other one died with its keeper
    for job in (1, 2):
        view = bench.core.job_view(job, bench.time)
        assert view is not None
        assert (view.state, view.restarts) == ("pending", 0)


def test_a_cancel_after_it_is_a_cancel() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec())
    bench.started(one, (1, 1))
    bench.pause("w1", kill=True)
    bench.cancel((1, 1), kill=True)
    bench.finished(one, (1, 1), code=None, end=End.STOPPED, signal=15)
    assert bench.state(1) == "canceled"


def test_a_job_that_ends_by_itself_meanwhile_has_ended() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.submit(make_spec())
    bench.started(one, (1, 1))
    bench.pause("w1", kill=True)
    bench.finished(one, (1, 1))
    assert bench.state(1) == "succeeded"
    assert bench.journal.stops == {}


# ---------------------------------------------------------------- which ones


def test_patterns_are_of_names_hosts_and_ids() -> None:
    bench = Bench()
    for name in ("ralab04-1f", "ralab05-2f", "rax1-3f"):
        bench.worker(name)
    assert answer_of(bench.pause("ralab*", "3")).workers == ("ralab04-1f", "ralab05-2f", "rax1-3f")
    assert answer_of(bench.resume("ralab05", "rax1-*")).workers == ("ralab05-2f", "rax1-3f")


@pytest.mark.parametrize(
    ("globs", "code"), [(("w1", "nobody"), "unknown_worker"), ((), "bad_name"), (("x" * 1001,), "bad_name")]
)
def test_if_one_pattern_names_nobody_nothing_is_changed(globs: tuple[str, ...], code: str) -> None:
    bench = Bench()
    bench.worker("w1")
    error = answer_of(bench.pause(*globs)).error
    assert error is not None
    assert error.code == code
    assert paused_of(bench, "w1") is None


def test_a_reason_has_a_length() -> None:
    bench = Bench()
    bench.worker("w1")
    error = answer_of(bench.pause("w1", reason="x" * 1001)).error
    assert error is not None
    assert error.code == "bad_name"


def test_a_second_pause_changes_the_reason_and_not_since_when() -> None:
    bench = Bench()
    bench.worker("w1")
    bench.pause("w1", reason="hot")
    bench.time += 50
    bench.pause("w1", reason="on fire")
    assert paused_of(bench, "w1") == Pause(WALL + 100.0, "on fire")


def test_a_forgotten_worker_is_paused_no_more() -> None:
    bench = Bench()
    one = bench.worker("w1")
    bench.pause("w1")
    bench.disconnect(one)
    assert DropPause(1) in bench.forget("w1")
    assert bench.journal.pauses == {}
    bench.worker("w1")
    assert paused_of(bench, "w1") is None


def test_whoever_submits_while_all_are_paused_is_told() -> None:
    bench = Bench()
    bench.worker("w1")
    bench.pause("w1")
    assert [reason.code for reason in bench.core.warnings_for([make_spec()])] == ["paused"]
    bench.worker("w2")
    assert bench.core.warnings_for([make_spec()]) == ()
