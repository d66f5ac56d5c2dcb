"""Jobs that fail by their own exit code are tried again: as often as asked, when, and for which codes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kueue.job import End
from kueue.wire.messages import Reason, Report, RunningAttempt, Spec, Stop
from kueue_server.core.events import Limits
from tests.support.core_bench import Bench, make_spec, offers, sent


def retrying(most: int = 2, **fields: Any) -> Spec:
    return msgspec.structs.replace(make_spec(), max_retries=most, **fields)


def begin(bench: Bench, session: int) -> tuple[int, int]:
    """The attempt of job 1 that was handed out last starts."""
    ref = (1, bench._fence)
    bench.started(session, ref)
    return ref


def fail(bench: Bench, session: int, code: int = 2, **how: Any) -> None:
    bench.finished(session, begin(bench, session), code=code, **how)


def test_a_job_that_fails_is_tried_again_and_fails_when_that_was_the_last_time() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(2))
    for attempt in (1, 2):
        result = bench.finished(session, begin(bench, session), code=2)
        assert [job for _, job, _ in offers(result)] == [1]
        view = bench.core.job_view(1, bench.time)
        assert view is not None
        assert (view.state, view.retries, view.attempt) == ("offered", attempt, attempt + 1)
    fail(bench, session, code=3)
    change = bench.core.change_of(1)
    assert (change.state, change.return_code, change.reason) == ("failed", 3, Reason("exit", "exit 3"))
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert [attempt.exit_code for attempt in view.attempts] == [2, 2, 3]


def test_a_success_ends_it() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(2))
    fail(bench, session)
    fail(bench, session, code=0)
    assert bench.state(1) == "succeeded"


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({"code": 7}, "offered"),
        ({"code": 8}, "failed"),
        ({"signal": 9}, "failed"),
        ({"code": 7, "end": End.TIME_LIMIT}, "failed"),
        ({"code": None, "end": End.NOT_STARTED, "reason": Reason("no_program", "none")}, "failed"),
        ({"code": 7, "end": End.OUTPUT_LIMIT}, "failed"),
    ],
    ids=str,
)
def test_only_its_own_exit_with_one_of_the_codes_is_tried_again(how: dict[str, Any], state: str) -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(2, retry_on=(1, 7)))
    fail(bench, session, **how)
    assert bench.state(1) == state


def test_a_delayed_retry_waits_says_so_and_comes() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(1, retry_delay_seconds=60.0))
    fail(bench, session)
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.reason) == ("waiting", Reason("retry", "exit 2; retry 1 of 1"))
    assert view.retry_at == bench.wall + 60.0
    assert bench.core.counts(bench.time).waiting == 1
    assert offers(bench.pass_time(59, session)) == []
    assert [job for _, job, _ in offers(bench.pass_time(1, session))] == [1]
    assert bench.core.job_view(1, bench.time).retry_at is None  # type: ignore[union-attr]


def test_it_goes_on_waiting_after_a_restart_and_never_longer_than_asked() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(1, retry_delay_seconds=60.0))
    fail(bench, session)
    bench.pass_time(20, session)
    bench.restart()
    assert bench.state(1) == "waiting"
    session = bench.worker(cpus=1)
    assert offers(bench.pass_time(39, session)) == []
    assert [job for _, job, _ in offers(bench.pass_time(1, session))] == [1]
    fail(bench, session)
    assert bench.state(1) == "failed"

    bench.submit(retrying(1, retry_delay_seconds=60.0))
    bench.started(session, (2, bench._fence))
    bench.finished(session, (2, bench._fence), code=1)
    bench.clock_set_by -= 100_000
    bench.restart()
    session = bench.worker(cpus=1)
    assert [job for _, job, _ in offers(bench.pass_time(61, session))] == [2]


def test_a_server_that_slept_does_not_count_its_sleep() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(1, retry_delay_seconds=60.0))
    fail(bench, session)
    assert offers(bench.tick(300.0, late=299.0)) == []
    assert [job for _, job, _ in offers(bench.pass_time(60, session))] == [1]


def test_a_waiting_one_is_canceled_for_good() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(1, retry_delay_seconds=60.0))
    fail(bench, session)
    bench.cancel((1, 1))
    assert bench.state(1) == "canceled"
    assert offers(bench.pass_time(100, session)) == []
    bench.clean()
    bench.pass_time(1, session)


def test_a_job_that_is_to_be_killed_is_not_tried_again() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(5))
    ref = begin(bench, session)
    bench.cancel((1, 1), kill=True)
    bench.finished(session, ref, code=2)
    assert bench.state(1) == "failed"


def test_an_end_that_is_told_again_is_one_retry_and_a_start_that_is_told_again_is_stopped() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(5, retry_delay_seconds=5.0))
    ref = begin(bench, session)
    bench.finished(session, ref, code=2)
    bench.finished(session, ref, code=2)
    result = bench.report(session, Report(started=(RunningAttempt(*ref, 1, 0.0),)))
    assert [type(message) for _, message in sent(result)] == [Stop]
    bench.released(session, ref)
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.retries, len(view.attempts)) == ("waiting", 1, 1)


@pytest.mark.parametrize("delay", [None, 1000.0], ids=["at once", "later"])
def test_an_attempt_that_was_given_up_and_had_failed_by_itself_is_tried_again(delay: float | None) -> None:
    bench = Bench(Limits(worker_timeout_seconds=60.0, global_resources=(("lic", 1),)))
    session = bench.worker(cpus=1)
    spec = make_spec(resources={"lic": 1}, max_restarts=0)
    bench.submit(msgspec.structs.replace(spec, max_retries=1, retry_delay_seconds=delay))
    ref = begin(bench, session)
    bench.disconnect(session)
    bench.pass_time(120)
    assert bench.state(1) == "failed"
    session, _ = bench.connect(running=((*ref, 1),))
    assert bench.state(1) == "running"
    bench.finished(session, ref, code=2)
    assert bench.state(1) == ("pending" if delay is None else "waiting")
    assert bench.core.resources()[0].used == 0


def test_losses_are_counted_apart() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(retrying(1))
    begin(bench, session)
    bench.disconnect(session)
    session, _ = bench.connect(keeper="k2", cpus=1)
    bench.status(session, 1)
    fail(bench, session)
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.restarts, view.retries) == ("offered", 1, 1)
