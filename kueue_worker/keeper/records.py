"""The record file: what was started and how it ended, so that another keeper or agent can take over.

JSON lines, appended: `boot` first, then `spawn` (before the process exists), `pid`, `ended`, `forget`. A line that
was not written to its end is ignored. Written to the page cache only: it survives the death of every process, not a
power loss, after which the jobs are gone as well. Rewritten when most of it is about forgotten attempts.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

Record = dict[str, Any]

COMPACT_BYTES = 4 * 1024 * 1024
END_FIELDS = ("end", "status", "started", "ended", "cpu_seconds", "peak_kb", "code", "text")


class Records:
    """All attempts that are not forgotten, by key, and their file."""

    def __init__(self, path: str, boot: str) -> None:
        self._path = path
        self._boot = boot
        self.of_this_boot = True
        self.attempts: dict[str, Record] = {}
        self._lines: list[str] = []
        self._size = 0
        self._descriptor = -1
        self._read()
        self._rewrite()

    # ---------------------------------------------------------------- changes; `flush` writes them

    def spawn(self, key: str, job: int, attempt: int, note: Any) -> None:
        """An attempt is about to be started."""
        self.attempts[key] = {
            "key": key,
            "job": job,
            "attempt": attempt,
            "state": "running",
            "pid": 0,
            "started": None,
            "note": note,
        }
        self._line({"r": "spawn", "key": key, "job": job, "attempt": attempt, "note": note})

    def started(self, key: str, pid: int, started: float) -> None:
        """Its process exists."""
        record = self.attempts[key]
        record["pid"], record["started"] = pid, started
        self._line({"r": "pid", "key": key, "pid": pid, "started": started})

    def ended(self, key: str, fields: Record) -> None:
        """It is over; `fields` as in the message `ended`."""
        self.attempts[key].update(fields, state="ended")
        self._line({"r": "ended", "key": key, **fields})

    def forget(self, keys: list[str]) -> None:
        """The server has the ends of these."""
        for key in keys:
            self.attempts.pop(key, None)
        self._line({"r": "forget", "keys": keys})

    def flush(self) -> None:
        """Write what changed, in one system call; make the file small again when it pays.

        Raises:
            OSError: it can't be written (the disk is full): what was to be written is tried again next time.
        """
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        written = os.write(self._descriptor, data)
        if written < len(data):
            # A part of a line must not run into the next attempt to write it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise OSError(28, "the record file can't be written")
        self._lines.clear()
        self._size += written
        if self._size > COMPACT_BYTES and self._size > 2 * self._live_size():
            with contextlib.suppress(OSError):  # no room: the long file serves as well
                self._rewrite()

    # ---------------------------------------------------------------- inside

    def _line(self, record: Record) -> None:
        self._lines.append(json.dumps(record, separators=(",", ":")))

    def _live_size(self) -> int:
        return 1024 * (1 + len(self.attempts))

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as file:
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return
        boot = None
        for line in lines[:-1]:  # behind the last line end there is nothing, or a torn line
            try:
                record = json.loads(line)
                boot = self._apply(record, boot)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
        self.of_this_boot = boot == self._boot

    def _apply(self, record: Record, boot: str | None) -> str | None:
        match record["r"]:
            case "boot":
                return str(record["boot"])
            case "spawn":
                self.spawn(record["key"], record["job"], record["attempt"], record["note"])
            case "pid":
                self.started(record["key"], record["pid"], record["started"])
            case "ended":
                self.ended(record["key"], {name: record.get(name) for name in END_FIELDS})
            case "forget":
                self.forget(record["keys"])
        return boot

    def _rewrite(self) -> None:
        self._lines.clear()
        lines: list[str] = [json.dumps({"r": "boot", "boot": self._boot})]
        for record in self.attempts.values():
            key = record["key"]
            spawn = {"r": "spawn", **{name: record[name] for name in ("key", "job", "attempt", "note")}}
            lines.append(json.dumps(spawn))
            if record["pid"]:
                pid = {"r": "pid", "key": key, "pid": record["pid"], "started": record["started"]}
                lines.append(json.dumps(pid))
            if record["state"] == "ended":
                fields = {name: record.get(name) for name in END_FIELDS}
                lines.append(json.dumps({"r": "ended", "key": key, **fields}))
        data = ("\n".join(lines) + "\n").encode()
        partial = f"{self._path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(partial, flags, 0o600)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(28, "the record file can't be written")
            os.replace(partial, self._path)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._size = descriptor, len(data)
