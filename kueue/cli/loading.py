"""`load`, `dump` and `restore`: many jobs into a queue, out of it to a file, and back."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec

from kueue.cli.cmd_options import OPTIONS
from kueue.cli.command import Argument, Option, command, flag
from kueue.cli.queues import ONE_QUEUE
from kueue.cli.quick import NOT_PLAIN
from kueue.cli.selecting import many
from kueue.cli.session import Session
from kueue.dumping import End
from kueue.errors import KueueError, UsageError

_NOT_OF_LOAD = frozenset({"queue", "follow", *NOT_PLAIN})
LOAD = (
    flag("as_objects", ("--json",), "An object a line, not a line of text."),
    flag("unique", ("-u", "--unique"), "Leave out what the queue has already."),
    Option("key", ("--key",), "text", "What makes entries the same: {core}-{mhz}.", "TEXT"),
    *(option for option in OPTIONS if option.parameter not in _NOT_OF_LOAD),
)


@command(
    ONE_QUEUE,
    Argument("file", "FILE", "A job a line; - is stdin."),
    Argument("words", "[COMMAND...]", "As in cmd --each-line.", "any"),
    *LOAD,
    ends_options=True,
)
def load(session: Session, queue: str, file: str, words: list[str], **values: Any) -> int:
    """Put a job for each line of a file into a queue.

    With -u or --key, entries that the queue has already, waiting, running or finished, make no second job.
    """
    from kueue.cli.many_jobs import submit_many
    from kueue.cli.submit import spec_of

    if words and words[0].startswith("-"):
        raise UsageError(f"{words[0]} comes too late: options of load go before the queue's name")
    if values["unique"] and values["key"] is not None:
        raise UsageError("--unique means the whole line, --key something else: leave out one of the two")
    key = "{}" if values["unique"] else values["key"]
    if key is not None and "{" not in key:
        raise UsageError(f"--key {key} is the same for all; write {{}} for the line, {{name}} for a value")
    kind = "from_json" if values["as_objects"] else "each_line"
    values |= {**dict.fromkeys(NOT_PLAIN), "queue": queue, "follow": False, kind: file, "key": key}
    return submit_many(session, spec_of(words, values, many=True), values)


@command(ONE_QUEUE, Argument("file", "FILE", "A new file; - is stdout."))
def dump(session: Session, queue: str, file: str) -> int:
    """Write the jobs of a queue that wait to a file, for restore."""
    with session.connected() as client, _new_file(file) as target:
        line = b""
        for line in client.dump_queue(queue):
            target.write(line)
        target.flush()
    end = msgspec.json.decode(line, type=End)
    left_out = f"; {many(end.left_out)} wait for others, and are left out" if end.left_out else ""
    session.terminal.say(f"{many(end.jobs)} of queue {queue}{left_out}")
    return 0


@contextlib.contextmanager
def _new_file(name: str) -> Iterator[BinaryIO]:
    """Only its owner may read it, for environments may have secrets. One that was not finished is removed."""
    if name == "-":
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{name} is there already") from None
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        os.unlink(name)
        raise UsageError(f"{name}: {error.strerror}") from None
    except BaseException:
        os.unlink(name)
        raise


@command(
    Argument("file", "FILE", "What dump has written; - is stdin."),
    Option("queue", ("-q", "--queue"), "text", "Into this queue, not theirs.", "NAME"),
)
def restore(session: Session, file: str, queue: str | None) -> int:
    """Submit the jobs of a dump again; prints their ids."""
    with contextlib.ExitStack() as stack:
        try:
            lines = sys.stdin.buffer if file == "-" else stack.enter_context(open(file, "rb"))
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from None
        client = stack.enter_context(session.connected())
        try:
            submitted = client.restore_queue(lines, queue)
        except KueueError as error:
            for note in getattr(error, "__notes__", ()):
                session.terminal.say(f"kueue: {note}")
            raise
        for warning in submitted.warnings:
            session.terminal.say(f"kueue: {warning.text}")
        ids = [str(first) if first == last else f"{first}-{last}" for first, last in submitted.ranges]
        session.terminal.print([" ".join(ids)] if ids else [])
        if not ids:
            session.terminal.say("no job was made")
    return 0
