"""The record file: what a next keeper has to know of the attempts of this one.

    {"r":"keeper","v":1,"boot":…}            first line
    {"r":"spawn","key":…,"job":…,"attempt":…,"note":…}    on file before the spawn
    {"r":"pid","key":…,"pid":…,"started":…}
    {"r":"end","key":…,"end":…, …}
    {"r":"forget","keys":[…]}

Lines are appended; now and then, and by each new keeper, the file is written anew with what still counts,
and exchanged. Nothing is synced to the disk: this file survives its keeper, which is its purpose; after a
power loss an end may be missing, and the job runs again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kueue_worker.keeper.attempts import Attempt, Ended, check_depth, seconds, whole
from kueue_worker.keeper.orders import read_key, read_text
from kueue_worker.keeper.wire import encode_json

NAME = "records.jsonl"
VERSION = 1
MOST_PID = 2**22
NO_MEMORY = "the keeper has no memory left"
SLACK_BYTES = 4 * 1024 * 1024
"""The file is written anew when it is longer than twice what counted, and this."""


class RecordsError(Exception):
    """The file was written by a keeper of another kind; the text is a line for people."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a record file said. `boot`: during which it was written, empty if unknown; `damaged`: lines that
    could not be read."""

    attempts: dict[str, Attempt]
    boot: str
    damaged: int


def read(directory: str) -> Found:
    """Read the record file; an absent one is an empty one.

    Raises:
        RecordsError: it is of a later version.
        OSError: it can't be read.
    """
    attempts: dict[str, Attempt] = {}
    boot, damaged = "", 0
    try:
        with open(f"{directory}/{NAME}", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Found({}, "", 0)
    for line in data.split(b"\n"):
        if not line:
            continue
        try:
            entry = json.loads(line)
            if entry["r"] == "keeper":
                if entry["v"] > VERSION:
                    raise RecordsError(f"{directory}/{NAME} was written by a later version of kueue_worker")
                boot = read_text(entry["boot"])
            else:
                _apply(attempts, entry)
        except (ValueError, KeyError, TypeError, RecursionError):
            damaged += 1
    return Found(attempts, boot, damaged)


def _apply(attempts: dict[str, Attempt], entry: dict[str, Any]) -> None:
    kind = entry["r"]
    if kind == "forget":
        for key in list(map(read_key, entry["keys"])):
            attempts.pop(key, None)
        return
    key = read_key(entry["key"])
    if kind == "spawn":
        job, number, note = entry["job"], entry["attempt"], entry["note"]
        check_depth([job, number, note])
        attempts[key] = Attempt(key, job, number, note)
        return
    attempt = attempts.get(key)
    if attempt is None:
        return
    if kind == "pid":
        pid, started = whole(entry["pid"], 1, MOST_PID), seconds(entry["started"])
        attempt.pid, attempt.started = pid, started
    elif kind == "end":
        attempt.ended = Ended.of_fields(entry)


class Records:
    """Writes the record file, anew at first. Ends and the like are noted and go out with `flush`; only what
    must be there before a spawn is written at once.

    Raises:
        OSError: it can't be written.
        MemoryError: as after an OSError nothing is lost, and no line is half written.
    """

    def __init__(
        self, directory: str, boot: str, attempts: dict[str, Attempt], slack_bytes: int = SLACK_BYTES
    ) -> None:
        self._path = f"{directory}/{NAME}"
        self._boot = boot
        self._attempts = attempts
        self._slack_bytes = slack_bytes
        self._noted: list[str] = []
        self._descriptor = -1
        self._bytes = 0
        self._limit = 0
        self._write_anew()

    def will_spawn(self, attempts: Iterable[Attempt]) -> None:
        """Have on file that these are being started.

        Raises:
            OSError: it is not; nothing of them is.
        """
        lines = [
            encode_json({"r": "spawn", "key": a.key, "job": a.job, "attempt": a.number, "note": a.note})
            for a in attempts
        ]
        # What was noted before goes first: a `forget` behind the start of the same attempt would undo it.
        self._append("\n".join([*self._noted, *lines]) + "\n")
        self._noted.clear()

    def spawned(self, attempt: Attempt) -> None:
        """Note the process of an attempt."""
        self._noted.append(
            encode_json({"r": "pid", "key": attempt.key, "pid": attempt.pid, "started": attempt.started})
        )

    def ended(self, attempt: Attempt) -> None:
        """Note the end of an attempt (another one than before, perhaps)."""
        assert attempt.ended is not None, attempt.key
        self._noted.append(encode_json({"r": "end", "key": attempt.key, **attempt.ended.fields()}))

    def forget(self, keys: list[str]) -> None:
        """Note that these count no more; they are not in the attempts any more."""
        self._noted.append(encode_json({"r": "forget", "keys": keys}))

    def flush(self) -> None:
        """Write what was noted, and all anew if the file has become long.

        Raises:
            OSError: it could not be written; it stays noted.
        """
        if self._noted:
            self._append("\n".join(self._noted) + "\n")
            self._noted.clear()
        if self._bytes > self._limit:
            try:
                self._write_anew()
            except (OSError, MemoryError):  # no room for both; the long one is as good
                self._limit = self._bytes + self._slack_bytes

    def _append(self, text: str) -> None:
        data = text.encode("ascii")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
        except (OSError, MemoryError):
            if written:  # no torn line in the middle of the file
                os.ftruncate(self._descriptor, self._bytes)
            raise
        self._bytes += written

    def _write_anew(self) -> None:
        lines = [encode_json({"r": "keeper", "v": VERSION, "boot": self._boot})]
        for a in self._attempts.values():
            lines.append(
                encode_json({"r": "spawn", "key": a.key, "job": a.job, "attempt": a.number, "note": a.note})
            )
            if a.pid is not None:
                lines.append(encode_json({"r": "pid", "key": a.key, "pid": a.pid, "started": a.started}))
            if a.ended is not None:
                lines.append(encode_json({"r": "end", "key": a.key, **a.ended.fields()}))
        data = ("\n".join(lines) + "\n").encode("ascii")
        new = f"{self._path}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(new, flags, 0o600)
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
            os.rename(new, self._path)
        except BaseException:
            os.close(descriptor)
            raise
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._bytes = descriptor, len(data)
        self._limit = 2 * self._bytes + self._slack_bytes


def reason_of(error: OSError | MemoryError) -> str:
    """Why they can't be written, for people."""
    return str(error.strerror) if isinstance(error, OSError) else NO_MEMORY
