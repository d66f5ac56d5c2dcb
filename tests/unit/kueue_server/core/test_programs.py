"""A program that is missing on one machine counts like a missing directory; everywhere, and the job fails with 127."""

from __future__ import annotations

import pytest

from kueue.resources import Shape
from kueue.wire.messages import Reason
from kueue_server.core import programs
from kueue_server.core.closed import PROBE_SECONDS, Sight
from kueue_server.core.instructions import Instruction
from kueue_server.core.pending import Lane
from kueue_server.core.programs import MissingPrograms, Program
from kueue_server.core.queues import Queues
from kueue_server.core.shapes import Shapes
from tests.support.core_bench import Bench, make_spec, offers

TOOL = make_spec("dc_shell", "-f", "run.tcl")
ALONE = make_spec("dc_shell", restart=False)  # never held


def refuse(bench: Bench, session: int, job: int, fence: int, cwd: str | None = None) -> list[Instruction]:
    return bench.refused(session, job, fence, "no_program", cwd)


def jobs_of(instructions: list[Instruction]) -> list[tuple[int, int]]:
    return [(session, job) for session, job, _ in offers(instructions)]


def test_the_job_tries_every_worker_that_fits_and_then_fails_with_127() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.worker("small", ram_mb=10)
    bench.submit(TOOL)
    result = refuse(bench, one, 1, 1)
    assert offers(result) == [(two, 1, 2)]
    assert bench.state(1) == "offered"
    refuse(bench, two, 1, 2)
    view = bench.core.job_view(1, bench.time)
    assert view is not None
    assert (view.state, view.return_code, view.attempt, view.restarts) == ("failed", 127, 1, 0)
    assert view.reason == Reason("no_program", " (2 workers were asked)")
    change = bench.core.change_of(1)
    assert (change.return_code, change.worker) == (127, "w2")


def test_a_worker_that_has_it_gets_all_and_the_others_are_asked_once_a_minute() -> None:
    bench = Bench()
    one, two = bench.worker("w1", cpus=4), bench.worker("w2", cpus=1)
    bench.submit(*[ALONE] * 100)
    there = {job: fence for session, job, fence in offers_now(bench) if session == one}
    for job, fence in there.items():
        assert all(session == two for session, _ in jobs_of(refuse(bench, one, job, fence)))
    (mine,) = bench_refs(bench, two)
    bench.started(two, mine)
    assert jobs_of(bench.finished(two, mine))[0][0] == two
    found = jobs_of(bench.pass_time(PROBE_SECONDS + 1, one, two))
    assert [session for session, _ in found].count(one) == 1


def offers_now(bench: Bench) -> list[tuple[int, int, int]]:
    """Session, job and fence of all that is offered."""
    state = bench.core._state
    return [
        (worker.session or 0, job, state.table.jobs[job].fence)
        for worker in state.workers.ordered()
        for job in worker.offered
    ]


def bench_refs(bench: Bench, session: int) -> list[tuple[int, int]]:
    return [(job, fence) for there, job, fence in offers_now(bench) if there == session]


def test_jobs_of_a_program_that_nobody_has_fail_one_after_the_other() -> None:
    bench = Bench()
    sessions = [bench.worker("w1"), bench.worker("w2")]
    bench.submit(*[TOOL] * 50)
    for _ in range(200):
        for session, job, fence in offers_now(bench):
            refuse(bench, session, job, fence)
    assert [bench.state(job) for job in range(1, 51)] == ["failed"] * 50
    assert len(sessions) == 2


def test_a_later_job_is_asked_for_at_once_for_the_program_may_have_been_mended() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(TOOL)
    refuse(bench, session, 1, 1)
    assert bench.state(1) == "failed"
    assert jobs_of(bench.submit(TOOL)) == [(session, 2)]


def test_a_later_job_is_asked_for_on_each_worker_anew() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.submit(TOOL)
    refuse(bench, one, 1, 1)
    bench.submit(TOOL)
    assert bench_refs(bench, one) == [(2, 3)]
    refuse(bench, two, 1, 2)
    assert bench.state(1) == "failed"
    bench.started(one, (2, 3))
    assert bench.state(2) == "running"


def test_who_is_away_may_have_it_until_the_lease_is_over() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.disconnect(two)
    bench.submit(TOOL)
    refuse(bench, one, 1, 1)
    assert bench.reason(1) == Reason("no_program", "no worker that is here has dc_shell (1 asked)")
    seconds = 0
    while bench.state(1) != "failed":
        for _, job, fence in offers(bench.pass_time(1, one)):
            refuse(bench, one, job, fence)
        seconds += 1
    timeout = bench.limits.worker_timeout_seconds
    assert timeout <= seconds <= timeout + PROBE_SECONDS


def test_after_a_restart_of_the_server_all_workers_are_waited_for() -> None:
    bench = Bench()
    bench.worker("w1")
    bench.worker("w2")
    bench.restart()
    one = bench.worker("w1")
    ((_, job, fence),) = offers(bench.submit(TOOL))
    refuse(bench, one, job, fence)
    assert bench.state(1) == "pending"
    two = bench.worker("w2")
    refuse(bench, two, *bench_refs(bench, two)[0])
    assert bench.state(1) == "failed"


def test_who_lacks_the_directory_has_refused_as_well() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.submit(TOOL)
    bench.refused(one, 1, 1, "no_directory", "/data")
    refuse(bench, two, 1, 2)
    assert bench.state(1) == "failed"


def test_who_takes_no_jobs_now_may_have_it() -> None:
    bench = Bench()
    one, two = bench.worker("w1"), bench.worker("w2")
    bench.status(two, 2, accepting=False)
    bench.submit(TOOL)
    refuse(bench, one, 1, 1)
    assert bench.state(1) == "pending"
    assert jobs_of(bench.status(two, 2)) == [(two, 1)]


def test_a_program_of_the_directory_is_missing_in_that_directory_only() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.worker("w2", cpus=1)
    bench.submit(*[make_spec("./run", cwd=f"/data/{name}") for name in ("a", "b", "b")])
    one, _ = bench_refs(bench, session)[0], None
    refuse(bench, session, *one, "/data/a")
    assert [job for job, _ in bench_refs(bench, session)] == [3]


def test_a_canceled_job_is_canceled_not_failed() -> None:
    bench = Bench()
    session = bench.worker()
    bench.submit(TOOL)
    bench.cancel((1, 1), kill=True)
    refuse(bench, session, 1, 1)
    assert bench.state(1) == "canceled"


def test_other_environments_are_asked_for_by_themselves() -> None:
    lacks, lane = MissingPrograms(), _lane()
    lacks.refuse(lane, Program(b"tool", "c1", None), 5, 0.0)
    assert lacks.sight(lane, Program(b"tool", "c1", b"/a"), 5, 1.0) is Sight.CLOSED
    assert lacks.sight(lane, Program(b"tool", "c2", b"/a"), 5, 1.0) is Sight.OPEN
    assert lacks.sight(lane, Program(b"tool", "c1", b"/a"), 6, 1.0) is Sight.OPEN
    assert lacks.sight(lane, Program(b"tool", "c1", b"/a"), 5, PROBE_SECONDS) is Sight.PROBE


def test_a_start_opens_it_again() -> None:
    lacks, lane = MissingPrograms(), _lane()
    lacks.refuse(lane, Program(b"tool", "c1", None), 5, 0.0)
    assert lacks.open(lane, Program(b"tool", "c1", b"/a"))
    assert not lacks
    assert not lacks.open(lane, Program(b"tool", "c1", b"/a"))


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MOST_PROGRAMS", 3)
    lacks, lane = MissingPrograms(), _lane()
    for number in range(5):
        lacks.refuse(lane, Program(b"%d" % number, "c", None), 9, 0.0)
    asked = [lacks.sight(lane, Program(b"%d" % number, "c", b"/"), 1, 1.0) for number in range(5)]
    assert asked == [Sight.OPEN] * 2 + [Sight.CLOSED] * 3


def test_what_no_job_asks_for_any_more_is_forgotten() -> None:
    lacks, lane = MissingPrograms(), _lane()
    lacks.refuse(lane, Program(b"tool", "c", None), 5, 0.0)
    assert not lacks.probe_due(0.0, PROBE_SECONDS)
    assert lane in lacks
    lacks.probe_due(0.0, 2 * PROBE_SECONDS + 1)
    assert lane not in lacks


def _lane() -> Lane:
    return Lane(1, Queues().get("default"), Shapes(frozenset()).intern(Shape()), b"/data")
