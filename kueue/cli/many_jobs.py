"""`kueue cmd --each-line` and `--from-json`: many jobs from a file or a pipe, however long it is.

Entries are read, made into jobs and submitted as they come; nothing is kept of them. Of each, `{}` (the line) or
`{key}` (a value of the object) is filled into the words of the command and into `-o -e -C --name`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

import msgspec

from kueue.cli.following import settled
from kueue.cli.session import Session
from kueue.errors import KueueError, UsageError
from kueue.job_spec import JobSpec

SHELL = ("/bin/sh", "-c")
FILLED = ("stdout", "stderr", "cwd", "name", "key")
"""Options in which marks are filled in, besides the command."""
LINE = ""
"""The mark `{}`."""
NUMBER = "n"
_MARK = re.compile(r"\{([^{}]*)\}")

Entry = tuple[str, Mapping[str, str]]
"""Where it stands, for people, and the values by their marks."""


def submit_many(session: Session, base: JobSpec, values: Mapping[str, Any]) -> int:
    """A job for each entry of the file that `values` name; prints the ids as ranges. Returns the exit code.

    Raises:
        KueueError: not all could be submitted; those that were are told of on stderr.
    """
    if values["each_line"] is not None and values["from_json"] is not None:
        raise UsageError("either --each-line or --from-json")
    if values["follow"]:
        raise UsageError("--follow is for one job; --wait waits for all")
    name = values["each_line"] if values["from_json"] is None else values["from_json"]
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_open(name))
        shown = "stdin" if name == "-" else name
        counter = stack.enter_context(_Counter(file))
        entries = (_lines if values["from_json"] is None else _objects)(file, shown, counter)
        client = stack.enter_context(session.connected_or_started())
        if base.after or base.after_any:
            base = settled(client, base)
        try:
            submitted = client.submit_many(_jobs(base, entries), progress=counter.submitted)
        except KueueError as error:
            counter.clear()
            for note in getattr(error, "__notes__", ()):
                session.terminal.say(f"kueue: {note}")
            raise
        counter.clear()
        for warning in submitted.warnings:
            if not (warning.code == "no_worker" and session.has_started_worker):
                session.terminal.say(f"kueue: {warning.text}")
        if not submitted.ranges:
            if any(warning.code == "duplicate" for warning in submitted.warnings):
                return 0
            raise UsageError(f"{shown} has no entry: no job was made")
        ids = [str(first) if first == last else f"{first}-{last}" for first, last in submitted.ranges]
        session.terminal.print([" ".join(ids)])
        if not values["wait"]:
            return 0
        from kueue.cli.awaiting import wait_for_jobs

        return wait_for_jobs(session.terminal, client, submitted, None)


def _jobs(base: JobSpec, entries: Iterator[Entry]) -> Iterator[JobSpec]:
    words = [os.fsdecode(word) for word in base.command]
    appended = bool(words) and not any(f"{{{LINE}}}" in word for word in words)
    marked = {name: getattr(base, name) for name in FILLED if "{" in (getattr(base, name) or "")}
    for where, found in entries:
        command = [fill(word, found) for word in words]
        if not words:
            command = _own_command(found, where)
        elif appended and LINE in found:
            command.append(found[LINE])
        if any("\0" in word for word in command):
            raise UsageError(f"{where}: a NUL byte can't be in a command")
        changes: dict[str, Any] = {name: fill(text, found) for name, text in marked.items()}
        if "key" in changes and "{}" in base.key and isinstance(found, _Words):
            changes["key"] = msgspec.json.encode(found.whole, order="sorted").decode()
        if "cwd" in changes and not os.path.isdir(changes["cwd"]):
            raise UsageError(f"{where}: -C {changes['cwd']}: no such directory")
        yield msgspec.structs.replace(base, command=command, **changes)


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the marks replaced that there are values for; other braces stay."""
    return _MARK.sub(lambda mark: values.get(mark[1], mark[0]), text) if "{" in text else text


class _Words(dict[str, str]):
    """Values of an object, and its own command."""

    command: list[str]
    whole: dict[str, Any]


def _own_command(found: Mapping[str, str], where: str) -> list[str]:
    if isinstance(found, _Words):
        if not found.command:
            raise UsageError(f'{where}: which command? on the command line, or as "command" in the object')
        return found.command
    return [*SHELL, found[LINE]]


def _lines(file: BinaryIO, name: str, counter: _Counter) -> Iterator[Entry]:
    for number, raw in enumerate(file, 1):
        counter.read(len(raw))
        line = os.fsdecode(raw.removesuffix(b"\n").removesuffix(b"\r"))
        if line.strip():
            yield f"{name}, line {number}", {LINE: line, NUMBER: str(number)}


def _objects(file: BinaryIO, name: str, counter: _Counter) -> Iterator[Entry]:
    """Of a file with an object a line, or with one array of objects, which is read as a whole."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, raw in enumerate(file, 1):
        if not raw.strip():
            continue
        if number == 1 and raw.lstrip()[:1] == b"[":
            whole = _decoded(partial(_decode_array, raw + file.read()), name)
            for position, one in enumerate(whole, 1):
                yield f"{name}, entry {position}", _values(one, position)
            return
        counter.read(len(raw))
        where = f"{name}, line {number}"
        yield where, _values(_decoded(partial(decode, raw), where), number)


_decode_array = msgspec.json.Decoder(list[dict[str, Any]]).decode


def _decoded(decode: Callable[[], Any], where: str) -> Any:
    try:
        return decode()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: no JSON object: {error}") from None


def _values(entry: dict[str, Any], number: int) -> _Words:
    values = _Words({NUMBER: str(number)})
    values.update({key: _text(value) for key, value in entry.items()})
    values.whole = entry
    command = entry.get("command", [])
    values.command = (
        [_text(word) for word in command] if isinstance(command, list) else [*SHELL, _text(command)]
    )
    return values


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _open(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if name == "-":
        return contextlib.nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


class _Counter:
    """Progress on a terminal: a bar as far as the file's size is known, else a count."""

    def __init__(self, file: BinaryIO) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._bytes = 0
        self._shown = sys.stderr.isatty()
        status = os.fstat(file.fileno())
        self._size = status.st_size if stat.S_ISREG(status.st_mode) and status.st_size else None

    def __enter__(self) -> _Counter:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def read(self, count: int) -> None:
        """So many bytes more have been read."""
        self._bytes += count

    def submitted(self, count: int) -> None:
        """So many jobs are durable."""
        if not self._shown:
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            column = BarColumn() if self._size else SpinnerColumn()
            text = TextColumn("{task.fields[jobs]:,} jobs submitted")
            self._bar = Progress(column, text, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("", total=self._size, jobs=0)
            self._bar.start()
        self._bar.update(self._task, completed=self._bytes, jobs=count)

    def clear(self) -> None:
        """It is over."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
