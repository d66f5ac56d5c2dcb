"""A journal on a real file, and a way to write to it and wait."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kueue_server.journal.interface import AddJobs, JournalBrokenError, JournalFullError, Write
from kueue_server.journal.store import SqliteJournal, open_journal

Outcome = JournalFullError | JournalBrokenError | None


class Bench:
    """An open journal; `reopen` closes it and opens it again, as a new server would."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = self._open()

    def _open(self) -> SqliteJournal:
        return open_journal(self.path, asyncio.get_running_loop())

    def reopen(self) -> SqliteJournal:
        self.journal.close()
        self.journal = self._open()
        return self.journal

    async def write(self, *writes: Write, give_up_when_full: bool = False) -> Outcome:
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.journal.write(writes, done.set_result, give_up_when_full=give_up_when_full)
        return await done

    async def tails(self, job: int, attempt: int) -> tuple[bytes, bytes] | None:
        done: asyncio.Future[tuple[bytes, bytes] | None] = asyncio.get_running_loop().create_future()
        self.journal.read_tails(job, attempt, done.set_result)
        return await done


def block(first: int, *specs: bytes, token: str = "", context: bytes = b'{"env":[]}') -> AddJobs:
    """Jobs with the given specs, all with one context."""
    digest = hashlib.sha256(context).hexdigest()
    return AddJobs(
        first,
        1000.0 + first,
        specs,
        (digest,) * len(specs),
        ((digest, context),),
        token or f"t{first}",
        "hash",
    )


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty journal."""
    bench = Bench(tmp_path / "server" / "journal.sqlite")
    yield bench
    bench.journal.close()


@pytest.fixture
def make_block() -> Callable[..., AddJobs]:
    """`block`."""
    return block
