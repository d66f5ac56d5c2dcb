"""A dump of a queue as lines, and back: all that is needed, page by page, and nothing that is damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from kueue import dumping
from kueue.dumping import dump, restored
from kueue.effects import Close, Emit, Open, Receive, Send
from kueue.errors import UsageError
from kueue.resources import Shape
from kueue.wire.messages import (
    Command,
    DumpedJob,
    DumpJobs,
    Failure,
    JobDetail,
    JobsDumped,
    JobView,
    RawBytes,
    Reason,
    ShowJob,
    Spec,
    Waits,
)

encode = msgspec.json.encode


class Server:
    """Has jobs by id, each with its environment."""

    def __init__(self, page: int = 3) -> None:
        self.jobs: dict[int, tuple[Spec, bytes]] = {}
        self.asked: list[Any] = []
        self.gone: set[int] = set()
        self._page = page

    def add(self, number: int, context: bytes = b'{"umask":18}', **fields: Any) -> None:
        digest = hashlib.sha256(context).hexdigest()
        spec = Spec(Command(("run", RawBytes(b"\xff"))), "/w", "/", Shape(), digest, queue="q", **fields)
        self.jobs[number] = (spec, context)

    def answer(self, message: Any) -> Any:
        self.asked.append(message)
        match message:
            case DumpJobs(rid, _, cursor):
                left = [number for number in sorted(self.jobs) if number > (cursor or 0)]
                shown = left[: self._page]
                rows = tuple(DumpedJob(each, msgspec.Raw(encode(self.jobs[each][0]))) for each in shown)
                return JobsDumped(rid, rows, shown[-1] if len(left) > len(shown) else None)
            case ShowJob(rid, job):
                if job in self.gone:
                    return Failure(rid, Reason("unknown_job", "no job"))
                view = JobView(job, "pending", ("x",), "/", 1, 1)
                return JobDetail(rid, view, context=self.jobs[job][1])
        raise AssertionError(message)

    def dump(self) -> list[bytes]:
        operation = dump("q")
        result: Any = None
        lines: list[bytes] = []
        replies: list[Any] = []
        rid = 0
        while True:
            try:
                effect = operation.send(result)
            except StopIteration:
                return lines
            result = None
            match effect:
                case Emit(value):
                    lines.append(value)
                case Open():
                    rid += 1
                    result = rid
                case Send(message):
                    replies.append(self.answer(message))
                case Receive():
                    result = (rid, replies.pop())
                case Close():
                    pass


@pytest.fixture
def server() -> Server:
    server = Server()
    for number in range(1, 8):
        server.add(number, name=f"job {number}", priority=number, rerun_of=99, key=f"k{number}")
    server.add(9, b'{"umask":63}', stdout=RawBytes(b"\xfe"))
    return server


def test_what_comes_back_is_what_was_dumped(server: Server) -> None:
    found = list(restored(server.dump(), None))
    assert [spec for spec, _ in found] == [
        msgspec.structs.replace(spec, rerun_of=None) for spec, _ in server.jobs.values()
    ]
    assert [context for _, context in found] == [context for _, context in server.jobs.values()]
    assert {spec.queue for spec, _ in restored(server.dump(), "other")} == {"other"}


def test_an_environment_is_asked_for_and_written_once(server: Server) -> None:
    lines = server.dump()
    assert sum(line.startswith(b'{"context"') for line in lines) == 2
    assert sum(isinstance(each, ShowJob) for each in server.asked) == 2
    assert [each.cursor for each in server.asked if isinstance(each, DumpJobs)] == [None, 3, 6]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def test_with_many_environments_only_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumping, "MOST_CONTEXTS", 2)
    server = Server()
    for number in range(1, 30):
        server.add(number, b'{"umask":%d}' % (number % 4))
    lines = server.dump()
    assert len(list(restored(lines, None))) == 29
    server = Server()
    for number in range(1, 30):
        server.add(number, b'{"umask":%d}' % (number % 2))
    assert sum(line.startswith(b'{"context"') for line in server.dump()) == 2


def test_a_job_that_went_meanwhile_is_left_out(server: Server) -> None:
    server.gone = {9}
    assert [spec.name for spec, _ in restored(server.dump(), None)] == [f"job {n}" for n in range(1, 8)]


def test_a_pending_job_has_waited_for_others_long_enough(server: Server) -> None:
    server.add(20, waits=Waits(((1, 1),)))
    *_, (last, _) = restored(server.dump(), None)
    assert last.waits is None


def test_an_empty_queue_makes_a_dump_without_jobs() -> None:
    assert list(restored(Server().dump(), None)) == []


def damaged(lines: list[bytes]) -> Iterator[tuple[list[bytes], str]]:
    yield [], "cut off after 0 jobs"
    yield lines[1:], "no dump of a queue"
    yield [b'{"kueue_dump":2,"queue":"q"}\n', *lines[1:]], "a dump of version 2"
    yield lines[:-1], "cut off after 8 jobs"
    yield [*lines[:2], *lines[3:]], "the dump has 7 jobs, and says that it had 8"
    yield [lines[0], *lines[2:]], "the environment of job 1 is missing"
    yield [lines[0], lines[1].replace(b"18", b"19"), *lines[2:]], "changed or damaged"
    yield [*lines, lines[2]], "comes after the end"
    yield [lines[0], b"\xff\n"], "line 2 is none of a dump"
    yield [lines[0], b'{"something":1}\n'], "line 2 is none of a dump"
    yield [lines[0], b"{}\n"], "line 2 is none of a dump"
    yield [*lines[:2], b'{"job":1,"spec":{}}\n'], "line 3: no job"
    yield [*lines[:2], b'{"job":1}\n'], "line 3: no job"


def test_what_is_no_dump_or_only_a_part_of_one_is_told(server: Server) -> None:
    for lines, said in damaged(server.dump()):
        with pytest.raises(UsageError, match=said):
            list(restored(lines, None))
