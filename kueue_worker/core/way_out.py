"""How a worker leaves, or gives back what it can't run: draining, ending, departing from its jobs, being cut off."""

from __future__ import annotations

from kueue_worker.core import instructions as i
from kueue_worker.core.ahead import Ahead
from kueue_worker.core.attempts import ON_THE_WAY, WITH_KEEPER, Phase
from kueue_worker.core.book import Book
from kueue_worker.core.conditions import Conditions
from kueue_worker.core.contact import Contact


class WayOut:
    """`grace_seconds`: between TERM and KILL of a job."""

    def __init__(self, book: Book, ahead: Ahead, conditions: Conditions, grace_seconds: float) -> None:
        self._book = book
        self._ahead = ahead
        self._conditions = conditions
        self._grace_seconds = grace_seconds

    def give_back(self, why: str, now: float) -> None:
        """What has not started goes back to the server."""
        count = self._book.release_all_unstarted(now)
        self._ahead.take_back(now)
        if count:
            self._say("info", f"gives {amount(count, 'job')} back: {why}")

    def drain(self, why: str, now: float) -> None:
        """Take no more, and end with the last job."""
        if self._conditions.departure.begun:
            return
        self._conditions.departure.drain(why)
        self.give_back(why, now)
        running = sum(attempt.phase in WITH_KEEPER for attempt in self._book.attempts.values())
        if running:
            jobs = amount(running, "running job")
            self._say("info", f"takes no more jobs, waits for {jobs} (Ctrl-C again interrupts)")

    def end(self, why: str, now: float) -> None:
        """Interrupt the jobs, and end; the second time without grace."""
        departure = self._conditions.departure
        grace = 0.0 if departure.ending else self._grace_seconds
        departure.end(why, grace, now)
        self.give_back(why, now)
        self._book.interrupt_doubtful(why, now)
        running = [attempt for attempt in self._book.attempts.values() if attempt.phase in WITH_KEEPER]
        for attempt in running:
            self._book.kill(attempt, "interrupted", grace)
        if running:
            self._say("info", f"interrupts {amount(len(running), 'running job')}")

    def depart(self, now: float) -> None:
        """End at once, keeper and jobs stay."""
        self.give_back("the agent leaves", now)
        self._conditions.departure.begun = self._conditions.departure.done = True
        self._book.out += [i.SendLeaving(True, "the agent leaves, its jobs run on"), i.Quit(0)]

    def proceed(self, now: float) -> None:
        """Having begun to leave: is it time to go?"""
        departure, book = self._conditions.departure, self._book
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

    def end_when_alone(self, contact: Contact, limit: float, now: float) -> None:
        """Interrupt the jobs of servers that have not been heard of for `limit` seconds."""
        book = self._book
        count = 0
        for attempt in book.attempts.values():
            journal = attempt.note.journal
            if journal == book.journal or not attempt.may_be_killed:
                continue
            if now >= contact.cut_off_at(journal, limit):
                book.kill(attempt, "interrupted", self._grace_seconds)
                count += 1
        if count:
            self._say("warning", f"cut off from the server for {limit:g} s: ends {amount(count, 'job')}")

    def _say(self, level: i.Level, text: str) -> None:
        self._book.out.append(i.Say(level, text))


def amount(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
