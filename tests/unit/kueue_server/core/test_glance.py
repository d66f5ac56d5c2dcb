"""The table at a glance: which rows, in which order, what is left out, at the same cost whatever the size."""

from __future__ import annotations

from kueue.wire.messages import LeftOut
from kueue_server.core import glance as module
from kueue_server.core.glance import FEW, shares, upcoming
from kueue_server.core.lately import LATELY_SECONDS
from tests.support.core_bench import Bench, make_spec, offers


def shown(bench: Bench, rows: int) -> tuple[list[int], LeftOut]:
    jobs, left, _ = bench.core.glance(rows, bench.time)
    return [job.id for job in jobs], left


def run_to_its_end(bench: Bench, session: int, code: int) -> int:
    """Submit a job and have it end; it must be alone."""
    ((_, job, fence),) = offers(bench.submit(make_spec()))
    bench.finished(session, (job, fence), code=code)
    return job


def test_rows_go_to_what_comes_first_and_nothing_is_without_any() -> None:
    assert shares(20, (100, 100, 100, 100)) == [11, 3, 3, 3]
    assert shares(20, (2, 0, 100, 100)) == [2, 0, 15, 3]
    assert shares(20, (0, 0, 0, 5)) == [0, 0, 0, 5]
    assert shares(4, (9, 9, 9, 9)) == [1, 1, 1, 1]
    assert shares(2, (9, 9, 9, 9)) == [1, 1, 0, 0]
    assert shares(1, (0, 0, 9, 9)) == [0, 0, 1, 0]
    assert shares(100, ()) == []


def test_what_runs_failed_is_next_and_has_finished_in_this_order() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=1)
    good, bad = run_to_its_end(bench, session, 0), run_to_its_end(bench, session, 2)
    ((_, running, fence),) = offers(bench.submit(make_spec()))
    bench.started(session, (running, fence))
    bench.submit(make_spec(cpus=64), make_spec(cpus=64, priority=5))
    assert shown(bench, 10) == ([running, bad, 5, 4, good], LeftOut())
    assert shown(bench, 4) == ([running, bad, 5, good], LeftOut(pending=1))
    assert shown(bench, 1) == ([running], LeftOut(failed=1, pending=2, finished=1))


def test_pending_jobs_are_in_the_order_in_which_they_are_handed_out() -> None:
    bench = Bench()
    specs = [
        make_spec(cpus=1 + number % 3, cwd=f"/{number % 2}/x", volume=f"/{number % 2}", priority=number % 4)
        for number in range(60)
    ]
    bench.submit(*specs)
    found = list(upcoming(bench.core._state.queues))
    jobs = bench.core._state.table.jobs
    assert found == sorted(range(1, 61), key=lambda job: (-jobs[job].priority, job))


def test_failures_of_more_than_a_day_ago_are_counted_apart() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=1)
    old = run_to_its_end(bench, session, 1)
    bench.time += LATELY_SECONDS
    new = run_to_its_end(bench, session, 1)
    assert shown(bench, 10) == ([old, new], LeftOut())
    bench.tick(61)
    assert shown(bench, 10) == ([new], LeftOut(failed_before=1))
    bench.restart()
    assert shown(bench, 10) == ([new], LeftOut(failed_before=1))


def test_failures_that_are_taken_back_or_cleaned_are_none() -> None:
    bench = Bench()
    session = bench.worker("w1", cpus=1)
    bench.submit(make_spec(restart=False))
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(700)
    assert bench.state(1) == "failed"
    assert shown(bench, 5) == ([1], LeftOut())
    session, _ = bench.connect("w1", cpus=1, running=((1, 1, 1),))
    assert bench.state(1) == "running"
    assert not bench.core._state.table.failed_lately
    bench.finished(session, (1, 1), code=3)
    assert shown(bench, 5) == ([1], LeftOut())
    bench.clean(failed=True)
    assert shown(bench, 5) == ([], LeftOut())


def test_the_last_ones_are_found_among_many() -> None:
    bench = Bench()
    bench.checked = False
    session = bench.worker("w1", cpus=1)
    finished = [run_to_its_end(bench, session, number % 2) for number in range(2 * FEW + 10)]
    well, badly = finished[0::2], finished[1::2]
    jobs, left = shown(bench, 12)
    assert jobs == [*badly[-10:], *well[-2:]]
    assert left == LeftOut(failed=len(badly) - 10, finished=len(well) - 2)


def test_many_that_were_cleaned_meanwhile_cost_only_so_many_looks() -> None:
    bench = Bench()
    bench.checked = False
    session = bench.worker("w1", cpus=1)
    kept = [run_to_its_end(bench, session, 0) for _ in range(FEW + 5)]
    for _ in range(module.MOST_LOOKS + 5):
        job = run_to_its_end(bench, session, 0)
        bench.core._state.table.drop(bench.core._state.table.jobs[job])
    jobs, left = shown(bench, 3)
    assert jobs == kept[-3:]
    assert left == LeftOut(finished=FEW + 2)


def test_a_page_ends_where_rows_are_long() -> None:
    bench = Bench()
    bench.submit(*(make_spec("x" * 300_000) for _ in range(10)))
    jobs, left = shown(bench, 10)
    assert 3 <= len(jobs) <= 5
    assert left == LeftOut(pending=10 - len(jobs))
