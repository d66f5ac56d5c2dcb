"""Watching: who wants to hear of which jobs, told by sequence numbers. Never a poll, never a waiter a job.

Every committed set of changes has a number. A watcher gets a snapshot, then each change; one that reads too
slowly has changes dropped and gets a fresh snapshot (`resync`); one that comes back with the number it saw
last gets what changed since, as long as the server remembers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from kueue.wire.link import Link
from kueue.wire.messages import MAX_ITEMS, JobChange, Range, Reason, Watch, WatchState
from kueue_server.core.idranges import merged

MAX_REMEMBERED_IDS = 200_000
"""Changed ids that are remembered for watchers that come back."""
MAX_QUEUED_BYTES = 4 * 1024 * 1024
"""Unsent bytes at which a watcher counts as slow."""
SNAPSHOT_QUEUED_BYTES = 512 * 1024
"""Unsent bytes at which a snapshot pauses."""
INDEXED_IDS = 64
"""Watches of at most so many ids are found by id; wider ones by their ranges."""
MOST_WATCHES = 10_000
"""Of one connection."""
MOST_WIDE_WATCHES = 1000
"""Of these: each change of a job looks at all of them."""
MOST_RANGES = 250_000
"""Of all watches of one connection."""


class _Subscription:
    """One `Watch` of one connection. While `snapshot` is set, its messages are still being sent."""

    def __init__(self, link: Link, rid: int, ranges: tuple[Range, ...]) -> None:
        self.link = link
        self.rid = rid
        self.ranges = ranges
        self.is_wide = _width(ranges) > INDEXED_IDS
        self._spans = merged(ranges) if self.is_wide else []
        self._firsts = [first for first, _ in self._spans]
        self.snapshot: Iterator[int] | None = None
        self.greeted = False  # told which journal this is
        self.resync = False
        self.late: dict[int, None] = {}  # changed while the snapshot was being sent
        self.late_ranges: list[Range] = []  # the same of many at once

    def wants(self, job: int) -> bool:
        if not self.is_wide:
            return any(first <= job <= last for first, last in self.ranges)
        place = bisect_right(self._firsts, job) - 1
        return place >= 0 and job <= self._spans[place][1]

    def wanted_of(self, ranges: Iterable[Range]) -> list[Range]:
        """What it is about of these ranges."""
        spans = list(ranges)
        return merged([(max(a, low), min(b, high)) for a, b in self.ranges for low, high in spans])


class WatchHub:
    """All subscriptions. `change_of` reads a job as it is now, `ids_of` the ids to show for ranges.

    `is_told` says whether all that happened to a job is durable: a job of which that is not so is left out
    until `changed` names it, so that nobody is told of an end that a crash may still undo. `journal` is its id.
    """

    def __init__(
        self,
        change_of: Callable[[int], JobChange],
        ids_of: Callable[[tuple[Range, ...]], Iterator[int]],
        is_told: Callable[[int], bool],
        first_seq: int,
        journal: str,
    ) -> None:
        self._change_of = change_of
        self._ids_of = ids_of
        self._is_told = is_told
        self._journal = journal
        # No number of an earlier run of the server is one of ours: who comes back with one gets a snapshot.
        self.seq = first_seq
        self._remembered: deque[tuple[int, tuple[int, ...], tuple[Range, ...]]] = deque()
        self._remembered_ids = 0
        self._forgotten_up_to = first_seq
        self._by_id: dict[int, list[_Subscription]] = {}
        self._wide: dict[tuple[int, int], _Subscription] = {}
        self._all: dict[tuple[int, int], _Subscription] = {}
        self._unsent: dict[tuple[int, int], _Subscription] = {}
        self._of_link: dict[int, dict[int, _Subscription]] = {}

    def watch(self, link: Link, message: Watch) -> Reason | None:
        """Begin a subscription; its first messages leave at once. Why not, if not."""
        key = (id(link), message.rid)
        self.unwatch(link, message.rid)
        subscription = _Subscription(link, message.rid, message.ranges)
        refusal = self._refusal_of(subscription)
        if refusal is not None:
            return refusal
        self._all[key] = subscription
        self._of_link.setdefault(id(link), {})[message.rid] = subscription
        if not subscription.is_wide:
            for first, last in message.ranges:
                for job in range(first, last + 1):
                    self._by_id.setdefault(job, []).append(subscription)
        else:
            self._wide[key] = subscription
        since = message.since
        if since is not None and self._forgotten_up_to <= since <= self.seq:
            changed = {
                job: None
                for seq, jobs, _ in self._remembered
                if seq > since
                for job in jobs
                if subscription.wants(job)
            }
            many = [span for seq, _, ranges in self._remembered if seq > since for span in ranges]
            spans = tuple(subscription.wanted_of(many))
            subscription.snapshot = chain(sorted(changed), self._ids_of(spans))
        else:
            subscription.snapshot = self._ids_of(message.ranges)
        self._send_snapshot(key, subscription)
        return None

    def _refusal_of(self, fresh: _Subscription) -> Reason | None:
        own = self._of_link.get(id(fresh.link))
        if own is None:
            return None
        if len(own) >= MOST_WATCHES:
            return Reason("too_many_watches", f"a connection may have {MOST_WATCHES} watches")
        if fresh.is_wide:
            # All are counted only where most are narrow, and then there are few of these.
            wide = [len(each.ranges) for each in own.values() if each.is_wide]
            if len(wide) >= MOST_WIDE_WATCHES:
                text = f"a connection may have {MOST_WIDE_WATCHES} watches of more than {INDEXED_IDS} jobs"
                return Reason("too_many_watches", text)
            if sum(wide) + len(fresh.ranges) > MOST_RANGES:
                return Reason("too_many_watches", f"a connection may watch {MOST_RANGES} ranges of ids")
        return None

    def unwatch(self, link: Link, rid: int) -> None:
        """End a subscription, if there is one."""
        key = (id(link), rid)
        subscription = self._all.pop(key, None)
        self._unsent.pop(key, None)
        if subscription is None:
            return
        own = self._of_link[id(link)]
        del own[rid]
        if not own:
            del self._of_link[id(link)]
        if self._wide.pop(key, None) is not None:
            return
        for first, last in subscription.ranges:
            for job in range(first, last + 1):
                watching = self._by_id.get(job)
                if watching is not None and subscription in watching:
                    watching.remove(subscription)
                    if not watching:
                        del self._by_id[job]

    def drop(self, link: Link) -> None:
        """The connection is gone."""
        for rid in list(self._of_link.get(id(link), ())):
            self.unwatch(link, rid)

    def changed(self, jobs: tuple[int, ...], ranges: tuple[Range, ...] = ()) -> None:
        """These jobs changed, and the changes are durable."""
        self.seq += 1
        self._remember(jobs, ranges)
        if not self._all:
            return
        if ranges:
            self._tell_of_many(ranges)
        told: dict[_Subscription, list[int]] = {}
        wide = list(self._wide.values())
        for job in jobs:
            for subscription in self._by_id.get(job, ()):
                told.setdefault(subscription, []).append(job)
            for subscription in wide:
                if subscription.wants(job):
                    told.setdefault(subscription, []).append(job)
        for subscription, changed in told.items():
            self._tell(subscription, changed)

    def _tell_of_many(self, ranges: tuple[Range, ...]) -> None:
        """However many they are, they are told of like a snapshot: as fast as the reader takes it."""
        for key, subscription in list(self._all.items()):
            spans = subscription.wanted_of(ranges)
            if spans and subscription.snapshot is None:
                subscription.snapshot = self._ids_of(tuple(spans))
                self._send_snapshot(key, subscription)
            elif spans:
                subscription.late_ranges += spans

    def resume_unsent(self) -> None:
        """Go on with snapshots that were paused for slow readers. Called on each drained link or tick."""
        for key, subscription in list(self._unsent.items()):
            self._send_snapshot(key, subscription)

    def _tell(self, subscription: _Subscription, jobs: list[int]) -> None:
        if subscription.snapshot is not None:
            subscription.late.update(dict.fromkeys(jobs))
            return
        if subscription.link.queued_bytes > MAX_QUEUED_BYTES:
            subscription.resync = True
            subscription.snapshot = self._ids_of(subscription.ranges)
            subscription.late.clear()
            subscription.late_ranges.clear()
            self._unsent[id(subscription.link), subscription.rid] = subscription
            return
        for start in range(0, len(jobs), MAX_ITEMS):
            part = jobs[start : start + MAX_ITEMS]
            changes = self._changes(part)
            # A watcher that loses the connection in between must not take this number for all it has seen.
            more = start + MAX_ITEMS < len(jobs)
            subscription.link.send(WatchState(subscription.rid, self.seq, changes, more=more))

    def _send_snapshot(self, key: tuple[int, int], subscription: _Subscription) -> None:
        if subscription.resync and subscription.link.queued_bytes > SNAPSHOT_QUEUED_BYTES:
            return
        while subscription.snapshot is not None:
            if subscription.link.queued_bytes > SNAPSHOT_QUEUED_BYTES:
                self._unsent[key] = subscription
                return
            part = tuple(islice(subscription.snapshot, MAX_ITEMS))
            last = len(part) < MAX_ITEMS
            state = WatchState(
                subscription.rid,
                self.seq,
                self._changes(part),
                more=not last or bool(subscription.late or subscription.late_ranges),
                resync=subscription.resync,
                journal="" if subscription.greeted else self._journal,
            )
            subscription.greeted = True
            subscription.resync = False
            subscription.link.send(state)
            if last:
                spans, subscription.late_ranges = subscription.late_ranges, []
                subscription.snapshot = self._ids_of(tuple(merged(spans))) if spans else None
        self._unsent.pop(key, None)
        if subscription.late:
            late = list(subscription.late)
            subscription.late.clear()
            self._tell(subscription, late)

    def _changes(self, jobs: Iterable[int]) -> tuple[JobChange, ...]:
        return tuple([self._change_of(job) for job in jobs if self._is_told(job)])

    def _remember(self, jobs: tuple[int, ...], ranges: tuple[Range, ...]) -> None:
        self._remembered.append((self.seq, jobs, ranges))
        self._remembered_ids += len(jobs) + len(ranges)
        while self._remembered_ids > MAX_REMEMBERED_IDS and self._remembered:
            seq, forgotten, spans = self._remembered.popleft()
            self._remembered_ids -= len(forgotten) + len(spans)
            self._forgotten_up_to = seq


def _width(ranges: tuple[Range, ...]) -> int:
    return sum(max(0, last - first + 1) for first, last in ranges)
