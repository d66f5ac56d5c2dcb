"""A worker's state machine with a clock that the test sets, and jobs to offer it."""

from __future__ import annotations

import msgspec

from kueue.job import End
from kueue.resources import Capacity, Shape
from kueue.wire.messages import (
    AttemptRef,
    Command,
    Spec,
)
from kueue_worker.core import events as e
from kueue_worker.core import instructions as i
from kueue_worker.core.attempts import Phase, key_of
from kueue_worker.core.machine import Machine, Settings

J = "journal-1"
CAPACITY = Capacity(cpus=4, ram_mb=8000, job_slots=4, resources=(("gpu", 2),))
SETTINGS = Settings(
    capacity=CAPACITY, unit_names={"gpu": ("a", "b")}, dynamic_check=False, kill_grace_seconds=7.0
)


def spec(cpus: int = 1, gpu: int = 0) -> Spec:
    """A job's spec."""
    shape = Shape(cpus=cpus, ram_mb=100, resources=(("gpu", gpu),) if gpu else ())
    return Spec(Command(("true",)), "/w", "/w", shape, "digest")


def offered(job: int, what: Spec | None = None, fence: int | None = None) -> e.OfferedAttempt:
    """Job `job` handed over with fence `10 * job`."""
    return e.OfferedAttempt(job, 10 * job if fence is None else fence, 1, what or spec())


def key(job: int, journal: str = J) -> str:
    """The key of a job of `offered`."""
    return key_of(journal, job, 10 * job)


def note(job: int, what: Spec | None = None, journal: str = J, **more: object) -> e.Note:
    """The note of a job of `offered`."""
    plain = e.Note(journal, job, 10 * job, 1, (what or spec()).shape)
    return msgspec.structs.replace(plain, **more)


def refs(*jobs: int) -> tuple[AttemptRef, ...]:
    """Names of jobs of `offered`."""
    return tuple(AttemptRef(job, 10 * job) for job in jobs)


def exited(code: int, at: float, started: float = 0.0) -> e.Ended:
    """Ended by itself."""
    return e.Ended(End.EXITED, exit_code=code, started=started, ended=at)


class Worker:
    """A machine with a clock that the test sets."""

    def __init__(self, settings: Settings = SETTINGS, *, connected: bool = True, keeper: bool = True) -> None:
        self.now = 100.0
        self.machine = Machine(settings, self.now)
        if keeper:
            self.tell(e.KeeperReady("k1"))
        if connected:
            self.tell(e.Welcomed(J, 600.0))

    def tell(self, event: e.Event, now: float | None = None) -> list[i.Instruction]:
        """Handle an event; statuses are compared where they are the subject."""
        if now is not None:
            self.now = now
        orders = self.machine.handle(event, self.now)
        self.check()
        return orders

    def quietly(self, event: e.Event, now: float | None = None) -> list[i.Instruction]:
        """Handle an event; without statuses."""
        return [order for order in self.tell(event, now) if not isinstance(order, i.SendStatus)]

    def start(self, job: int, what: Spec | None = None) -> None:
        """Offer a job and bring it to run."""
        self.tell(e.Offered((offered(job, what),)))
        self.tell(e.PrepareDone(key(job)))
        self.tell(e.AttemptStarted(key(job), self.now))
        assert self.phase(job) is Phase.RUNNING

    def finish(self, job: int, code: int = 0) -> None:
        """End a running job well, and report it."""
        self.tell(e.AttemptEnded(key(job), exited(code, self.now, self.now)))
        self.tell(e.TailsRead(key(job), b"out", b"err"))
        assert self.phase(job) is Phase.FINISHED

    def phase(self, job: int) -> Phase | None:
        """Where it is on its way."""
        attempt = self.machine.book.attempts.get(key(job))
        return None if attempt is None else attempt.phase

    def check(self) -> None:
        """What must hold after every step."""
        book = self.machine.book
        reserving = [a for a in book.attempts.values() if a.reserved]
        busy = {Phase.PREPARING, Phase.STARTING, Phase.RUNNING}
        assert {a.key for a in reserving} == {
            a.key for a in book.attempts.values() if a.phase in busy and a.until is None
        }
        assert book.reserved_count == len(reserving)
        assert set(book.line) == {a.key for a in book.attempts.values() if a.until is not None}
        assert book.room.cpus == sum(a.shape.cpus for a in reserving)
        assert book.room.job_slots == sum(a.shape.job_slots for a in reserving)
        assert set(book.held) == {a.key for a in book.attempts.values() if a.phase is Phase.HELD}
        units = [unit for a in reserving for _, names in a.units for unit in names]
        assert len(units) == len(set(units))
