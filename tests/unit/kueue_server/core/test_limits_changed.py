"""Reload: new licences and limits while jobs run."""

from __future__ import annotations

from kueue_server.core.events import Limits
from tests.support.core_bench import Bench, make_spec, offers


def lic(amount: int, **others: object) -> Limits:
    return Limits(global_resources=(("lic", amount),), **others)  # type: ignore[arg-type]


def test_more_licences_start_more_jobs_at_once() -> None:
    bench = Bench(lic(1))
    bench.worker(cpus=4)
    bench.submit(*[make_spec(resources={"lic": 1})] * 4)
    assert [job for _, job, _ in offers(bench.set_limits(lic(3)))] == [2, 3]


def test_fewer_licences_stop_new_starts_only() -> None:
    bench = Bench(lic(3))
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec(resources={"lic": 1})] * 5)
    assert offers(bench.set_limits(lic(1))) == []
    assert bench.core.resources()[0].used == 3
    assert offers(bench.finished(session, (1, 1), (2, 2))) == []
    assert len(offers(bench.finished(session, (3, 3)))) == 1


def test_a_resource_that_becomes_global_is_counted_for_what_runs() -> None:
    bench = Bench()
    bench.worker(cpus=4, own={"lic": 4})
    bench.submit(*[make_spec(resources={"lic": 1}, restart=False)] * 3)
    bench.set_limits(lic(2))
    assert bench.core.resources()[0].used == 3
    bench.set_limits(Limits())
    assert bench.core.resources() == ()
    assert bench.core.workers(bench.time)[0].resources_free == (("lic", 1),)


def test_a_higher_limit_of_parallel_jobs_takes_effect_at_once() -> None:
    bench = Bench(Limits(global_max_parallel_jobs=1))
    bench.worker(cpus=4)
    bench.submit(*[make_spec()] * 4)
    assert len(offers(bench.set_limits(Limits(global_max_parallel_jobs=3)))) == 2


def test_the_ledger_is_counted_anew_after_a_restart() -> None:
    bench = Bench(lic(3, worker_timeout_seconds=30.0))
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec(resources={"lic": 1})] * 3)
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(31)
    bench.worker("w2", 1, keeper="k2")
    assert bench.core.resources()[0].used == 3
    bench.restart()
    assert bench.core.resources()[0].used == 3
    bench.pass_time(31)
    assert bench.core.resources()[0].used == 3
