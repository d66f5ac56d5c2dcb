"""Named queues: what a person pauses or limits starts nothing more, whatever happens meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from kueue.job import End
from kueue.wire.messages import AttemptRef, Changes, Pause, QueueView, Reason, Retract, Selector
from kueue.wire.waits import Waits
from kueue_server.core import dumping
from kueue_server.core.events import ChangeRequested, Limits
from kueue_server.core.instructions import AnswerQueues, DropJobs, DropQueue, Instruction, SaveQueue
from kueue_server.core.queues import MOST_QUEUES
from tests.support.core_bench import WALL, Bench, make_spec, offers, sent

TAPEOUT = make_spec(queue="tapeout")
OTHER = make_spec(queue="other")


def answers(instructions: list[Instruction]) -> list[AnswerQueues]:
    return [each for each in instructions if isinstance(each, AnswerQueues)]


def retracted(instructions: list[Instruction]) -> list[AttemptRef]:
    return [
        ref for _, message in sent(instructions) if isinstance(message, Retract) for ref in message.attempts
    ]


def view(bench: Bench, name: str) -> QueueView:
    (found,) = [queue for queue in bench.core.queues(bench.time) if queue.name == name]
    return found


def names(bench: Bench) -> list[str]:
    return [queue.name for queue in bench.core.queues(bench.time)]


# ---------------------------------------------------------------- the queues themselves


def test_a_queue_is_there_while_it_has_jobs_or_something_is_set_of_it() -> None:
    bench = Bench()
    session = bench.worker()
    assert names(bench) == ["default"]
    bench.submit(make_spec(), TAPEOUT)
    assert names(bench) == ["default", "tapeout"]
    bench.set_queue("night", weight=2)
    bench.finished(session, (1, 1), (2, 2))
    bench.clean()
    assert names(bench) == ["default", "night"]
    bench.set_queue("night", weight=1)
    assert names(bench) == ["default"]


def test_a_queue_counts_its_jobs_and_says_how_fast_it_goes() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(*[TAPEOUT] * 4, make_spec())
    bench.started(session, (1, 1), (2, 2))
    bench.tick(29.0)
    bench.hear(session)
    bench.tick(1.0)
    bench.finished(session, (1, 1), run=30)
    found = view(bench, "tapeout")
    assert (found.counts.running, found.counts.succeeded) == (1, 1)
    assert found.counts.pending + found.counts.offered == 2
    assert found.per_minute == 6.0
    assert found.counts.eta_seconds == 30.0
    assert view(bench, "default").per_minute is None


def test_a_selector_finds_the_jobs_of_a_queue_also_within_a_group() -> None:
    bench = Bench()
    bench.submit(TAPEOUT, make_spec(group="g"), make_spec(queue="tapeout", group="g"), OTHER)

    def found(**conditions: str) -> list[int]:
        rows, _ = bench.core.page(Selector(**conditions), False, None, 10, False, bench.time)  # type: ignore[arg-type]
        return [row.id for row in rows]

    assert found(queue="tapeout") == [1, 3]
    assert found(queue="tapeout", group="g") == [3]
    assert found(queue="nobody's") == []
    assert found(group="g") == [2, 3]


def test_a_change_leaves_a_job_in_its_queue() -> None:
    bench = Bench()
    bench.submit(TAPEOUT)
    bench.handle(ChangeRequested(1, Selector(ranges=((1, 1),)), Changes(priority=5), bench.wall))
    assert view(bench, "tapeout").counts.pending == 1


def test_there_are_not_too_many_queues() -> None:
    bench = Bench()
    bench.checked = False
    for number in range(MOST_QUEUES - 1):
        bench.set_queue(f"q{number}", weight=2)
    refusal = bench.core.refusal_of(TAPEOUT)
    assert refusal is not None
    assert refusal.code == "too_many_queues"
    assert bench.core.refusal_of(make_spec(queue="q5")) is None
    (answer,) = answers(bench.pause_queues("one more"))
    assert answer.error is not None
    assert answer.error.code == "too_many_queues"


# ---------------------------------------------------------------- pause and resume


def test_a_paused_queue_starts_nothing_and_others_go_by() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    assert answers(bench.pause_queues("tapeout", reason="new library")) == [
        AnswerQueues(1, None, ("queue tapeout is paused (it is new)",))
    ]
    assert offers(bench.submit(TAPEOUT, OTHER)) == [(session, 2, 1)]
    assert offers(bench.finished(session, (2, 1))) == []
    assert offers(bench.pass_time(100, session)) == []
    assert bench.reason(1) == Reason("queue_paused", "queue tapeout is paused (for 1 m 40 s: new library)")
    assert offers(bench.resume_queues("tapeout")) == [(session, 1, 2)]


def test_what_runs_goes_on_and_is_not_followed() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[make_spec(queue="tapeout", restart=False)] * 2)
    bench.started(session, (1, 1))
    (answer,) = answers(bench.pause_queues("tapeout"))
    assert answer.lines == (
        "queue tapeout is paused",
        "1 job of it: running on until they have finished",
    )
    assert offers(bench.finished(session, (1, 1))) == []
    assert bench.state(1) == "succeeded"


def test_a_pause_is_answered_when_nothing_that_was_handed_over_can_start_any_more() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(*[TAPEOUT] * 4)
    assert len(offers(bench.status(session, 1))) == 0
    result = bench.pause_queues("tapeout")
    assert retracted(result) == [AttemptRef(job, job) for job in (1, 2, 3)]
    assert answers(result) == []
    assert answers(bench.kept(session, (1, 1))) == []  # it is being prepared
    assert answers(bench.released(session, (2, 2))) == []
    assert answers(bench.released(session, (3, 3))) == []
    result = bench.started(session, (1, 1))
    assert [answer.error for answer in answers(result)] == [None]
    assert offers(bench.finished(session, (1, 1))) == []
    assert [bench.state(job) for job in range(1, 5)] == ["succeeded", "pending", "pending", "pending"]


def test_whoever_pauses_is_not_kept_waiting_for_ever() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(TAPEOUT)
    bench.pause_queues("tapeout")
    bench.kept(session, (1, 1))
    assert answers(bench.pass_time(29, session)) == []
    (answer,) = answers(bench.pass_time(2, session))
    assert answer.lines[-1] == "1 job: not known yet whether they have started"


def test_a_worker_that_is_away_can_not_be_asked_and_that_is_said() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(TAPEOUT)
    bench.disconnect(session)
    (answer,) = answers(bench.pause_queues("tapeout"))
    assert answer.lines[-1] == "1 job may start on workers that are away, and can't be asked"
    _, result = bench.connect(held=((1, 1),))
    assert retracted(result) == [AttemptRef(1, 1)]


def test_a_connection_that_breaks_answers_a_pause() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(TAPEOUT)
    assert answers(bench.pause_queues("tapeout")) == []
    (answer,) = answers(bench.disconnect(session))
    assert answer.lines[-1] == "1 job may start on workers that are away, and can't be asked"


def test_what_is_retried_or_lost_stays_in_a_paused_queue() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    bench.submit(TAPEOUT)
    bench.started(session, (1, 1))
    bench.pause_queues("tapeout")
    bench.finished(session, (1, 1), end=End.LOST)
    assert bench.state(1) == "pending"
    assert offers(bench.pass_time(10, session)) == []


def test_what_is_set_survives_a_restart() -> None:
    bench = Bench()
    result = bench.pause_queues("tapeout", reason="why")
    assert SaveQueue("tapeout", 1, None, WALL + 100.0, "why") in result
    bench.set_queue("tapeout", weight=7, max_running=3)
    bench.submit(TAPEOUT)
    bench.restart()
    session = bench.worker(cpus=1)
    found = view(bench, "tapeout")
    assert (found.weight, found.max_running, found.paused) == (7, 3, Pause(WALL + 100.0, "why"))
    assert bench.state(1) == "pending"
    bench.resume_queues("tapeout")
    bench.set_queue("tapeout", weight=1)
    assert DropQueue("tapeout") in bench.set_queue("tapeout", max_running=0)
    bench.restart()
    assert view(bench, "tapeout").weight == 1
    assert session


def test_a_second_pause_keeps_the_time_of_the_first() -> None:
    bench = Bench()
    bench.pause_queues("tapeout")
    bench.tick(50.0)
    bench.pause_queues("tapeout", reason="still")
    assert view(bench, "tapeout").paused == Pause(WALL + 100.0, "still")


@pytest.mark.parametrize(
    ("queues", "code"), [((), "bad_name"), (("",), "bad_name"), (("x" * 1001,), "bad_name")]
)
def test_names_that_can_not_be_meant_are_refused(queues: tuple[str, ...], code: str) -> None:
    bench = Bench()
    for result in (bench.pause_queues(*queues), bench.resume_queues(*queues)):
        (answer,) = answers(result)
        assert answer.error is not None
        assert answer.error.code == code


def test_to_resume_a_queue_that_is_not_there_changes_nothing() -> None:
    bench = Bench()
    bench.pause_queues("a")
    (answer,) = answers(bench.resume_queues("a", "b"))
    assert answer.error == Reason("unknown_queue", "no queue b; nothing was changed")
    assert view(bench, "a").paused is not None
    (answer,) = answers(bench.resume_queues("default"))
    assert answer.lines == ("queue default was not paused",)


def test_submitters_to_a_paused_queue_are_told() -> None:
    bench = Bench()
    bench.worker()
    bench.pause_queues("tapeout", reason="why")
    warnings = bench.core.warnings_for([TAPEOUT, TAPEOUT, OTHER])
    assert warnings == (Reason("queue_paused", "queue tapeout is paused (why)"),)


# ---------------------------------------------------------------- limits


def test_no_more_of_a_queue_run_than_may() -> None:
    bench = Bench()
    bench.set_queue("tapeout", max_running=2)
    session = bench.worker(cpus=8)
    assert offers(bench.submit(*[TAPEOUT] * 5, OTHER)) == [(session, 1, 1), (session, 2, 2), (session, 6, 3)]
    assert bench.reason(3) == Reason("queue_full", "queue tapeout runs 2 of at most 2")
    assert offers(bench.finished(session, (1, 1))) == [(session, 3, 4)]


def test_room_in_a_queue_is_news_to_workers_that_are_idle() -> None:
    bench = Bench()
    bench.set_queue("tapeout", max_running=1)
    one = bench.worker("w1", cpus=1)
    bench.submit(TAPEOUT, make_spec(cpus=4, queue="tapeout"))
    four = bench.worker("w2", cpus=4)
    assert offers(bench.finished(one, (1, 1))) == [(four, 2, 2)]


def test_a_queue_with_a_limit_hands_nothing_over_ahead() -> None:
    bench = Bench()
    bench.set_queue("tapeout", max_running=10)
    bench.worker(cpus=1)
    assert len(offers(bench.submit(*[TAPEOUT] * 5))) == 1


def test_a_limit_asks_back_what_was_handed_over_ahead_and_counts_it_until_then() -> None:
    bench = Bench()
    session = bench.worker(cpus=1)
    assert len(offers(bench.submit(*[TAPEOUT] * 4))) == 3
    result = bench.set_queue("tapeout", max_running=1)
    assert retracted(result) == [AttemptRef(2, 2), AttemptRef(3, 3)]
    assert bench.reason(4) == Reason("queue_full", "queue tapeout runs 3 of at most 1")
    bench.released(session, (2, 2), (3, 3))
    assert offers(bench.finished(session, (1, 1))) == [(session, 2, 4)]


def test_an_attempt_that_may_live_counts() -> None:
    bench = Bench(Limits(worker_timeout_seconds=30.0))
    bench.set_queue("tapeout", max_running=1)
    lost = bench.worker("w1", cpus=1)
    bench.submit(TAPEOUT, TAPEOUT)
    bench.started(lost, (1, 1))
    two = bench.worker("w2", cpus=1)
    assert offers(bench.pass_time(60, two)) == []
    assert bench.state(1) == "pending"
    assert view(bench, "tapeout").unconfirmed == 1
    assert len(offers(bench.forget("w1"))) == 1


def test_a_lower_limit_stops_new_starts_only_and_none_lets_all_go() -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.set_queue("tapeout", max_running=3)
    bench.submit(*[make_spec(queue="tapeout", restart=False)] * 6)
    bench.started(session, (1, 1), (2, 2), (3, 3))
    bench.set_queue("tapeout", max_running=1)
    assert [bench.state(job) for job in (1, 2, 3)] == ["running"] * 3
    assert offers(bench.finished(session, (1, 1), (2, 2))) == []
    assert offers(bench.set_queue("tapeout", max_running=0)) == [
        (session, 4, 4),
        (session, 5, 5),
        (session, 6, 6),
    ]


def test_order_holds_between_a_queue_with_a_limit_and_the_others() -> None:
    bench = Bench()
    bench.set_queue("tapeout", max_running=2)
    bench.submit(OTHER, TAPEOUT, make_spec(), TAPEOUT, TAPEOUT, make_spec(priority=1))
    session, _ = bench.connect(cpus=6)
    assert [job for _, job, _ in offers(bench.status(session, 6))] == [6, 1, 2, 3, 4]


def test_a_full_queue_keeps_no_worker_and_no_licence_from_others() -> None:
    limits = Limits(global_resources=(("lic", 2),), starvation_seconds=5.0)
    bench = Bench(limits)
    bench.set_queue("tapeout", max_running=1)
    session = bench.worker(cpus=4)
    wide = make_spec(queue="tapeout", cpus=4, resources={"lic": 2})
    bench.submit(make_spec(queue="tapeout", resources={"lic": 1}), wide, *[make_spec()] * 2)
    bench.started(session, (1, 1), (3, 2), (4, 3))
    bench.pass_time(20, session)
    assert len(offers(bench.submit(make_spec(resources={"lic": 1})))) == 1


@pytest.mark.parametrize(
    ("weight", "max_running"), [(0, None), (1001, None), (-1, None), (None, -1), (None, 2**62)]
)
def test_amounts_that_can_not_be_meant_are_refused(weight: int | None, max_running: int | None) -> None:
    bench = Bench()
    (answer,) = answers(bench.set_queue("q", weight=weight, max_running=max_running))
    assert answer.error is not None
    assert answer.error.code == "bad_amount"
    assert names(bench) == ["default"]


# ---------------------------------------------------------------- the end of a queue


def test_a_queue_with_unfinished_jobs_is_removed_only_if_they_are_to_be_canceled() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.set_queue("tapeout", weight=3)
    bench.submit(*[make_spec(queue="tapeout", restart=False)] * 4, make_spec())
    bench.started(session, (1, 1), (2, 2))
    bench.finished(session, (1, 1))
    (answer,) = answers(bench.remove_queue("tapeout"))
    assert answer.error == Reason(
        "queue_not_empty", "queue tapeout has 3 jobs that are not finished; --cancel cancels them"
    )
    result = bench.remove_queue("tapeout", cancel=True)
    assert answers(result)[0].lines[0] == (
        "queue tapeout is removed; 3 jobs canceled; 3 jobs dropped from the list; "
        "1 job left, until it has ended and is cleaned away"
    )
    assert DropQueue("tapeout") in result
    assert any(isinstance(each, DropJobs) for each in result)
    assert view(bench, "tapeout").weight == 1
    assert bench.state(5) in ("pending", "offered")


def test_an_empty_queue_goes_with_its_finished_jobs() -> None:
    bench = Bench()
    session = bench.worker(cpus=2)
    bench.submit(TAPEOUT)
    bench.finished(session, (1, 1))
    bench.pause_queues("tapeout")
    (answer,) = answers(bench.remove_queue("tapeout"))
    assert answer.lines == ("queue tapeout is removed; 1 job dropped from the list",)
    assert names(bench) == ["default"]
    bench.restart()
    assert names(bench) == ["default"]


def test_there_always_is_a_default_queue_and_none_is_removed_that_is_not_there() -> None:
    bench = Bench()
    for name, code in (("default", "bad_queue"), ("nowhere", "unknown_queue")):
        (answer,) = answers(bench.remove_queue(name))
        assert answer.error is not None
        assert answer.error.code == code


# ---------------------------------------------------------------- dumps


def test_a_dump_comes_in_pages_of_what_has_not_been_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumping, "MAX_ITEMS", 3)
    bench = Bench()
    bench.worker(cpus=1)
    bench.submit(*[make_spec(queue="q", restart=False)] * 6, OTHER)
    wait = msgspec.structs.replace(make_spec(queue="q"), waits=Waits(after=((6, 6),)))
    bench.submit(wait, make_spec(queue="q"))
    pages, cursor = [], None
    while True:
        page = bench.core.dump("q", cursor)
        assert page is not None
        pages.append(([number for number, _ in page[0]], page[2]))
        cursor = page[1]
        if cursor is None:
            break
    assert pages == [([2, 3, 4], 0), ([5, 6], 1), ([9], 0)]
    assert bench.core.dump("nowhere", None) is None
