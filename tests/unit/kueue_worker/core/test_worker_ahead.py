"""Starts that are ordered ahead: which, how many, and what becomes of them whatever happens meanwhile."""

from __future__ import annotations

import msgspec
import pytest

from kueue.job import End
from kueue.wire.messages import Inventory, Reason
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.ahead import MOST_AHEAD, STALE_SECONDS, UNTIL_SECONDS
from kueue_worker.core.attempts import Attempt, Phase
from tests.unit.kueue_worker.core.worker_bench import (
    J,
    Worker,
    exited,
    key,
    note,
    offered,
    refs,
    spec,
)

ROOM = msgspec.json.encode(spec().shape).decode()


class Busy(Worker):
    """Of 4 CPUs; jobs 1 to 4 run, after one that was short; more are offered by `offer`."""

    def __init__(self, run_seconds: float = 0.01) -> None:
        super().__init__(keeper=False)
        self.tell(e.KeeperReady("k1", has_line=True))
        self.tell(e.Offered((offered(900),)))
        self.tell(e.PrepareDone(key(900)))
        self.tell(e.AttemptStarted(key(900), self.now))
        self.tell(e.AttemptEnded(key(900), exited(0, self.now + run_seconds, self.now)))
        self.tell(e.TailsRead(key(900), b"", b""))
        for job in range(1, 5):
            self.start(job)

    def offer(self, *jobs: int, prepared: bool = True) -> list[i.Instruction]:
        """Offer jobs that wait; those that are ordered ahead get into the keeper's line."""
        orders = self.quietly(e.Offered(tuple(offered(job) for job in jobs)))
        if prepared:
            for order in orders:
                if isinstance(order, i.Prepare):
                    self.tell(e.PrepareDone(order.key))
        return orders

    def end(self, job: int, follower: int | None = None) -> list[i.Instruction]:
        """A job ends, and another one starts in its place."""
        ended = exited(0, self.now, self.now - 0.01)
        orders = self.quietly(e.AttemptEnded(key(job), ended, None if follower is None else key(follower)))
        return [order for order in orders if not isinstance(order, i.AttemptOver | i.ReadTails)]


def test_short_jobs_that_wait_are_prepared_and_put_in_the_keepers_line() -> None:
    worker = Busy()
    orders = worker.offer(5, prepared=False)
    assert i.Prepare(key(5), 5, 1, spec()) in orders
    until = worker.now + UNTIL_SECONDS
    assert worker.quietly(e.PrepareDone(key(5))) == [i.Spawn(key(5), spec(), note(5), ROOM, until)]
    assert worker.phase(5) is Phase.NEXT
    assert worker.machine.book.room.cpus == 4


def test_one_in_line_takes_the_room_of_the_one_that_ended() -> None:
    worker = Busy()
    worker.offer(5, 6)
    assert worker.end(1, follower=5) == []
    assert worker.phase(5) is Phase.STARTING
    worker.tell(e.AttemptStarted(key(5), worker.now))
    assert (worker.phase(5), worker.phase(6)) == (Phase.RUNNING, Phase.NEXT)


def test_room_that_the_keeper_knows_nothing_of_goes_to_the_first_in_line() -> None:
    worker = Busy()
    worker.offer(5, 6)
    assert worker.end(1) == [i.Go(key(5))]
    # It had crossed the keeper's own news, which took the same one: whose place it is makes no difference.
    assert worker.end(2, follower=5) == [i.Go(key(6))]
    assert (worker.phase(5), worker.phase(6)) == (Phase.STARTING, Phase.STARTING)


def test_one_that_is_still_being_prepared_gets_its_room_like_any_other() -> None:
    worker = Busy()
    worker.offer(5, prepared=False)
    assert worker.end(1) == []
    assert worker.quietly(e.PrepareDone(key(5))) == [i.Spawn(key(5), spec(), note(5), ROOM)]
    assert worker.phase(5) is Phase.STARTING


def test_what_runs_for_long_is_not_ordered_ahead() -> None:
    worker = Busy(run_seconds=60.0)
    orders = worker.offer(5)
    assert [order for order in orders if isinstance(order, i.Prepare)] == []


def test_nothing_is_ordered_ahead_before_a_job_has_ended_or_by_an_old_keeper() -> None:
    for has_line in (True, False):
        worker = Worker(keeper=False)
        worker.tell(e.KeeperReady("k1", has_line=has_line))
        for job in range(1, 5):
            worker.start(job)
        if not has_line:
            worker.tell(e.AttemptEnded(key(1), exited(0, worker.now, worker.now)))
            worker.start(6)
        assert not any(isinstance(order, i.Prepare) for order in worker.tell(e.Offered((offered(5),))))


def test_jobs_of_several_shapes_or_with_named_units_are_not_ordered_ahead() -> None:
    worker = Busy()
    orders = worker.tell(e.Offered((offered(5, spec(cpus=2)), offered(6))))
    assert not any(isinstance(order, i.Prepare) for order in orders)
    other = Busy()
    assert not any(
        isinstance(order, i.Prepare) for order in other.tell(e.Offered((offered(5, spec(gpu=1)),)))
    )


def test_no_more_than_so_many_are_ordered_ahead_and_more_when_half_of_them_are_gone() -> None:
    worker = Busy(run_seconds=0.0)
    jobs = range(5, 5 + 3 * MOST_AHEAD)
    worker.offer(*jobs)
    line = worker.machine.book.line
    assert len(line) == MOST_AHEAD
    running, waiting = [1, 2, 3, 4], list(jobs)
    for _ in range(MOST_AHEAD // 2 - 1):
        job = waiting.pop(0)
        assert worker.end(running.pop(0), follower=job) == []
        worker.tell(e.AttemptStarted(key(job), worker.now))
        running.append(job)
    orders = worker.end(running.pop(0), follower=waiting.pop(0))
    assert len([order for order in orders if isinstance(order, i.Prepare)]) == MOST_AHEAD // 2


def test_a_canceled_one_in_line_is_taken_out_and_released() -> None:
    worker = Busy()
    worker.offer(5)
    assert worker.quietly(e.StopOrdered(refs(5), "canceled")) == [i.DropStart(key(5))]
    assert worker.quietly(e.StopOrdered(refs(5), "canceled")) == []
    assert worker.quietly(e.StartDropped(key(5))) == [i.TellReleased(refs(5)[0])]
    assert worker.phase(5) is None


def test_a_canceled_one_that_has_just_started_is_killed() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.StopOrdered(refs(5), "canceled"))
    assert worker.end(1, follower=5) == [i.Kill(key(5), 7.0, "stopped")]


def test_one_in_line_that_the_server_asks_for_is_given_back_unless_it_starts_first() -> None:
    worker = Busy()
    worker.offer(5, 6)
    assert worker.quietly(e.RetractOrdered(refs(5))) == [i.DropStart(key(5))]
    assert worker.quietly(e.StartDropped(key(5))) == [i.TellReleased(refs(5)[0])]
    worker.quietly(e.RetractOrdered(refs(6)))
    assert worker.end(1, follower=6) == [i.TellKept(refs(6)[0])]
    worker.tell(e.AttemptStarted(key(6), worker.now))
    assert worker.phase(6) is Phase.RUNNING


@pytest.mark.parametrize(
    "event",
    [e.SpoolChanged("no room"), e.KeeperSilent(11.0), e.StopOrdered(refs(1), "superseded")],
)
def test_the_line_is_taken_back_when_nothing_is_to_start(event: e.Event) -> None:
    worker = Busy()
    worker.offer(5)
    assert i.DropStart(key(5)) in worker.quietly(event)
    worker.tell(e.StartDropped(key(5)))
    assert worker.phase(5) is Phase.HELD
    assert worker.end(2) == []  # nor does it start now


def test_a_worker_that_drains_gives_back_what_is_in_line_and_waits_for_it() -> None:
    worker = Busy()
    worker.offer(5)
    assert i.DropStart(key(5)) in worker.quietly(e.DrainRequested("enough"))
    for job in range(1, 5):
        worker.finish(job)
    worker.tell(e.Acknowledged(refs(900, 1, 2, 3, 4)))
    assert not worker.machine.conditions.departure.done
    orders = worker.quietly(e.StartDropped(key(5)))
    assert orders[0] == i.TellReleased(refs(5)[0])
    assert worker.machine.conditions.departure.done


def test_one_that_starts_while_the_worker_ends_is_interrupted() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.EndRequested("told to"))
    assert i.Kill(key(5), 7.0, "interrupted") in worker.end(1, follower=5)


def test_another_keeper_has_no_line_so_those_in_it_wait_again() -> None:
    worker = Busy()
    worker.offer(5, 6)
    worker.tell(e.KeeperGone())
    running = [e.KeptAttempt(key(job), note(job), worker.now, None) for job in (1, 2, 3, 4)]
    worker.tell(e.KeeperReady("k2", tuple(running), has_line=False))
    assert (worker.phase(5), worker.phase(6)) == (Phase.HELD, Phase.HELD)
    assert not worker.machine.book.line


def test_one_that_the_keeper_started_unheard_is_found_in_its_records() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.KeeperGone())
    records = [e.KeptAttempt(key(job), note(job), worker.now, None) for job in (2, 3, 4, 5)]
    ended = e.KeptAttempt(key(1), note(1), worker.now, exited(0, worker.now, worker.now))
    worker.tell(e.KeeperReady("k1", (ended, *records), has_line=True))
    assert worker.phase(5) is Phase.RUNNING
    assert worker.machine.book.room.cpus == 4


def test_a_preparation_that_is_over_after_the_keeper_changed_starts_nothing_ahead() -> None:
    worker = Busy()
    worker.offer(5, prepared=False)
    worker.tell(e.KeeperGone())
    running = [e.KeptAttempt(key(job), note(job), worker.now, None) for job in (1, 2, 3, 4)]
    worker.tell(e.KeeperReady("k2", tuple(running), has_line=False))
    assert worker.quietly(e.PrepareDone(key(5))) == [i.Discard(key(5))]
    assert worker.phase(5) is Phase.HELD


def test_one_in_line_that_can_not_start_gives_way() -> None:
    worker = Busy()
    worker.offer(5, 6)
    worker.end(1, follower=5)
    failed = e.Ended(End.NOT_STARTED, reason=Reason("no_directory", "gone"))
    worker.quietly(e.AttemptEnded(key(5), failed, key(6)))
    assert (worker.phase(5), worker.phase(6)) == (None, Phase.STARTING)


def test_away_from_the_server_nothing_is_ordered_beyond_half_the_lease() -> None:
    worker = Busy()
    worker.tell(e.ServerGone())
    worker.now += 299.9
    worker.machine.book.hold(Attempt(key(5), note(5), Phase.HELD, spec=spec()))
    worker.tell(e.TimePassed())
    worker.tell(e.PrepareDone(key(5)))
    attempt = worker.machine.book.attempts[key(5)]
    assert attempt.phase is Phase.NEXT
    assert attempt.until == pytest.approx(worker.now + 0.1)


def test_away_from_the_server_beyond_half_the_lease_the_line_is_taken_back_not_let_go() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.ServerGone())
    worker.now += 301
    assert worker.end(1) == [i.DropStart(key(5))]
    assert worker.quietly(e.StartDropped(key(5))) == []
    assert worker.phase(5) is Phase.HELD
    worker.tell(e.Welcomed(J, 600.0))
    assert worker.phase(5) is Phase.PREPARING


def test_one_in_line_for_long_is_prepared_anew() -> None:
    worker = Busy()
    worker.offer(5)
    worker.now += UNTIL_SECONDS + STALE_SECONDS + 1
    assert worker.end(1) == [i.DropStart(key(5))]
    assert worker.quietly(e.StartDropped(key(5))) == [i.Prepare(key(5), 5, 1, spec())]


def test_the_inventory_has_those_in_line_as_held() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.ServerGone())
    orders = worker.quietly(e.Welcomed(J, 600.0))
    (sent,) = [order for order in orders if isinstance(order, i.SendInventory)]
    assert refs(5)[0] in sent.messages[0].held
    assert isinstance(sent.messages[0], Inventory)


def test_another_journals_jobs_leave_the_line_when_its_server_is_not_the_one_that_answers() -> None:
    worker = Busy()
    worker.offer(5)
    worker.tell(e.ServerGone())
    assert i.DropStart(key(5)) in worker.quietly(e.Welcomed("journal-2", 600.0))
    assert worker.quietly(e.StartDropped(key(5))) == []
    assert worker.phase(5) is None
