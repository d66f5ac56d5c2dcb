"""What really happened, and whether it was as promised.

The parts under test know only what reaches them; this knows which process of which attempt ran where and when,
what a client was told is safe, and what the server had heard of whom. Each fact is checked against the
promises of `docs/reliability.md` (G1 … G13) as it comes, the rest at the end of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from kueue.wire.messages import Spec
from tests.simulation.world import World

UNNOTICED_SECONDS = 1.6
"""A tick that comes less than half a second late is no sleep, and a tick is due every second."""
SHUTDOWN_SECONDS = 8.0
"""So near the end of its worker a bad end may count as an interruption."""
UNWRITTEN_SECONDS = 10.0
"""What a server learned so shortly before it died may not have been written down."""

FenceKey = tuple[str, int, int]
"""Journal, job, fence: one handing-over."""


class PromiseBrokenError(AssertionError):
    """A promise was broken; the text names it and the job. `job` is its journal and id."""

    def __init__(self, promise: str, text: str, job: tuple[str, int] | None = None) -> None:
        super().__init__(f"{promise}: {text}")
        self.promise = promise
        self.job = job


@dataclass
class Run:
    """One process of a job, as it really ran."""

    journal: str
    job: int
    fence: int
    attempt: int
    host: str
    spec: Spec
    started: float
    ends: float
    code: int
    parent_alive: bool = True
    ended: float | None = None
    how: str = ""
    """`exited` by itself; otherwise who ended it: `stopped`, `interrupted`, `time limit`, `left over`, `shutdown`,
    `power`."""
    recorded: bool = False
    recorded_at: float | None = None
    """The keeper has its end in its records."""
    records_lost: bool = False

    @property
    def key(self) -> FenceKey:
        """Its name."""
        return self.journal, self.job, self.fence

    @property
    def live(self) -> bool:
        """Does it run?"""
        return self.ended is None


@dataclass
class HandedOut:
    """An offer, as it left the server."""

    when: float
    host: str
    silences: dict[str, float]
    """For how long (at least) the server had been awake and not heard of each host, in seconds."""
    licences: int


@dataclass
class Truth:
    """All of one run. `licences` is how many there are now of the one global resource, `lic`."""

    world: World
    lease_seconds: float
    licences: int = 0
    runs: dict[tuple[str, int], list[Run]] = field(default_factory=dict)
    live: dict[FenceKey, Run] = field(default_factory=dict)
    offers: dict[FenceKey, HandedOut] = field(default_factory=dict)
    handed: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """The fences of each job, in the order of its offers."""
    heard: dict[str, float] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    found: dict[str, float] = field(default_factory=dict)
    """Hosts whose lease was over in some life of the server, and that were not heard of since."""
    acknowledged: dict[tuple[str, int], str] = field(default_factory=dict)
    """Jobs that a client was told are durable, and the name of each."""
    names: dict[str, int] = field(default_factory=dict)
    """How many jobs each submit had, by the name that all its jobs carry."""
    canceled: dict[tuple[str, int], float] = field(default_factory=dict)
    dropped: set[tuple[str, int]] = field(default_factory=set)
    asleep: float = 0.0
    """For how long the server was frozen, less what it need not notice of each time."""
    settled: dict[tuple[str, int], FenceKey] = field(default_factory=dict)
    """Jobs of whose current attempt the server has acknowledged an end of its own."""
    heard_ends: dict[FenceKey, float] = field(default_factory=dict)
    """Attempts whose end the server has heard of while they were the newest, and when."""
    forgotten_ends: set[FenceKey] = field(default_factory=set)
    """Those of them that it may not have written down before it died."""
    tries: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """Of jobs that are to be tried again, the fences of attempts that failed by themselves and were acknowledged."""
    forgotten: set[tuple[str, int]] = field(default_factory=set)
    ended_by_pause: set[FenceKey] = field(default_factory=set)
    """Attempts that were ordered to end because a person has paused their worker."""
    seen: dict[tuple[str, int], str] = field(default_factory=dict)
    """How a waiting client was told that a job ended."""
    told: list[tuple[float, str]] = field(default_factory=list)
    endings: dict[str, list[float]] = field(default_factory=dict)
    """When a worker was told to end."""
    on_start: list[Callable[[Run], None]] = field(default_factory=list)
    """Who else looks at each process that begins."""
    stories: dict[tuple[str, int], list[tuple[float, str]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    # ---------------------------------------------------------------- telling

    def count(self, what: str, number: int = 1) -> None:
        """For the figures of a campaign."""
        self.counts[what] = self.counts.get(what, 0) + number

    def tell(self, text: str) -> None:
        """Something that concerns everybody."""
        self.told.append((self.world.now, text))

    def told_to_end(self, host: str) -> None:
        """A worker, or the whole machine."""
        self.endings.setdefault(host, []).append(self.world.now)

    def tell_of(self, journal: str, job: int, text: str) -> None:
        """Something that concerns a job."""
        self.stories.setdefault((journal, job), []).append((self.world.now, text))

    def story(self, job: tuple[str, int] | None) -> list[str]:
        """What happened, in order: to everybody, and to one job."""
        lines = [(when, text) for when, text in self.told]
        if job is not None:
            lines += [(when, f"  job {job[1]}: {text}") for when, text in self.stories.get(job, [])]
        return [f"{when:10.4f}  {text}" for when, text in sorted(lines, key=lambda line: line[0])]

    # ---------------------------------------------------------------- the server

    @property
    def awake(self) -> float:
        """A clock that stands while the server is frozen."""
        return self.world.now - self.asleep

    def server_slept(self, seconds: float) -> None:
        """It was frozen for so long."""
        self.asleep += max(0.0, seconds - UNNOTICED_SECONDS)

    def server_heard(self, host: str, since: float) -> None:
        """A sign of life of a worker has reached the core of a server whose present life began at `since`."""
        was_lost = self._silence(host, since) >= self.lease_seconds - 1e-6
        self.heard[host] = self.awake
        if was_lost:
            self.lost.discard(host)
            self.found[host] = self.world.now

    def worker_forgotten(self, host: str) -> None:
        """A person has said that what a worker had is dead: that is on them."""
        for job, fences in self.handed.items():
            if any(self.offers[*job, fence].host == host for fence in fences):
                self.forgotten.add(job)

    def server_died(self, hosts: list[str], since: float, waiting_since: float | None) -> None:
        """What it had not written down is gone, also that a lost worker or an end had been heard of: just before it
        died, or long before if its disk was full (`waiting_since`: what it still had to write)."""
        self.review_leases(hosts, since)
        unwritten = self.world.now - UNWRITTEN_SECONDS
        if waiting_since is not None:
            unwritten = min(unwritten, waiting_since)
        self.lost.update(host for host, when in self.found.items() if when >= unwritten)
        self.found.clear()
        self.forgotten_ends.update(key for key, when in self.heard_ends.items() if when >= unwritten)

    def review_leases(self, hosts: list[str], since: float) -> None:
        """Which leases are over by now, for a server whose present life began at `since`? They stay so for the
        next life, until the worker is heard of."""
        self.lost.update(name for name in hosts if self._silence(name, since) >= self.lease_seconds - 1e-6)

    def _silence(self, host: str, since: float) -> float:
        return math.inf if host in self.lost else self.awake - max(since, self.heard.get(host, since))

    def handed_out(
        self, journal: str, job: int, fence: int, host: str, hosts: list[str], since: float, licences: int
    ) -> None:
        """The server, whose present life began at `since` and that knows of so many `licences`, decides to offer a
        job. Even if it dies before the offer leaves, this one is the newest."""
        self.review_leases(hosts, since)
        silences = {name: self._silence(name, since) for name in hosts}
        key = (journal, job, fence)
        assert key not in self.offers, f"fence {fence} was used twice"
        self.offers[key] = HandedOut(self.world.now, host, silences, licences)
        self.handed.setdefault((journal, job), []).append(fence)

    def offer_leaves(self, journal: str, job: int, fence: int) -> None:
        """What was decided is durable, and on its way."""
        host = self.offers[journal, job, fence].host
        self.tell_of(journal, job, f"offered to {host}, fence {fence % 10000}")
        if (journal, job) in self.canceled:
            self._break("cancel", journal, job, "handed out after its cancel was acknowledged")
        settled = self.settled.get((journal, job))
        if settled is not None:
            self._break(
                "G7", journal, job, f"handed out again after the end of {settled[2] % 10000} was settled"
            )

    def end_heard(self, journal: str, job: int, fence: int) -> None:
        """A worker's word of the end of an attempt reaches the server's core."""
        if self.handed.get((journal, job), [0])[-1] == fence:
            self.heard_ends[journal, job, fence] = self.world.now
            self.forgotten_ends.discard((journal, job, fence))

    def end_acknowledged(self, journal: str, job: int, fence: int) -> None:
        """A worker was told that the end of an attempt is safe: it forgets it."""
        self.tell_of(journal, job, f"end of {fence % 10000} acknowledged")
        run = self._run(journal, job, fence)
        if run is None or run.how != "exited" or not run.recorded or self._interruptible(run):
            return
        if (journal, job) in self.forgotten:
            return
        if is_retriable(run) and run.key in self.heard_ends:
            if run.key in self.ended_by_pause:
                return  # it crossed with the order to end it, which costs no try
            if run.key in self.forgotten_ends:
                return  # heard of again after the next had been handed out, for which it was lost
            tries = self.tries.setdefault((journal, job), set())
            tries.add(fence)
            if len(tries) <= run.spec.max_retries:
                self.count("retries")
                return
            self.settled.setdefault((journal, job), run.key)
            return
        if self.handed[journal, job][-1] == fence:
            self.settled.setdefault((journal, job), run.key)

    # ---------------------------------------------------------------- the machines

    def started(self, run: Run, capacity_cpus: int) -> None:
        """A process of a job begins."""
        job = (run.journal, run.job)
        earlier = self.runs.setdefault(job, [])
        self.tell_of(*job, f"starts on {run.host}, fence {run.fence % 10000}, attempt {run.attempt}")
        offer = self.offers.get(run.key)
        if offer is None:
            self._break("G3", *job, "started, but was never offered")
            return
        for other in earlier:
            self._may_run_beside(other, run)
        if not run.spec.restart and earlier:
            self._break("G4", *job, "at most once, and started a second time")
        for look in self.on_start:
            look(run)
        earlier.append(run)
        self.live[run.key] = run
        self.count("starts")
        if len(earlier) > 1:
            self.count("restarts")
        here = sum(other.spec.shape.cpus for other in self.live.values() if other.host == run.host)
        if here > capacity_cpus:
            self._break("capacity", *job, f"{here} CPUs in use on {run.host}, which has {capacity_cpus}")
        self._check_licences(run, offer)

    def ended(self, run: Run, how: str) -> None:
        """A process of a job is gone."""
        run.ended, run.how = self.world.now, how
        self.live.pop(run.key, None)
        code = f" with {run.code}" if how == "exited" else ""
        self.tell_of(run.journal, run.job, f"process of {run.fence % 10000} ends on {run.host}: {how}{code}")

    def _check_licences(self, run: Run, offer: HandedOut) -> None:
        if not _licences_of(run):
            return
        used = sum(_licences_of(other) for other in self.live.values() if other.journal == run.journal)
        if used > max(offer.licences, self.licences):
            self._break("G5", run.journal, run.job, f"{used} licences in use, there are {self.licences}")

    def _may_run_beside(self, other: Run, run: Run) -> None:
        """Was there a reason to hand the job out again while (or although) `other` was?"""
        job = (run.journal, run.job)
        if other.key == run.key:
            self._break("G4", *job, f"the same attempt {run.fence % 10000} started twice")
        if other.live and other.host == run.host:
            self._break("G4", *job, f"two attempts live on {run.host}")
        older, newer = sorted((other, run), key=lambda one: self.offers[one.key].when)
        between = self.handed[job]
        between = between[between.index(older.fence) + 1 : between.index(newer.fence) + 1]
        silence = max(self.offers[*job, fence].silences[older.host] for fence in between)
        if silence >= self.lease_seconds - 1e-6:
            return  # lost: the lease was over when it was handed out again
        if job in self.forgotten:
            return
        if other.live:
            self._break(
                "G4",
                *job,
                f"{other.fence % 10000} lives on {other.host}, last heard of {silence:.3f} s before the offer of "
                f"{newer.fence % 10000}",
            )
        by_itself = other.how in ("exited", "time limit")
        if by_itself and is_retriable(other) and other.key in self.heard_ends:
            return  # how often that may be, its acknowledgements tell
        excused = by_itself and (not other.recorded or other.records_lost or self._interruptible(other))
        excused = excused or (other.how == "stopped" and other.key in self.ended_by_pause)
        if not excused and other.how not in ("interrupted", "left over", "shutdown", "power"):
            self._break("G6", *job, f"{other.fence % 10000} ended ({other.how}), and the job starts again")

    def _interruptible(self, run: Run) -> bool:
        """A bad end near the end of its worker counts as an interruption, and so does one that a keeper which was
        frozen sees only then."""
        ended = run.ended
        if run.code == 0 or ended is None:
            return False
        seen = ended if run.recorded_at is None else run.recorded_at
        endings = self.endings.get(run.host, ())
        return any(ended - SHUTDOWN_SECONDS < when < seen + SHUTDOWN_SECONDS for when in endings)

    def power_lost(self, host: str, *, records: bool) -> None:
        """A machine goes down at once; `records`: what its keeper wrote last is gone."""
        for runs in self.runs.values():
            for run in runs:
                if run.host == host:
                    if run.live:
                        self.ended(run, "power")
                    run.records_lost = run.records_lost or records

    # ---------------------------------------------------------------- clients

    def submitted(self, journal: str, first: int, count: int, name: str) -> None:
        """A client was told that its jobs are durable."""
        for job in range(first, first + count):
            self.acknowledged[journal, job] = name
            self.count("jobs acknowledged")
            self.tell_of(journal, job, f"acknowledged to its submitter ({name})")

    def cancel_acknowledged(self, journal: str, jobs: list[int]) -> None:
        """A client was told that these are canceled."""
        for job in jobs:
            self.canceled.setdefault((journal, job), self.world.now)
            self.tell_of(journal, job, "cancel acknowledged")

    # ---------------------------------------------------------------- inside

    def _run(self, journal: str, job: int, fence: int) -> Run | None:
        for run in self.runs.get((journal, job), ()):
            if run.fence == fence:
                return run
        return None

    def _break(self, promise: str, journal: str, job: int, text: str) -> NoReturn:
        self.broken(PromiseBrokenError(promise, f"job {job}: {text}", (journal, job)))

    def broken(self, error: PromiseBrokenError) -> NoReturn:
        """Noted as well as raised: the product keeps one peer's exceptions from the others."""
        self.world.faults.append(error)
        raise error


def is_retriable(run: Run) -> bool:
    """Has it ended in a way for which its job is to be tried again?"""
    spec = run.spec
    if run.how != "exited" or not run.code or not spec.max_retries:
        return False
    return not spec.retry_on or run.code in spec.retry_on


def _licences_of(run: Run) -> int:
    return sum(amount for name, amount in run.spec.shape.resources if name == "lic")
