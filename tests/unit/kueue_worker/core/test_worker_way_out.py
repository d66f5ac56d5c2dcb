"""How a worker leaves: draining, ending, departing, being cut off."""

from __future__ import annotations

from kueue.job import End
from kueue.wire.messages import (
    RefusedAttempt,
    Status,
)
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from tests.unit.kueue_worker.core.worker_bench import (
    Worker,
    exited,
    key,
    offered,
    refs,
    spec,
)


def test_draining_gives_back_waits_and_then_quits() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    assert worker.tell(e.DrainRequested("the worker is ending")) == [
        i.TellReleased(refs(2)[0]),
        i.Say("info", "gives 1 job back: the worker is ending"),
        i.Say("info", "takes no more jobs, waits for 1 running job (Ctrl-C again interrupts)"),
        i.SendStatus(Status(4.0, 8000.0, accepting=False, note="the worker is ending")),
    ]
    assert worker.tell(e.Offered((offered(3),))) == [
        i.TellRefused(RefusedAttempt(3, 30, "draining", "the worker is ending"))
    ]
    worker.finish(1)
    assert worker.tell(e.Acknowledged(refs(1))) == [
        i.DropRecords((key(1),)),
        i.SendLeaving(False, "the worker is ending"),
        i.EndKeeper(),
        i.Quit(0),
    ]


def test_an_idle_worker_that_drains_quits_at_once() -> None:
    worker = Worker()
    assert worker.tell(e.DrainRequested("bye")) == [i.SendLeaving(False, "bye"), i.EndKeeper(), i.Quit(0)]
    assert worker.tell(e.TimePassed()) == []


def test_a_server_that_does_not_acknowledge_is_not_waited_for_longer_than_five_seconds() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.DrainRequested("bye"))
    worker.finish(1)
    assert worker.machine.next_deadline() == 105.0
    assert worker.quietly(e.TimePassed(), 104.0) == []
    assert worker.quietly(e.TimePassed(), 105.0) == [
        i.SendLeaving(False, "bye"),
        i.EndKeeper(),
        i.Quit(0),
    ]


def test_ending_interrupts_and_reports_before_it_quits() -> None:
    worker = Worker()
    worker.start(1)
    orders = worker.quietly(e.EndRequested("told to end"))
    assert orders == [i.Kill(key(1), 7.0, "interrupted"), i.Say("info", "interrupts 1 running job")]
    assert worker.machine.next_deadline() == 112.0
    ended = e.Ended(End.INTERRUPTED, signal=15, started=100.0, ended=101.0)
    worker.tell(e.AttemptEnded(key(1), ended), 101.0)
    (told,) = worker.tell(e.TailsRead(key(1), b"", b""))
    assert isinstance(told, i.TellFinished)
    assert worker.quietly(e.Acknowledged(refs(1)))[-1] == i.Quit(0)


def test_being_told_to_end_again_kills_without_grace() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.EndRequested("told to end"))
    assert worker.quietly(e.EndRequested("told to end")) == [
        i.Kill(key(1), 0.0, "interrupted"),
        i.Say("info", "interrupts 1 running job"),
    ]


def test_a_job_that_can_not_be_killed_does_not_keep_the_worker_for_ever() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.EndRequested("told to end"))
    assert worker.quietly(e.TimePassed(), 112.0) == [
        i.SendLeaving(True, "told to end"),
        i.EndKeeper(),
        i.Quit(0),
    ]


def test_departing_leaves_the_keeper_and_its_jobs() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    assert worker.tell(e.DepartRequested()) == [
        i.TellReleased(refs(2)[0]),
        i.Say("info", "gives 1 job back: the agent leaves"),
        i.SendLeaving(True, "the agent leaves, its jobs run on"),
        i.Quit(0),
    ]


def test_draining_without_a_server_leaves_the_records_for_the_next_start() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.ServerGone())
    worker.tell(e.DrainRequested("bye"))
    worker.tell(e.AttemptEnded(key(1), exited(0, 100.0)))
    assert worker.tell(e.TailsRead(key(1), b"", b"")) == [
        i.SendLeaving(False, "bye"),
        i.EndKeeper(),
        i.Quit(0),
    ]
