"""`kueue logs`: what a job has written, from wherever it can be had."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass

from kueue.cli import options
from kueue.cli.awaiting import tail_note
from kueue.cli.command import Option, command, flag
from kueue.cli.selecting import ONE_ID, found_job, one_id
from kueue.cli.session import Session
from kueue.cli.terminal import Terminal, write_bytes
from kueue.client import Client
from kueue.operations import is_over
from kueue.wire.codec import from_os
from kueue.wire.messages import TAIL_BYTES, LogChunk, OsString, Stream

READ_BYTES = 256 * 1024


@command(
    ONE_ID,
    flag("follow", ("-f", "--follow"), "Go on until the job ends."),
    flag("stdout", ("--stdout",), "Only its stdout."),
    flag("stderr", ("--stderr",), "Only its stderr."),
    Option("lines", ("-n", "--lines"), "text", "Only the last N lines of each.", "N"),
    Option("attempt", ("--attempt",), "text", "Of an earlier attempt.", "N"),
)
def logs(
    session: Session,
    job: str,
    *,
    follow: bool,
    stdout: bool,
    stderr: bool,
    lines: str | None,
    attempt: str | None,
) -> int:
    """Print a job's output: stdout on stdout, stderr on stderr."""
    given = one_id(job)
    of = options.amount(attempt, "--attempt", 1)
    last = options.amount(lines, "--lines", 0)
    streams: tuple[Stream, ...] = ("stdout", "stderr")
    if stdout != stderr:
        streams = ("stdout",) if stdout else ("stderr",)
    with session.connected() as client:
        number = found_job(client, given)
        if follow:
            return _follow(session.terminal, client, number, streams, of)
        printed = [_print(client, number, stream, of, last) for stream in streams]
    return _verdict(session.terminal, number, printed)


@dataclass
class _Printed:
    """What became of one stream. `tail` is set when only the server's end of it could be had."""

    wrote: bool = False
    tail: LogChunk | None = None


def _verdict(terminal: Terminal, job: int, printed: list[_Printed]) -> int:
    """0 if all was had. An end that is shorter than what the server keeps is the whole output; an empty one is
    only where another stream shows that the server has kept this attempt's ends."""
    kept = any(one.wrote for one in printed)
    for one in printed:
        tail = one.tail
        if tail is None:
            continue
        whole = tail.at_end and len(tail.data) < TAIL_BYTES and (kept or bool(tail.data))
        if not whole:
            terminal.say(tail_note(job, tail))
            return 1
    return 0


def _print(client: Client, job: int, stream: Stream, attempt: int | None, lines: int | None) -> _Printed:
    """Print what there is of one stream."""
    printed = _Printed()
    keeper = _LastLines(stream, lines)
    for chunk in client.read_log(job, stream, attempt):
        if not chunk.tail:
            keeper.write(chunk.data)
        elif not _copy_file(chunk.path, keeper):
            keeper.write(chunk.data)
            printed.tail = chunk
        printed.wrote |= keeper.has_written
    keeper.finish()
    return printed


def _copy_file(path: OsString | None, keeper: _LastLines) -> bool:
    """The file itself, where it is visible here; False if it isn't."""
    if path is None:
        return False
    place = from_os(path)
    try:
        with open(place, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            while data := file.read(READ_BYTES):
                keeper.write(data)
    except OSError:
        return False
    return True


def _follow(
    terminal: Terminal, client: Client, job: int, streams: tuple[Stream, ...], attempt: int | None
) -> int:
    tails: list[_Printed] = []
    followed = 0
    for change in client.watch(job):
        if change.state == "unknown":
            client.detail(job)  # raises: there is no such job
        has_output = change.attempt > followed and change.state not in ("waiting", "pending", "offered")
        if has_output or (attempt is not None and not followed):
            followed = change.attempt
            for stream, chunk in client.follow(job, streams, attempt or followed):
                if chunk.tail:
                    tails.append(_print(client, job, stream, attempt or followed, None))
                else:
                    write_bytes(stream, chunk.data)
            if attempt is not None:
                break
        if is_over(change):
            break
    return _verdict(terminal, job, tails)


class _LastLines:
    """Passes bytes on, or only the last lines of them; keeps no more than those."""

    def __init__(self, stream: Stream, lines: int | None) -> None:
        self._stream = stream
        self._lines = lines
        self._kept: deque[bytes] = deque(maxlen=lines if lines is not None else 1)
        self._open = b""
        self.has_written = False

    def write(self, data: bytes) -> None:
        """More of it."""
        self.has_written |= bool(data)
        if self._lines is None:
            write_bytes(self._stream, data)
            return
        parts = (self._open + data).split(b"\n")
        self._open = parts.pop()
        self._kept.extend(part + b"\n" for part in parts)

    def finish(self) -> None:
        """That was all."""
        if self._lines:
            if self._open:
                self._kept.append(self._open)
            write_bytes(self._stream, b"".join(self._kept))
