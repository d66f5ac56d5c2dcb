"""A queue as lines of text, with all that is needed to submit its jobs again, and back.

A dump has a line that says what it is, then jobs in the order of their ids, each after the environment that it was
submitted with unless that was there lately, and at the end how many there were. Each line is a JSON object:

    {"kueue_dump": 1, "queue": "tapeout"}
    {"context": "5f70…", "content": {"env": [["PATH", "/usr/bin"], …], "umask": 18, …}}
    {"job": 17, "spec": {"payload": {"kind": "command", "argv": ["./synthesize.sh", "core_a"]}, …}}
    {"jobs": 1, "left_out": 0}

Neither side keeps more than a page of jobs and some environments. No I/O.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from kueue.directories import Reach
from kueue.effects import Emit, Operation, ask
from kueue.errors import UnknownJobError, UsageError
from kueue.wire.messages import DumpJobs, JobDetail, JobsDumped, ShowJob, Spec

VERSION = 1
MOST_CONTEXTS = 100
"""Environments that both sides remember; one that comes again after so many others is written again."""

_encode = msgspec.json.Encoder().encode


class _Head(msgspec.Struct):
    kueue_dump: int
    queue: str


class _Context(msgspec.Struct):
    context: str
    content: msgspec.Raw


class _Job(msgspec.Struct):
    job: int
    spec: msgspec.Raw


class End(msgspec.Struct):
    """The last line: how many jobs there were, and how many were left out, since they wait for others."""

    jobs: int
    left_out: int = 0


class _Digest(msgspec.Struct):
    """The part of a spec that names its environment."""

    context: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """Any line of a dump."""

    kueue_dump: int | None = None
    queue: str = ""
    context: str | None = None
    content: msgspec.Raw = msgspec.Raw()
    job: int | None = None
    spec: msgspec.Raw = msgspec.Raw()
    jobs: int | None = None
    left_out: int = 0


_digest_of = msgspec.json.Decoder(_Digest).decode
_line_of = msgspec.json.Decoder(_Line).decode
_spec_of = msgspec.json.Decoder(Spec).decode


def dump(queue: str) -> Operation[int]:
    """Emits the lines of a dump of the jobs of a queue that have not been handed out, but those that wait for others;
    returns how many jobs."""
    yield Emit(_line(_Head(VERSION, queue)))
    recent: dict[str, None] = {}
    cursor: int | None = None
    count = left_out = 0
    while True:
        page = yield from ask(partial(DumpJobs, queue=queue, cursor=cursor), JobsDumped)
        for job in page.jobs:
            digest = _digest_of(job.spec).context
            if digest not in recent:
                try:
                    detail = yield from ask(partial(ShowJob, job=job.id, context=True), JobDetail)
                except UnknownJobError:
                    continue  # it was dropped meanwhile
                if detail.context is None:
                    continue
                remember(recent, digest, None)
                yield Emit(_line(_Context(digest, msgspec.Raw(detail.context))))
            yield Emit(_line(_Job(job.id, job.spec)))
            count += 1
        cursor = page.cursor
        left_out += page.left_out
        if cursor is None:
            break
    yield Emit(_line(End(count, left_out)))
    return count


def _line(part: msgspec.Struct) -> bytes:
    return _encode(part) + b"\n"


def remember(recent: dict[str, Any], digest: str, content: Any) -> None:
    """Put an environment in; the one that came first goes if there are too many."""
    if len(recent) >= MOST_CONTEXTS:
        del recent[next(iter(recent))]
    recent[digest] = content


# ---------------------------------------------------------------- back


class DumpedSpecs:
    """Stands where the encoder of jobs is when a dump is submitted: its jobs are encoded already."""

    def __init__(self) -> None:
        self.reach = Reach()

    def encode(self, job: tuple[Spec, bytes]) -> tuple[Spec, bytes]:
        """The spec, and the encoded context that it refers to."""
        return job


def restored(lines: Iterable[bytes], queue: str | None) -> Iterator[tuple[Spec, bytes]]:
    """The jobs of a dump, for the queue that they were of, or another one.

    Raises:
        UsageError: it is none, it is damaged, or its end is missing; jobs that came before are as they were.
    """
    recent: dict[str, bytes] = {}
    count, ended = 0, False
    for number, raw in enumerate(lines, 1):
        try:
            line = _line_of(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise UsageError(f"line {number} is none of a dump") from None
        if number == 1:
            if line.kueue_dump is None:
                raise UsageError("this is no dump of a queue: its first line does not say so")
            if line.kueue_dump != VERSION:
                raise UsageError(f"a dump of version {line.kueue_dump}; this program knows {VERSION}")
        elif ended:
            raise UsageError(f"line {number} comes after the end of the dump")
        elif line.context is not None:
            content = bytes(line.content)
            if hashlib.sha256(content).hexdigest() != line.context:
                raise UsageError(f"line {number}: the environment was changed or damaged")
            remember(recent, line.context, content)
        elif line.job is not None:
            yield _job(line, recent, queue, number)
            count += 1
        elif line.jobs is not None:
            ended = True
            if line.jobs != count:
                raise UsageError(f"the dump has {count} jobs, and says that it had {line.jobs}")
        else:
            raise UsageError(f"line {number} is none of a dump")
    if not ended:
        raise UsageError(f"the dump is cut off after {count} jobs")


def _job(line: _Line, recent: dict[str, bytes], queue: str | None, number: int) -> tuple[Spec, bytes]:
    try:
        spec = _spec_of(line.spec)
    except msgspec.MsgspecError as error:
        raise UsageError(f"line {number}: no job: {error}") from None
    if spec.context not in recent:
        raise UsageError(f"line {number}: the environment of job {line.job} is missing")
    changes: dict[str, Any] = {"rerun_of": None, "waits": None}
    if queue is not None:
        changes["queue"] = queue
    return msgspec.structs.replace(spec, **changes), recent[spec.context]
