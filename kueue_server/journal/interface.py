"""What the rest of the server knows of the journal: the orders it takes and the errors it gives.

The engine hands over groups of writes in order; each group is committed as a whole, in that order, and its
callback is called on the engine's loop when it is on disk. Several waiting groups share one commit. A full
disk keeps groups waiting (they are retried until they fit); a failed fsync is final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from kueue_server.core.instructions import JournalWrite, SavePart
from kueue_server.core.records import Restored, RestoredJob


class AddJobs(msgspec.Struct, frozen=True, gc=False):
    """A submitted block: ids `first …`. `contexts` are (SHA-256 hex, encoded `Context`), stored once each.
    `context_of[i]` is the hash that job i refers to (reference counted)."""

    first: int
    submitted_at: float
    specs: tuple[bytes, ...]
    context_of: tuple[str, ...]
    contexts: tuple[tuple[str, bytes], ...]
    token: str
    content_hash: str
    used_at: float = 0.0
    """When the token was used, by a clock that does not jump; 0: the journal says when."""
    whole: int = 0
    """How many jobs the token stands for, if this is the first of several blocks that are written together; the
    others have no token. 0: for just these."""
    array: SavePart | None = None
    """Instead of jobs: the tasks of an array, of which `whole` says how many."""

    @property
    def end(self) -> int:
        """The id after the last."""
        return self.first + len(self.specs) if self.array is None else self.array.last + 1


Write = JournalWrite | AddJobs


class KnownToken(msgspec.Struct, frozen=True):
    first: int
    count: int
    content_hash: str
    used_at: float


class JournalFullError(Exception):
    """No room on the disk, or a quota is exceeded: the group was rolled back."""


class JournalBrokenError(Exception):
    """A write or an fsync failed or the file is damaged: nothing may be acknowledged any more; the server ends."""


class Journal(Protocol):
    """The open journal. All methods are called from the engine's loop thread."""

    uuid: str
    on_broken: Callable[[JournalBrokenError], None] | None
    """Called once on the loop if the journal fails for good, also when no group waits."""

    def restore(self) -> Restored: ...

    def restored_jobs(self) -> Iterator[RestoredJob]:
        """All jobs by id; to be read to the end before the first write."""
        ...

    def write(
        self,
        writes: tuple[Write, ...],
        done: Callable[[JournalFullError | JournalBrokenError | None], None],
        *,
        give_up_when_full: bool,
    ) -> None:
        """Queue one group. `done(None)` on the loop once it is durable; with `give_up_when_full` (submits)
        `done(JournalFullError)` instead of waiting for room; `done(JournalBrokenError)` is final for all."""
        ...

    def completed(self, block: AddJobs) -> AddJobs:
        """The block with the time of its token, and with every context that its jobs refer to.

        Raises:
            KeyError: a context is neither in the block nor known. ValueError: a job refers to none.
        """
        ...

    @property
    def has_room_ahead(self) -> bool:
        """Is there room on the disk, taken up ahead, for a small group and what may go along with it? Then that does
        not fail for lack of room, but on file systems that copy on write."""
        ...

    @property
    def pending_bytes(self) -> int:
        """Approximate size of what is queued and not committed."""
        ...

    def token(self, token: str) -> KnownToken | None:
        """A submit token that was used within the last seven days (in memory; committed ones only)."""
        ...

    def context(self, digest: str) -> bytes | None: ...

    def read_context(self, digest: str, done: Callable[[bytes | None], None]) -> None:
        """As `context`, but never waits for the disk; `done` is called on the loop."""
        ...

    def read_tails(self, job: int, attempt: int, done: Callable[[tuple[bytes, bytes] | None], None]) -> None:
        """The ends of an attempt's output; `done` is called on the loop."""
        ...

    def backup(self, path: bytes, done: Callable[[Exception | None], None]) -> None:
        """A consistent copy beside running writes."""
        ...

    def close(self) -> None:
        """Commit what is queued, checkpoint, close, end the thread."""
        ...
