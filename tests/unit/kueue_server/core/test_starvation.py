"""Large jobs among many small ones: drained workers, kept licences, and that these never deadlock."""

from __future__ import annotations

from kueue.wire.messages import Reason
from kueue_server.core.events import Limits
from kueue_server.core.instructions import LogLine
from tests.support.core_bench import Bench, make_spec, offers


def stream(bench: Bench, session: int, seconds: int) -> list[int]:
    """Small jobs end one a second, and there are always more; the jobs offered meanwhile."""
    got: list[int] = []
    for _ in range(seconds):
        worker = bench.core._state.workers.by_session[session]
        for job in [*worker.offered][:1]:
            result = bench.finished(session, (job, bench.core._state.table.jobs[job].fence), run=20.0)
            got += [number for _, number, _ in offers(result)]
        bench.hear(session)
        got += [number for _, number, _ in offers(bench.tick())]
    return got


def test_a_wide_job_gets_a_drained_worker_after_the_wait() -> None:
    bench = Bench(Limits(starvation_seconds=30.0))
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec()] * 4)
    for job in range(1, 5):
        bench.finished(session, (job, job), run=20.0)
    bench.submit(make_spec(cpus=1, restart=False))
    bench.submit(make_spec(cpus=4))
    bench.submit(*[make_spec(restart=False)] * 200)
    assert bench.state(6) == "pending"
    before = stream(bench, session, 25)
    assert 6 not in before
    assert len(before) >= 20
    after = stream(bench, session, 15)
    assert 6 in after
    assert after.index(6) <= 8


def test_while_a_worker_is_drained_it_says_so() -> None:
    bench = Bench(Limits(starvation_seconds=2.0))
    session = bench.worker(cpus=2)
    bench.submit(make_spec(ram_mb=1, restart=False), make_spec(cpus=2), make_spec(restart=False))
    assert bench.state(3) == "offered"
    result = bench.pass_time(3, session)
    assert [line.text for line in result if isinstance(line, LogLine)] == [
        "worker w1 is drained for job 2, which has waited long for 2 CPUs and 100 MB"
    ]
    assert bench.reason(2) == Reason("busy", "a worker is being drained for it")
    assert offers(bench.finished(session, (1, 1), run=9.0)) == []
    bench.submit(make_spec())
    assert bench.state(4) == "pending"
    assert [job for _, job, _ in offers(bench.finished(session, (3, 2), run=9.0))] == [2]


def test_a_job_that_nobody_overtook_drains_nothing() -> None:
    bench = Bench(Limits(starvation_seconds=2.0))
    session = bench.worker(cpus=2)
    bench.submit(make_spec(restart=False), make_spec(cpus=2))
    bench.pass_time(10, session)
    assert bench.core._state.workers.by_id[1].drained_for is None


def test_a_drain_ends_when_its_job_is_canceled() -> None:
    bench = Bench(Limits(starvation_seconds=2.0))
    session = bench.worker(cpus=2)
    bench.submit(make_spec(ram_mb=1, restart=False), make_spec(cpus=2), make_spec(restart=False))
    bench.pass_time(3, session)
    bench.submit(make_spec(restart=False))
    bench.finished(session, (1, 1), run=9.0)
    assert bench.state(4) == "pending"
    bench.cancel((2, 2))
    bench.pass_time(1, session)
    assert bench.state(4) == "offered"


def test_a_worker_that_others_use_is_not_drained_for_what_would_never_fit() -> None:
    bench = Bench(Limits(starvation_seconds=2.0))
    session, _ = bench.connect(cpus=4)
    bench.status(session, 2)
    bench.submit(make_spec(restart=False), make_spec(cpus=3), *[make_spec(restart=False)] * 5)
    bench.pass_time(10, session)
    assert bench.core._state.workers.by_id[1].drained_for is None


def test_freed_licences_are_kept_for_the_front_job_that_needs_several() -> None:
    bench = Bench(Limits(global_resources=(("lic", 3),), starvation_seconds=10.0))
    session = bench.worker(cpus=8)
    one = make_spec(resources={"lic": 1})
    bench.submit(one)
    bench.submit(make_spec(resources={"lic": 3}), *[one] * 10)
    assert [bench.state(job) for job in (1, 2, 3, 4)] == ["offered", "pending", "offered", "offered"]
    bench.finished(session, (1, 1), run=9.0)
    assert bench.state(5) == "offered"
    bench.pass_time(11, session)
    fences = {job: bench.core._state.table.jobs[job].fence for job in (3, 4, 5)}
    assert offers(bench.finished(session, (3, fences[3]), run=9.0)) == []
    assert bench.reason(6) == Reason("resource", "lic is kept for job 2, which waits longer")
    assert offers(bench.finished(session, (4, fences[4]), run=9.0)) == []
    assert offers(bench.submit(make_spec())) != []
    result = bench.finished(session, (5, fences[5]), run=9.0)
    assert [job for _, job, _ in offers(result)] == [2]


def test_a_job_of_higher_priority_may_use_what_is_kept() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),), starvation_seconds=5.0))
    session = bench.worker(cpus=8)
    one = make_spec(resources={"lic": 1})
    bench.submit(one)
    bench.submit(make_spec(resources={"lic": 2}), one, one)
    bench.pass_time(6, session)
    assert offers(bench.finished(session, (1, 1), run=9.0)) == []
    urgent = make_spec(resources={"lic": 1}, priority=9)
    assert [job for _, job, _ in offers(bench.submit(urgent))] == [5]


def test_a_licence_is_not_kept_for_a_job_that_nobody_could_run() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),), starvation_seconds=5.0))
    session = bench.worker(cpus=8)
    one = make_spec(resources={"lic": 1})
    bench.submit(one)
    bench.submit(make_spec(resources={"lic": 2}, cpus=64), one, one)
    bench.pass_time(6, session)
    assert len(offers(bench.finished(session, (1, 1), run=9.0))) == 1


def test_a_drained_worker_and_a_kept_licence_do_not_wait_for_each_other() -> None:
    """Job 2 needs the licence kept for it and the only wide worker; job 4, later, wanted that worker too."""
    bench = Bench(Limits(global_resources=(("lic", 2),), starvation_seconds=5.0))
    wide = bench.worker("wide", 8)
    bench.submit(make_spec(resources={"lic": 1}, restart=False))
    bench.submit(make_spec(resources={"lic": 2}, cpus=8))
    bench.submit(make_spec(resources={"lic": 1}, restart=False))
    bench.submit(make_spec(resources={"lic": 1}, cpus=8))
    bench.submit(*[make_spec(restart=False)] * 6)
    bench.pass_time(10, wide)
    table = bench.core._state.table.jobs
    for _ in range(30):
        worker = bench.core._state.workers.by_session[wide]
        for job in list(worker.offered):
            bench.finished(wide, (job, table[job].fence), run=9.0)
        bench.pass_time(1, wide)
    assert bench.core.counts(bench.time).succeeded == 10


def test_an_earlier_job_takes_over_the_worker_that_is_drained_for_a_later_one() -> None:
    bench = Bench(Limits(starvation_seconds=5.0))
    wide, small = bench.worker("wide", 4), bench.worker("small", 1)
    bench.submit(*[make_spec(ram_mb=1, restart=False)] * 5, make_spec(cpus=4), make_spec(restart=False))
    table = bench.core._state.table.jobs
    on_small = next(job for job in range(1, 6) if table[job].worker == 2)
    bench.finished(small, (on_small, table[on_small].fence), run=9.0)
    assert bench.state(7) == "offered"
    bench.pass_time(6, wide, small)
    assert bench.reason(6) == Reason("busy", "a worker is being drained for it")
    bench.submit(make_spec(cpus=3, priority=5), make_spec(restart=False))
    bench.finished(small, (7, table[7].fence), run=9.0)
    bench.pass_time(6, wide, small)
    assert bench.reason(8) == Reason("busy", "a worker is being drained for it")
    for job in range(1, 6):
        if job != on_small:
            bench.finished(wide, (job, table[job].fence), run=9.0)
    assert bench.state(8) == "offered"
    assert bench.state(6) == "pending"
