"""From older schema versions to the current one, a step a version, all in one transaction.

A newer journal is refused: an old program must not guess at it.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Mapping
from importlib import resources

APPLICATION_ID = 0x6B756575
"""`kueu` in the file's header, so that somebody else's database is not mistaken for a journal."""
VERSION = 4


def _add_pauses(connection: sqlite3.Connection) -> None:
    """Workers can be paused."""
    connection.execute(
        "CREATE TABLE pause ( worker INTEGER PRIMARY KEY, since REAL NOT NULL, reason TEXT NOT NULL )"
    )


def _add_parts(connection: sqlite3.Connection) -> None:
    """There are arrays of jobs."""
    connection.execute(
        "CREATE TABLE part ( first INTEGER PRIMARY KEY, last INTEGER NOT NULL, submitted_at REAL NOT NULL, "
        "context TEXT NOT NULL, plan BLOB NOT NULL, state TEXT NOT NULL, finished_at REAL NOT NULL )"
    )


def _add_queues(connection: sqlite3.Connection) -> None:
    """Queues can be paused, have a weight and a limit."""
    connection.execute(
        "CREATE TABLE queue ( name TEXT PRIMARY KEY, weight INTEGER NOT NULL, max_running INTEGER,"
        " paused_since REAL, reason TEXT NOT NULL ) WITHOUT ROWID"
    )


STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _add_pauses, 2: _add_queues, 3: _add_parts}
"""`STEPS[n]` changes a journal of version n into one of version n + 1."""


class JournalOpenError(Exception):
    """The journal can't be used; one line says why. Nothing in it was changed."""


def create(connection: sqlite3.Connection) -> None:
    """Make the current schema in an empty file."""
    schema = resources.files("kueue_server.journal").joinpath("schema.sql").read_text()
    connection.executescript(
        f"BEGIN IMMEDIATE; {schema}"
        f"INSERT INTO meta VALUES ('uuid', '{uuid.uuid4()}'), ('next_job', '1');"
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def found_version(connection: sqlite3.Connection, path: str, version: int = VERSION) -> int:
    """The schema version of an existing journal. Only reads.

    Raises:
        JournalOpenError: it is newer, or not a journal.
    """
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    if application != APPLICATION_ID:
        raise JournalOpenError(f"{path} is not a journal of Kueue")
    if found > version:
        raise JournalOpenError(
            f"{path} was written by a newer Kueue (schema {found}, this one knows {version}): upgrade the server"
        )
    return found


def migrate(
    connection: sqlite3.Connection,
    path: str,
    steps: Mapping[int, Callable[[sqlite3.Connection], None]] = STEPS,
    version: int = VERSION,
) -> None:
    """Bring an existing journal to `version`.

    Raises:
        JournalOpenError: it is newer, or not a journal.
    """
    found = found_version(connection, path, version)
    if found == version:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in range(found, version):
            steps[step](connection)
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
