"""The journal's writes as SQL: a list of writes applied inside one transaction, in their order.

Rows of the hot kinds go in by one statement a block, or a transaction: SQLite takes them apart itself (`json_each`),
outside the interpreter lock, instead of one `executemany` step a row that takes the lock back each time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import assert_never

from kueue_server.core.instructions import (
    DropJobs,
    DropPart,
    DropPause,
    DropQueue,
    DropStop,
    DropWorker,
    SaveJob,
    SavePart,
    SavePause,
    SaveQueue,
    SaveSpec,
    SaveStop,
    SaveTails,
    SaveTask,
    SaveWorker,
)
from kueue_server.journal.interface import AddJobs, Write

DIGEST_CHARACTERS = 64
_ADD_JOBS = f"""
INSERT INTO job (id, submitted_at, context, spec)
SELECT ?1 + key, ?2, CAST(substr(?3, 1 + {DIGEST_CHARACTERS} * key, {DIGEST_CHARACTERS}) AS TEXT),
    CAST(value AS BLOB) FROM json_each(?4)
"""
_ADD_CONTEXT = "INSERT INTO context VALUES (?, ?, 0) ON CONFLICT (digest) DO NOTHING"
_COUNT_CONTEXT = "UPDATE context SET refs = refs + ? WHERE digest = ?"
# An old token may be there still, though it counts no more: they are swept once an hour.
_ADD_TOKEN = "INSERT OR REPLACE INTO submit_token VALUES (?, ?, ?, ?, ?)"
_SAVE_JOBS = """
INSERT OR REPLACE INTO progress (job, state, progress)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), CAST(json_extract(value, '$[2]') AS BLOB)
FROM json_each(?)
"""
_SAVE_SPEC = "UPDATE job SET spec = ? WHERE id = ?"
_SAVE_TASK = "INSERT INTO job (id, submitted_at, context, spec) VALUES (?, ?, ?, ?)"
_SAVE_PART = "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?, ?, ?)"
_SAVE_TAIL = "INSERT INTO tail (job, attempt, stdout, stderr) VALUES (?, ?, ?, ?)"


class Batch:
    """Writes on their way into one transaction. `apply` each, then `finish`; order is kept where it matters."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._saved: dict[int, SaveJob] = {}
        self._specs: dict[int, bytes] = {}
        self._tails: list[SaveTails] = []
        self._contexts: dict[str, bytes] = {}
        self._refs: dict[str, int] = {}
        self._tokens: list[tuple[str, int, int, str, float]] = []
        self.next_job = 0
        self.tail_bytes = 0
        self.dropped_contexts = False

    def apply(self, writes: Iterable[Write]) -> None:
        """Take writes in order."""
        for write in writes:
            match write:
                case SaveJob():
                    self._saved[write.job] = write
                case SaveSpec():
                    self._specs[write.job] = write.spec
                case SaveTask():
                    row = (write.job, write.submitted_at, write.context, write.spec)
                    self._connection.execute(_SAVE_TASK, row)
                    self._refs[write.context] = self._refs.get(write.context, 0) + 1
                case SavePart():
                    self._save_part(write)
                case DropPart():
                    self._connection.execute("DELETE FROM part WHERE first = ?", (write.first,))
                case AddJobs():
                    self._add_jobs(write)
                case SaveTails():
                    self._tails.append(write)
                case DropJobs():
                    self._flush()
                    self._drop_jobs(write)
                case SaveWorker():
                    self._connection.execute(
                        "INSERT OR REPLACE INTO worker VALUES (?, ?, ?)",
                        (write.worker, write.name, write.record),
                    )
                case DropWorker():
                    self._connection.execute("DELETE FROM worker WHERE id = ?", (write.worker,))
                case SaveStop():
                    self._connection.execute(
                        "INSERT OR REPLACE INTO stop_order VALUES (?, ?, ?, ?)",
                        (write.worker, write.job, write.fence, write.why),
                    )
                case DropStop():
                    self._connection.execute(
                        "DELETE FROM stop_order WHERE worker = ? AND job = ? AND fence = ?",
                        (write.worker, write.job, write.fence),
                    )
                case SavePause():
                    self._connection.execute(
                        "INSERT OR REPLACE INTO pause VALUES (?, ?, ?)",
                        (write.worker, write.since, write.reason),
                    )
                case DropPause():
                    self._connection.execute("DELETE FROM pause WHERE worker = ?", (write.worker,))
                case SaveQueue():
                    self._connection.execute(
                        "INSERT OR REPLACE INTO queue VALUES (?, ?, ?, ?, ?)",
                        (write.queue, write.weight, write.max_running, write.paused_since, write.reason),
                    )
                case DropQueue():
                    self._connection.execute("DELETE FROM queue WHERE name = ?", (write.queue,))
                case _:
                    assert_never(write)

    def finish(self) -> None:
        """Write what is gathered."""
        self._flush()
        if self.next_job:
            self._connection.execute(
                "UPDATE meta SET value = ? WHERE name = 'next_job' AND CAST(value AS INTEGER) < ?",
                (str(self.next_job), self.next_job),
            )

    def _flush(self) -> None:
        if self._contexts:
            self._connection.executemany(_ADD_CONTEXT, self._contexts.items())
            self._contexts.clear()
        if self._refs:
            self._connection.executemany(_COUNT_CONTEXT, [(n, digest) for digest, n in self._refs.items()])
            self._refs.clear()
        if self._tokens:
            self._connection.executemany(_ADD_TOKEN, self._tokens)
            self._tokens.clear()
        if self._saved:
            rows = b",".join(
                b'[%d,"%b",%b]' % (save.job, save.state.value.encode(), save.progress)
                for save in self._saved.values()
            )
            self._connection.execute(_SAVE_JOBS, (f"[{rows.decode()}]",))
            self._saved.clear()
        if self._specs:
            self._connection.executemany(_SAVE_SPEC, [(spec, job) for job, spec in self._specs.items()])
            self._specs.clear()
        if self._tails:
            self._connection.executemany(
                _SAVE_TAIL, [(tail.job, tail.attempt, tail.stdout, tail.stderr) for tail in self._tails]
            )
            self.tail_bytes += sum(len(tail.stdout) + len(tail.stderr) for tail in self._tails)
            self._tails.clear()

    def _add_jobs(self, block: AddJobs) -> None:
        self._contexts.update(block.contexts)
        for digest in block.context_of:
            self._refs[digest] = self._refs.get(digest, 0) + 1
        if block.array is not None:
            self._save_part(block.array)
        if block.specs:
            # Of a blob it is no search where a digest begins, as it is of a text.
            digests = "".join(block.context_of).encode()
            specs = b",".join(block.specs).decode()
            self._connection.execute(_ADD_JOBS, (block.first, block.submitted_at, digests, f"[{specs}]"))
        self.next_job = max(self.next_job, block.end)
        if block.token:
            count = block.whole or len(block.specs)
            self._tokens.append((block.token, block.first, count, block.content_hash, block.used_at))

    def _save_part(self, part: SavePart) -> None:
        self._connection.execute(
            _SAVE_PART,
            (
                part.first,
                part.last,
                part.submitted_at,
                part.context,
                part.plan,
                part.state.value,
                part.finished_at,
            ),
        )

    def _drop_jobs(self, write: DropJobs) -> None:
        for first, last in write.ranges:
            span = (first, last)
            used = self._connection.execute(
                "SELECT count(*), context FROM job WHERE id BETWEEN ? AND ? GROUP BY context", span
            ).fetchall()
            self._connection.executemany("UPDATE context SET refs = refs - ? WHERE digest = ?", used)
            self._connection.execute("DELETE FROM job WHERE id BETWEEN ? AND ?", span)
            self._connection.execute("DELETE FROM progress WHERE job BETWEEN ? AND ?", span)
            self._connection.execute("DELETE FROM tail WHERE job BETWEEN ? AND ?", span)
        self._connection.execute(
            "DELETE FROM context WHERE refs <= 0 AND digest NOT IN (SELECT context FROM part)"
        )
        self.dropped_contexts = True
