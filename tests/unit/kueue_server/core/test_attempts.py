"""The life of an attempt as the worker reports it: started, finished, interrupted, lost, superseded."""

from __future__ import annotations

import msgspec
import pytest

from kueue.job import End, JobState
from kueue.wire.messages import Acknowledge, AttemptRef, FinishedAttempt, Reason, Report, Stop
from kueue_server.core.events import Limits
from kueue_server.core.instructions import (
    DropStop,
    JobsChanged,
    OfferJobs,
    SaveJob,
    SaveStop,
    SaveTails,
    SendWorker,
)
from tests.support.core_bench import Bench, make_spec, offers, plain, sent


def running(spec: object = None, **limits: object) -> tuple[Bench, int]:
    """A bench where job 1 runs on worker w1 as attempt 1 with fence 1."""
    bench = Bench(Limits(**limits))  # type: ignore[arg-type]
    session = bench.worker()
    bench.submit(spec or make_spec())  # type: ignore[arg-type]
    bench.started(session, (1, 1))
    return bench, session


def test_a_start_is_not_journaled() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    assert bench.started(session, (1, 1)) == [JobsChanged((1,))]
    assert bench.state(1) == "running"
    assert bench.started(session, (1, 1)) == []


def test_a_finish_is_acknowledged_after_it_was_saved() -> None:
    bench, session = running()
    end = FinishedAttempt(
        1, 1, 1, End.EXITED, exit_code=0, started_ago=3.5, ended_ago=0.5, run_seconds=3.0, cpu_seconds=2.5,
        peak_ram_mb=40.0, stdout_path="/spool/1.out", stdout_tail=b"hello",
    )  # fmt: skip
    result = bench.report(session, Report(finished=(end,)))
    assert plain(result) == [
        SaveJob(1, JobState.SUCCEEDED, b""),
        SaveTails(1, 1, b"hello", b""),
        SendWorker(session, Acknowledge((AttemptRef(1, 1),))),
    ]
    assert result[-1] == JobsChanged((1,))
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.return_code, view.run_seconds, view.cpu_seconds) == ("succeeded", 0, 3.0, 2.5)
    assert (view.started_at, view.finished_at) == (bench.wall - 3.5, bench.wall - 0.5)
    assert (view.worker, view.peak_ram_mb, view.stdout_path) == ("w1", 40.0, "/spool/1.out")
    assert [(attempt.attempt, attempt.end) for attempt in view.attempts] == [(1, "exited")]


def test_a_short_job_may_finish_without_a_word_of_its_start() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.finished(session, (1, 1))
    assert bench.state(1) == "succeeded"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"code": 2}, Reason("exit", "exit 2")),
        ({"signal": 9}, Reason("signal", "signal 9 (SIGKILL)")),
        ({"signal": 200}, Reason("signal", "signal 200")),
        ({"end": End.TIME_LIMIT, "signal": 15}, Reason("time_limit", "time limit")),
        (
            {"end": End.NOT_STARTED, "code": None, "reason": Reason("no_program", "no dc_shell in PATH")},
            Reason("no_program", "no dc_shell in PATH"),
        ),
        ({"end": End.NOT_STARTED, "code": None}, Reason("spawn", "the worker could not start it")),
    ],
)
def test_a_job_that_did_not_succeed_failed_with_the_reason(how: dict[str, object], reason: Reason) -> None:
    bench, session = running()
    bench.finished(session, (1, 1), **how)  # type: ignore[arg-type]
    change = bench.core.change_of(1)
    assert (change.state, change.reason) == ("failed", reason)


def test_interrupted_work_is_pending_at_once_and_no_loss() -> None:
    bench, session = running(make_spec(max_restarts=0))
    result = bench.finished(session, (1, 1), end=End.INTERRUPTED, code=None, signal=15)
    assert [(job, fence) for _, job, fence in offers(result)] == [(1, 2)]
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.attempt, view.restarts) == (2, 0)


def test_an_interruption_that_is_told_twice_is_one() -> None:
    bench, session = running()
    bench.status(session, accepting=False)
    for _ in range(2):
        result = bench.finished(session, (1, 1), end=End.INTERRUPTED, code=None, signal=15)
    assert plain(result) == [SendWorker(session, Acknowledge((AttemptRef(1, 1),)))]
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, [attempt.end for attempt in view.attempts]) == ("pending", ["interrupted"])


def test_interrupted_work_that_must_not_restart_fails() -> None:
    bench, session = running(make_spec(restart=False))
    bench.finished(session, (1, 1), end=End.INTERRUPTED, code=None)
    change = bench.core.change_of(1)
    assert change.state == "failed"
    assert change.reason is not None
    assert change.reason.code == "interrupted"


def test_a_lost_job_restarts_at_most_max_restarts_times() -> None:
    bench, session = running(make_spec(max_restarts=2))
    for fence in (1, 2, 3):
        assert bench.state(1) in ("offered", "running")
        bench.finished(session, (1, fence), end=End.LOST, code=None)
    change = bench.core.change_of(1)
    assert (change.state, change.reason) == (
        "failed",
        Reason("max_restarts", "lost 3 times, max_restarts is 2"),
    )


def test_a_lost_at_most_once_job_fails_as_lost() -> None:
    bench, session = running(make_spec(restart=False))
    bench.finished(session, (1, 1), end=End.LOST, code=None)
    assert bench.core.change_of(1).reason == Reason("lost", "lost with worker w1; not to be restarted")


def test_finished_reports_of_unknown_jobs_and_attempts_are_acknowledged() -> None:
    bench, session = running()
    result = bench.finished(session, (77, 5), (1, 999))
    assert plain(result) == [
        SendWorker(session, Acknowledge((AttemptRef(77, 5), AttemptRef(1, 999)))),
    ]
    assert bench.state(1) == "running"


def test_a_second_report_of_the_same_end_changes_nothing() -> None:
    bench, session = running()
    bench.finished(session, (1, 1))
    result = bench.finished(session, (1, 1), code=3)
    assert plain(result) == [SendWorker(session, Acknowledge((AttemptRef(1, 1),)))]
    assert bench.state(1) == "succeeded"


def test_unknown_attempts_that_run_are_stopped() -> None:
    bench = Bench()
    session = bench.worker()
    assert sent(bench.started(session, (77, 5))) == [(session, Stop((AttemptRef(77, 5),), "canceled"))]


def test_a_lost_worker_that_comes_back_has_the_last_word_over_a_pending_job() -> None:
    bench, session = running(make_spec(cpus=2))
    bench.disconnect(session)
    bench.pass_time(601)
    assert bench.state(1) == "pending"
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.restarts, [attempt.end for attempt in view.attempts]) == (1, ["lost"])
    session, result = bench.connect(running=((1, 1, 1),))
    assert sent(result) == []
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.restarts, view.attempt) == ("running", 0, 1)
    bench.finished(session, (1, 1))
    assert bench.state(1) == "succeeded"


def test_a_lost_worker_that_comes_back_has_the_last_word_over_failed_as_lost() -> None:
    bench, session = running(make_spec(restart=False))
    bench.disconnect(session)
    bench.pass_time(601)
    assert bench.state(1) == "failed"
    end = FinishedAttempt(1, 1, 1, End.EXITED, exit_code=0)
    bench.connect(finished=(end,))
    assert bench.state(1) == "succeeded"
    assert bench.core.parallel_jobs == 0


def test_once_a_newer_attempt_is_handed_out_the_older_one_is_superseded_and_stopped() -> None:
    bench, session = running(make_spec(resources={"lic": 1}), global_resources=(("lic", 2),))
    bench.disconnect(session)
    bench.pass_time(601)
    other, _ = bench.connect("w2", keeper="k2")
    result = bench.status(other)
    assert plain(result) == [
        SaveJob(1, JobState.OFFERED, b""),
        SaveStop(1, 1, 1, "superseded"),
        OfferJobs(other, ((1, 2, 2, b"", ""),)),
    ]
    assert bench.core.resources()[0].used == 2
    back, result = bench.connect(running=((1, 1, 1),))
    assert sent(result) == [(back, Stop((AttemptRef(1, 1),), "superseded"))]
    result = bench.finished(back, (1, 1), end=End.STOPPED, code=None)
    assert plain(result) == [
        SaveJob(1, JobState.OFFERED, b""),
        DropStop(1, 1, 1),
        SendWorker(back, Acknowledge((AttemptRef(1, 1),))),
    ]
    assert bench.core.resources()[0].used == 1
    bench.finished(other, (1, 2))
    assert bench.state(1) == "succeeded"


def test_an_unconfirmed_attempt_keeps_its_licence() -> None:
    bench, session = running(make_spec(resources={"lic": 2}), global_resources=(("lic", 2),))
    bench.disconnect(session)
    bench.pass_time(601)
    other = bench.worker("w2", keeper="k2")
    assert bench.state(1) == "pending"
    assert bench.reason(1) == Reason("resource", "lic 2/2 in use")
    _, result = bench.connect(boot="b2", keeper="k9")
    assert [job for _, job, _ in offers(result)] == [1]
    assert other


def test_a_refused_or_released_offer_is_no_attempt() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    result = bench.released(session, (1, 1))
    assert plain(result) == [SaveJob(1, JobState.OFFERED, b""), OfferJobs(session, ((1, 2, 1, b"", ""),))]
    result = bench.refused(session, 1, 2, "no_resources")
    assert plain(result) == [SaveJob(1, JobState.PENDING, b"")]
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.attempt) == ("pending", 0)


def test_refusals_back_off_longer_and_longer_for_that_worker_and_shape() -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.submit(make_spec())
    waits = []
    fence = 1
    for _ in range(8):
        bench.refused(session, 1, fence, "no_resources")
        waited = 0
        while bench.state(1) == "pending":
            bench.pass_time(1, session)
            waited += 1
        waits.append(waited)
        fence += 1
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_backed_off_shape_is_free_for_other_workers_and_shapes() -> None:
    bench = Bench()
    session, other = bench.worker("w1", 4), bench.worker("w2", 2)
    bench.submit(make_spec(cpus=4))
    result = bench.refused(session, 1, 1, "no_resources")
    assert offers(result) == []
    assert [job for _, job, _ in offers(bench.submit(make_spec(cpus=3)))] == [2]
    big = bench.worker("w3", 8)
    assert bench.core.session_of(3) == big
    assert bench.state(1) == "offered"
    assert other


def test_a_worker_that_is_draining_is_left_alone_for_a_while() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec())
    bench.refused(session, 1, 1, "draining")
    assert offers(bench.submit(make_spec(cpus=2))) == []
    assert len(offers(bench.pass_time(2, session))) >= 1


def test_no_directory_leaves_the_job_to_others_at_once() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.submit(make_spec(cwd="/data/p/x"))
    result = bench.refused(one, 1, 1, "no_directory", "/data/p")
    assert offers(result) == [(two, 1, 2)]
    result = bench.refused(two, 1, 2, "no_directory", "/data/p")
    assert offers(result) == []
    assert bench.reason(1) == Reason("no_directory", "no worker sees /data/p/x (2 asked)")
    detail = bench.core.worker_detail(1, bench.time)
    assert detail is not None
    assert detail.closed == ("/data/p/x",)


def test_a_closed_place_is_probed_after_a_minute_and_a_start_opens_it() -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec(cwd="/data/p/x", restart=False)] * 3)
    for job in (1, 2, 3):
        bench.refused(session, job, job, "no_directory", "/data/p")
    found = offers(bench.pass_time(59, session))
    assert found == []
    found = offers(bench.pass_time(1, session))
    assert [job for _, job, _ in found] == [1]
    result = bench.started(session, found[0][1:])
    assert [job for _, job, _ in offers(result)] == [2, 3]


def test_a_hung_mount_closes_its_volume() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(make_spec(), make_spec(cwd="/data/other", cpus=2), make_spec(cwd="/home/x", volume="/home"))
    result = bench.refused(session, 1, 1, "directory_timeout")
    assert offers(result) == []
    assert bench.state(3) == "offered"
    assert bench.state(2) == "pending"


@pytest.mark.parametrize("code", ["no_resources", "spool_full"])
def test_refusals_of_the_same_moment_are_one_reason_to_wait_not_many(code: str) -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec()] * 4)
    for job in (1, 2, 3, 4):
        bench.refused(session, job, job, code)
    found = offers(bench.pass_time(1.5, session))
    assert [job for _, job, _ in found] == [1, 2, 3, 4]
    for _, job, fence in found:
        bench.refused(session, job, fence, code)
    assert offers(bench.pass_time(1.5, session)) == []
    assert len(offers(bench.pass_time(1, session))) == 4


def test_a_worker_that_takes_jobs_again_is_not_waited_for_any_longer() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(make_spec())
    bench.refused(session, 1, 1, "spool_full")
    bench.status(session, 2, accepting=False)
    assert [job for _, job, _ in offers(bench.status(session, 2))] == [1]


def test_a_job_whose_output_hangs_is_kept_away_alone_and_asked_again_after_five_seconds() -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec()] * 2)
    result = bench.refused(session, 1, 1, "file_timeout")
    assert offers(result) == []
    assert [job for _, job, _ in offers(bench.submit(make_spec()))] == [3]
    assert (bench.state(1), bench.state(2), bench.state(3)) == ("pending", "offered", "offered")
    assert bench.reason(1) == Reason("file_timeout", "the place of its program or output does not answer")
    assert offers(bench.pass_time(4, session)) == []
    assert [job for _, job, _ in offers(bench.pass_time(1, session))] == [1]


def test_progress_round_trips() -> None:
    bench, session = running(make_spec(max_restarts=1))
    bench.finished(session, (1, 1), end=End.LOST, code=None)
    row = bench.journal.jobs[1]
    assert row.progress is not None
    assert msgspec.json.decode(row.progress)["losses"] == 1
