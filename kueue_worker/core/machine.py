"""The agent's state machine: attempts on their way from an offer to an acknowledged end.

It has no clock and touches nothing: events come in with the time, instructions go out. It decides; the moves
themselves, and what each reserves and reports, are in `book`.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from kueue.resources import Capacity
from kueue.wire.messages import AttemptRef, Reason, RefusedAttempt
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.ahead import Ahead
from kueue_worker.core.attempts import (
    WITH_KEEPER,
    Attempt,
    Phase,
    as_lost,
    key_of,
)
from kueue_worker.core.book import UNSTARTED, Book
from kueue_worker.core.conditions import KEEPER_SILENT_SECONDS, Conditions
from kueue_worker.core.contact import Contact
from kueue_worker.core.inventory import inventory
from kueue_worker.core.room import Room
from kueue_worker.core.standing import Standing
from kueue_worker.core.way_out import WayOut, amount


class Settings(msgspec.Struct, frozen=True):
    """What the configuration says; everything that the core needs of it."""

    capacity: Capacity
    unit_names: dict[str, tuple[str, ...]] = {}
    dynamic_check: bool = True
    cpu_scale: float = 1.0
    status_interval_seconds: float = 60.0
    kill_grace_seconds: float = 10.0
    stop_when_alone_seconds: float | None = None
    kill_earlier_jobs: bool = False


class Machine:
    """All decisions of one agent. `handle` is the only thing that changes it."""

    def __init__(self, settings: Settings, now: float) -> None:
        self.settings = settings
        self.conditions = Conditions()
        self._standing = Standing(
            settings.capacity,
            dynamic=settings.dynamic_check,
            cpu_scale=settings.cpu_scale,
            interval_seconds=settings.status_interval_seconds,
            now=now,
        )
        self.book = Book(Room(settings.capacity, settings.unit_names), self._standing)
        self._first_keeper = True
        self._registered_keeper: str | None = None
        self.ahead = Ahead(self.book)
        self.way_out = WayOut(self.book, self.ahead, self.conditions, settings.kill_grace_seconds)
        self._contact = Contact(now)

    # ---------------------------------------------------------------- the way in, and what is next

    def handle(self, event: e.Event, now: float) -> list[i.Instruction]:
        """Take one fact; returns the orders that follow from it."""
        book = self.book
        book.out = []
        self._dispatch(event, now)
        if book.doubts:
            book.believe(now)
        if book.held or book.line:
            self._start_held(now)
        if self.settings.stop_when_alone_seconds is not None:
            self.way_out.end_when_alone(self._contact, self.settings.stop_when_alone_seconds, now)
        if self.conditions.departure.begun:
            self.way_out.proceed(now)
        if book.journal is not None and not self.conditions.departure.done:
            self._tell_standing(now)
        return book.out

    def next_deadline(self) -> float | None:
        """When `TimePassed` is due, if nothing happens before."""
        book = self.book
        times = self.conditions.departure.deadlines()
        if book.doubts:
            times.append(book.doubts[0][0])
        due = self._standing.next_due()
        if book.journal is not None and due is not None:
            times.append(due)
        alone = self.settings.stop_when_alone_seconds
        if alone is not None:
            journals = {a.note.journal for a in book.attempts.values() if a.may_be_killed}
            times += [self._contact.cut_off_at(j, alone) for j in sorted(journals) if j != book.journal]
        return min(times, default=None)

    def is_over(self, key: str) -> bool:
        """Will no more output of this attempt come? (True for one that is unknown here.)"""
        attempt = self.book.attempts.get(key)
        return attempt is None or attempt.phase in (Phase.DOUBTFUL, Phase.READING, Phase.FINISHED)

    def note_of(self, key: str) -> e.Note | None:
        """What is known of an attempt that has been handed to the keeper."""
        attempt = self.book.attempts.get(key)
        return None if attempt is None or attempt.phase in UNSTARTED else attempt.note

    def with_keeper(self) -> list[tuple[str, e.Note]]:
        """Keys and notes of the attempts that run, or are about to."""
        found = self.book.attempts.values()
        return [(attempt.key, attempt.note) for attempt in found if attempt.phase in WITH_KEEPER]

    def has_doubts(self) -> bool:
        """Is a bad end held back, so that it matters whether the system is stopping?"""
        return bool(self.book.doubts)

    def running(self) -> int:
        """How many attempts are with the keeper."""
        return sum(attempt.phase in WITH_KEEPER for attempt in self.book.attempts.values())

    def _dispatch(self, event: e.Event, now: float) -> None:
        match event:
            case e.PrepareDone():
                attempt = self._in_phase(event.key, Phase.PREPARING)
                if attempt is None:
                    self.book.out.append(i.Discard(event.key))
                else:
                    may_start = self.conditions.keeper is not None and self._may_start(
                        attempt.note.journal, now
                    )
                    self.book.prepared(attempt, event, may_start, self.ahead.room_of(attempt.shape), now)
            case e.AttemptStarted():
                attempt = self._in_phase(event.key, Phase.STARTING)
                if attempt is not None:
                    self.book.started(attempt, event, now)
            case e.AttemptEnded():
                self._on_ended(event, now)
            case e.TailsRead():
                attempt = self._in_phase(event.key, Phase.READING)
                if attempt is not None:
                    self.book.tails_read(attempt, event.stdout, event.stderr, now)
            case e.LookDone():
                if event.refusal is not None:
                    self.book.refuse_held(event.key, event.refusal, event.ancestor)
            case e.OutputExceeded():
                attempt = self.book.attempts.get(event.key)
                if attempt is not None and attempt.may_be_killed:
                    self._kill(attempt, "output_limit")
            case e.SpawnUndone() | e.StartDropped():
                self._on_start_undone(event.key, now)
            case e.Offered() | e.Acknowledged() | e.StopOrdered() | e.RetractOrdered() | e.ServerHeard():
                self._on_server(event, now)
            case e.Welcomed():
                self._on_welcomed(event, now)
            case e.ServerGone():
                self.book.journal = None
            case e.KeeperReady():
                self._on_keeper_ready(event, now)
            case e.KeeperGone():
                self.conditions.keeper = None
            case e.KeeperSilent():
                self.conditions.keeper_silent = event.seconds
                if event.seconds >= KEEPER_SILENT_SECONDS:
                    self.way_out.give_back("the keeper does not answer", now)
            case e.KeeperLeaving():
                self.conditions.keeper_leaving = True
                self.book.interrupt_doubtful(self.conditions.why_interrupted(), now)
            case e.SystemStopping():
                self.conditions.system_stopping = True
                self.book.interrupt_doubtful(self.conditions.why_interrupted(), now)
            case e.Measured():
                self._standing.measured(event, now)
            case e.SpoolChanged():
                self.conditions.spool_full = event.full
            case e.DrainRequested():
                self.way_out.drain(event.why, now)
            case e.EndRequested():
                self.way_out.end(event.why, now)
            case e.DepartRequested():
                self.way_out.depart(now)
            case e.TimePassed():
                pass
            case _:
                assert_never(event)

    def _in_phase(self, key: str, phase: Phase) -> Attempt | None:
        attempt = self.book.attempts.get(key)
        return attempt if attempt is not None and attempt.phase is phase else None

    # ---------------------------------------------------------------- the server's orders

    def _on_welcomed(self, event: e.Welcomed, now: float) -> None:
        book = self.book
        book.journal = event.journal
        self._registered_keeper = self.conditions.keeper
        self._contact.welcomed(event.journal, event.worker_timeout_seconds, now)
        for attempt in list(book.attempts.values()):
            # Another journal's unstarted ones: not listed when its server comes back, so handed out anew.
            if attempt.note.journal != event.journal and attempt.phase in UNSTARTED:
                book.drop_unstarted(attempt, now)
        if any(book.attempts[key].note.journal != event.journal for key in book.line):
            self.ahead.take_back(now)
        self._standing.forget_sent()
        book.out.append(
            i.SendInventory(inventory(event.journal, book.attempts.values(), event.highest_job, now))
        )

    def _on_server(
        self,
        event: e.Offered | e.Acknowledged | e.StopOrdered | e.RetractOrdered | e.ServerHeard,
        now: float,
    ) -> None:
        journal = self.book.journal
        if journal is None:
            return  # the last words of a session that has ended
        self._contact.heard(journal, now)
        match event:
            case e.Offered():
                self._on_offered(event, journal, now)
            case e.Acknowledged():
                # What was told twice is acknowledged twice, maybe in one message.
                keys = dict.fromkeys(key_of(journal, r.job, r.fence) for r in event.attempts)
                found = [self._in_phase(key, Phase.FINISHED) for key in keys]
                self.book.acknowledged([attempt for attempt in found if attempt is not None])
            case e.StopOrdered():
                for ref in event.attempts:
                    self._on_stop(ref, self.book.attempts.get(key_of(journal, *_names(ref))), event.why, now)
            case e.RetractOrdered():
                for ref in event.attempts:
                    self._on_retract(ref, self.book.attempts.get(key_of(journal, *_names(ref))), now)
            case e.ServerHeard():
                pass
            case _:
                assert_never(event)

    def _on_offered(self, event: e.Offered, journal: str, now: float) -> None:
        new: list[Attempt] = []
        refusal = self.conditions.why_no_offers()
        for job in event.jobs:
            key = key_of(journal, job.job, job.fence)
            if key in self.book.attempts:
                continue
            shape = job.spec.shape
            reason = refusal
            if reason is None and not self.book.room.can_ever_fit(shape):
                reason = Reason("no_resources", "this worker has less than the job requires")
            if reason is not None:
                item = RefusedAttempt(job.job, job.fence, reason.code, reason.text)
                self.book.out.append(i.TellRefused(item))
                continue
            note = e.Note(journal, job.job, job.fence, job.attempt, shape)
            attempt = Attempt(key, note, Phase.HELD, spec=job.spec)
            self.book.hold(attempt)
            new.append(attempt)
        self._start_held(now)
        # Those that must wait are looked at now, so that others get them soon if this machine can't see them.
        for attempt in new:
            if attempt.phase is Phase.HELD and attempt.spec is not None:
                self.book.out.append(i.Look(attempt.key, attempt.spec.cwd))

    def _on_stop(
        self, ref: AttemptRef, attempt: Attempt | None, why: Literal["canceled", "superseded"], now: float
    ) -> None:
        if attempt is None:
            self.book.out.append(i.TellReleased(ref))
        elif attempt.phase in UNSTARTED:
            self.book.release(attempt, now)
        elif attempt.phase is Phase.NEXT:
            attempt.kill_end = "stopped"
            self.ahead.drop(attempt)
        elif attempt.phase in WITH_KEEPER:
            if why == "superseded":
                self.book.superseded.add(attempt.key)
            if attempt.may_be_killed:
                self._kill(attempt, "stopped")
        elif attempt.phase is Phase.FINISHED:
            self.book.out.append(i.TellFinished(attempt.finished_at(now)))
        # else the report that answers it is on its way

    def _on_retract(self, ref: AttemptRef, attempt: Attempt | None, now: float) -> None:
        if attempt is None:
            self.book.out.append(i.TellReleased(ref))
        elif attempt.phase in UNSTARTED:
            self.book.release(attempt, now)
        elif attempt.phase is Phase.NEXT:  # it may start at any moment: the keeper knows
            attempt.asked_back = True
            self.ahead.drop(attempt)
        else:
            self.book.out.append(i.TellKept(ref))

    # ---------------------------------------------------------------- starting

    def _may_start(self, journal: str, now: float) -> bool:
        """With the server away, only in the first half of the lease: later the job may be somebody else's."""
        return journal == self.book.journal or now < self._contact.start_until(journal)

    def _start_held(self, now: float) -> None:
        book = self.book
        if self.conditions.keeper is None:
            return
        if book.superseded or self.conditions.why_no_offers() is not None:
            self.ahead.take_back(now)
            return
        if book.line and self._may_start(book.attempts[next(iter(book.line))].note.journal, now):
            self.ahead.go(now)
        else:
            self.ahead.take_back(now)
        while (key := book.held.next_fitting(book.room.fits)) is not None:
            attempt = book.attempts[key]
            if not self._may_start(attempt.note.journal, now):
                return  # all that are held belong to one journal
            book.prepare(attempt, now)
        if book.held:
            journal = book.attempts[book.held.first(1)[0]].note.journal
            self.ahead.order(self._contact.start_until(journal), now)

    def _on_start_undone(self, key: str, now: float) -> None:
        self.ahead.left_line(key)
        attempt = self.book.attempts.get(key)
        if attempt is None or attempt.phase not in (Phase.NEXT, Phase.STARTING):
            return
        of_another = self.book.journal is not None and attempt.note.journal != self.book.journal
        unwanted = attempt.kill_end is not None or attempt.asked_back
        if unwanted or self.conditions.departure.begun or of_another:
            self.book.never_started(attempt, now)
        else:
            self.book.hold_again(attempt, now)

    def _on_ended(self, event: e.AttemptEnded, now: float) -> None:
        book = self.book
        attempt = book.attempts.get(event.key)
        if attempt is not None and (attempt.phase in WITH_KEEPER or attempt.phase is Phase.NEXT):
            if event.ended.started is not None and event.ended.ended is not None:
                self.ahead.ran(event.ended.ended - event.ended.started)
            book.ended(attempt, event.ended, self.conditions.why_interrupted(), now)
        follower = None if event.next is None else self._in_phase(event.next, Phase.NEXT)
        if follower is not None:
            self._take_place(follower, now)

    def _take_place(self, attempt: Attempt, now: float) -> None:
        """It has left the keeper's line and starts."""
        self.ahead.left_line(attempt.key)
        self.book.take_place(attempt, now)
        if attempt.asked_back:
            attempt.asked_back = False
            self.book.out.append(i.TellKept(attempt.ref))
        if attempt.kill_end is not None:
            self._kill(attempt, attempt.kill_end)
        elif self.conditions.departure.ending:
            self._kill(attempt, "interrupted")

    # ---------------------------------------------------------------- the keeper

    def _on_keeper_ready(self, event: e.KeeperReady, now: float) -> None:
        book = self.book
        self.conditions.keeper_came(event.keeper)
        self.ahead.keeper_came(event.has_line)
        records = {record.key: record for record in event.records}
        why = self.conditions.why_interrupted()
        for key in list(book.line):  # the line of the connection before is gone
            if key in records:
                self._take_place(book.attempts[key], now)
            elif book.attempts[key].phase is Phase.NEXT:
                self._on_start_undone(key, now)
        self.ahead.take_back(now)
        for attempt in [a for a in book.attempts.values() if a.phase in WITH_KEEPER]:
            record = records.get(attempt.key)
            if record is None and attempt.phase is Phase.STARTING:
                book.never_started(attempt, now)  # the order was lost on the way
            elif record is None:
                book.lose(attempt, as_lost(attempt.started), now)
            elif record.ended is not None:
                book.ended(attempt, record.ended, why, now)
            else:
                if attempt.phase is Phase.STARTING and record.started is not None:
                    book.started(attempt, e.AttemptStarted(attempt.key, record.started), now)
                if attempt.kill_end is not None:
                    self._kill(attempt, attempt.kill_end)  # the order may have been lost on the way
        for record in event.records:
            if record.key not in book.attempts:
                book.adopt(record, why, now)
        if self._first_keeper:
            self._first_keeper = False
            self._meet_earlier_jobs()
        if book.journal is not None and self._registered_keeper != event.keeper:
            self._registered_keeper = event.keeper
            book.out.append(i.Reconnect())

    def _meet_earlier_jobs(self) -> None:
        running = [attempt for attempt in self.book.attempts.values() if attempt.phase in WITH_KEEPER]
        if not running:
            return
        jobs = amount(len(running), "job")
        if self.settings.kill_earlier_jobs:
            for attempt in running:
                self._kill(attempt, "interrupted")
            self.book.out.append(
                i.Say("info", f"ends {jobs} that an earlier worker of this name left running")
            )
        else:
            self.book.out.append(i.Say("info", f"takes over {jobs} of an earlier worker"))

    def _kill(self, attempt: Attempt, end: i.KillEnd) -> None:
        self.book.kill(attempt, end, self.settings.kill_grace_seconds)

    # ---------------------------------------------------------------- what the server is told of us

    def _tell_standing(self, now: float) -> None:
        refusal = self.conditions.why_none_wanted()
        status = self._standing.due(
            refusal is None,
            "" if refusal is None else refusal.text,
            self.conditions.keeper_silent,
            self.book.reserved_by_others(),
            now,
        )
        if status is not None:
            self.book.out.append(i.SendStatus(status))


def _names(ref: AttemptRef) -> tuple[int, int]:
    return ref.job, ref.fence
