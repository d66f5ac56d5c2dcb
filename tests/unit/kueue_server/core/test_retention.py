"""Which finished jobs leave the table, and when."""

from __future__ import annotations

from kueue.job import End
from kueue.wire.messages import Forget, JobChange
from kueue_server.core.events import Limits, TurnCame
from kueue_server.core.instructions import AnswerClean, DropJobs, JobsChanged, SendWorker
from kueue_server.core.retention import LEAST_SECONDS
from tests.support.core_bench import Bench, make_spec, plain


def finished(bench: Bench, session: int, *, codes: tuple[int, ...]) -> None:
    """Submit a job for each code and let it end with that."""
    for code in codes:
        job = bench.journal.next_job
        bench.submit(make_spec())
        bench.finished(session, (job, bench._fence), code=code)


def test_clean_drops_succeeded_and_canceled_jobs_and_tells_workers_and_watchers() -> None:
    bench = Bench()
    session = bench.worker()
    finished(bench, session, codes=(0, 1, 0))
    bench.status(session, 0)
    bench.submit(make_spec(), make_spec())
    bench.cancel((4, 4))
    result = bench.clean()
    assert plain(result) == [
        DropJobs(((1, 1), (3, 4))),
        SendWorker(session, Forget(((1, 1), (3, 3)))),
        AnswerClean(2, 3),
    ]
    assert result[-1] == JobsChanged((1, 3, 4))
    assert bench.core.change_of(1) == JobChange(1, "unknown")
    assert (bench.state(2), bench.state(5)) == ("failed", "pending")
    assert plain(bench.clean(failed=True))[-1] == AnswerClean(3, 1)
    assert plain(bench.clean(failed=True)) == [AnswerClean(4, 0)]


def test_a_job_with_an_unconfirmed_attempt_stays() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.disconnect(session)
    bench.cancel((1, 1))
    assert plain(bench.clean(failed=True)) == [AnswerClean(2, 0, kept=1)]
    session, _ = bench.connect()
    assert plain(bench.clean(failed=True))[-1] == AnswerClean(3, 1)


def test_a_large_clean_goes_on_in_portions_and_is_answered_at_the_end() -> None:
    bench = Bench()
    bench.checked = False
    for _ in range(2):
        bench.submit(*[make_spec()] * 1000)
    bench.cancel((1, 2000))
    while bench.core.is_under_way:
        bench.handle(TurnCame())
    result = bench.clean()
    steps = [result]
    while bench.core.is_under_way:
        steps.append(bench.handle(TurnCame()))
    drops = [one for step in steps for one in plain(step) if isinstance(one, DropJobs)]
    assert len(drops) > 1
    assert drops[0].ranges[0][0] == 1
    assert drops[-1].ranges[-1][1] == 2000
    answers = [one for step in steps for one in step if isinstance(one, AnswerClean)]
    assert answers == [AnswerClean(2, 2000)]
    assert answers[0] in steps[-1]


def test_old_succeeded_and_canceled_jobs_go_and_failed_ones_stay() -> None:
    bench = Bench(Limits(job_cleanup_after_seconds=1000.0, maintenance_interval_seconds=60.0))
    session = bench.worker()
    finished(bench, session, codes=(0, 1))
    bench.pass_time(500, session)
    finished(bench, session, codes=(0,))
    bench.pass_time(480, session)
    assert bench.state(1) == "succeeded"
    bench.pass_time(130, session)
    assert [bench.state(job) for job in (1, 2, 3)] == ["unknown", "failed", "succeeded"]


def test_age_counts_the_servers_own_running_time() -> None:
    bench = Bench(Limits(job_cleanup_after_seconds=1000.0, maintenance_interval_seconds=60.0))
    session = bench.worker()
    finished(bench, session, codes=(0,))
    bench.time += 10_000_000
    bench.restart()
    bench.pass_time(900)
    bench.tick(50_000.0, late=49_999.0)
    assert bench.state(1) == "succeeded"
    bench.pass_time(200)
    assert bench.state(1) == "unknown"


def test_one_that_has_just_finished_stays_though_failed_ones_take_all_the_room() -> None:
    bench = Bench(Limits(max_finished_jobs=2))
    session = bench.worker()
    finished(bench, session, codes=(1, 1, 1))
    bench.pass_time(LEAST_SECONDS + 2, session)
    finished(bench, session, codes=(0,))
    bench.pass_time(LEAST_SECONDS - 5, session)
    assert bench.state(4) == "succeeded"
    bench.pass_time(7, session)
    assert bench.state(4) == "unknown"


def test_beyond_the_most_finished_jobs_the_oldest_go_failed_ones_last() -> None:
    bench = Bench(Limits(max_finished_jobs=3))
    session = bench.worker()
    finished(bench, session, codes=(1, 0, 1, 0, 0))
    bench.pass_time(LEAST_SECONDS + 2, session)
    assert [bench.state(job) for job in range(1, 6)] == [
        "failed",
        "unknown",
        "failed",
        "unknown",
        "succeeded",
    ]
    finished(bench, session, codes=(1, 1, 1))
    bench.pass_time(LEAST_SECONDS + 2, session)
    assert [bench.state(job) for job in range(5, 9)] == ["unknown", "failed", "failed", "failed"]
    assert [bench.state(job) for job in (1, 3)] == ["unknown", "unknown"]


def test_a_job_that_failed_as_lost_and_succeeded_after_all_is_no_failed_one() -> None:
    bench = Bench(Limits(max_finished_jobs=1))
    session = bench.worker()
    bench.submit(make_spec(restart=False))
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(601)
    assert bench.state(1) == "failed"
    session, _ = bench.connect(running=((1, 1, 1),))
    bench.finished(session, (1, 1))
    bench.status(session)
    finished(bench, session, codes=(1,))
    bench.pass_time(LEAST_SECONDS + 2, session)
    assert [bench.state(job) for job in (1, 2)] == ["unknown", "failed"]


def test_the_order_of_finishing_survives_a_restart() -> None:
    bench = Bench(Limits(max_finished_jobs=10))
    session = bench.worker(cpus=3)
    bench.submit(*[make_spec()] * 3)
    for job in (3, 1, 2):
        bench.tick()
        bench.finished(session, (job, job))
    bench.limits = Limits(max_finished_jobs=1)
    bench.restart()
    bench.pass_time(LEAST_SECONDS + 2)
    assert [bench.state(job) for job in (1, 2, 3)] == ["unknown", "succeeded", "unknown"]


def test_an_end_without_a_worker_still_known_tells_nobody() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.finished(session, (1, 1), end=End.EXITED)
    bench.disconnect(session)
    assert plain(bench.clean()) == [DropJobs(((1, 1),)), AnswerClean(1, 1)]
