"""What time does to workers and offers, and what a person confirms with forget-worker."""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import AttemptRef, Reason, Retract
from kueue_server.core.events import Limits
from kueue_server.core.instructions import (
    AnswerForgetWorker,
    CloseSession,
    DropStop,
    DropWorker,
    LogLine,
    OfferJobs,
    SaveJob,
)
from tests.support.core_bench import Bench, make_spec, offers, plain, sent


def lost_lines(instructions: list[object]) -> list[str]:
    return [line.text for line in instructions if isinstance(line, LogLine) and line.level == "warning"]


def test_a_silent_connection_is_closed_after_three_heartbeats_and_the_lease_goes_on() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    assert plain(bench.pass_time(45)) == []
    assert plain(bench.tick()) == [CloseSession(session, None)]
    assert bench.state(1) == "running"
    bench.pass_time(553)
    assert bench.state(1) == "running"
    result = bench.pass_time(2)
    assert plain(result) == [SaveJob(1, JobState.PENDING, b"")]
    assert lost_lines(list(result)) == ["worker w1 is lost: not heard of for 600 s; 1 jobs are taken from it"]
    assert bench.core.workers(bench.time)[0].state == "lost"


def test_any_sign_of_life_renews_the_lease() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    assert plain(bench.pass_time(2000, session)) == []


def test_offered_and_running_jobs_count_as_lost_and_held_ones_do_not() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(*[make_spec()] * 6)
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(601)
    views = [bench.core.job_view(job, bench.time) for job in range(1, 7)]
    assert [view.restarts for view in views if view] == [1, 1, 0, 0, 0, 0]
    assert bench.core.counts(bench.time).pending == 6
    assert bench.core.workers(bench.time)[0].unconfirmed == 6


def test_after_a_restart_leases_count_from_the_servers_own_start() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(500)
    bench.restart()
    bench.pass_time(599)
    assert bench.state(1) == "offered"
    bench.pass_time(1)
    assert bench.state(1) == "pending"


def test_a_server_that_was_held_up_holds_it_against_nobody() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    assert plain(bench.tick(5000.0, late=4999.0)) == []
    assert bench.core.session_of(1) == session
    bench.disconnect(session)
    bench.pass_time(590)
    bench.tick(3000.0, late=2999.0)
    assert bench.state(1) == "running"
    bench.pass_time(10)
    assert bench.state(1) == "pending"


def test_an_offer_that_nobody_answers_is_asked_back_and_then_the_session_is_closed() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(restart=False))
    assert sent(bench.pass_time(59, session)) == []
    assert sent(bench.pass_time(1, session)) == [(session, Retract((AttemptRef(1, 1),)))]
    result = bench.pass_time(60, session)
    assert plain(result) == [
        CloseSession(session, Reason("no_answer", "a retraction was not answered in time"))
    ]
    assert bench.state(1) == "offered"


def test_an_offer_that_came_back_goes_to_another_worker() -> None:
    bench = Bench()
    one, two = bench.worker("w1", 2), bench.worker("w2", 1)
    bench.submit(make_spec(restart=False))
    bench.pass_time(60, one, two)
    result = bench.released(one, (1, 1))
    assert len(offers(result)) == 1
    assert bench.core.job_view(1, bench.time).attempt == 1  # type: ignore[union-attr]


def test_what_a_worker_keeps_is_left_to_it() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(restart=False))
    bench.pass_time(60, session)
    assert bench.kept(session, (1, 1)) == []
    assert plain(bench.pass_time(60, session)) == []
    bench.started(session, (1, 1))
    assert plain(bench.pass_time(600, session)) == []


def test_forgetting_a_worker_frees_what_its_attempts_held() -> None:
    bench = Bench(Limits(global_resources=(("lic", 1),)))
    session = bench.worker("w1")
    bench.submit(make_spec(resources={"lic": 1}))
    bench.started(session, (1, 1))
    assert plain(bench.forget("w1")) == [
        AnswerForgetWorker(
            1,
            Reason("worker_connected", "worker w1 is connected; only one that is away can be forgotten"),
            (),
        )
    ]
    bench.disconnect(session)
    bench.pass_time(601)
    bench.worker("w2", keeper="k2")
    assert bench.state(1) == "pending"
    text = "1 lost attempts are confirmed dead; what they held is free"
    assert plain(bench.forget("1")) == [
        SaveJob(1, JobState.OFFERED, b""),
        DropWorker(1),
        OfferJobs(2, ((1, 2, 2, b"", ""),)),
        AnswerForgetWorker(2, None, ("worker w1 is forgotten", text)),
    ]
    assert bench.state(1) == "offered"
    assert [view.name for view in bench.core.workers(bench.time)] == ["w2"]
    bench.restart()
    assert [view.name for view in bench.core.workers(bench.time)] == ["w2"]


def test_forgetting_a_silent_worker_takes_its_jobs_at_once_and_drops_its_stop_orders() -> None:
    bench = Bench()
    session = bench.worker("w1")
    bench.submit(make_spec(), make_spec())
    bench.started(session, (1, 1), (2, 2))
    bench.disconnect(session)
    bench.cancel((2, 2), kill=True)
    result = bench.forget("w1")
    assert DropStop(1, 2, 2) in result
    assert (bench.state(1), bench.state(2)) == ("pending", "canceled")
    assert not bench.journal.stops


def test_forgetting_nobody_is_an_error() -> None:
    bench = Bench()
    assert bench.forget("nobody") == [AnswerForgetWorker(1, Reason("unknown_worker", "no worker nobody"), ())]
