"""Held jobs: who may hold what and how much, how they become running, and how they are stolen."""

from __future__ import annotations

from kueue.wire.messages import AttemptRef, Retract
from kueue_server.core.events import Limits
from tests.support.core_bench import Bench, make_spec, offers, sent


def test_a_busy_worker_holds_two_more_per_running_job_of_an_unknown_shape() -> None:
    bench = Bench()
    bench.worker(cpus=2)
    assert len(offers(bench.submit(*[make_spec()] * 20))) == 6
    view = bench.core.workers(bench.time)[0]
    assert (view.cpus_free, view.held) == (0.0, 6)


def test_others_that_are_idle_come_before_holding() -> None:
    bench = Bench()
    bench.worker("w1", 2)
    bench.worker("w2", 2)
    got = offers(bench.submit(*[make_spec()] * 4))
    assert sorted(session for session, _, _ in got) == [1, 1, 2, 2]


def test_as_much_is_held_as_is_finished_in_a_tenth_of_a_second() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(*[make_spec()] * 500)
    bench.finished(session, *((job, job) for job in range(1, 7)), run=0.01)
    held = bench.core.workers(bench.time)[0].held - 2
    assert held == 20
    batches = [len(offers(bench.finished(session, (job, job), run=0.01))) for job in range(7, 20)]
    assert [size for size in batches if size] == [11]


def test_no_more_than_256_are_held() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(*[make_spec()] * 1000)
    bench.finished(session, *((job, job) for job in range(1, 7)), run=0.0001)
    assert bench.core.workers(bench.time)[0].held == 256 + 2


def test_jobs_of_seconds_are_not_held() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(make_spec())
    bench.finished(session, (1, 1), run=5.0)
    assert len(offers(bench.submit(*[make_spec()] * 5))) == 1


def test_what_must_not_be_held_is_not() -> None:
    for limits, spec in (
        (Limits(), make_spec(restart=False)),
        (Limits(), make_spec(cpus=2)),
        (Limits(global_resources=(("lic", 100),)), make_spec(resources={"lic": 1})),
        (Limits(global_max_parallel_jobs=100), make_spec()),
    ):
        bench = Bench(limits)
        bench.worker(cpus=4)
        assert len(offers(bench.submit(*[spec] * 12))) == 4 // spec.shape.cpus


def test_a_wide_machine_may_hold_a_quarter_of_it() -> None:
    bench = Bench()
    bench.worker(cpus=8)
    assert len(offers(bench.submit(*[make_spec(cpus=2)] * 20))) == 4 + 8


def test_nothing_is_held_where_others_use_the_machine() -> None:
    """The worker would start held jobs by its capacity, beyond what the people there leave it."""
    bench = Bench()
    session, _ = bench.connect(cpus=4)
    bench.status(session, 2)
    assert len(offers(bench.submit(*[make_spec()] * 10))) == 2


def test_a_held_job_takes_the_room_of_one_that_ended() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3)
    worker = bench.core._state.workers.by_id[1]
    assert (len(worker.offered), worker.held_count) == (1, 2)
    bench.finished(session, (1, 1), run=0.5)
    assert (len(worker.offered), worker.held_count, worker.reserved_cpus) == (1, 1, 1)
    bench.started(session, (2, 2))
    bench.finished(session, (2, 2), run=0.5)
    assert (len(worker.offered), worker.held_count) == (1, 0)


def test_a_hungry_worker_gets_half_of_what_the_most_loaded_holds_on_its_answer() -> None:
    bench = Bench()
    one = bench.worker("w1", 2)
    bench.submit(*[make_spec()] * 6)
    bench.started(one, (1, 1), (2, 2))
    two, _ = bench.connect("w2", 2, keeper="k2")
    result = bench.status(two, 2)
    assert offers(result) == []
    assert sent(result) == [(one, Retract((AttemptRef(5, 5), AttemptRef(6, 6))))]
    assert sent(bench.status(two, 2)) == []
    result = bench.released(one, (5, 5))
    assert offers(result) == [(two, 5, 7)]
    assert bench.kept(one, (6, 6)) != []  # the thief still has room: it asks for more
    view = bench.core.job_view(5, bench.time)
    assert view is not None
    assert (view.worker, view.attempt) == ("w2", 1)


def test_nothing_is_stolen_for_a_worker_that_can_not_use_it() -> None:
    bench = Bench()
    one = bench.worker("w1", 4)
    bench.submit(*[make_spec(ram_mb=4000)] * 12)
    assert bench.core.workers(bench.time)[0].held > 4
    small, _ = bench.connect("w2", 2, keeper="k2")
    assert sent(bench.status(small, 2, 1000)) == []
    blind, _ = bench.connect("w3", 2, keeper="k3")
    bench.core._state.workers.by_id[3].closed.close_volume(b"/data", bench.time)
    assert sent(bench.status(blind, 2)) == []
    assert one


def test_held_jobs_that_will_not_start_soon_are_asked_back() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3)
    bench.started(session, (1, 1))
    bench.tick(1.0)
    bench.hear(session)
    result = bench.tick(1.0)
    assert sent(result) == [(session, Retract((AttemptRef(2, 2), AttemptRef(3, 3))))]
    assert offers(bench.released(session, (2, 2), (3, 3))) == []
    assert [bench.state(job) for job in (1, 2, 3)] == ["running", "pending", "pending"]


def test_a_worker_that_takes_no_more_gives_back_what_it_holds() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3)
    bench.status(session, 1, accepting=False)
    assert len(sent(bench.tick())) == 1


def test_a_limit_on_parallel_jobs_takes_back_what_is_held() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3)
    result = bench.set_limits(Limits(global_max_parallel_jobs=1))
    assert sent(result) == [(session, Retract((AttemptRef(2, 2), AttemptRef(3, 3))))]
    bench.finished(session, (1, 1))
    assert bench.core.parallel_jobs <= 1


def test_a_refused_held_job_waits_again() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec(cwd="/data/p/x")] * 3)
    bench.refused(session, 2, 2, "no_directory", "/data/p")
    assert bench.state(2) == "pending"
    assert bench.core.job_view(2, bench.time).attempt == 0  # type: ignore[union-attr]


def test_handing_over_ahead_keeps_the_order() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec(priority=place % 3) for place in range(9)])
    worker = bench.core._state.workers.by_id[1]
    assert list(worker.offered) == [3]
    assert [job for jobs in worker.held.values() for job in jobs] == [6, 9]
    assert session
