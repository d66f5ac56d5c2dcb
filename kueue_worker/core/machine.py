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
from kueue_worker.core.attempts import (
    ON_THE_WAY,
    WITH_KEEPER,
    Attempt,
    Phase,
    as_lost,
    key_of,
)
from kueue_worker.core.book import UNSTARTED, Book
from kueue_worker.core.conditions import KEEPER_SILENT_SECONDS, Conditions
from kueue_worker.core.inventory import inventory
from kueue_worker.core.room import Room
from kueue_worker.core.standing import Standing


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
        self._began = now
        self._heard: dict[str, float] = {}  # when each journal's server was last heard of
        self._lease: dict[str, float] = {}  # its worker_timeout_seconds

    # ---------------------------------------------------------------- the way in, and what is next

    def handle(self, event: e.Event, now: float) -> list[i.Instruction]:
        """Take one fact; returns the orders that follow from it."""
        book = self.book
        book.out = []
        self._dispatch(event, now)
        if book.doubts:
            book.believe(now)
        if book.held:
            self._start_held(now)
        if self.settings.stop_when_alone_seconds is not None:
            self._end_when_alone(now, self.settings.stop_when_alone_seconds)
        if self.conditions.departure.begun:
            self._depart(now)
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
            times += [self._heard.get(j, self._began) + alone for j in sorted(journals) if j != book.journal]
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
                    self.book.prepared(attempt, event, may_start, now)
            case e.AttemptStarted():
                attempt = self._in_phase(event.key, Phase.STARTING)
                if attempt is not None:
                    self.book.started(attempt, event, now)
            case e.AttemptEnded():
                attempt = self.book.attempts.get(event.key)
                if attempt is not None and attempt.phase in WITH_KEEPER:
                    self.book.ended(attempt, event.ended, self.conditions.why_interrupted(), now)
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
            case e.SpawnUndone():
                self._on_spawn_undone(event.key, now)
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
                    self._give_back("the keeper does not answer", now)
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
                self._on_drain(event.why, now)
            case e.EndRequested():
                self._on_end(event.why, now)
            case e.DepartRequested():
                self._give_back("the agent leaves", now)
                self.conditions.departure.begun = self.conditions.departure.done = True
                self.book.out += [i.SendLeaving(True, "the agent leaves, its jobs run on"), i.Quit(0)]
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
        self._heard[event.journal] = now
        self._lease[event.journal] = event.worker_timeout_seconds
        for attempt in list(book.attempts.values()):
            # Another journal's unstarted ones: not listed when its server comes back, so handed out anew.
            if attempt.note.journal != event.journal and attempt.phase in UNSTARTED:
                book.drop_unstarted(attempt, now)
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
        self._heard[journal] = now
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
        else:
            self.book.out.append(i.TellKept(ref))

    # ---------------------------------------------------------------- starting

    def _may_start(self, journal: str, now: float) -> bool:
        """With the server away, only in the first half of the lease: later the job may be somebody else's."""
        if journal == self.book.journal:
            return True
        return now - self._heard.get(journal, self._began) < self._lease.get(journal, 0.0) / 2

    def _start_held(self, now: float) -> None:
        book = self.book
        if self.conditions.keeper is None or book.superseded or self.conditions.why_no_offers() is not None:
            return
        while (key := book.held.next_fitting(book.room.fits)) is not None:
            attempt = book.attempts[key]
            if not self._may_start(attempt.note.journal, now):
                return  # all that are held belong to one journal
            book.prepare(attempt, now)

    def _on_spawn_undone(self, key: str, now: float) -> None:
        attempt = self._in_phase(key, Phase.STARTING)
        if attempt is None:
            return
        if attempt.kill_end is not None or self.conditions.departure.begun:
            self.book.never_started(attempt, now)
        else:
            self.book.hold_again(attempt, now)

    # ---------------------------------------------------------------- the keeper

    def _on_keeper_ready(self, event: e.KeeperReady, now: float) -> None:
        book = self.book
        self.conditions.keeper_came(event.keeper)
        records = {record.key: record for record in event.records}
        why = self.conditions.why_interrupted()
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
        jobs = _count(len(running), "job")
        if self.settings.kill_earlier_jobs:
            for attempt in running:
                self._kill(attempt, "interrupted")
            self.book.out.append(
                i.Say("info", f"ends {jobs} that an earlier worker of this name left running")
            )
        else:
            self.book.out.append(i.Say("info", f"takes over {jobs} of an earlier worker"))

    def _kill(self, attempt: Attempt, end: i.KillEnd, grace_seconds: float | None = None) -> None:
        attempt.kill_end = end
        grace = self.settings.kill_grace_seconds if grace_seconds is None else grace_seconds
        self.book.out.append(i.Kill(attempt.key, grace, end))

    # ---------------------------------------------------------------- alone, and leaving

    def _end_when_alone(self, now: float, limit: float) -> None:
        count = 0
        for attempt in self.book.attempts.values():
            journal = attempt.note.journal
            if journal == self.book.journal or not attempt.may_be_killed:
                continue
            if now - self._heard.get(journal, self._began) >= limit:
                self._kill(attempt, "interrupted")
                count += 1
        if count:
            text = f"cut off from the server for {limit:g} s: ends {_count(count, 'job')}"
            self.book.out.append(i.Say("warning", text))

    def _give_back(self, why: str, now: float) -> None:
        count = self.book.release_all_unstarted(now)
        if count:
            self.book.out.append(i.Say("info", f"gives {_count(count, 'job')} back: {why}"))

    def _on_drain(self, why: str, now: float) -> None:
        if self.conditions.departure.begun:
            return
        self.conditions.departure.drain(why)
        self._give_back(why, now)
        running = self.running()
        if running:
            text = f"takes no more jobs, waits for {_count(running, 'running job')} (Ctrl-C again interrupts)"
            self.book.out.append(i.Say("info", text))

    def _on_end(self, why: str, now: float) -> None:
        again = self.conditions.departure.ending
        grace = 0.0 if again else self.settings.kill_grace_seconds
        self.conditions.departure.end(why, grace, now)
        self._give_back(why, now)
        self.book.interrupt_doubtful(why, now)
        running = [attempt for attempt in self.book.attempts.values() if attempt.phase in WITH_KEEPER]
        for attempt in running:
            self._kill(attempt, "interrupted", grace)
        if running:
            self.book.out.append(i.Say("info", f"interrupts {_count(len(running), 'running job')}"))

    def _depart(self, now: float) -> None:
        departure, book = self.conditions.departure, self.book
        if departure.done:
            return
        busy = any(attempt.phase in ON_THE_WAY for attempt in book.attempts.values())
        waiting = any(
            attempt.phase is Phase.FINISHED and attempt.note.journal == book.journal
            for attempt in book.attempts.values()
        )
        if departure.may_quit(busy, waiting, now):
            departure.done = True
            book.out += [i.SendLeaving(busy, departure.why), i.EndKeeper(), i.Quit(0)]

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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
