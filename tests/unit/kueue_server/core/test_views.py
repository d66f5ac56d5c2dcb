"""What people see: rows, pages, reasons, counts, places of output, workers."""

from __future__ import annotations

import pytest

from kueue.job import End
from kueue.wire.messages import RawBytes, Reason, Selector
from kueue_server.core.events import Limits
from kueue_server.core.views import LogPlace
from tests.support.core_bench import Bench, make_spec


def page(
    bench: Bench, filter: Selector, newest: bool = False, cursor: int | None = None, limit: int = 100
) -> tuple[list[int], int | None]:
    rows, following = bench.core.page(filter, newest, cursor, limit, False, bench.time)
    return [row.id for row in rows], following


def test_pages_go_up_and_down_from_a_cursor() -> None:
    bench = Bench()
    bench.submit(*[make_spec()] * 5)
    assert page(bench, Selector(), limit=2) == ([1, 2], 2)
    assert page(bench, Selector(), cursor=2, limit=2) == ([3, 4], 4)
    assert page(bench, Selector(), cursor=4, limit=2) == ([5], None)
    assert page(bench, Selector(), newest=True, limit=2) == ([5, 4], 4)
    assert page(bench, Selector(), newest=True, cursor=2, limit=2) == ([1], None)
    assert page(bench, Selector(), limit=5) == ([1, 2, 3, 4, 5], None)


def test_filters_hold_together() -> None:
    bench = Bench()
    bench.submit(*(make_spec(group="ab"[place % 2]) for place in range(8)))
    bench.cancel((3, 6))
    assert page(bench, Selector(states=("canceled",))) == ([3, 4, 5, 6], None)
    assert page(bench, Selector(states=("canceled", "pending"), group="a")) == ([1, 3, 5, 7], None)
    assert page(bench, Selector(((1, 3), (6, 2**62)), ("pending",), "b"), newest=True) == ([8, 2], None)
    assert page(bench, Selector(group="")) == ([], None)
    assert page(bench, Selector(group="c")) == ([], None)
    assert page(bench, Selector(states=("nonsense",))) == ([], None)


def test_a_page_beyond_all_jobs_is_empty() -> None:
    bench = Bench()
    bench.submit(make_spec())
    assert page(bench, Selector(), cursor=10**18) == ([], None)


def test_ids_for_watchers_include_unknown_ones_of_narrow_ranges_only() -> None:
    bench = Bench()
    bench.submit(make_spec(), make_spec())
    assert list(bench.core.job_ids(((2, 4),))) == [2, 3, 4]
    assert list(bench.core.job_ids(((1, 2**62),))) == [1, 2]


def test_why_a_job_waits() -> None:
    bench = Bench(Limits(global_resources=(("genus", 3),)))
    bench.submit(make_spec(), make_spec(cpus=64), make_spec(resources={"genus": 2}))
    assert bench.reason(1) == Reason("no_worker", "no worker is connected")
    session, _ = bench.connect(cpus=1)
    bench.status(session, 0, accepting=False, note="keeper is silent")
    assert bench.reason(1) == Reason("draining", "no worker that fits takes jobs now (keeper is silent)")
    assert bench.reason(2) == Reason("no_fit", "no connected worker has 64 CPUs")
    bench.status(session, 0)
    assert bench.reason(1) == Reason("busy", "every worker that fits is busy")
    bench.submit(make_spec())
    assert bench.reason(4) == Reason("busy", "waits for its turn, after job 1")
    bench.set_limits(Limits(global_resources=(("genus", 1),)))
    assert bench.reason(3) == Reason("resource", "genus 0/1 in use")
    bench.set_limits(Limits(global_max_parallel_jobs=0))
    assert bench.reason(1) == Reason("max_parallel_jobs", "0 jobs run, global_max_parallel_jobs is 0")


def test_a_running_row_shows_since_when_and_where() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec("x"))
    bench.started(session, (1, 1))
    bench.time += 7
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.worker, view.run_seconds) == ("running", "w1", 7.0)
    assert [(attempt.attempt, attempt.worker, attempt.end) for attempt in view.attempts] == [(1, "w1", "")]
    assert bench.core.job_view(2, bench.time) is None


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_a_clock_that_is_set_changes_no_run_time(jump: float) -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec(restart=False))
    bench.started(session, (1, 1), (2, 2))
    bench.time += 7
    bench.clock_set_by = jump
    rows, _ = bench.core.page(Selector(), False, None, 10, False, bench.time)
    assert [row.run_seconds for row in rows] == [7.0, 7.0]
    bench.restart()  # the journal knows wall clocks only; the worker knows better
    session, _ = bench.connect(running=((1, 1, 1), (2, 2, 1)))
    rows, _ = bench.core.page(Selector(), False, None, 10, False, bench.time)
    assert [row.run_seconds for row in rows] == [5.0, 5.0], "as long as the worker says"
    bench.clock_set_by = -jump
    bench.disconnect(session)
    bench.connect(keeper="k2")
    lost = bench.core.job_view(2, bench.time)
    assert lost is not None
    assert (lost.state, lost.run_seconds) == ("failed", 5.0)


def test_output_places() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(stdout="out.log"), make_spec(stdout="/abs/x"), make_spec(stdout="null"))
    assert bench.core.log_place(1, None) == LogPlace(
        worker=1, worker_name="w1", session=session, fence=1, attempt=1, finished=False,
        stdout_path="/data/work/out.log", stderr_path=None,
    )  # fmt: skip
    bench.finished(session, (1, 1), end=End.INTERRUPTED, code=None)
    places = [bench.core.log_place(1, number) for number in (1, None)]
    assert [(place.attempt, place.finished) for place in places if isinstance(place, LogPlace)] == [
        (1, True),
        (2, False),
    ]
    paths = [bench.core.log_place(job, None) for job in (2, 3)]
    assert [place.stdout_path for place in paths if isinstance(place, LogPlace)] == ["/abs/x", "null"]
    assert bench.core.log_place(1, 7) == Reason("unknown_attempt", "job 1 has no attempt 7; the last is 2")
    assert bench.core.log_place(9, None) == Reason("unknown_job", "no job 9")


def test_marks_in_output_names_are_those_of_the_attempt() -> None:
    bench = Bench()
    waiting = make_spec(stdout="%j.%a.log", cpus=64)
    bench.submit(make_spec(stdout="%n-%j.%a.%h"), waiting)
    rows, _ = bench.core.page(Selector(), False, None, 10, False, bench.time)
    assert [row.stdout_path for row in rows] == ["/data/work/%n-%j.%a.%h", "/data/work/%j.%a.log"]
    session = bench.worker()
    place = bench.core.log_place(1, None)
    assert isinstance(place, LogPlace)
    assert place.stdout_path == "/data/work/-1.1.w1"
    bench.finished(session, (1, 1), end=End.INTERRUPTED, code=None)
    places = [bench.core.log_place(1, attempt) for attempt in (1, 2)]
    names = [place.stdout_path for place in places if isinstance(place, LogPlace)]
    assert names == ["/data/work/-1.1.w1", "/data/work/-1.2.w1"]


def test_output_of_a_job_that_has_not_started_is_nowhere() -> None:
    bench = Bench()
    bench.submit(make_spec())
    assert bench.core.log_place(1, None) == Reason("not_started", "job 1 has not started (pending)")


def test_output_paths_that_are_not_utf8_are_joined_as_bytes() -> None:
    bench = Bench()
    bench.worker()
    bench.submit(make_spec(cwd=RawBytes(b"/d/\xff"), volume="/d", stdout="o"))
    place = bench.core.log_place(1, None)
    assert isinstance(place, LogPlace)
    assert place.stdout_path == RawBytes(b"/d/\xff/o")


def test_output_of_a_worker_that_is_away_has_no_session() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.finished(session, (1, 1))
    bench.disconnect(session)
    place = bench.core.log_place(1, None)
    assert isinstance(place, LogPlace)
    assert (place.session, place.worker_name, place.finished) == (None, "w1", True)


def test_a_worker_is_found_by_id_name_or_unique_host() -> None:
    bench = Bench()
    bench.worker("lab1-aa")
    bench.worker("lab2-bb", keeper="k2")
    bench.worker("lab2-cc", keeper="k3")
    assert bench.core.find_worker("2") == 2
    assert bench.core.find_worker("lab2-cc") == 3
    assert bench.core.find_worker("lab1") == 1
    assert bench.core.find_worker("lab2") == Reason(
        "unknown_worker", "several workers are on lab2: lab2-bb, lab2-cc"
    )
    for text in ("9", "²", "9" * 5000, ""):
        assert isinstance(bench.core.find_worker(text), Reason)


def test_counts_average_and_estimate() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 10)
    counts = bench.core.counts(bench.time)
    assert (counts.pending + counts.offered, counts.average_run_seconds, counts.eta_seconds) == (
        10,
        None,
        None,
    )
    for job in range(1, 6):
        bench.tick(2.0)
        table = bench.core._state.table.jobs
        bench.finished(session, (job, table[job].fence), run=2.0)
    counts = bench.core.counts(bench.time)
    assert (counts.succeeded, counts.average_run_seconds) == (5, 2.0)
    assert counts.eta_seconds is not None
    assert 5.0 <= counts.eta_seconds <= 12.0
    for job in range(6, 11):
        bench.tick(2.0)
        bench.finished(session, (job, bench.core._state.table.jobs[job].fence), run=2.0)
    assert bench.core.counts(bench.time).eta_seconds == 0.0


def test_a_worker_row_shows_what_is_free() -> None:
    bench = Bench()
    session = bench.worker(cpus=4, own={"gpu": 2})
    bench.submit(make_spec(resources={"gpu": 1}))
    (view,) = bench.core.workers(bench.time)
    assert (view.cpus_free, view.ram_free_mb, view.slots_free) == (3.0, 15_900.0, 3)
    assert view.resources_free == (("gpu", 1),)
    bench.started(session, (1, 1))
    detail = bench.core.worker_detail(1, bench.time)
    assert detail is not None
    assert (detail.running, detail.held, detail.address) == ((1,), (), "10.0.0.1")
    assert bench.core.worker_detail(9, bench.time) is None
    bench.disconnect(session)
    (view,) = bench.core.workers(bench.time)
    assert (view.state, view.cpus_free, view.jobs) == ("silent", 0.0, 1)


def test_a_context_belongs_to_a_job() -> None:
    bench = Bench()
    bench.submit(make_spec())
    assert (bench.core.context_of(1), bench.core.context_of(2)) == ("c0", None)
    detail = bench.core.job_detail(1, bench.time)
    assert detail is not None
    assert (detail.max_restarts, detail.restart, detail.job.id) == (5, True, 1)
    assert bench.core.job_detail(2, bench.time) is None


def test_nobody_says_when_it_is_over_while_nothing_is_handed_out() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec()] * 3, make_spec(cpus=64))
    for job in (1, 2):
        bench.pass_time(10, session)
        bench.finished(session, (job, bench.core._state.table.jobs[job].fence))
    (queue,) = bench.core.queues(bench.time)
    assert (bench.core.counts(bench.time).eta_seconds or 0, queue.counts.eta_seconds or 0) > (0, 0)
    bench.finished(session, (3, bench.core._state.table.jobs[3].fence))
    (queue,) = bench.core.queues(bench.time)
    assert (bench.core.counts(bench.time).eta_seconds, queue.counts.eta_seconds) == (None, None)
    bench.cancel((4, 4))
    (queue,) = bench.core.queues(bench.time)
    assert (bench.core.counts(bench.time).eta_seconds, queue.counts.eta_seconds) == (0.0, 0.0)
