"""The agent's side of the keeper's socket: frames, descriptors, back-pressure, faults."""

from __future__ import annotations

import array
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kueue.job import End
from kueue.resources import Shape
from kueue.wire.messages import RawBytes, Reason
from kueue_worker.core.events import Ended, KeptAttempt, Note
from kueue_worker.keeper_link import LENGTH, MOST_DESCRIPTORS, KeeperFaultError, KeeperLink, Message
from kueue_worker.keeper_messages import ended_of, kept_of, note_as_json


class Pair:
    """A link, and the other end as a blocking socket."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.theirs.settimeout(10)
        self.messages: list[Message] = []
        self.arrived = asyncio.Event()
        self.closed: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.link = KeeperLink(ours, self._got, self.closed.set_result)

    def _got(self, messages: list[Message]) -> None:
        self.messages += messages
        self.arrived.set()

    def receive_frame(self) -> tuple[Any, list[int]]:
        """The next frame and its descriptors."""
        descriptors = array.array("i")
        data, ancillary, _, _ = self.theirs.recvmsg(4, socket.CMSG_SPACE(MOST_DESCRIPTORS * 4))
        for _, _, raw in ancillary:
            descriptors.frombytes(raw)
        while len(data) < 4:
            data += self.theirs.recv(4 - len(data))
        (length,) = LENGTH.unpack(data)
        body = b""
        while len(body) < length:
            body += self.theirs.recv(length - len(body))
        return json.loads(body), list(descriptors)

    async def receive(self) -> tuple[Any, list[int]]:
        """The same, beside the loop."""
        return await asyncio.to_thread(self.receive_frame)

    def say(self, body: bytes) -> None:
        """Send a frame of this body."""
        self.theirs.sendall(LENGTH.pack(len(body)) + body)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    made.link.close()
    made.theirs.close()


async def test_what_is_sent_in_one_run_of_the_loop_is_one_frame(pair: Pair) -> None:
    for number in range(3):
        pair.link.send({"m": "ping", "n": number})
    frame, descriptors = await pair.receive()
    assert frame == [{"m": "ping", "n": number} for number in range(3)]
    assert descriptors == []


async def test_descriptors_travel_in_order_and_are_closed_here(pair: Pair) -> None:
    read, write = os.pipe()
    open_before = len(os.listdir("/proc/self/fd"))
    pair.link.send({"m": "dir", "id": 1}, (read,))
    pair.link.send({"m": "dir", "id": 2}, (write,))
    frame, (their_read, their_write) = await pair.receive()
    assert [message["id"] for message in frame] == [1, 2]
    assert len(os.listdir("/proc/self/fd")) == open_before  # theirs came, ours went
    os.write(their_write, b"x")
    assert os.read(their_read, 1) == b"x"
    os.close(their_read)
    os.close(their_write)


async def test_a_frame_has_at_most_as_many_descriptors_as_the_kernel_takes(pair: Pair) -> None:
    for number in range(MOST_DESCRIPTORS + 5):
        pair.link.send({"m": "dir", "id": number}, (os.open("/dev/null", os.O_RDONLY),))
    counts = []
    for _ in range(2):
        frame, descriptors = await pair.receive()
        assert len(frame) == len(descriptors)
        counts.append(len(frame))
        for descriptor in descriptors:
            os.close(descriptor)
    assert counts == [MOST_DESCRIPTORS, 5]


async def test_a_slow_keeper_gets_everything_in_order(pair: Pair) -> None:
    for number in range(3000):
        pair.link.send({"m": "spawn", "n": number, "argv": ["x" * 1000]})
    seen: list[int] = []
    while len(seen) < 3000:
        frame, _ = await pair.receive()
        seen += [message["n"] for message in frame]
    assert seen == list(range(3000))


async def test_strings_that_are_not_utf8_go_both_ways(pair: Pair) -> None:
    pair.link.send({"m": "spawn", "argv": ["a\udcff"]})
    frame, _ = await pair.receive()
    assert os.fsencode(frame[0]["argv"][0]) == b"a\xff"
    pair.say(json.dumps([{"m": "x", "text": "a\udcff"}]).encode())
    await asyncio.wait_for(pair.arrived.wait(), 10)
    assert pair.messages == [{"m": "x", "text": "a\udcff"}]


async def test_a_frame_may_arrive_in_pieces(pair: Pair) -> None:
    body = json.dumps([{"m": "pong", "n": 1}]).encode()
    data = LENGTH.pack(len(body)) + body
    for position in range(len(data)):
        pair.theirs.send(data[position : position + 1])
        await asyncio.sleep(0)
    await asyncio.wait_for(pair.arrived.wait(), 10)
    assert pair.messages == [{"m": "pong", "n": 1}]


@pytest.mark.parametrize("body", [b"{", b'{"m":1}', b"[1]", b'[{"n":1}]', b"[" * 100_000])
async def test_what_is_not_of_the_protocol_ends_the_connection(pair: Pair, body: bytes) -> None:
    pair.say(body)
    error = await asyncio.wait_for(pair.closed, 10)
    assert isinstance(error, KeeperFaultError)


async def test_a_giant_frame_is_not_waited_for(pair: Pair) -> None:
    pair.theirs.sendall(LENGTH.pack(2**31))
    assert isinstance(await asyncio.wait_for(pair.closed, 10), KeeperFaultError)


async def test_the_other_end_s_close_is_told_once_and_leaves_no_descriptor(pair: Pair) -> None:
    pair.theirs.close()
    assert await asyncio.wait_for(pair.closed, 10) is None
    descriptor = os.open("/dev/null", os.O_RDONLY)
    pair.link.send({"m": "dir", "id": 1}, (descriptor,))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


# ---------------------------------------------------------------- meaning


def test_a_note_comes_back_as_it_was() -> None:
    note = Note(
        "j",
        1,
        2,
        3,
        Shape(2, 100, 1, (("gpu", 1),)),
        (("gpu", ("a",)),),
        stdout="/o\u00fc",
        stderr=RawBytes(b"/\xff"),
    )
    record = json.loads(
        json.dumps({"key": "k", "state": "running", "started": 5, "note": note_as_json(note)})
    )
    assert kept_of(record) == KeptAttempt("k", note, 5.0)


def test_a_record_with_a_foreign_note_is_not_ours() -> None:
    assert kept_of({"key": "k", "state": "running", "note": {"v": 9}}) is None


def test_ends_are_read_from_raw_wait_statuses() -> None:
    base: Message = {
        "m": "ended",
        "key": "k",
        "started": 1.0,
        "ended": 2.0,
        "cpu_seconds": 0.5,
        "peak_kb": 2048,
    }
    assert ended_of({**base, "end": "exited", "status": 3 << 8}) == Ended(
        End.EXITED, 3, None, 1.0, 2.0, 0.5, 2.0
    )
    assert ended_of({**base, "end": "stopped", "status": 9}).signal == 9
    failed = ended_of({"m": "ended", "key": "k", "end": "not_started", "code": "spawn", "text": "no memory"})
    assert failed == Ended(End.NOT_STARTED, reason=Reason("spawn", "no memory"))
    lost = ended_of({**base, "end": "lost", "status": None, "ended": None})
    assert (lost.ended, lost.reason and lost.reason.code) == (None, "lost")


@pytest.mark.parametrize(
    "message", [{"end": "vanished"}, {}, {"end": "exited", "status": "x"}, {"end": "exited", "started": "x"}]
)
def test_an_end_that_can_not_be_read_is_the_keeper_s_fault(message: Message) -> None:
    with pytest.raises(KeeperFaultError):
        ended_of(message)
