"""Who gets what: order, room, spreading, names, and what a decision costs."""

from __future__ import annotations

import pytest

from kueue.job import JobState
from kueue_server.core import placement
from kueue_server.core.events import Limits
from kueue_server.core.instructions import JobsChanged, OfferJobs, SaveJob
from kueue_server.core.pending import Lane
from kueue_server.core.placement import fits
from kueue_server.core.state import State
from kueue_server.core.workers import Worker
from tests.support.core_bench import Bench, make_spec, offers, plain


def test_an_offer_leaves_after_the_journal_has_it() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    result = bench.submit(make_spec("a"), make_spec("b"))
    assert plain(result) == [
        SaveJob(1, JobState.OFFERED, b""),
        SaveJob(2, JobState.OFFERED, b""),
        OfferJobs(session, ((1, 1, 1, b"", ""), (2, 2, 1, b"", ""))),
    ]
    assert result[-1] == JobsChanged((1, 2))


def test_nothing_is_offered_before_the_worker_has_said_what_is_free() -> None:
    bench = Bench()
    bench.submit(make_spec())
    session, result = bench.connect()
    assert offers(result) == []
    assert offers(bench.status(session, 2)) == [(session, 1, 1)]


def test_nothing_is_offered_to_a_worker_that_accepts_nothing() -> None:
    bench = Bench()
    session, _ = bench.connect()
    bench.status(session, 2, accepting=False)
    assert offers(bench.submit(make_spec())) == []
    assert offers(bench.status(session, 2)) == [(session, 1, 1)]


def test_higher_priority_comes_first_then_the_lower_id() -> None:
    bench = Bench()
    bench.submit(*(make_spec(priority=priority, cpus=2) for priority in (0, 5, -1000, 5, 1000)))
    session = bench.worker(cpus=2)
    order = []
    for _ in range(5):
        job = next(number for number in range(1, 6) if bench.state(number) == "offered")
        order.append(job)
        bench.finished(session, (job, len(order)))
    assert order == [5, 2, 4, 1, 3]


def test_order_holds_across_shapes_and_volumes() -> None:
    bench = Bench()
    bench.submit(
        make_spec(ram_mb=300, cwd="/b/x", volume="/b"),
        make_spec(ram_mb=200),
        make_spec(ram_mb=100, cwd="/c/x", volume="/c"),
    )
    session, _ = bench.connect(cpus=3)
    assert offers(bench.status(session, 3)) == [(session, 1, 1), (session, 2, 2), (session, 3, 3)]


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(cpus=5),
        make_spec(ram_mb=9000),
        make_spec(slots=4),
        make_spec(resources={"gpu": 3}),
        make_spec(workers=("x*",)),
        make_spec(not_workers=("w?",)),
    ],
)
def test_what_does_not_fit_is_passed_over(spec: object) -> None:
    bench = Bench()
    session, _ = bench.connect("w1", 4, ram_mb=8000, slots=3, own={"gpu": 2})
    bench.status(session, 4, 8000)
    assert offers(bench.submit(spec, make_spec())) == [(session, 2, 1)]  # type: ignore[arg-type]
    assert bench.reason(1) is not None


def test_a_glob_matches_the_name_or_the_host() -> None:
    bench = Bench()
    one, two = bench.worker("ralab04-aa"), bench.worker("srv-bb")
    result = bench.submit(make_spec(workers=("ralab0[1-4]",)), make_spec(workers=("srv-*",)))
    assert sorted(offers(result)) == [(one, 1, 1), (two, 2, 2)]


def test_room_is_what_is_usable_less_what_is_reserved() -> None:
    bench = Bench()
    session, _ = bench.connect(cpus=8)
    bench.status(session, 2.6, 350)
    specs = [make_spec(cpus=1, ram_mb=100, restart=False) for _ in range(8)]
    assert len(offers(bench.submit(*specs))) == 3
    assert len(offers(bench.status(session, 8, 450))) == 1
    assert len(offers(bench.status(session, 99, 10**9))) == 4


def test_a_workers_own_resources_are_counted_there() -> None:
    bench = Bench()
    session = bench.worker(cpus=8, own={"gpu": 3})
    assert len(offers(bench.submit(*[make_spec(resources={"gpu": 2}, restart=False)] * 2))) == 1
    assert len(offers(bench.finished(session, (1, 1)))) == 1


def test_job_slots_are_counted() -> None:
    bench = Bench()
    session = bench.worker(cpus=8, slots=3)
    assert len(offers(bench.submit(*[make_spec(slots=2, restart=False)] * 2))) == 1
    assert len(offers(bench.finished(session, (1, 1)))) == 1


def test_jobs_spread_over_the_workers_with_the_largest_free_share() -> None:
    bench = Bench()
    small, large = bench.worker("small", 2), bench.worker("large", 4)
    got = offers(bench.submit(*[make_spec()] * 6))
    by_job = [session for session, _, _ in sorted(got, key=lambda offer: offer[1])]
    assert by_job == [small, large, large, small, large, large]


def test_among_equals_the_one_served_longest_ago_is_next() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    served = []
    for number in range(1, 5):
        ((session, job, fence),) = offers(bench.submit(make_spec()))
        assert job == number
        served.append(session)
        bench.finished(session, (job, fence))
    assert served == [one, two, one, two]


def test_global_max_parallel_jobs_is_never_exceeded() -> None:
    bench = Bench(Limits(global_max_parallel_jobs=3))
    one, two = bench.worker("w1", 4), bench.worker("w2", 4)
    got = offers(bench.submit(*[make_spec()] * 8))
    assert len(got) == 3
    assert bench.core.parallel_jobs == 3
    assert bench.reason(8) is not None
    assert bench.reason(8).code == "max_parallel_jobs"  # type: ignore[union-attr]
    session, job, fence = got[0]
    assert session in (one, two)
    assert len(offers(bench.finished(session, (job, fence)))) == 1


def test_licences_are_never_exceeded_and_passed_on_at_once() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),)))
    one, two = bench.worker("w1", 4), bench.worker("w2", 4)
    got = offers(bench.submit(*[make_spec(resources={"lic": 1})] * 4))
    assert [job for _, job, _ in got] == [1, 2]
    assert {session for session, _, _ in got} == {one, two}
    assert bench.reason(3).text == "lic 2/2 in use"  # type: ignore[union-attr]
    session, job, fence = got[0]
    bench.started(session, (job, fence))
    assert [job for _, job, _ in offers(bench.finished(session, (job, fence)))] == [3]
    (view,) = bench.core.resources()
    assert (view.name, view.used, view.total, view.jobs) == ("lic", 2, 2, (2, 3))


def test_a_job_that_lacks_a_licence_does_not_hold_up_others() -> None:
    bench = Bench(Limits(global_resources=(("lic", 1),)))
    session = bench.worker(cpus=4)
    got = offers(bench.submit(*[make_spec(resources={"lic": 1})] * 2, make_spec()))
    assert [(job) for _, job, _ in got] == [1, 3]
    assert session


# ---------------------------------------------------------------- what a decision costs


def worlds(world: str, count: int) -> Bench:
    """Many pending jobs, and a worker that has just become idle."""
    bench = Bench()
    bench.checked = False
    session = bench.worker("blind", cpus=1)
    if world == "none visible":
        bench.submit(make_spec(cwd="/data/gone"))
        bench.refused(session, 1, 1, "no_directory", "/data")
    bench.status(session, 0)
    for start in range(0, count, 1000):
        if world == "one directory":
            bench.submit(*[make_spec()] * 1000)
        else:
            bench.submit(*(make_spec(cwd=f"/data/d{start + place}") for place in range(1000)))
    return bench


@pytest.mark.parametrize("world", ["one directory", "a directory a job", "none visible"])
def test_a_decision_looks_at_no_more_jobs_when_more_are_pending(world: str) -> None:
    looks = []
    for count in (1000, 30_000):
        bench = worlds(world, count)
        before = bench.core._state.looks
        result = bench.status(1, 1)
        assert len(offers(result)) == (0 if world == "none visible" else 3)
        looks.append(bench.core._state.looks - before)
    assert looks[0] == looks[1] <= 3


def test_with_closed_subtrees_a_decision_looks_at_sixteen_jobs_and_goes_on_later() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(make_spec(cwd="/data/p/hidden/x"))
    bench.refused(session, 1, 1, "no_directory", "/data/p")
    before = bench.core._state.looks
    result = bench.submit(*[make_spec(cwd="/data/p/hidden/y")] * 40, make_spec(cwd="/data/p/seen"))
    assert offers(result) == []
    assert bench.core._state.looks - before == 16
    found = []
    for _ in range(4):
        found += offers(bench.tick())
    assert [job for _, job, _ in found] == [42]


def test_a_worker_that_has_seen_all_in_vain_looks_no_more_until_something_changes() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(make_spec(cwd="/data/p/hidden/x"))
    bench.refused(session, 1, 1, "no_directory", "/data/p")
    bench.submit(*[make_spec(cwd="/data/p/hidden/y")] * 40)
    bench.pass_time(8, session)
    before = bench.core._state.looks
    bench.pass_time(10, session)
    assert bench.core._state.looks == before


def test_a_submit_that_nobody_can_take_is_looked_at_once_a_worker() -> None:
    bench = Bench()
    bench.checked = False
    for number in range(20):
        bench.worker(f"w{number}", cpus=1)
    bench.submit(*[make_spec(restart=False)] * 20)
    before = bench.core._state.looks
    assert offers(bench.submit(*[make_spec(restart=False)] * 1000)) == []
    assert bench.core._state.looks - before <= 40


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sessions of workers that placement has compared with a lane, from now on."""
    seen: list[int] = []

    def counting(state: State, worker: Worker, lane: Lane) -> bool:
        seen.append(worker.id)
        return fits(state, worker, lane)

    monkeypatch.setattr(placement, "fits", counting)
    return seen


def test_what_comes_is_not_compared_with_workers_that_have_slots_but_no_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    sessions = [bench.worker(f"w{number}", cpus=4) for number in range(50)]
    bench.submit(*[make_spec(cpus=4)] * 50)
    seen = count_fits(monkeypatch)
    assert offers(bench.submit(make_spec())) == []
    assert seen == []
    assert len(offers(bench.submit(make_spec(cpus=0)))) == 1, "a job without CPUs needs none"
    seen.clear()
    bench.finished(sessions[0], (1, 1))
    assert set(seen) == {1}


def test_a_licence_that_is_passed_on_is_offered_to_no_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(Limits(global_resources=(("genus", 1),)))
    sessions = [bench.worker(f"w{number}", cpus=4) for number in range(50)]
    (first,) = offers(bench.submit(*[make_spec(resources={"genus": 1})] * 3))
    holder = sessions.index(first[0]) + 1
    seen = count_fits(monkeypatch)
    assert len(offers(bench.finished(first[0], first[1:]))) == 1
    assert len(set(seen) - {holder}) <= 1
