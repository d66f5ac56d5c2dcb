"""Answers to FetchLog: offsets, waiting for more, and the end of an attempt."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kueue.resources import Shape
from kueue.wire.messages import FetchLog, LogData
from kueue_worker.core.attempts import key_of
from kueue_worker.core.events import Note
from kueue_worker.growth import Growth
from kueue_worker.logs import Logs
from kueue_worker.spool import Spool
from kueue_worker.threads import DeadlineThreads

KEY = key_of("j", 7, 70)


class Reader:
    """Logs of one job, 7, whose output is in the spool unless a note says otherwise."""

    def __init__(self, root: Path) -> None:
        loop = asyncio.get_running_loop()
        self.spool = Spool(str(root / "spool"))
        self.spool.set_up()
        self.spool.make_directory("j", 7)
        self.file = Path(self.spool.path("j", 7, 1, "stdout"))
        self.note: Note | None = None
        self.over = True
        self.threads = DeadlineThreads(loop)
        self.growth = Growth(loop)
        self.logs = Logs(
            loop, self.threads, self.growth, self.spool, lambda _: self.note, lambda _: self.over
        )

    def ask(self, **more: object) -> asyncio.Future[LogData]:
        """Fetch; the answer is to come once."""
        answer: asyncio.Future[LogData] = asyncio.get_running_loop().create_future()
        request = FetchLog(rid=1, job=7, attempt=1, fence=70, stream="stdout", **more)  # type: ignore[arg-type]
        self.logs.fetch("j", request, answer.set_result)
        return answer

    async def get(self, **more: object) -> LogData:
        """Fetch and wait."""
        return await asyncio.wait_for(self.ask(**more), 10)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.logs.close()
    made.growth.close()
    made.threads.close()


async def test_the_whole_and_its_end(reader: Reader) -> None:
    reader.file.write_bytes(b"0123456789")
    assert await reader.get() == LogData(1, 0, b"0123456789", 10, at_end=True)
    assert await reader.get(limit=4) == LogData(1, 0, b"0123", 10)
    assert await reader.get(offset=8) == LogData(1, 8, b"89", 10, at_end=True)
    assert await reader.get(offset=10) == LogData(1, 10, b"", 10, at_end=True)
    assert await reader.get(offset=-3) == LogData(1, 7, b"789", 10, at_end=True)


async def test_a_running_attempt_has_no_end_yet(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"01")
    assert await reader.get() == LogData(1, 0, b"01", 2)
    assert await reader.get(offset=2) == LogData(1, 2, b"", 2)


async def test_a_waiting_reader_is_answered_when_more_comes(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"01")
    answer = reader.ask(offset=2, wait_seconds=60.0)
    await reader.get()  # another one of the same file does not disturb it
    with reader.file.open("ab") as file:
        file.write(b"23")
    assert await asyncio.wait_for(answer, 10) == LogData(1, 2, b"23", 4)


async def test_a_waiting_reader_is_answered_when_the_attempt_ends(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"01")
    answer = reader.ask(offset=2, wait_seconds=60.0)
    reader.over = True
    reader.logs.look_again(KEY)
    assert await asyncio.wait_for(answer, 10) == LogData(1, 2, b"", 2, at_end=True)


async def test_a_waiting_reader_is_answered_when_its_time_is_over(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"01")
    assert await reader.get(offset=2, wait_seconds=0.05) == LogData(1, 2, b"", 2)


async def test_a_job_that_has_not_started_is_waited_for(reader: Reader) -> None:
    reader.over = False
    answer = reader.ask(wait_seconds=60.0)
    reader.file.write_bytes(b"first")
    reader.logs.look_again(KEY)
    assert await asyncio.wait_for(answer, 10) == LogData(1, 0, b"first", 5)


async def test_output_that_is_gone_is_said_to_be_gone(reader: Reader) -> None:
    data = await reader.get()
    assert data.error is not None
    assert (data.error.code, data.error.text) == ("no_output", "stdout of job 7 is not kept here any more")


async def test_discarded_output_is_at_its_end(reader: Reader) -> None:
    reader.note = Note("j", 7, 70, 1, Shape(), stdout="null")
    data = await reader.get()
    assert data.error is not None
    assert (data.error.code, data.at_end) == ("discarded", True)


async def test_output_in_a_file_of_the_job_s_own(reader: Reader, tmp_path: Path) -> None:
    own = tmp_path / "own.log"
    own.write_bytes(b"own")
    assert (await reader.get(path=str(own))).data == b"own"
    reader.note = Note("j", 7, 70, 1, Shape(), stdout=str(own))
    assert (await reader.get()).data == b"own"


async def test_what_is_no_regular_file_is_refused_without_waiting(reader: Reader, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    data = await reader.get(path=str(tmp_path / "fifo"))
    assert data.error is not None
    assert data.error.code == "unreadable"
    assert (await reader.get(path="/dev/null")).data == b""


async def test_many_readers_wait_on_one_file_and_leave_nothing_behind(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"")
    answers = [reader.ask(wait_seconds=60.0) for _ in range(50)]
    reader.file.write_bytes(b"x")
    for answer in answers:
        assert (await asyncio.wait_for(answer, 10)).data == b"x"
    again = reader.ask(offset=1, wait_seconds=60.0)
    with reader.file.open("ab") as file:
        file.write(b"y")
    assert (await asyncio.wait_for(again, 10)).data == b"y"


async def test_every_portion_arrives_exactly_once_while_it_is_written(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"")
    written = bytearray()

    async def write() -> None:
        with reader.file.open("ab", buffering=0) as file:
            for number in range(200):
                file.write(b"%d\n" % number)
                written.extend(b"%d\n" % number)
                await asyncio.sleep(0)
        reader.over = True
        reader.logs.look_again(KEY)

    writing = asyncio.create_task(write())
    got = bytearray()
    while True:
        data = await reader.get(offset=len(got), wait_seconds=60.0)
        assert data.offset == len(got)
        got += data.data
        if data.at_end:
            break
    await writing
    assert got == written


async def test_a_session_s_end_ends_all_waiting(reader: Reader) -> None:
    reader.over = False
    reader.file.write_bytes(b"")
    answer = reader.ask(wait_seconds=60.0)
    reader.logs.close()
    reader.file.write_bytes(b"x")
    reader.logs.look_again(KEY)
    await reader.get()
    assert not answer.done()
