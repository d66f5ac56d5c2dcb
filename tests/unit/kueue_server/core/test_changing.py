"""Changes to jobs that have not started, and what a rerun of finished ones is."""

from __future__ import annotations

import msgspec
import pytest

from kueue.wire.changes import Changes
from kueue.wire.messages import Selector, Spec
from kueue.wire.waits import Waits
from kueue_server.core.events import ChangeRequested, Limits, TurnCame
from kueue_server.core.instructions import AnswerChange, Instruction, SaveSpec
from kueue_server.core.queues import digest_of
from kueue_server.core.rerunning import Reruns
from tests.support.core_bench import Bench, make_spec, offers

LICENCES = Limits(global_resources=(("lic", 2),))


def change(bench: Bench, selector: Selector, changes: Changes) -> list[Instruction]:
    assert bench.core.refusal_of_changes(changes, may_be_none=False) is None
    return bench.handle(ChangeRequested(7, selector, changes, bench.wall))


def answer(instructions: list[Instruction]) -> AnswerChange:
    (found,) = [one for one in instructions if isinstance(one, AnswerChange)]
    return found


def spec_of(bench: Bench, job: int) -> Spec:
    return msgspec.json.decode(bench.journal.jobs[job].spec, type=Spec)


def test_a_change_of_priority_changes_the_order() -> None:
    bench = Bench()
    bench.submit(make_spec(), make_spec())
    result = change(bench, Selector(((2, 2),)), Changes(priority=5))
    assert answer(result) == AnswerChange(7, 1, 0, 0, 0, None)
    session, _ = bench.connect(cpus=1)
    assert next(job for _, job, _ in offers(bench.status(session, 1))) == 2


def test_a_change_of_needs_moves_a_job_to_another_lane_and_lets_it_start() -> None:
    bench = Bench(LICENCES)
    bench.submit(make_spec(cpus=64, resources={"lic": 1}))
    session = bench.worker(cpus=2)
    assert bench.state(1) == "pending"
    result = change(bench, Selector(((1, 1),)), Changes(cpus=2, ram_mb=7, resources=(("lic", 0),)))
    assert [ref[:2] for ref in offers(result)] == [(session, 1)]
    shape = spec_of(bench, 1).shape
    assert (shape.cpus, shape.ram_mb, shape.resources) == (2, 7, ())
    assert bench.core.resources()[0].used == 0


def test_group_and_time_limit_change_and_survive_a_restart() -> None:
    bench = Bench()
    bench.submit(make_spec(group="a"), make_spec(group="a"))
    change(bench, Selector(group="a"), Changes(group="b", time_limit_seconds=60.0, priority=3))
    bench.restart()
    assert bench.core.select(Selector(group="a"), None, 10, bench.wall).ranges == ()
    assert bench.core.select(Selector(group="b"), None, 10, bench.wall).ranges == ((1, 2),)
    detail = bench.core.job_detail(1, bench.time)
    assert detail is not None
    assert (detail.time_limit_seconds, detail.job.priority, detail.job.group) == (60.0, 3, "b")
    change(bench, Selector(group="b"), Changes(group="", time_limit_seconds=0.0))
    detail = bench.core.job_detail(1, bench.time)
    assert detail is not None
    assert (detail.time_limit_seconds, detail.job.group) == (None, "")


def test_what_was_handed_over_or_finished_is_counted_and_not_touched() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    other = make_spec(ram_mb=200)
    bench.submit(make_spec(), make_spec(), other, other)
    bench.started(session, (1, 1))
    bench.status(session, 0)
    bench.finished(session, (1, 1))
    result = change(bench, Selector(everything=True), Changes(priority=1))
    assert answer(result) == AnswerChange(7, 2, 1, 1, 0, None)
    assert sorted(one.job for one in result if isinstance(one, SaveSpec)) == [3, 4]


def test_a_lost_job_of_which_an_attempt_may_live_keeps_its_needs() -> None:
    bench = Bench(Limits(global_resources=(("lic", 2),), worker_timeout_seconds=60.0))
    session = bench.worker(cpus=1)
    bench.submit(make_spec(resources={"lic": 1}))
    bench.started(session, (1, 1))
    bench.disconnect(session)
    bench.pass_time(100)
    assert bench.state(1) == "pending"
    assert answer(change(bench, Selector(last=True), Changes(resources=(("lic", 2),)))).started == 1
    assert bench.core.resources()[0].used == 1


def test_the_same_again_writes_nothing() -> None:
    bench = Bench()
    bench.submit(make_spec(priority=4))
    result = change(bench, Selector(last=True), Changes(priority=4))
    assert answer(result).changed == 1
    assert not any(isinstance(one, SaveSpec) for one in result)


def counted(bench: Bench) -> dict[str, tuple[int, int]]:
    """Waiting and pending jobs of each queue."""
    return {
        queue.name: (queue.counts.waiting, queue.counts.pending) for queue in bench.core.queues(bench.time)
    }


def test_jobs_go_to_another_queue_which_is_made_and_survives_a_restart() -> None:
    bench = Bench()
    bench.submit(*[make_spec(queue="day")] * 2, make_spec(queue="day", waits=Waits(after_any=((1, 1),))))
    assert answer(change(bench, Selector(queue="day"), Changes(queue="night"))).changed == 3
    assert counted(bench) == {"default": (0, 0), "night": (1, 2)}
    bench.restart()
    assert counted(bench) == {"default": (0, 0), "night": (1, 2)}
    assert bench.core.select(Selector(queue="night"), None, 10, bench.wall).ranges == ((1, 3),)
    bench.pause_queues("night")
    session = bench.worker(cpus=4)
    assert bench.state(1) == "pending"
    assert [job for _, job, _ in offers(change(bench, Selector(((2, 2),)), Changes(queue="default")))] == [2]
    bench.finished(session, (2, 1))
    assert counted(bench) == {"default": (0, 0), "night": (1, 1)}


def test_tasks_of_an_array_go_to_another_queue_and_the_others_stay() -> None:
    bench = Bench()
    bench.submit_array(make_spec(), (1, 10, 1), max_running=2)
    assert answer(change(bench, Selector(((4, 6),)), Changes(queue="night"))).changed == 3
    assert counted(bench) == {"default": (0, 7), "night": (0, 3)}
    bench.restart()
    assert counted(bench) == {"default": (0, 7), "night": (0, 3)}


def test_a_job_stays_where_it_is_if_its_key_is_in_the_other_queue() -> None:
    bench = Bench()
    bench.submit(*[make_spec(queue="day", key=key) for key in ("a", "b", "b")], make_spec(key="a", queue="x"))
    result = answer(change(bench, Selector(queue="day"), Changes(queue="x")))
    assert (result.changed, result.refused) == (1, 2)
    assert result.reason is not None
    assert result.reason.code == "same_key"
    assert counted(bench) == {"default": (0, 0), "day": (0, 2), "x": (0, 2)}
    assert bench.core.has_key("x", digest_of("b"))
    assert answer(change(bench, Selector(queue="x"), Changes(queue="z"))).changed == 2
    assert not bench.core.has_key("x", digest_of("b"))
    assert answer(change(bench, Selector(queue="day"), Changes(queue="x"))).changed == 2


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        (Changes(), "bad_changes"),
        (Changes(cpus=-1), "bad_amount"),
        (Changes(job_slots=0), "bad_amount"),
        (Changes(priority=1001), "bad_priority"),
        (Changes(group="x" * 1001), "bad_name"),
        (Changes(queue=""), "bad_name"),
        (Changes(queue="x" * 1001), "bad_name"),
        (Changes(time_limit_seconds=-1.0), "bad_time_limit"),
        (Changes(resources=(("lic", 3),)), "too_much"),
        (Changes(resources=(("lic", -1),)), "bad_amount"),
        (Changes(resources=(("nosuch", 1),)), "unknown_resource"),
        (Changes(resources=(("lic", 1), ("lic", 2))), "bad_resource"),
        (Changes(resources=(("gone", 0),)), None),
    ],
    ids=str,
)
def test_what_no_job_could_be_is_refused_before_anything_is_done(changes: Changes, code: str | None) -> None:
    refusal = Bench(LICENCES).core.refusal_of_changes(changes, may_be_none=False)
    assert (refusal and refusal.code) == code


def test_a_job_that_can_not_be_so_is_counted_with_the_reason() -> None:
    bench = Bench(LICENCES)
    bench.submit(make_spec(resources={"lic": 2}), make_spec())
    bench.set_limits(Limits(global_resources=(("lic", 1),)))
    found = answer(change(bench, Selector(everything=True), Changes(priority=1)))
    assert (found.changed, found.refused) == (1, 1)
    assert found.reason is not None
    assert found.reason.code == "too_much"


def test_nothing_starts_with_its_old_needs_while_many_are_changed() -> None:
    bench = Bench()
    bench.checked = False
    for _ in range(2):
        bench.submit(*[make_spec(group="g")] * 1000)
    change(bench, Selector(group="g"), Changes(ram_mb=500))
    assert bench.core.is_under_way
    _, first = bench.connect(cpus=1)
    later = bench.status(1, 1)
    assert offers(first + later) == []
    result: list[Instruction] = []
    while bench.core.is_under_way:
        result += bench.handle(TurnCame())
    assert answer(result).changed == 2000
    assert offers(result)
    assert spec_of(bench, offers(result)[0][1]).shape.ram_mb == 500
    bench.core.check_invariants()


def test_a_rerun_is_the_same_job_but_for_what_is_different() -> None:
    bench = Bench(LICENCES)
    session = bench.worker(cpus=1)
    bench.submit(make_spec("./sim", group="g", priority=2, resources={"lic": 1}, stdout="out"))
    bench.started(session, (1, 1))
    bench.status(session, 0)
    bench.finished(session, (1, 1), code=1)
    bench.submit(make_spec(group="g"))
    found = Reruns(encoded=[], contexts=[], shapes={})
    changes = Changes(ram_mb=999, resources=(("lic", 2),))
    selection = bench.core.select_reruns(Selector(group="g"), bench.wall)
    bench.core.gather_reruns(selection, changes, bench.core.newest, 10, found)
    (body,) = found.encoded
    new, old = msgspec.json.decode(body, type=Spec), spec_of(bench, 1)
    shape = msgspec.structs.replace(old.shape, ram_mb=999, resources=(("lic", 2),))
    assert new == msgspec.structs.replace(old, shape=shape, rerun_of=1)
    assert (found.cursor, found.unfinished, found.contexts) == (None, 1, ["c0"])
