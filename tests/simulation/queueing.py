"""What people do to queues, as actions of a schedule, and whether it is heeded as promised (G14).

Promises: when a pause of a queue is acknowledged, nothing of it starts until a person ends that, whoever restarts, but
what was on workers that were away; no more of a queue run than its limit was when they were handed out; what was set
and acknowledged stays so; a key makes one job in its queue.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from kueue.job import JobState
from kueue.wire.messages import Spec
from kueue_server.core.core import Core
from kueue_server.core.events import (
    Event,
    PauseQueuesRequested,
    RemoveQueueRequested,
    ResumeQueuesRequested,
    SetQueueRequested,
)
from kueue_server.core.instructions import AnswerQueues
from kueue_server.core.jobs import spec_of
from tests.simulation.truth import PromiseBrokenError, Run, Truth

if TYPE_CHECKING:
    from tests.simulation.disk import Disk

QUEUES = ("tapeout", "night", "default")
MOST = 6
Drawn = tuple[float, str, dict[str, Any]]
Settings = tuple[int, int | None, bool]
"""Weight, limit, and whether it is paused."""
UNSET: Settings = (1, None, False)


def draw_queueing(seed: int, seconds: float, times: list[float]) -> Iterator[Drawn]:
    """What people do of this kind, in some of the runs: when, what, how. Drawn apart, so that the rest of a schedule
    stays as it is."""
    dice = random.Random(f"queues {seed}")
    if dice.random() < 0.6:
        return
    for _ in range(dice.randrange(1, MOST + 1)):
        at = dice.uniform(0.0, seconds)
        if dice.random() < 0.5:  # soon after something else: where races are
            at = min(seconds, dice.choice(times) + dice.expovariate(2.0))
        for when, what, how in _draw(dice):
            yield round(min(seconds, at + when), 3), what, how


def _draw(dice: random.Random) -> Iterator[Drawn]:
    queue = dice.choice(QUEUES)
    how = _submit(dice, queue)
    yield 0.0, "submit", how
    if "keys" in how and dice.random() < 0.7:  # somebody else with the same ones
        yield dice.choice((0.0, 0.001, 0.002, 0.5)), "submit", {**how, "count": 5, "wait": False}
    what = dice.choice(("pause", "pause", "limit", "limit", "weight", "resume", "remove"))
    at = dice.choice((0.0, 0.02, 0.5, 3.0))
    if what == "pause":
        yield at, "pause queue", {"queue": queue}
        if dice.random() < 0.5:
            yield at + dice.uniform(0.0, 40.0), "resume queue", {"queue": queue}
    elif what == "limit":
        yield at, "set queue", {"queue": queue, "max_running": dice.choice((0, 1, 1, 2, 3))}
    elif what == "weight":
        yield at, "set queue", {"queue": queue, "weight": dice.choice((1, 2, 5))}
    elif what == "resume":
        yield at, "resume queue", {"queue": queue}
    else:
        yield at, "remove queue", {"queue": queue}
    if dice.random() < 0.3:
        down = round(dice.uniform(0.1, 5.0), 3)
        yield at, "kill", {"part": "server", "down": down, "instruction": dice.randrange(12)}


def _submit(dice: random.Random, queue: str) -> dict[str, Any]:
    how: dict[str, Any] = {
        "count": dice.choice((2, 4, 8)),
        "seconds": dice.choice((0.05, 0.5, 5.0, 20.0)),
        "cpus": dice.choice((1, 1, 2)),
        "wait": dice.random() < 0.2,
        "queue": queue,
    }
    if dice.random() < 0.2:
        how["restart"] = False
    if dice.random() < 0.4:
        how["keys"] = dice.choice((1, 3, 6))
    return how


@dataclass
class QueueTruth:
    """Of one journal. `acknowledged` is what was set of each queue, as a person was told; a queue of which something
    else was asked since is not there."""

    acknowledged: dict[str, Settings] = field(default_factory=dict)
    last: dict[str, object] = field(default_factory=dict)
    excused: set[tuple[int, int]] = field(default_factory=set)
    """Attempts that were on workers that are away when a pause was acknowledged."""
    limits: dict[tuple[int, int], float] = field(default_factory=dict)
    """The limit of its queue when an attempt was handed out."""

    def come_from(self, older: QueueTruth) -> None:
        """This journal begins as a copy of that one."""
        self.acknowledged = dict(older.acknowledged)
        self.excused = set(older.excused)


class QueueWatcher:
    """One life of the server, as far as queues are concerned."""

    def __init__(self, truth: Truth, disk: Disk) -> None:
        self._truth = truth
        self._disk = disk
        self._queues = disk.queued
        self._asked: dict[int, tuple[str, ...]] = {}
        self._pauses: set[int] = set()

    def after(self, core: Core, event: Event) -> None:
        """An event was handled."""
        match event:
            case PauseQueuesRequested() | ResumeQueuesRequested():
                self._ask(event.request, event.queues)
                if isinstance(event, PauseQueuesRequested):
                    self._pauses.add(event.request)
            case SetQueueRequested() | RemoveQueueRequested():
                self._ask(event.request, (event.queue,))
            case _:
                pass
        for name, told in self._queues.acknowledged.items():
            now = settings_of(core, name)
            if now != told:
                self._break(f"queue {name} is {now}, a person was told that it is {told}")

    def handed_out(self, core: Core, number: int, fence: int) -> None:
        """A job was handed to a worker."""
        queue = core._state.table.jobs[number].lane.queue
        self._queues.limits[number, fence] = math.inf if queue.max_running is None else queue.max_running
        if queue.paused is not None:
            self._break(f"job {number} is handed out, and queue {queue.name} is paused")
        if queue.max_running is not None and queue.handed_out > queue.max_running:
            self._break(f"{queue.handed_out} of queue {queue.name} are handed out, {queue.max_running} may")

    def answered(self, core: Core, answer: AnswerQueues) -> None:
        """A person is told that it is so: now it is on the disk."""
        names = self._asked.pop(answer.request, ())
        if answer.error is not None:
            return
        for name in names:
            if self._queues.last.get(name) != (self, answer.request):
                continue
            told = self._queues.acknowledged[name] = settings_of(core, name)
            row = self._disk.rows.queues.get(name)
            kept = UNSET if row is None else (row.weight, row.max_running, row.paused_since is not None)
            if kept != told:
                self._break(f"queue {name} is {kept} on the disk, {told} is acknowledged")
            if told[2]:
                jobs = core._state.queues.by_name[name].jobs
                for job in map(core._state.table.jobs.__getitem__, jobs):
                    self._queues.excused.update((job.id, fence) for _, fence in job.holding)
                    if job.state is JobState.OFFERED:
                        worker = core._state.workers.by_id[job.worker]
                        # One that was away may have come back while the answer waited for the disk.
                        is_told = any("not known" in line or "are away" in line for line in answer.lines)
                        if answer.request in self._pauses and worker.session is not None and not is_told:
                            self._break(
                                f"job {job.id} may still start, and a pause of {name} is acknowledged"
                            )
                        self._queues.excused.add((job.id, job.fence))

    # ---------------------------------------------------------------- inside

    def _ask(self, request: int, names: tuple[str, ...]) -> None:
        self._asked[request] = names
        for name in names:
            self._queues.last[name] = (self, request)
            self._queues.acknowledged.pop(name, None)

    def _break(self, text: str) -> None:
        self._truth.broken(PromiseBrokenError("G14", text))


def settings_of(core: Core, name: str) -> Settings:
    """What is set of a queue now."""
    queue = core._state.queues.by_name.get(name)
    return UNSET if queue is None else (queue.weight, queue.max_running, queue.paused is not None)


def with_keys(spec: Spec, count: int, keys: int) -> list[Spec]:
    """Jobs that have so many keys between them; 0: none."""
    names = [f"key {number % keys}" if keys else "" for number in range(count)]
    return [msgspec.structs.replace(spec, key=name) for name in names]


def check_keys(core: Core, journal: str) -> None:
    """When all is quiet: no key is there twice but by reruns."""
    seen: dict[tuple[str, str], int] = {}
    for number, job in core._state.table.jobs.items():
        spec = spec_of(job)
        if spec.key and spec.rerun_of is None:
            other = seen.setdefault((spec.queue, spec.key), number)
            if other != number:
                text = f"jobs {other} and {number} have {spec.key!r} in queue {spec.queue}"
                raise PromiseBrokenError("G14", text, (journal, number))


def started(truth: Truth, disks: dict[str, Disk], run: Run) -> None:
    """A process of a job begins: may it, as far as its queue is concerned?"""
    disk = disks.get(run.journal)
    if disk is None:
        return
    queues, name, key = disk.queued, run.spec.queue, (run.job, run.fence)
    if queues.acknowledged.get(name, UNSET)[2] and key not in queues.excused:
        text = f"job {run.job} starts, and the pause of queue {name} is acknowledged"
        truth.broken(PromiseBrokenError("G14", text, (run.journal, run.job)))
    live = [
        other for other in truth.live.values() if other.journal == run.journal and other.spec.queue == name
    ]
    live = [other for other in live if (other.journal, other.job) not in truth.forgotten]
    most = max(queues.limits.get((other.job, other.fence), math.inf) for other in [run, *live])
    if len({other.key for other in [run, *live]}) > most:
        text = f"{len(live) + 1} jobs of queue {name} run, {most:.0f} may"
        truth.broken(PromiseBrokenError("G14", text, (run.journal, run.job)))
