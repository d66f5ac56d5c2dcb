"""Why a job waits: what each worker lacks for it."""

from __future__ import annotations

from kueue_server.core.events import Limits
from tests.support.core_bench import Bench, make_spec


def lacks(bench: Bench, job: int) -> dict[str, list[tuple[str, str]]]:
    """By worker, in the order of the answer."""
    found = bench.core.explain(job, bench.time)
    assert found is not None
    return {one.worker: [(reason.code, reason.text) for reason in one.lacks] for one in found[1]}


def test_what_a_worker_never_has_is_told_with_the_amounts() -> None:
    bench = Bench()
    bench.worker("w1", 4, ram_mb=1000, slots=2, own={"gpu": 1})
    spec = make_spec(cpus=8, ram_mb=2000, slots=3, resources={"gpu": 2})
    bench.submit(spec, make_spec(workers=("x*",)))
    assert lacks(bench, 1) == {
        "w1": [
            ("too_small", "has 4 CPUs, not 8"),
            ("too_small", "has 1000 MB, not 2000"),
            ("too_small", "has 2 job slots, not 3"),
            ("too_small", "has 1 gpu, not 2"),
        ]
    }
    assert lacks(bench, 2) == {"w1": [("not_asked_for", "--worker or --not-worker excludes it")]}


def test_what_others_use_is_told_with_what_is_left_and_who_lacks_least_comes_first() -> None:
    bench = Bench()
    bench.status(bench.worker("w1", 4, ram_mb=1000), 4, 1000)
    bench.submit(make_spec(cpus=3, ram_mb=900), make_spec(cpus=2, ram_mb=500))
    assert lacks(bench, 2) == {"w1": [("busy", "1 CPUs free, 2 needed"), ("busy", "100 MB free, 500 needed")]}
    session = bench.worker("w0", 1, ram_mb=1000, slots=4)
    assert list(lacks(bench, 2)) == ["w0", "w1"]
    bench.disconnect(session)
    assert lacks(bench, 2)["w0"] == [("too_small", "has 1 CPUs, not 2"), ("silent", "not heard of")]


def test_workers_that_take_nothing_say_why() -> None:
    bench = Bench()
    draining = bench.worker("w1")
    bench.status(draining, accepting=False, note="only 3 MB free")
    bench.worker("w2")
    bench.pause("w2", reason="new disk")
    bench.submit(make_spec())
    assert lacks(bench, 1) == {
        "w1": [("draining", "takes no jobs: only 3 MB free")],
        "w2": [("paused", "paused: new disk")],
    }


def test_a_refused_directory_is_told() -> None:
    bench = Bench()
    session = bench.worker("w1")
    bench.submit(make_spec(cwd="/data/gone/x"))
    bench.refused(session, 1, 1, "no_directory", "/data")
    assert lacks(bench, 1) == {"w1": [("no_directory", "does not see the working directory")]}


def test_a_job_that_waits_for_a_licence_lacks_nothing_of_a_worker() -> None:
    bench = Bench(Limits(global_resources=(("genus", 1),)))
    bench.worker("w1")
    bench.submit(make_spec(resources={"genus": 1}), make_spec(resources={"genus": 1}))
    found = bench.core.explain(2, bench.time)
    assert found is not None
    assert found[0].reason is not None
    assert found[0].reason.text == "genus 1/1 in use"
    assert lacks(bench, 2) == {"w1": []}
    assert lacks(bench, 1) == {}, "it does not wait"
    assert bench.core.explain(7, bench.time) is None
