"""Registration, inventory, and sessions that end: what the server adopts, stops, requeues and believes."""

from __future__ import annotations

from kueue.job import End, JobState
from kueue.wire.messages import Acknowledge, AttemptRef, FinishedAttempt, Reason, Stop
from kueue_server.core.instructions import (
    CloseSession,
    JobsChanged,
    OfferJobs,
    SaveJob,
    SaveWorker,
    SendWorker,
)
from tests.support.core_bench import Bench, make_spec, offers, plain, sent


def test_a_worker_is_known_by_its_name_for_good() -> None:
    bench = Bench()
    session, result = bench.connect("w1")
    assert plain(result) == [SaveWorker(1, "w1", b"")]
    bench.connect("w2", keeper="k2")
    bench.disconnect(session)
    _, result = bench.connect("w1")
    assert plain(result) == []
    assert [(view.id, view.name) for view in bench.core.workers(bench.time)] == [(1, "w1"), (2, "w2")]
    bench.restart()
    _, result = bench.connect("w1", cpus=8)
    assert plain(result) == [SaveWorker(1, "w1", b"")]


def test_a_second_worker_of_the_same_name_is_refused() -> None:
    bench = Bench()
    first = bench.worker("w1", keeper="k1")
    second, result = bench.connect("w1", keeper="k2")
    text = "a worker named w1 is connected already, from 10.0.0.1"
    assert plain(result) == [CloseSession(second, Reason("name_in_use", text))]
    assert bench.core.session_of(1) == first
    assert bench.status(second) == []


def test_a_new_worker_replaces_one_that_has_been_silent() -> None:
    bench = Bench()
    first = bench.worker("w1", keeper="k1")
    bench.time += 46
    second, result = bench.connect("w1", keeper="k2")
    assert plain(result) == [SaveWorker(1, "w1", b""), CloseSession(first, None)]
    assert bench.core.session_of(1) == second


def test_a_new_agent_of_the_same_keeper_replaces_the_old_one() -> None:
    bench = Bench()
    first = bench.worker("w1")
    bench.submit(make_spec())
    bench.started(first, (1, 1))
    second, result = bench.connect("w1", running=((1, 1, 1),))
    assert plain(result) == [CloseSession(first, None)]
    assert bench.state(1) == "running"
    assert bench.disconnect(first) == []
    assert bench.core.session_of(1) == second


def test_after_a_restart_of_the_server_running_jobs_are_adopted() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec())
    bench.started(session, (1, 1))
    bench.restart()
    assert (bench.state(1), bench.state(2)) == ("offered", "offered")
    session, result = bench.connect(running=((1, 1, 1),), held=((2, 2),))
    assert plain(result) == []
    assert result[-1] == JobsChanged((1,))
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.started_at, view.attempt) == ("running", bench.wall - 5.0, 1)
    assert bench.state(2) == "offered"
    bench.finished(session, (1, 1), (2, 2))
    assert bench.core.counts(bench.time).succeeded == 2


def test_finished_jobs_in_the_inventory_report_in() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.started(session, (1, 1))
    bench.restart()
    end = FinishedAttempt(1, 1, 1, End.EXITED, exit_code=3)
    session, result = bench.connect(finished=(end,))
    assert plain(result) == [
        SaveJob(1, JobState.FAILED, b""),
        SendWorker(session, Acknowledge((AttemptRef(1, 1),))),
    ]


def test_what_the_same_keeper_does_not_list_never_started() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec(restart=False))
    bench.disconnect(session)
    session, result = bench.connect()
    assert plain(result) == [SaveJob(1, JobState.PENDING, b""), SaveJob(2, JobState.PENDING, b"")]
    got = bench.status(session)
    (offer,) = (item for item in got if isinstance(item, OfferJobs))
    assert [(job[0], job[2]) for job in offer.jobs] == [(1, 1), (2, 1)]


def test_a_running_job_dies_with_its_keeper() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec(restart=False))
    bench.started(session, (1, 1), (2, 2))
    bench.disconnect(session)
    bench.connect(keeper="k2")
    views = [bench.core.job_view(job, bench.time) for job in (1, 2)]
    assert [(view.state, view.restarts) for view in views if view] == [("pending", 1), ("failed", 1)]
    assert bench.core.parallel_jobs == 0


def test_a_reboot_requeues_offers_without_a_loss_but_fails_at_most_once_jobs() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec(restart=False))
    bench.disconnect(session)
    bench.connect(boot="b2", keeper="k2")
    views = [bench.core.job_view(job, bench.time) for job in (1, 2)]
    assert [(view.state, view.restarts) for view in views if view] == [("pending", 0), ("failed", 1)]
    assert bench.reason(2) == Reason("lost", "lost with worker w1; not to be restarted")


def test_what_is_listed_and_not_wanted_is_stopped() -> None:
    bench = Bench()
    bench.submit(make_spec(cpus=64))
    session, result = bench.connect(running=((1, 77, 1), (99, 5, 1)), held=((98, 4),))
    assert sent(result) == [
        (session, Stop((AttemptRef(1, 77),), "superseded")),
        (session, Stop((AttemptRef(99, 5), AttemptRef(98, 4)), "canceled")),
    ]
    assert bench.core.parallel_jobs == 1
    bench.finished(session, (1, 77), end=End.STOPPED, code=None)
    assert bench.core.parallel_jobs == 0
    assert not bench.journal.stops


def test_the_room_of_an_unwanted_attempt_is_taken_until_it_has_ended() -> None:
    bench = Bench()
    bench.submit(make_spec(cpus=2, restart=False))
    session, _ = bench.connect(running=((1, 77, 1),))
    assert offers(bench.status(session)) == []
    assert offers(bench.finished(session, (1, 77), end=End.STOPPED, code=None)) == [(session, 1, 1)]


def test_a_disconnected_worker_keeps_its_jobs_until_the_lease_ends() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec())
    bench.started(session, (1, 1))
    assert plain(bench.disconnect(session)) == []
    assert bench.core.workers(bench.time)[0].state == "silent"
    bench.pass_time(599)
    assert (bench.state(1), bench.state(2)) == ("running", "offered")


def test_a_worker_that_leaves_gives_back_what_had_not_started() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec())
    bench.finished(session, (1, 1))
    result = bench.disconnect(session, leaving=True)
    assert plain(result) == [SaveJob(2, JobState.PENDING, b"")]
    assert bench.core.workers(bench.time)[0].state == "leaving"
    assert bench.pass_time(700) == []


def test_held_jobs_beyond_the_capacity_reserve_nothing_after_a_restart() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(*[make_spec()] * 6)
    assert bench.core.workers(bench.time)[0].held == 6
    bench.started(session, (1, 1), (2, 2))
    bench.restart()
    bench.connect(running=((1, 1, 1), (2, 2, 1)), held=((3, 3), (4, 4), (5, 5), (6, 6)))
    view = bench.core.workers(bench.time)[0]
    assert (view.jobs, view.held) == (2, 4)
    assert bench.core._state.workers.by_id[1].reserved_cpus == 2


def test_the_longest_running_first_whatever_the_order_of_the_inventory() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec())
    bench.disconnect(session)
    bench.connect(running=((2, 2, 1), (1, 1, 1)))
    assert {bench.state(1), bench.state(2)} == {"running"}
