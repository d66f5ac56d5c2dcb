"""The agent's state machine, event by event: each step's whole list of instructions is compared."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from kueue.job import End
from kueue.wire.messages import (
    FinishedAttempt,
    Inventory,
    Reason,
    RefusedAttempt,
    RunningAttempt,
    Status,
)
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.attempts import Phase
from tests.unit.kueue_worker.core.worker_bench import (
    SETTINGS,
    J,
    Worker,
    exited,
    key,
    note,
    offered,
    refs,
    spec,
)

# ---------------------------------------------------------------- the way of one job


def test_a_job_goes_from_offer_to_acknowledged_end() -> None:
    worker = Worker()
    assert worker.tell(e.Offered((offered(1),))) == [i.Prepare(key(1), 1, 1, spec())]
    done = e.PrepareDone(key(1), stdout="/w/out", stderr="null")
    expected = note(1, stdout="/w/out", stderr="null")
    assert worker.tell(done) == [i.Spawn(key(1), spec(), expected)]
    assert worker.tell(e.AttemptStarted(key(1), 99.0)) == [i.TellStarted(RunningAttempt(1, 10, 1, 1.0))]
    ended = e.Ended(End.EXITED, exit_code=0, started=99.0, ended=101.5, cpu_seconds=0.5, peak_ram_mb=3.0)
    assert worker.tell(e.AttemptEnded(key(1), ended), 102.0) == [
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), expected),
    ]
    finished = FinishedAttempt(
        job=1,
        fence=10,
        attempt=1,
        end=End.EXITED,
        exit_code=0,
        started_ago=3.0,
        ended_ago=0.5,
        run_seconds=2.5,
        cpu_seconds=0.5,
        peak_ram_mb=3.0,
        stdout_path="/w/out",
        stderr_path="null",
        stdout_tail=b"o",
        stderr_tail=b"e",
    )
    assert worker.tell(e.TailsRead(key(1), b"o", b"e")) == [i.TellFinished(finished)]
    assert worker.tell(e.Acknowledged(refs(1))) == [i.DropRecords((key(1),))]
    assert worker.machine.book.attempts == {}


def test_a_bad_end_that_is_heard_of_late_may_still_turn_out_to_be_an_interruption() -> None:
    worker = Worker()
    worker.start(1)
    worker.now += 2.0  # the machine is busy going down
    assert worker.tell(e.AttemptEnded(key(1), exited(15, worker.now - 1.9))) == [i.AttemptOver(key(1))]
    assert worker.phase(1) is Phase.DOUBTFUL
    worker.tell(e.KeeperLeaving())
    (told,) = worker.quietly(e.TailsRead(key(1), b"", b""))
    assert isinstance(told, i.TellFinished)
    assert told.item.end is End.INTERRUPTED


def test_an_end_that_is_acknowledged_twice_in_one_message_is_forgotten_once() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.AttemptEnded(key(1), exited(0, 100.0)))
    told = worker.tell(e.TailsRead(key(1), b"", b""))
    assert worker.tell(e.StopOrdered(refs(1), "canceled")) == told
    assert worker.tell(e.Acknowledged((*refs(1), *refs(1)))) == [i.DropRecords((key(1),))]
    assert worker.machine.book.attempts == {}


def test_a_started_and_ended_job_that_was_never_told_started_is_told_both() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.PrepareDone(key(1)))
    orders = worker.tell(e.AttemptEnded(key(1), exited(0, 100.0, 100.0)))
    assert orders == [
        i.TellStarted(RunningAttempt(1, 10, 1, 0.0)),
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), note(1)),
    ]


def test_the_same_offer_twice_is_one_job() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    assert worker.tell(e.Offered((offered(1),))) == []


# ---------------------------------------------------------------- room


def test_what_does_not_fit_is_held_looked_at_and_started_when_there_is_room() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=3))
    assert worker.tell(e.Offered((offered(2, spec(cpus=2)),))) == [i.Look(key(2), "/w")]
    assert worker.tell(e.LookDone(key(2))) == []
    orders = worker.tell(e.AttemptEnded(key(1), exited(0, 100.0)))
    assert orders[-1] == i.Prepare(key(2), 2, 1, spec(cpus=2))


def test_a_later_one_that_fits_passes_the_front_and_equal_ones_keep_their_order() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=3))
    orders = worker.tell(
        e.Offered((offered(2, spec(cpus=4)), offered(3, spec(cpus=1)), offered(4, spec(cpus=1))))
    )
    assert orders == [
        i.Prepare(key(3), 3, 1, spec()),
        i.Look(key(2), "/w"),
        i.Look(key(4), "/w"),
    ]


def test_never_more_than_the_slots() -> None:
    worker = Worker()
    worker.tell(e.Offered(tuple(offered(job, spec(cpus=0)) for job in range(1, 7))))
    assert worker.machine.book.room.job_slots == 4
    assert len(worker.machine.book.held) == 2


def test_what_can_never_fit_is_refused() -> None:
    worker = Worker()
    text = "this worker has less than the job requires"
    for what in (spec(cpus=5), spec(gpu=3)):
        assert worker.tell(e.Offered((offered(1, what),))) == [
            i.TellRefused(RefusedAttempt(1, 10, "no_resources", text))
        ]


def test_named_units_are_given_out_once_and_come_back() -> None:
    worker = Worker()
    worker.start(1, spec(gpu=1))
    worker.tell(e.Offered((offered(2, spec(gpu=1)), offered(3, spec(gpu=1)))))
    (spawn,) = worker.tell(e.PrepareDone(key(2)))
    assert isinstance(spawn, i.Spawn)
    assert spawn.note.units == (("gpu", ("b",)),)
    assert worker.phase(3) is Phase.HELD
    worker.finish(1)
    (spawn,) = worker.tell(e.PrepareDone(key(3)))
    assert isinstance(spawn, i.Spawn)
    assert spawn.note.units == (("gpu", ("a",)),)


# ---------------------------------------------------------------- refusals and failures before the start


def test_a_missing_directory_is_refused_with_its_ancestor() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    reason = Reason("no_directory", "/w: No such file or directory")
    refused = i.TellRefused(RefusedAttempt(1, 10, reason.code, reason.text, "/"))
    assert worker.tell(e.PrepareDone(key(1), refusal=reason, ancestor="/")) == [refused]
    assert worker.phase(1) is None


def test_a_held_one_whose_directory_is_missing_is_refused_without_waiting_for_room() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    reason = Reason("no_directory", "gone")
    refused = i.TellRefused(RefusedAttempt(2, 20, "no_directory", "gone", "/x"))
    assert worker.tell(e.LookDone(key(2), refusal=reason, ancestor="/x")) == [refused]
    assert len(worker.machine.book.held) == 0


@pytest.mark.parametrize(
    ("code", "text"), [("no_program", "no dc_shell in PATH"), ("output", "cannot write o: Permission denied")]
)
def test_what_can_not_be_run_anywhere_is_a_finished_attempt(code: str, text: str) -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    (order,) = worker.tell(e.PrepareDone(key(1), failure=Reason(code, text)))
    assert order == i.TellFinished(
        FinishedAttempt(1, 10, 1, End.NOT_STARTED, reason=Reason(code, text), ended_ago=0.0)
    )
    assert worker.tell(e.Acknowledged(refs(1))) == []  # the keeper has no record of it


def test_a_directory_that_went_away_before_the_spawn_is_a_refusal() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.PrepareDone(key(1)))
    ended = e.Ended(End.NOT_STARTED, reason=Reason("no_directory", "stale"))
    assert worker.tell(e.AttemptEnded(key(1), ended)) == [
        i.DropRecords((key(1),)),
        i.TellRefused(RefusedAttempt(1, 10, "no_directory", "stale", "/")),  # and no more than that is closed
    ]


def test_a_spool_that_can_not_be_written_is_no_fault_of_the_job() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.PrepareDone(key(1)))
    ended = e.Ended(End.NOT_STARTED, reason=Reason("output", "No space left on device"))
    assert worker.tell(e.AttemptEnded(key(1), ended))[-1] == i.TellRefused(
        RefusedAttempt(1, 10, "spool_full", "No space left on device")
    )


def test_a_forgotten_environment_means_another_preparation() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.PrepareDone(key(1)))
    assert worker.tell(e.SpawnUndone(key(1))) == [i.Prepare(key(1), 1, 1, spec())]


def test_a_full_spool_takes_no_offers_and_says_so() -> None:
    worker = Worker()
    assert worker.tell(e.SpoolChanged("only 3 MB free")) == [
        i.SendStatus(Status(4.0, 8000.0, accepting=False, note="only 3 MB free"))
    ]
    assert worker.tell(e.Offered((offered(1),))) == [
        i.TellRefused(RefusedAttempt(1, 10, "spool_full", "only 3 MB free"))
    ]
    assert worker.tell(e.SpoolChanged("")) == [i.SendStatus(Status(4.0, 8000.0))]


# ---------------------------------------------------------------- stop and retract


def test_stop_of_each_phase() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=3))
    worker.tell(e.Offered((offered(2), offered(3))))  # 2 is being prepared, 3 is held
    stop = e.StopOrdered(refs(1, 2, 3, 4), "canceled")
    assert worker.tell(stop) == [
        i.Kill(key(1), 7.0, "stopped"),
        i.Discard(key(2)),
        *[i.TellReleased(ref) for ref in refs(2, 3, 4)],
    ]
    assert worker.tell(e.StopOrdered(refs(1), "canceled")) == []  # its kill is under way
    ended = e.Ended(End.STOPPED, signal=15, started=100.0, ended=100.0)
    worker.tell(e.AttemptEnded(key(1), ended))
    (told,) = worker.tell(e.TailsRead(key(1), b"", b""))
    assert isinstance(told, i.TellFinished)
    assert told.item.end is End.STOPPED
    assert worker.tell(e.StopOrdered(refs(1), "canceled")) == [told]


def test_a_canceled_offer_never_runs() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.StopOrdered(refs(1), "canceled"))
    assert worker.tell(e.PrepareDone(key(1))) == [i.Discard(key(1))]


def test_a_stop_between_spawn_and_start_is_released_when_the_start_fails() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.PrepareDone(key(1)))
    assert worker.tell(e.StopOrdered(refs(1), "canceled")) == [i.Kill(key(1), 7.0, "stopped")]
    assert worker.tell(e.SpawnUndone(key(1))) == [i.TellReleased(refs(1)[0])]


def test_nothing_starts_while_a_superseded_tree_lives() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.StopOrdered(refs(1), "superseded"))
    assert worker.tell(e.Offered((offered(2),))) == [i.Look(key(2), "/w")]
    orders = worker.tell(e.AttemptEnded(key(1), e.Ended(End.STOPPED, signal=9, ended=100.0)))
    assert orders[-1] == i.Prepare(key(2), 2, 1, spec())


def test_retract_gives_back_only_what_has_not_started() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    assert worker.tell(e.RetractOrdered(refs(1, 2, 3))) == [
        i.TellKept(refs(1)[0]),
        i.TellReleased(refs(2)[0]),
        i.TellReleased(refs(3)[0]),
    ]
    assert worker.phase(2) is None


# ---------------------------------------------------------------- the interruption rule


def test_a_bad_end_is_told_after_a_second() -> None:
    worker = Worker()
    worker.start(1)
    orders = worker.tell(e.AttemptEnded(key(1), exited(2, 100.0)))
    assert orders == [i.AttemptOver(key(1))]
    assert worker.machine.next_deadline() == 101.0
    assert worker.quietly(e.TimePassed(), 100.9) == []
    assert worker.quietly(e.TimePassed(), 101.0) == [i.ReadTails(key(1), note(1))]
    (told,) = worker.tell(e.TailsRead(key(1), b"", b""))
    assert isinstance(told, i.TellFinished)
    assert (told.item.end, told.item.exit_code, told.item.ended_ago) == (End.EXITED, 2, 1.0)


def _end(worker: Worker) -> None:
    worker.tell(e.EndRequested("the worker was told to end"))


@pytest.mark.parametrize(
    ("happens", "text"),
    [
        (_end, "the worker was told to end"),
        (lambda worker: worker.tell(e.KeeperLeaving()), "the worker's keeper was told to end"),
        (lambda worker: worker.tell(e.SystemStopping()), "the machine was shutting down"),
    ],
)
def test_a_bad_end_is_an_interruption_if_we_are_told_to_end(
    happens: Callable[[Worker], None], text: str
) -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.AttemptEnded(key(1), e.Ended(End.EXITED, signal=15, started=90.0, ended=100.0)))
    worker.now = 100.5
    happens(worker)
    orders = worker.tell(e.TailsRead(key(1), b"", b""))
    (told,) = [order for order in orders if isinstance(order, i.TellFinished)]
    assert told.item.end is End.INTERRUPTED
    assert told.item.reason == Reason("interrupted", text)
    assert told.item.signal == 15


def test_bad_ends_after_the_order_to_end_are_interruptions_and_good_ones_are_not() -> None:
    worker = Worker()
    worker.start(1)
    worker.start(2)
    worker.tell(e.SystemStopping())
    worker.finish(1, code=143)
    worker.finish(2, code=0)
    book = worker.machine.book
    ends = {job: book.attempts[key(job)].ended for job in (1, 2)}
    assert ends[1] is not None
    assert ends[1].end is End.INTERRUPTED
    assert ends[2] is not None
    assert ends[2].end is End.EXITED


def test_ends_that_are_held_back_for_different_times_are_each_believed_in_time() -> None:
    worker = Worker()
    worker.start(1)
    worker.start(2)
    worker.tell(e.AttemptEnded(key(1), e.Ended(End.EXITED, signal=15, started=90.0, ended=100.0)))
    worker.tell(e.AttemptEnded(key(2), exited(2, 100.0)))
    assert worker.quietly(e.TimePassed(), 101.0) == [i.ReadTails(key(2), note(2))]
    assert worker.quietly(e.TimePassed(), 105.0) == [i.ReadTails(key(1), note(1))]


def test_an_end_of_long_ago_is_believed_at_once() -> None:
    """A new agent learns of it from the keeper's records."""
    worker = Worker(keeper=False, connected=False)
    record = e.KeptAttempt(key(1), note(1), 10.0, exited(1, 90.0))
    assert worker.tell(e.KeeperReady("k1", (record,))) == [
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), note(1)),
    ]


# ---------------------------------------------------------------- sessions


def test_a_new_session_gets_the_whole_inventory_of_its_journal() -> None:
    worker = Worker(connected=False, keeper=False)
    records = (
        e.KeptAttempt(key(1), note(1), 95.0),
        e.KeptAttempt(key(2), note(2), 95.0, exited(0, 96.0, 95.0)),
        e.KeptAttempt(key(3, "other"), note(3, journal="other"), 95.0),
    )
    worker.tell(e.KeeperReady("k1", records))
    worker.tell(e.TailsRead(key(2), b"o", b""))
    finished = FinishedAttempt(
        2, 20, 1, End.EXITED, exit_code=0, started_ago=5.0, ended_ago=4.0, run_seconds=1.0, stdout_tail=b"o"
    )
    inventory = Inventory(J, running=(RunningAttempt(1, 10, 1, 5.0),), finished=(finished,), highest_job=7)
    # What the other journal's job has reserved is not usable for this one's.
    assert worker.tell(e.Welcomed(J, 600.0, highest_job=7)) == [
        i.SendInventory((inventory,)),
        i.SendStatus(Status(3.0, 7900.0)),
    ]


def test_an_end_that_is_held_back_counts_as_running_in_an_inventory() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.AttemptEnded(key(1), exited(2, 100.0)))
    worker.tell(e.ServerGone())
    (sent, _) = worker.tell(e.Welcomed(J, 600.0))
    assert sent == i.SendInventory((Inventory(J, running=(RunningAttempt(1, 10, 1, 0.0),), highest_job=1),))


def test_what_happens_while_the_server_is_away_is_in_the_next_inventory_only() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.Offered((offered(2, spec(cpus=4)),)))
    worker.tell(e.ServerGone())
    assert worker.tell(e.AttemptEnded(key(1), exited(0, 100.0, 100.0))) == [
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), note(1)),
        i.Prepare(key(2), 2, 1, spec(cpus=4)),
    ]
    assert worker.tell(e.TailsRead(key(1), b"", b"")) == []
    (sent, _) = worker.tell(e.Welcomed(J, 600.0))
    assert isinstance(sent, i.SendInventory)
    (message,) = sent.messages
    assert [item.job for item in message.finished] == [1]
    assert message.held == refs(2)


def test_late_in_the_lease_nothing_more_starts_without_the_server() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    worker.tell(e.ServerGone())
    assert worker.tell(e.AttemptEnded(key(1), exited(0, 401.0)), 401.0) == [
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), note(1, spec(cpus=4))),
    ]
    # It is still ours if the server is back in time.
    orders = worker.tell(e.Welcomed(J, 600.0), 450.0)
    assert i.Prepare(key(2), 2, 1, spec()) in orders


def test_a_preparation_that_took_longer_than_the_session_may_last_is_not_started() -> None:
    worker = Worker()
    worker.tell(e.Offered((offered(1),)))
    worker.tell(e.ServerGone())
    assert worker.tell(e.PrepareDone(key(1)), 500.0) == [i.Discard(key(1))]
    assert worker.phase(1) is Phase.HELD


def test_unstarted_jobs_of_another_journal_are_dropped_and_its_running_ones_kept() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    worker.tell(e.ServerGone())
    orders = worker.tell(e.Welcomed("another", 600.0))
    assert orders[0] == i.SendInventory((Inventory("another"),))
    assert worker.phase(1) is Phase.RUNNING
    assert worker.phase(2) is None
    # Nothing about it is told to the other one.
    worker.tell(e.AttemptEnded(key(1), exited(0, 100.0)))
    assert worker.quietly(e.TailsRead(key(1), b"", b"")) == []
    assert worker.quietly(e.Acknowledged(refs(1))) == []
    assert worker.phase(1) is Phase.FINISHED


def test_orders_that_arrive_after_the_session_are_void() -> None:
    worker = Worker()
    worker.tell(e.ServerGone())
    assert worker.tell(e.Offered((offered(1),))) == []
    assert worker.tell(e.StopOrdered(refs(1), "canceled")) == []


def test_jobs_end_when_the_server_was_away_for_too_long() -> None:
    worker = Worker(msgspec.structs.replace(SETTINGS, stop_when_alone_seconds=60.0))
    worker.start(1)
    worker.tell(e.ServerHeard(), 130.0)
    worker.tell(e.ServerGone(), 150.0)
    assert worker.machine.next_deadline() == 190.0
    assert worker.tell(e.TimePassed(), 189.0) == []
    orders = worker.tell(e.TimePassed(), 190.0)
    assert orders == [
        i.Kill(key(1), 7.0, "interrupted"),
        i.Say("warning", "cut off from the server for 60 s: ends 1 job"),
    ]
    assert worker.tell(e.TimePassed(), 191.0) == []


# ---------------------------------------------------------------- status


def test_a_status_is_sent_at_its_interval() -> None:
    worker = Worker()
    assert worker.machine.next_deadline() == 160.0
    assert worker.tell(e.TimePassed(), 159.0) == []
    assert worker.tell(e.TimePassed(), 160.0) == [i.SendStatus(Status(4.0, 8000.0))]


def test_a_notable_change_is_told_soon_but_at_most_once_a_second() -> None:
    worker = Worker(msgspec.structs.replace(SETTINGS, dynamic_check=True))

    def busy(cpus: float) -> e.Measured:
        return e.Measured(cpus, 0.0, 1000.0, 0.0, (0.0, 0.0, 0.0), 5.0)

    assert worker.tell(busy(2.0), 100.5) == []
    assert worker.machine.next_deadline() == 101.0
    (order,) = worker.tell(e.TimePassed(), 101.0)
    assert isinstance(order, i.SendStatus)
    assert (order.status.usable_cpus, order.status.usable_ram_mb) == (2.0, 7000.0)
    assert (order.status.busy, order.status.uptime_seconds) == (0.5, 5.0)
    assert worker.tell(busy(2.3), 103.0) == []  # not notable
    assert worker.machine.next_deadline() == 161.0


# ---------------------------------------------------------------- the keeper


def test_a_dead_keeper_s_jobs_are_what_its_successor_says() -> None:
    worker = Worker()
    for job in (1, 2, 3):
        worker.start(job)
    worker.tell(e.Offered((offered(4),)))
    worker.tell(e.PrepareDone(key(4)))  # the order to start is on its way
    assert worker.tell(e.KeeperGone()) == [
        i.SendStatus(Status(4.0, 8000.0, accepting=False, note="the worker's keeper is being started"))
    ]
    lost = e.Ended(End.LOST, started=100.0, ended=101.0, reason=Reason("lost", "the keeper died"))
    records = (e.KeptAttempt(key(1), note(1), 100.0, lost), e.KeptAttempt(key(2), note(2), 100.0))
    orders = worker.quietly(e.KeeperReady("k2", records), 102.0)
    assert orders == [
        i.AttemptOver(key(1)),
        i.ReadTails(key(1), note(1)),
        i.AttemptOver(key(3)),
        i.ReadTails(key(3), note(3)),
        i.TellReleased(refs(4)[0]),
        i.Reconnect(),
    ]
    assert worker.phase(2) is Phase.RUNNING
    (told,) = worker.quietly(e.TailsRead(key(3), b"", b""))
    assert isinstance(told, i.TellFinished)
    assert told.item.end is End.LOST
    assert worker.quietly(e.Acknowledged(refs(3))) == []  # there is no record to drop


def test_jobs_that_come_while_there_is_no_keeper_are_held_and_started_by_the_next() -> None:
    worker = Worker()
    worker.tell(e.KeeperGone())
    assert worker.tell(e.Offered((offered(1),))) == [i.Look(key(1), "/w")]
    orders = worker.quietly(e.KeeperReady("k1"))
    assert orders == [i.Prepare(key(1), 1, 1, spec())]


def test_a_stop_order_that_may_have_been_lost_with_the_connection_is_given_again() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.StopOrdered(refs(1), "canceled"))
    worker.tell(e.KeeperGone())
    orders = worker.quietly(e.KeeperReady("k1", (e.KeptAttempt(key(1), note(1), 100.0),)))
    assert orders == [i.Kill(key(1), 7.0, "stopped")]


def test_an_order_to_interrupt_is_given_again_as_such() -> None:
    worker = Worker()
    worker.start(1)
    worker.tell(e.KeeperGone())
    worker.tell(e.EndRequested("told to end"))
    orders = worker.quietly(e.KeeperReady("k1", (e.KeptAttempt(key(1), note(1), 100.0),)))
    assert orders == [i.Kill(key(1), 7.0, "interrupted")]


def test_a_silent_keeper_takes_no_offers_and_what_is_held_goes_back() -> None:
    worker = Worker()
    worker.start(1, spec(cpus=4))
    worker.tell(e.Offered((offered(2),)))
    text = "the worker's keeper does not answer"
    assert worker.tell(e.KeeperSilent(10.0)) == [
        i.TellReleased(refs(2)[0]),
        i.Say("info", "gives 1 job back: the keeper does not answer"),
        i.SendStatus(Status(4.0, 8000.0, accepting=False, note=text, keeper_silent_seconds=10.0)),
    ]
    assert worker.tell(e.Offered((offered(3),))) == [
        i.TellRefused(RefusedAttempt(3, 30, "keeper_silent", text))
    ]
    assert worker.tell(e.KeeperSilent(0.0)) == [i.SendStatus(Status(4.0, 8000.0))]


def test_earlier_jobs_are_taken_over_with_what_they_have_reserved() -> None:
    worker = Worker(keeper=False)
    what = spec(cpus=3, gpu=1)
    record = e.KeptAttempt(key(1), note(1, what, units=(("gpu", ("b",)),)), 50.0)
    orders = worker.quietly(e.KeeperReady("k1", (record,)))
    assert i.Say("info", "takes over 1 job of an earlier worker") in orders
    assert worker.machine.book.room.cpus == 3
    worker.tell(e.Offered((offered(2, spec(gpu=1)),)))
    assert worker.machine.book.attempts[key(2)].units == (("gpu", ("a",)),)


def test_output_over_the_cap_ends_a_running_attempt_once() -> None:
    worker = Worker()
    worker.start(1)
    assert worker.tell(e.OutputExceeded(key(1))) == [i.Kill(key(1), 7.0, "output_limit")]
    assert worker.tell(e.OutputExceeded(key(1))) == []
    assert worker.tell(e.OutputExceeded(key(2))) == []


def test_kill_jobs_ends_what_an_earlier_worker_left() -> None:
    worker = Worker(msgspec.structs.replace(SETTINGS, kill_earlier_jobs=True), keeper=False, connected=False)
    record = e.KeptAttempt(key(1), note(1), 50.0)
    assert worker.tell(e.KeeperReady("k1", (record,))) == [
        i.Kill(key(1), 7.0, "interrupted"),
        i.Say("info", "ends 1 job that an earlier worker of this name left running"),
    ]
