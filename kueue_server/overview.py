"""The whole in figures, for those who look on: told anew each second in which it changed, never asked for.

What one of them was told last is kept with the subscription, so that each second's news are what differs from it:
somebody who reads too slowly misses seconds, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import msgspec

from kueue.wire.link import Link
from kueue.wire.messages import ClusterState, QueueView, Reason, ResourceView, WatchCluster, WorkerView
from kueue_server.core.core import Core

MOST_AT_ONCE = 200
"""Workers of one message."""
MOST_OF_ONE = 100
"""Subscriptions of one connection."""
MAX_QUEUED_BYTES = 256 * 1024
"""Unsent bytes at which a second is left out."""


class _Subscription:
    """One `WatchCluster` of one connection, and what it was told last (nothing yet: `figures` is None)."""

    def __init__(self, link: Link, rid: int, details: bool) -> None:
        self.link = link
        self.rid = rid
        self.details = details
        self.figures: ClusterState | None = None
        self.workers: dict[int, WorkerView] = {}
        self.resources: tuple[ResourceView, ...] | None = None
        self.queues: tuple[QueueView, ...] | None = None


class _Now:
    """The whole as it is now; the dearer parts are made when the first one asks for them."""

    def __init__(self, core: Core, now: float, max_parallel_jobs: int | None) -> None:
        self._core = core
        self._now = now
        self._max_parallel_jobs = max_parallel_jobs

    @cached_property
    def figures(self) -> ClusterState:
        core = self._core
        cpus, used = core.cpus()
        return ClusterState(
            0,
            core.counts(self._now),
            core.oldest,
            core.newest,
            core.ended,
            cpus,
            used,
            parallel_jobs=core.parallel_jobs,
            max_parallel_jobs=self._max_parallel_jobs,
        )

    @cached_property
    def workers(self) -> dict[int, WorkerView]:
        return {worker.id: _without_clock(worker) for worker in self._core.workers(self._now)}

    @cached_property
    def resources(self) -> tuple[ResourceView, ...]:
        return self._core.resources()

    @cached_property
    def queues(self) -> tuple[QueueView, ...]:
        return tuple(map(_without_rate, self._core.queues(self._now)))


class Overview:
    """All subscriptions to the whole. `max_parallel_jobs` reads the limit as it is now."""

    def __init__(self, core: Core, max_parallel_jobs: Callable[[], int | None]) -> None:
        self._core = core
        self._max_parallel_jobs = max_parallel_jobs
        self._all: dict[tuple[int, int], _Subscription] = {}

    def watch(self, link: Link, message: WatchCluster, now: float) -> Reason | None:
        """Begin a subscription, or begin it anew; its first message leaves at once. Why not, if not."""
        self.unwatch(link, message.rid)
        if sum(key[0] == id(link) for key in self._all) >= MOST_OF_ONE:
            return Reason("too_many_watches", f"a connection may look on {MOST_OF_ONE} times")
        subscription = _Subscription(link, message.rid, message.details)
        self._all[id(link), message.rid] = subscription
        self._tell(subscription, self._as_it_is(now))
        return None

    def unwatch(self, link: Link, rid: int) -> None:
        """End a subscription, if there is one."""
        self._all.pop((id(link), rid), None)

    def drop(self, link: Link) -> None:
        """The connection is gone."""
        for key in [key for key in self._all if key[0] == id(link)]:
            del self._all[key]

    def tick(self, now: float) -> None:
        """A second is over: who looks on is told what changed."""
        if not self._all:
            return
        whole = self._as_it_is(now)
        for subscription in list(self._all.values()):
            if subscription.link.queued_bytes <= MAX_QUEUED_BYTES:
                self._tell(subscription, whole)

    def _as_it_is(self, now: float) -> _Now:
        return _Now(self._core, now, self._max_parallel_jobs())

    @staticmethod
    def _tell(to: _Subscription, whole: _Now) -> None:
        workers: list[WorkerView] = []
        resources: tuple[ResourceView, ...] | None = None
        queues: tuple[QueueView, ...] | None = None
        gone: tuple[int, ...] = ()
        if to.details:
            workers = [worker for key, worker in whole.workers.items() if to.workers.get(key) != worker]
            gone = tuple(key for key in to.workers if key not in whole.workers)
            resources = whole.resources if whole.resources != to.resources else None
            queues = whole.queues if whole.queues != to.queues else None
            to.workers, to.resources, to.queues = whole.workers, whole.resources, whole.queues
        news = workers or gone or resources is not None or queues is not None
        if whole.figures == to.figures and not news:
            return
        to.figures = whole.figures
        state = msgspec.structs.replace(whole.figures, rid=to.rid)
        while len(workers) > MOST_AT_ONCE:
            to.link.send(msgspec.structs.replace(state, workers=tuple(workers[:MOST_AT_ONCE]), more=True))
            del workers[:MOST_AT_ONCE]
        to.link.send(
            msgspec.structs.replace(
                state, workers=tuple(workers), gone=gone, resources=resources, queues=queues
            )
        )


def _without_clock(worker: WorkerView) -> WorkerView:
    """Without what changes though nothing happens: when a connected worker was heard of last."""
    if worker.state != "connected":
        return worker
    return msgspec.structs.replace(worker, last_seen_at=None)


def _without_rate(queue: QueueView) -> QueueView:
    """Without what changes as time goes by: how fast it goes."""
    counts = msgspec.structs.replace(queue.counts, eta_seconds=None)
    return msgspec.structs.replace(queue, counts=counts, per_minute=None)
