"""Cancel requests, whatever state a job is in, and that a canceled job never runs on in silence."""

from __future__ import annotations

import time

from kueue.job import End, JobState
from kueue.wire.messages import Acknowledge, AttemptRef, Stop
from kueue_server.core.events import Limits
from kueue_server.core.instructions import AnswerCancel, DropStop, JobsChanged, SaveJob, SaveStop, SendWorker
from tests.support.core_bench import Bench, make_spec, offers, plain, sent


def test_a_pending_job_is_canceled_at_once() -> None:
    bench = Bench()
    bench.submit(make_spec(), make_spec())
    result = bench.cancel((1, 1))
    assert plain(result) == [SaveJob(1, JobState.CANCELED, b""), AnswerCancel(1, 1, (), (), ())]
    assert result[-1] == JobsChanged((1,))
    session = bench.worker()
    assert bench.state(1) == "canceled"
    assert bench.state(2) == "offered"
    assert session


def test_a_canceled_offer_is_stopped_and_counts_until_that_is_confirmed() -> None:
    bench = Bench(Limits(global_resources=(("lic", 1),)))
    session = bench.worker(cpus=1)
    bench.submit(make_spec(resources={"lic": 1}), make_spec(resources={"lic": 1}))
    result = bench.cancel((1, 1))
    assert plain(result) == [
        SaveJob(1, JobState.CANCELED, b""),
        SaveStop(1, 1, 1, "canceled"),
        SendWorker(session, Stop((AttemptRef(1, 1),), "canceled")),
        AnswerCancel(1, 1, (), (), ()),
    ]
    assert bench.core.resources()[0].used == 1
    result = bench.released(session, (1, 1))
    assert DropStop(1, 1, 1) in result
    assert [job for _, job, _ in offers(result)] == [2]


def test_a_canceled_offer_that_had_started_stays_canceled() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(make_spec())
    bench.cancel((1, 1))
    bench.started(session, (1, 1))
    assert bench.state(1) == "canceled"
    result = bench.finished(session, (1, 1), end=End.STOPPED, code=None)
    assert plain(result) == [
        SaveJob(1, JobState.CANCELED, b""),
        DropStop(1, 1, 1),
        SendWorker(session, Acknowledge((AttemptRef(1, 1),))),
    ]
    assert bench.state(1) == "canceled"


def test_a_running_job_needs_kill() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    assert bench.cancel((1, 1)) == [AnswerCancel(1, 0, (), ((1, 1),), ())]
    assert plain(bench.cancel((1, 1), kill=True)) == [
        SaveStop(1, 1, 1, "canceled"),
        SendWorker(session, Stop((AttemptRef(1, 1),), "canceled")),
        AnswerCancel(2, 1, (), (), ()),
    ]
    assert bench.state(1) == "running"
    bench.finished(session, (1, 1), end=End.STOPPED, signal=15)
    change = bench.core.change_of(1)
    assert (change.state, change.signal) == ("canceled", 15)
    assert not bench.journal.stops


def test_a_killed_job_that_finished_by_itself_first_has_its_own_outcome() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.cancel((1, 1), kill=True)
    bench.finished(session, (1, 1), code=0)
    assert bench.state(1) == "succeeded"
    assert not bench.journal.stops


def test_a_kill_survives_a_crash_of_the_server() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.cancel((1, 1), kill=True)
    bench.restart()
    session, result = bench.connect(running=((1, 1, 1),))
    assert sent(result) == [(session, Stop((AttemptRef(1, 1),), "canceled"))]
    bench.finished(session, (1, 1), end=End.STOPPED, code=None)
    assert bench.state(1) == "canceled"


def test_a_kill_ends_as_canceled_also_if_the_worker_dies_instead() -> None:
    for how in (End.LOST, End.INTERRUPTED):
        bench = Bench()
        session = bench.worker()
        bench.submit(make_spec())
        bench.started(session, (1, 1))
        bench.cancel((1, 1), kill=True)
        bench.finished(session, (1, 1), end=how, code=None)
        assert bench.state(1) == "canceled"


def test_a_running_job_out_of_reach_is_canceled_at_once_and_stopped_when_its_worker_comes_back() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.disconnect(session)
    assert plain(bench.cancel((1, 1), kill=True)) == [
        SaveJob(1, JobState.CANCELED, b""),
        SaveStop(1, 1, 1, "canceled"),
        AnswerCancel(1, 1, (), (), ()),
    ]
    bench.pass_time(700)
    assert bench.state(1) == "canceled"
    assert bench.core.parallel_jobs == 1
    session, result = bench.connect(running=((1, 1, 1),))
    assert sent(result) == [(session, Stop((AttemptRef(1, 1),), "canceled"))]
    bench.finished(session, (1, 1), end=End.STOPPED, code=None)
    assert (bench.state(1), bench.core.parallel_jobs) == ("canceled", 0)


def test_a_kill_whose_worker_goes_away_shows_canceled_then() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.cancel((1, 1), kill=True)
    bench.disconnect(session)
    assert bench.state(1) == "canceled"
    assert bench.core.parallel_jobs == 1


def test_after_a_restart_an_offered_job_may_be_running_and_needs_kill_until_its_worker_is_heard() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.restart()
    assert bench.cancel((1, 1)) == [AnswerCancel(1, 0, (), ((1, 1),), ())]
    bench.cancel((1, 1), kill=True)
    assert bench.state(1) == "canceled"


def test_a_pending_job_whose_lost_attempt_may_live_gets_a_stop_order_with_the_cancel() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(601)
    assert plain(bench.cancel((1, 1))) == [
        SaveJob(1, JobState.CANCELED, b""),
        SaveStop(1, 1, 1, "canceled"),
        AnswerCancel(1, 1, (), (), ()),
    ]
    bench.restart()
    session, result = bench.connect(running=((1, 1, 1),))
    assert sent(result) == [(session, Stop((AttemptRef(1, 1),), "canceled"))]


def test_an_answer_tells_finished_running_and_unknown_ids_as_ranges() -> None:
    bench = Bench()
    session = bench.worker(cpus=3)
    bench.submit(*[make_spec()] * 3)
    bench.finished(session, (1, 1), (2, 2))
    bench.started(session, (3, 3))
    (answer,) = bench.cancel((5, 2**62), (0, 4), (1, 1))
    assert answer == AnswerCancel(1, 0, ((1, 2),), ((3, 3),), ((0, 0), (4, 2**62)))


def test_the_cost_of_a_range_follows_the_jobs_that_exist() -> None:
    bench = Bench()
    bench.submit(make_spec())
    began = time.perf_counter()
    bench.cancel((1, 2**62), (-(2**62), 2**61))
    assert time.perf_counter() - began < 1.0
    assert bench.state(1) == "canceled"


def test_a_canceled_held_job_is_stopped_too() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3)
    assert bench.state(3) == "offered"
    result = bench.cancel((3, 3))
    assert sent(result) == [(session, Stop((AttemptRef(3, 3),), "canceled"))]
    bench.released(session, (3, 3))
    assert bench.core.parallel_jobs == 1
