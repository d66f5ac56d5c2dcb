"""SQLite by itself: the rows of a bulk submit in the journal's own schema, with its pragmas, and nothing else.

Rows are made beforehand; a commit is as large as the server's may be, and the WAL is copied as seldom.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import islice

import msgspec

from kueue.job_encoding import Encoder
from kueue.job_spec import JobSpec
from kueue_server.journal import migrations
from kueue_server.journal.writer import CHECKPOINT_BYTES, MAX_COMMIT_BYTES

Row = tuple[int, float, str, bytes]

BLOCK = 1000


def rows_of(jobs: Iterator[JobSpec]) -> Iterator[Row]:
    """Rows of the table `job`, as the server would write them."""
    encoder = Encoder(1, 1024)
    encode = msgspec.json.Encoder().encode
    for number, job in enumerate(jobs, 1):
        spec, _ = encoder.encode(job)
        yield number, 1_700_000_000.0, spec.context, encode(spec)


def insert_seconds(directory: str, jobs: Iterator[JobSpec]) -> float:
    """How long SQLite takes to have all the rows durably in a new file; making them does not count."""
    path = os.path.join(directory, "alone.sqlite")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    migrations.create(connection)
    rows = rows_of(jobs)
    taken = 0.0
    while commit := _of_one_commit(rows):
        begin = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        for start in range(0, len(commit), BLOCK):
            block = commit[start : start + BLOCK]
            connection.executemany("INSERT INTO job VALUES (?, ?, ?, ?)", block)
            connection.execute(
                "INSERT INTO submit_token VALUES (?, ?, ?, ?, ?)",
                (f"{block[0][0]:032x}", block[0][0], len(block), "0" * 64, 0.0),
            )
        connection.execute("COMMIT")
        if os.stat(f"{path}-wal").st_size >= 4 * CHECKPOINT_BYTES:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        taken += time.perf_counter() - begin
    connection.close()
    return taken


def _of_one_commit(rows: Iterator[Row]) -> list[Row]:
    commit: list[Row] = []
    size = 0
    while size < MAX_COMMIT_BYTES and (block := list(islice(rows, BLOCK))):
        commit += block
        size += sum(len(spec) + 64 for _, _, _, spec in block)
    return commit
