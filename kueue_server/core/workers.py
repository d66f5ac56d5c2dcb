"""Workers as the server knows them: who they are, what of them is reserved, what they have been handed.

Plain bookkeeping; the rules are in `attempts.py`, `arrivals.py`, `leases.py` and `placement.py`. The idle
workers are kept in the order in which they are served: the one with the largest free share of its CPUs
first, among equals the one that was served longest ago.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from sortedcontainers import SortedList

from kueue.wire.messages import Pause, Status
from kueue_server.core.closed import ClosedPlaces
from kueue_server.core.outbox import Why
from kueue_server.core.pending import Lane
from kueue_server.core.programs import MissingPrograms
from kueue_server.core.records import WorkerRecord
from kueue_server.core.shapes import KnownShape
from kueue_server.core.tally import Tally
from kueue_server.core.turns import Cursor

IdleKey = tuple[float, int, int]
AttemptKey = tuple[int, int]
"""Job and fence."""

_MAX_REMEMBERED_SHAPES = 4096


class Backoff(msgspec.Struct, gc=False):
    """Nothing is offered until then; the next refusal doubles the delay."""

    until: float
    delay: float


class Retraction(msgspec.Struct, frozen=True, gc=False):
    """A job that was asked back. `thief`: the worker it is for, 0 if it is for none."""

    deadline: float
    thief: int


class Worker:
    """One worker. `session` is None while it is not connected.

    `offered`, `held` and `running` are its current attempts by job. `unconfirmed` are attempts that are not
    current any more, or canceled, and may still live there; their value says what they reserve here, if
    anything. `stops` are the stop orders that it has not confirmed.
    """

    def __init__(self, number: int, record: WorkerRecord, heard: float) -> None:
        self.id = number
        self.record = record
        self.session: int | None = None
        self.address = ""
        self.connected_at: float | None = None
        self.last_seen_at = record.last_seen_at
        self.heard = heard
        self.lost = False
        self.left = False
        self.restored = False  # known from the journal only: what runs there may not have been written down
        self.status: Status | None = None
        self.usable_cpus = 0
        self.usable_ram_mb = 0.0
        self.reserved_cpus = 0
        self.reserved_ram_mb = 0
        self.reserved_slots = 0
        self.reserved_own: dict[str, int] = {}
        self.active: dict[KnownShape, int] = {}  # attempts that reserve something, by shape
        self.offered: dict[int, float] = {}  # job -> when its offer times out
        self.held: dict[KnownShape, dict[int, None]] = {}
        self.held_count = 0
        self.running: dict[int, float] = {}  # job -> when it started, in this order
        self.retracting: dict[int, Retraction] = {}
        self.loot = 0  # jobs being retracted from others for this worker
        self.unconfirmed: dict[AttemptKey, KnownShape | None] = {}
        self.stops: dict[AttemptKey, Why] = {}
        self.closed = ClosedPlaces()
        self.lacks = MissingPrograms()
        self.cursors: dict[Lane, tuple[int, int]] = {}  # where to look on, and arrivals when it began
        self.lane_cursor: Cursor | None = None
        self.backoffs: dict[int, Backoff] = {}  # shape number -> …
        self.respite: Backoff | None = None
        self.paused: Pause | None = None  # by a person
        self.drained_for: tuple[Lane, int] | None = None
        self.pace: dict[int, float] = {}  # shape number -> usual run time in seconds
        self.tally = Tally()
        self.last_failure = (0, "")  # a job that failed at once, and why
        self.served = 0
        self.idle_key: IdleKey | None = None
        self._fits: dict[int, bool] = {}

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return self.record.name

    # ---------------------------------------------------------------- room

    def set_status(self, status: Status) -> None:
        """Take over what it can give to jobs of ours. CPUs are rounded: jobs ask for whole ones."""
        capacity = self.record.capacity
        self.status = status
        self.usable_cpus = min(int(max(0.0, status.usable_cpus) + 0.5), capacity.cpus)
        self.usable_ram_mb = min(max(0.0, status.usable_ram_mb), capacity.ram_mb)

    @property
    def free_cpus(self) -> int:
        """CPUs for further jobs."""
        return max(0, self.usable_cpus - self.reserved_cpus)

    @property
    def free_ram_mb(self) -> float:
        """Memory for further jobs."""
        return max(0.0, self.usable_ram_mb - self.reserved_ram_mb)

    @property
    def free_slots(self) -> int:
        """Job slots for further jobs."""
        return max(0, self.record.capacity.job_slots - self.reserved_slots)

    def free_own(self) -> Iterator[tuple[str, int]]:
        """Its own resources, and what is free of each."""
        for name, amount in self.record.capacity.resources:
            yield name, max(0, amount - self.reserved_own.get(name, 0))

    def has_room(self, known: KnownShape) -> bool:
        """Whether a job of this shape fits beside those it has, with what others leave it now."""
        shape = known.shape
        return (
            shape.cpus <= self.usable_cpus - self.reserved_cpus
            and shape.ram_mb <= self.usable_ram_mb - self.reserved_ram_mb
            and shape.job_slots <= self.record.capacity.job_slots - self.reserved_slots
            and (not known.own_needs or self._has_own(known))
        )

    def would_start(self, known: KnownShape) -> bool:
        """Whether the worker itself would start a held job of this shape now: it goes by its capacity."""
        shape, capacity = known.shape, self.record.capacity
        return (
            shape.cpus <= capacity.cpus - self.reserved_cpus
            and shape.ram_mb <= capacity.ram_mb - self.reserved_ram_mb
            and shape.job_slots <= capacity.job_slots - self.reserved_slots
            and (not known.own_needs or self._has_own(known))
        )

    def would_have_room(self, known: KnownShape) -> bool:
        """Whether a job of this shape would fit if all ours here were over."""
        shape = known.shape
        return shape.cpus <= self.usable_cpus and shape.ram_mb <= self.usable_ram_mb and self.could_run(known)

    def could_run(self, known: KnownShape) -> bool:
        """Whether its capacity and name suit the shape."""
        fits = self._fits.get(known.number)
        if fits is None:
            if len(self._fits) >= _MAX_REMEMBERED_SHAPES:
                self._fits.clear()
            fits = known.could_run_on(self.record.name, self.record.host, self.record.capacity)
            self._fits[known.number] = fits
        return fits

    def _has_own(self, known: KnownShape) -> bool:
        free = dict(self.free_own())
        return all(free.get(name, 0) >= amount for name, amount in known.own_needs)

    def reserve(self, known: KnownShape) -> None:
        """An attempt of this shape takes room here."""
        shape = known.shape
        self.reserved_cpus += shape.cpus
        self.reserved_ram_mb += shape.ram_mb
        self.reserved_slots += shape.job_slots
        for name, amount in known.own_needs:
            self.reserved_own[name] = self.reserved_own.get(name, 0) + amount
        self.active[known] = self.active.get(known, 0) + 1

    def free(self, known: KnownShape) -> None:
        """An attempt of this shape takes no room here any more."""
        shape = known.shape
        self.reserved_cpus -= shape.cpus
        self.reserved_ram_mb -= shape.ram_mb
        self.reserved_slots -= shape.job_slots
        for name, amount in known.own_needs:
            self.reserved_own[name] -= amount
            if not self.reserved_own[name]:
                del self.reserved_own[name]
        left = self.active[known] - 1
        if left:
            self.active[known] = left
        else:
            del self.active[known]

    def recount_own(self) -> None:
        """The configuration names other global resources: count the worker's own anew."""
        self._fits.clear()
        self.reserved_own = {}
        for known, count in self.active.items():
            for name, amount in known.own_needs:
                self.reserved_own[name] = self.reserved_own.get(name, 0) + amount * count

    def set_record(self, record: WorkerRecord) -> None:
        """Take over what it registered with."""
        self.record = record
        self._fits.clear()

    # ---------------------------------------------------------------- held jobs

    def hold(self, known: KnownShape, job: int) -> None:
        """It was handed a job that reserves nothing."""
        self.held.setdefault(known, {})[job] = None
        self.held_count += 1

    def unhold(self, known: KnownShape, job: int) -> bool:
        """It does not hold this job any more. Returns whether it did."""
        jobs = self.held.get(known)
        if jobs is None or job not in jobs:
            return False
        del jobs[job]
        if not jobs:
            del self.held[known]
        self.held_count -= 1
        return True

    def current_jobs(self) -> list[int]:
        """The jobs whose current attempt is here, by id."""
        held = [job for jobs in self.held.values() for job in jobs]
        return sorted([*self.offered, *held, *self.running])

    def remember_pace(self, known: KnownShape, run_seconds: float) -> None:
        """A job of this shape ran so long here."""
        usual = self.pace.get(known.number)
        if usual is None and len(self.pace) >= _MAX_REMEMBERED_SHAPES:
            del self.pace[next(iter(self.pace))]
        self.pace[known.number] = run_seconds if usual is None else usual + 0.2 * (run_seconds - usual)


class Workers:
    """All workers, by id, name and session, and the idle ones in order."""

    def __init__(self) -> None:
        self.by_id: dict[int, Worker] = {}
        self.by_name: dict[str, Worker] = {}
        self.by_session: dict[int, Worker] = {}
        self.idle: SortedList[IdleKey] = SortedList()
        self.holders: dict[int, None] = {}  # workers that hold jobs
        self.held_shapes: dict[KnownShape, int] = {}  # -> how many workers hold jobs of it
        self.next_id = 1
        self._serving = 0

    def add(self, worker: Worker) -> None:
        """Put in a worker that is not there."""
        self.by_id[worker.id] = worker
        self.by_name[worker.name] = worker
        self.next_id = max(self.next_id, worker.id + 1)

    def remove(self, worker: Worker) -> None:
        """Take a worker out that has no session."""
        del self.by_id[worker.id]
        del self.by_name[worker.name]

    def ordered(self) -> list[Worker]:
        """All, by id."""
        return [self.by_id[number] for number in sorted(self.by_id)]

    def connected(self) -> list[Worker]:
        """Those with a session, in the order in which they connected."""
        return list(self.by_session.values())

    def attach(self, worker: Worker, session: int) -> None:
        """The worker is connected by this session."""
        worker.session = session
        self.by_session[session] = worker

    def detach(self, worker: Worker) -> None:
        """The worker's session is over."""
        assert worker.session is not None
        del self.by_session[worker.session]
        worker.session = None
        self.refresh(worker, paused=True)

    def refresh(self, worker: Worker, *, paused: bool) -> None:
        """Put a worker at its place among the idle ones, or out of them if it takes nothing now."""
        key: IdleKey | None = None
        status = worker.status
        if (
            worker.session is not None
            and status is not None
            and status.accepting
            and status.keeper_silent_seconds <= 0
            and not paused
            and worker.record.capacity.job_slots > worker.reserved_slots
        ):
            cpus = worker.record.capacity.cpus
            share = (worker.usable_cpus - worker.reserved_cpus) / cpus if cpus else 0.0
            key = (-share, worker.served, worker.id)
        if key == worker.idle_key:
            return
        if worker.idle_key is not None:
            self.idle.remove(worker.idle_key)
        if key is not None:
            self.idle.add(key)
        worker.idle_key = key

    def hold(self, worker: Worker, known: KnownShape, job: int) -> None:
        """A worker was handed a job that reserves nothing."""
        if known not in worker.held:
            self.held_shapes[known] = self.held_shapes.get(known, 0) + 1
        worker.hold(known, job)
        self.holders[worker.id] = None

    def unhold(self, worker: Worker, known: KnownShape, job: int) -> bool:
        """A worker does not hold this job any more. Returns whether it did."""
        if not worker.unhold(known, job):
            return False
        if known not in worker.held:
            self.held_shapes[known] -= 1
            if not self.held_shapes[known]:
                del self.held_shapes[known]
        if not worker.held_count:
            del self.holders[worker.id]
        return True

    def serve(self, worker: Worker) -> None:
        """A worker was handed something: it is the one served last."""
        self._serving += 1
        worker.served = self._serving
