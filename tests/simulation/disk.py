"""The journal's disk: what was committed survives, what was not is gone, and commits take their time.

Implements `journal.interface.Journal` over plain dicts. A crash in the middle of a commit may leave the group
or not, never a part of it. The disk may be full for a while, or fail for good.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec

from kueue.job import JobState
from kueue_server.core.records import Restored, RestoredJob
from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError, KnownToken, Write
from tests.simulation.following import Forgotten
from tests.simulation.queueing import QueueTruth
from tests.simulation.steered import Steered
from tests.simulation.world import Process
from tests.support.core_bench import MemoryJournal

Done = Callable[[JournalFullError | JournalBrokenError | None], None]


class Disk:
    """What is on the server's disk, whatever becomes of the server."""

    def __init__(self, uuid: str, delays: random.Random) -> None:
        self.uuid = uuid
        self.rows = MemoryJournal()
        self.contexts: dict[str, bytes] = {}
        self.tokens: dict[str, KnownToken] = {}
        self.steered = Steered()
        """What people have asked of the workers of this journal."""
        self.queued = QueueTruth()
        """And of its queues."""
        self.forgotten = Forgotten()
        self.full = False
        self.delays = delays
        self.commit_seconds = 0.002

    def apply(self, write: Write) -> None:
        """Carry out one write of a committed group."""
        self.forgotten.note(self.rows, write)
        if not isinstance(write, AddJobs):
            self.rows.apply(write)
            return
        for number, spec in enumerate(write.specs, write.first):
            assert number not in self.rows.jobs, f"id {number} was given twice"
            self.rows.jobs[number] = RestoredJob(number, write.submitted_at, JobState.PENDING, spec, None)
        if write.array is not None:
            self.rows.apply(write.array)
        self.rows.next_job = max(self.rows.next_job, write.end)
        self.contexts.update(write.contexts)
        if not write.token:
            return
        assert write.token not in self.tokens, f"token {write.token} was used twice"
        count = write.whole or len(write.specs)
        self.tokens[write.token] = KnownToken(write.first, count, write.content_hash, write.submitted_at)


class SimulatedJournal:
    """The open journal of one life of the server."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self.disk = disk
        self.uuid = disk.uuid
        self.pending_bytes = 0
        self.on_broken: Callable[[JournalBrokenError], None] | None = None
        self._process = process
        self._queue: list[tuple[tuple[Write, ...], Done, bool]] = []
        self._committing: list[tuple[tuple[Write, ...], Done, bool]] = []
        self._broken: JournalBrokenError | None = None
        self.waiting_since: float | None = None
        """When the first of what is not written yet was to be written."""
        self._asked_for_room = 0
        self._is_over = False  # as with the real one: after a failure nothing is written any more
        process.died.append(self._on_death)

    # ---------------------------------------------------------------- writing

    def write(self, writes: tuple[Write, ...], done: Done, *, give_up_when_full: bool) -> None:
        self._process.instruction()
        if self._is_over:
            self._process.loop.call_soon(done, self._broken)
            return
        self._queue.append((writes, done, give_up_when_full))
        if self.waiting_since is None:
            self.waiting_since = self._process.world.now
        if not self._committing:
            self._begin()

    def completed(self, block: AddJobs) -> AddJobs:
        contexts = dict(block.contexts)
        contexts.update((one, self.disk.contexts[one]) for one in block.context_of if one not in contexts)
        return msgspec.structs.replace(block, contexts=tuple(contexts.items()))

    @property
    def has_room_ahead(self) -> bool:
        """Not each time, so that small submits go both ways."""
        self._asked_for_room += 1
        return not self.disk.full and self._asked_for_room % 4 != 0

    def fail(self) -> None:
        """The next fsync fails: nobody knows whether what was being committed is on the disk."""
        self._broken = JournalBrokenError("fsync failed: Input/output error")

    def _begin(self) -> None:
        if self.disk.full:
            # Submits are told; everything else waits for room.
            given_up = [entry for entry in self._queue if entry[2]]
            self._queue = [entry for entry in self._queue if not entry[2]]
            for _, done, _ in given_up:
                self._process.loop.call_soon(done, JournalFullError("no space left on device"))
            if self._queue:
                self._process.loop.call_later(1.0, self._try_again)
            else:
                self.waiting_since = None
            return
        self._committing, self._queue = self._queue, []
        seconds = self.disk.delays.uniform(0.0001, self.disk.commit_seconds)
        self._process.loop.call_later(seconds, self._commit)

    def _try_again(self) -> None:
        if not self._committing and self._queue:
            self._begin()

    def _commit(self) -> None:
        groups, self._committing = self._committing, []
        if self._broken is not None:
            self._is_over = True
            self._apply_some(groups)
            waiting, self._queue = [*groups, *self._queue], []
            for _, done, _ in waiting:
                self._process.loop.call_soon(done, self._broken)
            if self.on_broken is not None:
                self._process.loop.call_soon(self.on_broken, self._broken)
            return
        self._process.instruction()
        for writes, _, _ in groups:
            for write in writes:
                self.disk.apply(write)
        self.waiting_since = self._process.world.now if self._queue else None
        self._process.instruction()
        for _, done, _ in groups:
            self._process.loop.call_soon(done, None)
        if self._queue:
            self._begin()

    def _on_death(self) -> None:
        groups, self._committing = self._committing, []
        self._apply_some(groups)

    def _apply_some(self, groups: list[tuple[tuple[Write, ...], Done, bool]]) -> None:
        """Of what was being committed, the first groups may be on the disk: commits are in order."""
        for writes, _, _ in groups:
            if self.disk.delays.random() < 0.5:
                return
            for write in writes:
                self.disk.apply(write)

    # ---------------------------------------------------------------- reading

    def restore(self) -> Restored:
        return self.disk.rows.restored()

    def restored_jobs(self) -> Iterator[RestoredJob]:
        rows = self.disk.rows
        return iter([rows.jobs[number] for number in sorted(rows.jobs)])

    def token(self, token: str) -> KnownToken | None:
        return self.disk.tokens.get(token)

    def context(self, digest: str) -> bytes | None:
        return self.disk.contexts.get(digest)

    def read_context(self, digest: str, done: Callable[[bytes | None], None]) -> None:
        self._process.loop.call_soon(done, self.context(digest))

    def read_tails(self, job: int, attempt: int, done: Callable[[tuple[bytes, bytes] | None], None]) -> None:
        self._process.loop.call_soon(done, self.disk.rows.tails.get((job, attempt)))

    def backup(self, path: bytes, done: Callable[[Exception | None], None]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Everything that was promised is committed already."""
