"""The attempts of one agent and their moves from phase to phase, each with what it reserves and reports.

The book makes the moves; when to make them is the machine's decision. Reports are only ever towards the
journal that an attempt belongs to: with another one, or none, in session they wait for its inventory.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

import msgspec

from kueue.job import End
from kueue.wire.messages import AttemptRef, OsString, Reason, RefusedAttempt
from kueue_worker.core import instructions as i
from kueue_worker.core.attempts import (
    INTERRUPTION_SECONDS,
    Attempt,
    Phase,
    as_failure,
    as_interrupted,
    doubt_seconds,
    may_be_interruption,
    place_of_refusal,
)
from kueue_worker.core.events import AttemptStarted, Ended, KeptAttempt, PrepareDone
from kueue_worker.core.held import Held
from kueue_worker.core.room import Room
from kueue_worker.core.standing import Standing

UNSTARTED = frozenset({Phase.HELD, Phase.PREPARING})


class Book:
    """`out` collects the instructions of the step that is being made."""

    def __init__(self, room: Room, standing: Standing) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.held = Held()
        self.line: dict[str, None] = {}  # ordered ahead: without room yet
        self.reserved_count = 0
        self.room = room
        self.journal: str | None = None  # of the session; None while there is none
        self.superseded: set[str] = set()  # running ones whose trees must be gone before anything starts
        self.doubts: deque[tuple[float, str]] = deque()  # bad ends, by the time at which they are believed
        self.out: list[i.Instruction] = []
        self._standing = standing
        self._reserved: dict[str, tuple[int, int]] = {}  # CPUs and MB by journal

    def reserved_by_others(self) -> tuple[int, int]:
        """CPUs and MB reserved by attempts of other journals than the session's."""
        own = self._reserved.get(self.journal or "", (0, 0))
        return max(0, self.room.cpus - own[0]), max(0, self.room.ram_mb - own[1])

    # ---------------------------------------------------------------- unstarted ones

    def hold(self, attempt: Attempt) -> None:
        """It waits for room, behind those that do already."""
        attempt.phase = Phase.HELD
        self.attempts[attempt.key] = attempt
        self.held.add(attempt.key, attempt.shape)

    def prepare(self, attempt: Attempt, now: float) -> None:
        """A held one that fits gets its room."""
        assert attempt.spec is not None, attempt.key
        self.held.remove(attempt.key, attempt.shape)
        attempt.phase = Phase.PREPARING
        attempt.units = self.room.take(attempt.shape)
        self._count(attempt, 1, now)
        self.out.append(i.Prepare(attempt.key, attempt.note.job, attempt.note.attempt, attempt.spec))

    def prepare_ahead(self, attempt: Attempt, until: float) -> None:
        """A held one for which there is no room yet."""
        assert attempt.spec is not None, attempt.key
        self.held.remove(attempt.key, attempt.shape)
        self.line[attempt.key] = None
        attempt.phase = Phase.PREPARING
        attempt.until = until
        self.out.append(i.Prepare(attempt.key, attempt.note.job, attempt.note.attempt, attempt.spec))

    def take_room(self, attempt: Attempt, now: float) -> None:
        """One that was ordered ahead gets its room, as any other."""
        del self.line[attempt.key]
        attempt.until = None
        attempt.units = self.room.take(attempt.shape)
        self._count(attempt, 1, now)

    def take_place(self, attempt: Attempt, now: float) -> None:
        """One in the keeper's line starts."""
        self.take_room(attempt, now)
        attempt.phase = Phase.STARTING

    def drop_unstarted(self, attempt: Attempt, now: float) -> None:
        """Forget one that is held or being prepared."""
        if attempt.phase is Phase.HELD:
            self.held.remove(attempt.key, attempt.shape)
        else:
            self.out.append(i.Discard(attempt.key))
            self._free(attempt, now)
        del self.attempts[attempt.key]

    def release(self, attempt: Attempt, now: float) -> None:
        """Give an unstarted one back."""
        self.drop_unstarted(attempt, now)
        self.tell_released(attempt)

    def release_all_unstarted(self, now: float) -> int:
        """Give back everything that has not started; how many that were."""
        waiting = [attempt for attempt in self.attempts.values() if attempt.phase in UNSTARTED]
        for attempt in waiting:
            self.release(attempt, now)
        return len(waiting)

    def refuse_held(self, key: str, refusal: Reason, ancestor: OsString | None) -> None:
        """A look has shown that a held one can't run here."""
        attempt = self.attempts.get(key)
        if attempt is not None and attempt.phase is Phase.HELD:  # else: its preparation finds the same
            self.held.remove(key, attempt.shape)
            del self.attempts[key]
            self._tell_refused(attempt, refusal, ancestor)

    def prepared(self, attempt: Attempt, event: PrepareDone, may_start: bool, room: str, now: float) -> None:
        """Hand it to the keeper, or refuse it, or tell why it can't be run at all."""
        if event.refusal is not None:
            self._free(attempt, now)
            del self.attempts[attempt.key]
            self._tell_refused(attempt, event.refusal, event.ancestor)
        elif event.failure is not None:
            self._free(attempt, now)
            self._finish(attempt, as_failure(event.failure), now)
        elif not may_start:
            self.out.append(i.Discard(attempt.key))
            self._free(attempt, now)
            self.hold(attempt)
        else:
            assert attempt.spec is not None, attempt.key
            attempt.note = msgspec.structs.replace(
                attempt.note, units=attempt.units, stdout=event.stdout, stderr=event.stderr
            )
            attempt.phase = Phase.STARTING if attempt.until is None else Phase.NEXT
            self.out.append(i.Spawn(attempt.key, attempt.spec, attempt.note, room, attempt.until))

    # ---------------------------------------------------------------- with the keeper

    def adopt(self, record: KeptAttempt, why_interrupted: str, now: float) -> None:
        """Take over an attempt that an earlier agent started."""
        note = record.note
        attempt = Attempt(
            record.key, note, Phase.RUNNING, units=note.units, kept=True, started=record.started
        )
        self.attempts[record.key] = attempt
        self.room.adopt(attempt.shape, attempt.units)
        self._count(attempt, 1, now)
        if record.ended is not None:
            self.ended(attempt, record.ended, why_interrupted, now)

    def started(self, attempt: Attempt, event: AttemptStarted, now: float) -> None:
        """The keeper has started it."""
        attempt.phase = Phase.RUNNING
        attempt.started = event.started
        attempt.spec = None
        attempt.kept = True
        if attempt.note.journal == self.journal:
            self.out.append(i.TellStarted(attempt.running_at(now)))

    def never_started(self, attempt: Attempt, now: float) -> None:
        """It was handed to the keeper but did not start, and is not to be tried again: give it back."""
        self._free(attempt, now)
        self.superseded.discard(attempt.key)
        del self.attempts[attempt.key]
        self.tell_released(attempt)

    def hold_again(self, attempt: Attempt, now: float) -> None:
        """It was handed to the keeper but did not start: once more from the end of the queue."""
        self._free(attempt, now)
        self.hold(attempt)

    def ended(self, attempt: Attempt, ended: Ended, why_interrupted: str, now: float) -> None:
        """The keeper told of its end: believe it, call it an interruption, or decide in a moment."""
        attempt.kept = True
        if ended.end is End.NOT_STARTED and self._undo_start(attempt, ended, now):
            return
        if attempt.phase is Phase.STARTING and ended.started is not None:
            self.started(attempt, AttemptStarted(attempt.key, ended.started), now)
        self._free(attempt, now)
        self.superseded.discard(attempt.key)
        self.out.append(i.AttemptOver(attempt.key))
        if why_interrupted and may_be_interruption(ended, now, INTERRUPTION_SECONDS):
            self._finish(attempt, as_interrupted(ended, why_interrupted), now)
        elif may_be_interruption(ended, now, INTERRUPTION_SECONDS):
            attempt.phase = Phase.DOUBTFUL
            attempt.ended = ended
            insort(self.doubts, (now + doubt_seconds(ended), attempt.key))
        else:
            self._finish(attempt, ended, now)

    def _undo_start(self, attempt: Attempt, ended: Ended, now: float) -> bool:
        """A start that did not happen is no end if the job was to be stopped anyway, or if this machine is at
        fault: its directory went away in between, its program can't be run here, it has no room for another
        process or open file, or the spool can't be written (outputs elsewhere are open by then)."""
        reason = ended.reason
        refusal = None
        if reason is not None and reason.code in ("no_directory", "no_program"):
            refusal = reason
        elif reason is not None and reason.code == "output":
            refusal = Reason("spool_full", reason.text)
        elif reason is not None and reason.code == "exhausted":
            refusal = Reason("no_resources", reason.text)
        if attempt.kill_end is None and refusal is None:
            return False
        self.out.append(i.DropRecords((attempt.key,)))
        if attempt.kill_end is not None or refusal is None:
            self.never_started(attempt, now)
        else:
            self._free(attempt, now)
            del self.attempts[attempt.key]
            self._tell_refused(attempt, refusal, place_of_refusal(refusal, attempt.spec))
        return True

    def kill(self, attempt: Attempt, end: i.KillEnd, grace_seconds: float) -> None:
        """Have the keeper end it."""
        attempt.kill_end = end
        self.out.append(i.Kill(attempt.key, grace_seconds, end))

    # ---------------------------------------------------------------- ended ones

    def believe(self, now: float) -> None:
        """Bad ends that were held back long enough are what they seem."""
        while self.doubts and self.doubts[0][0] <= now:
            _, key = self.doubts.popleft()
            attempt = self.attempts.get(key)
            if attempt is not None and attempt.phase is Phase.DOUBTFUL and attempt.ended is not None:
                self._finish(attempt, attempt.ended, now)

    def interrupt_doubtful(self, why: str, now: float) -> None:
        """Bad ends that are held back were interruptions."""
        doubts, self.doubts = self.doubts, deque()
        for _, key in doubts:
            attempt = self.attempts.get(key)
            if attempt is not None and attempt.phase is Phase.DOUBTFUL and attempt.ended is not None:
                ended = attempt.ended
                if may_be_interruption(ended, now, INTERRUPTION_SECONDS):
                    ended = as_interrupted(ended, why)
                self._finish(attempt, ended, now)

    def lose(self, attempt: Attempt, ended: Ended, now: float) -> None:
        """It ran, and the keeper knows nothing of it any more."""
        attempt.kept = False
        self._free(attempt, now)
        self.superseded.discard(attempt.key)
        self.out.append(i.AttemptOver(attempt.key))
        self._finish(attempt, ended, now)

    def tails_read(self, attempt: Attempt, stdout: bytes, stderr: bytes, now: float) -> None:
        """The report is complete."""
        attempt.stdout_tail, attempt.stderr_tail = stdout, stderr
        self._complete(attempt, now)

    def acknowledged(self, refs: list[Attempt]) -> None:
        """The server has these ends on disk."""
        for attempt in refs:
            del self.attempts[attempt.key]
        kept = tuple(attempt.key for attempt in refs if attempt.kept)
        if kept:
            self.out.append(i.DropRecords(kept))

    def _finish(self, attempt: Attempt, ended: Ended, now: float) -> None:
        attempt.ended = ended
        attempt.spec = None
        if ended.end is End.NOT_STARTED:
            self._complete(attempt, now)  # there is no output
        else:
            attempt.phase = Phase.READING
            self.out.append(i.ReadTails(attempt.key, attempt.note))

    def _complete(self, attempt: Attempt, now: float) -> None:
        attempt.phase = Phase.FINISHED
        if attempt.note.journal == self.journal:
            self.out.append(i.TellFinished(attempt.finished_at(now)))

    # ---------------------------------------------------------------- telling and counting

    def tell_released(self, attempt: Attempt) -> None:
        """It has not started and will not."""
        if attempt.note.journal == self.journal:
            self.out.append(i.TellReleased(AttemptRef(attempt.note.job, attempt.note.fence)))

    def _tell_refused(self, attempt: Attempt, refusal: Reason, ancestor: OsString | None) -> None:
        if attempt.note.journal == self.journal:
            note = attempt.note
            item = RefusedAttempt(note.job, note.fence, refusal.code, refusal.text, ancestor)
            self.out.append(i.TellRefused(item))

    def _free(self, attempt: Attempt, now: float) -> None:
        self.line.pop(attempt.key, None)
        attempt.until = None
        if attempt.reserved:
            self.room.give_back(attempt.shape, attempt.units)
            self._count(attempt, -1, now)

    def _count(self, attempt: Attempt, sign: int, now: float) -> None:
        attempt.reserved = sign > 0
        self.reserved_count += sign
        journal, shape = attempt.note.journal, attempt.shape
        cpus, ram_mb = self._reserved.get(journal, (0, 0))
        self._reserved[journal] = (cpus + sign * shape.cpus, ram_mb + sign * shape.ram_mb)
        self._standing.reserved(self.room.cpus, self.room.ram_mb, now)
