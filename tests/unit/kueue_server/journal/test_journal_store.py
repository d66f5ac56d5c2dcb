"""What was written is there after reopening, exactly, and what must not be opened is left alone."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kueue.job import JobState
from kueue.resources import Capacity
from kueue.wire.messages import SystemInfo
from kueue_server.core.instructions import (
    DropJobs,
    DropStop,
    DropWorker,
    SaveJob,
    SaveStop,
    SaveTails,
    SaveWorker,
)
from kueue_server.core.records import RestoredJob, RestoredStop, WorkerRecord
from kueue_server.journal import store
from kueue_server.journal.interface import AddJobs
from kueue_server.journal.migrations import APPLICATION_ID, VERSION, JournalOpenError, migrate
from kueue_server.journal.store import begin_new_epoch, open_journal

Block = Callable[..., AddJobs]
A, B, C = b'{"a":1}', b'{"b":"\xc3\xa9 \\" \\\\ \\u0000"}', b'{"c":[]}'


async def test_jobs_come_back_by_id_with_their_specs_and_progress(bench: Any, make_block: Block) -> None:
    await bench.write(make_block(1, A, B))
    await bench.write(SaveJob(2, JobState.RUNNING, b'{"fence":7}'), make_block(3, C))
    journal = bench.reopen()
    assert journal.restore().next_job == 4
    assert list(journal.restored_jobs()) == [
        RestoredJob(1, 1001.0, JobState.PENDING, A, None),
        RestoredJob(2, 1001.0, JobState.RUNNING, B, b'{"fence":7}'),
        RestoredJob(3, 1003.0, JobState.PENDING, C, None),
    ]


async def test_the_last_of_several_changes_counts(bench: Any, make_block: Block) -> None:
    await bench.write(
        make_block(1, A),
        SaveJob(1, JobState.OFFERED, b'{"fence":1}'),
        SaveJob(1, JobState.SUCCEEDED, b'{"fence":2}'),
    )
    assert next(bench.reopen().restored_jobs()).state is JobState.SUCCEEDED


async def test_a_change_before_a_drop_does_not_bring_the_job_back(bench: Any, make_block: Block) -> None:
    await bench.write(
        make_block(1, A, B),
        SaveJob(1, JobState.FAILED, b"{}"),
        SaveTails(1, 1, b"o", b"e"),
        DropJobs(((1, 1),)),
    )
    journal = bench.reopen()
    assert [job.job for job in journal.restored_jobs()] == [2]
    assert await bench.tails(1, 1) is None


async def test_ids_are_never_given_twice_even_if_all_jobs_are_gone(bench: Any, make_block: Block) -> None:
    await bench.write(make_block(1, A, B, C))
    await bench.write(DropJobs(((1, 3),)))
    assert bench.reopen().restore().next_job == 4


async def test_workers_and_stop_orders_come_back(bench: Any) -> None:
    record = WorkerRecord("w", "h", "1", "k", "b", Capacity(4, 1000, 4), SystemInfo(), 5.0)
    await bench.write(
        SaveWorker(1, "w", msgspec.json.encode(record)),
        SaveWorker(2, "v", msgspec.json.encode(record)),
        SaveStop(1, 7, 2**62, "canceled"),
        SaveStop(1, 8, 9, "superseded"),
    )
    await bench.write(DropWorker(2), DropStop(1, 8, 9))
    restored = bench.reopen().restore()
    assert restored.workers == ((1, record),)
    assert restored.stops == (RestoredStop(1, 7, 2**62, "canceled"),)


async def test_output_ends_are_bytes_as_they_were(bench: Any, make_block: Block) -> None:
    await bench.write(make_block(1, A), SaveTails(1, 2, b"\x00\xff\n", b""))
    assert (bench.reopen() and await bench.tails(1, 2)) == (b"\x00\xff\n", b"")
    assert await bench.tails(1, 1) is None


async def test_the_oldest_output_ends_go_when_there_is_too_much(
    bench: Any, make_block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_TAIL_BYTES", 1_000_000)
    for number in range(1, 4001):
        if number % 500 == 1:
            tails = tuple(SaveTails(job, 1, b"x" * 1000, b"") for job in range(number, number + 500))
            await bench.write(*tails)
    assert await bench.tails(1, 1) is None
    assert await bench.tails(4000, 1) is not None


async def test_a_context_lives_as_long_as_a_job_refers_to_it(bench: Any, make_block: Block) -> None:
    one = make_block(1, A, B, context=b"one")
    await bench.write(one, make_block(3, C, context=b"one"))
    digest = one.contexts[0][0]
    await bench.write(DropJobs(((1, 2),)))
    assert bench.reopen().context(digest) == b"one"
    await bench.write(DropJobs(((3, 3),)))
    assert bench.reopen().context(digest) is None
    assert bench.journal.context("unknown") is None


async def test_jobs_keep_a_context_that_was_dropped_after_the_client_had_sent_it(
    bench: Any, make_block: Block
) -> None:
    one = make_block(1, A, context=b"one")
    digest = one.contexts[0][0]
    await bench.write(one)
    await bench.write(DropJobs(((1, 1),)))
    if bench.journal.context(digest) is not None:  # so the client need not send it again
        await bench.write(msgspec.structs.replace(make_block(2, B, context=b"one"), contexts=()))
        assert bench.reopen().context(digest) == b"one"


async def test_jobs_keep_a_context_that_a_waiting_write_drops(bench: Any, make_block: Block) -> None:
    one = make_block(1, A, context=b"one")
    await bench.write(one)
    again = msgspec.structs.replace(make_block(2, B, context=b"one"), contexts=())
    dropped: list[object] = []
    bench.journal.write((DropJobs(((1, 1),)),), dropped.append, give_up_when_full=False)
    assert await bench.write(again) is None
    assert dropped == [None]
    assert bench.reopen().context(one.contexts[0][0]) == b"one"


async def test_jobs_of_several_contexts_in_one_block_keep_theirs(bench: Any, make_block: Block) -> None:
    one, two = make_block(1, A, context=b"one"), make_block(1, B, context=b"two")
    both = msgspec.structs.replace(
        one, specs=(A, B), context_of=one.context_of + two.context_of, contexts=one.contexts + two.contexts
    )
    await bench.write(both)
    assert [job.spec for job in bench.reopen().restored_jobs()] == [A, B]
    await bench.write(DropJobs(((1, 1),)))
    journal = bench.reopen()
    assert journal.context(one.context_of[0]) is None
    assert journal.context(two.context_of[0]) == b"two"


async def test_a_token_older_than_a_week_can_be_used_again(bench: Any, make_block: Block) -> None:
    week_ago = time.time() - store.TOKEN_SECONDS - 60
    await bench.write(make_block(1, A, token="early"))  # the hourly sweep is over with this
    await bench.write(msgspec.structs.replace(make_block(2, A, token="t"), used_at=week_ago))
    assert bench.journal.token("t") is None
    again = msgspec.structs.replace(make_block(3, A, token="t"), used_at=time.time())
    assert await bench.write(again) is None
    assert bench.reopen().token("t").first == 3


def test_a_new_epoch_needs_a_journal(tmp_path: Path) -> None:
    with pytest.raises(JournalOpenError, match="no journal"):
        begin_new_epoch(tmp_path / "server" / "journal.sqlite")
    assert not (tmp_path / "server").exists()


async def test_tokens_are_known_after_reopening_and_forgotten_after_a_week(
    bench: Any, make_block: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    fresh = msgspec.structs.replace(make_block(1, A, token="fresh"), used_at=now)
    await bench.write(fresh)
    assert bench.journal.token("fresh").first == 1
    known = bench.reopen().token("fresh")
    assert (known.first, known.count, known.content_hash) == (1, 1, "hash")
    assert bench.journal.token("other") is None
    monkeypatch.setattr(store, "TOKEN_SECONDS", 0.0)
    assert bench.journal.token("fresh") is None


async def test_the_uuid_stays_and_a_new_epoch_changes_it_and_skips_ids(bench: Any, make_block: Block) -> None:
    await bench.write(make_block(1, A))
    uuid = bench.journal.uuid
    assert bench.reopen().uuid == uuid
    bench.journal.close()
    begin_new_epoch(bench.path)
    journal = bench._open()
    bench.journal = journal
    assert journal.uuid != uuid
    assert journal.restore().next_job > 1000
    assert [job.job for job in journal.restored_jobs()] == [1]


async def test_a_second_server_is_refused_with_one_line(bench: Any) -> None:
    code = f"""
import asyncio, sys
from kueue_server.journal.store import open_journal, JournalOpenError
async def main():
    try:
        open_journal({str(bench.path)!r}, asyncio.get_running_loop())
    except JournalOpenError as error:
        print(error)
asyncio.run(main())
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert "in use" in done.stdout
    assert done.stderr == ""


def opened(path: Path) -> None:
    async def run() -> None:
        open_journal(path, asyncio.get_running_loop()).close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "content", [b"this is not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000]
)
def test_a_damaged_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(JournalOpenError, match=r"damaged|not a journal") as caught:
        opened(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (name TEXT)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(JournalOpenError, match="not a journal of Kueue"):
        opened(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_an_older_one_migrated(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    opened(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(JournalOpenError, match="newer Kueue"):
        opened(path)

    older = sqlite3.connect(tmp_path / "older.sqlite", isolation_level=None)
    older.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    older.execute("CREATE TABLE old (value)")

    def to_one(connection: sqlite3.Connection) -> None:
        connection.execute("ALTER TABLE old RENAME TO newer")

    def to_two(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO newer VALUES (2)")

    migrate(older, "older", {0: to_one, 1: to_two}, 2)
    assert older.execute("SELECT value FROM newer").fetchall() == [(2,)]
    assert older.execute("PRAGMA user_version").fetchone() == (2,)

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM newer")
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        migrate(older, "older", {2: fails}, 3)
    assert older.execute("SELECT value FROM newer").fetchall() == [(2,)]
    older.close()


def test_the_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "journal.sqlite"
    opened(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_files_that_others_could_read_become_private(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    opened(path)
    path.chmod(0o664)
    opened(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_after_a_kill_exactly_what_was_acknowledged_and_perhaps_more_is_there_in_order(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite"
    code = textwrap.dedent(f"""
        import asyncio, sys
        from kueue_server.journal.store import open_journal
        from kueue_server.journal.interface import AddJobs

        async def main():
            journal = open_journal({str(path)!r}, asyncio.get_running_loop())
            journal.restore()
            def put(first):
                def done(error):
                    print(first + 9, flush=True)
                    put(first + 10)
                block = AddJobs(first, 1.0, (b"{{}}",) * 10, ("d" * 64,) * 10, (("d" * 64, b"c"),), f"t{{first}}", "h")
                journal.write((block,), done, give_up_when_full=True)
            put(1)
            await asyncio.Event().wait()
        asyncio.run(main())
    """)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = 0
    for _ in range(50):
        acknowledged = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    acknowledged = max([acknowledged, *map(int, rest[:-1])])

    async def ids() -> list[int]:
        journal = open_journal(path, asyncio.get_running_loop())
        found = [job.job for job in journal.restored_jobs()]
        assert journal.restore().next_job == len(found) + 1
        journal.close()
        return found

    found = asyncio.run(ids())
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= acknowledged
    assert len(found) % 10 == 0


async def test_jobs_without_the_digest_of_a_context_are_refused_before_anything_is_written(
    bench: Any, make_block: Block
) -> None:
    fine = make_block(1, A, B, context=b"one")
    (digest, _) = fine.contexts[0]
    for context_of in ((digest,), (digest[:-1], digest + "0"), (digest, "")):
        with pytest.raises(ValueError, match="jobs 1 and on"):
            await bench.write(msgspec.structs.replace(fine, context_of=context_of))
    await bench.write(fine)
    assert bench.reopen().context(digest) == b"one"
