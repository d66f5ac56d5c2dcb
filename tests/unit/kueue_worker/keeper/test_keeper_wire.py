"""The wire between agent and keeper: frames and descriptors in order, and what a fault does."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from kueue_worker.keeper.wire import (
    LENGTH,
    MOST_DESCRIPTORS,
    MOST_FRAME_BYTES,
    Message,
    Wire,
    WireError,
    connect,
    decode_body,
    encode_frame,
    to_bytes,
)

Pair = tuple[Wire, Wire]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one, other = Wire(ends[0]), Wire(ends[1])
    yield one, other
    one.close()
    other.close()


def received(wire: Wire) -> list[Message]:
    frames = wire.receive()
    assert frames is not None
    return [message for messages in frames for message in messages]


def null() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def test_messages_arrive_as_they_were(pair: Pair) -> None:
    sent: list[Message] = [{"m": "a", "text": 'ü \udcff "\n\0', "more": [1, None, 2.5]}, {"m": "b"}]
    pair[0].send(sent)
    pair[0].send([{"m": "c"}])
    assert received(pair[1]) == [*sent, {"m": "c"}]


def test_a_frame_is_a_length_and_json() -> None:
    assert encode_frame([{"m": "x"}]) == b'\0\0\0\x0b[{"m":"x"}]'
    assert to_bytes("\udcff\udce9ü") == b"\xff\xe9\xc3\xbc"


def test_descriptors_arrive_in_order_and_are_closed_here(pair: Pair) -> None:
    pipes = [os.pipe() for _ in range(2)]
    pair[0].send([{"m": "x"}], [pipes[0][0]])
    pair[0].send([{"m": "y"}], [pipes[1][0]])
    for number, (reading, writing) in enumerate(pipes):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reading)
        os.write(writing, b"%d" % number)
        os.close(writing)
    messages: list[Message] = []
    while len(messages) < 2:
        messages += received(pair[1])
    for expected in (b"0", b"1"):
        descriptor = pair[1].take_descriptor()
        assert not os.get_inheritable(descriptor)
        assert os.read(descriptor, 1) == expected
        os.close(descriptor)
    pair[1].check_all_taken()


def test_a_message_without_its_descriptor_is_a_fault(pair: Pair) -> None:
    with pytest.raises(WireError, match="without its descriptor"):
        pair[0].take_descriptor()


def test_a_descriptor_that_nobody_takes_is_a_fault_and_is_closed(pair: Pair) -> None:
    open_before = len(os.listdir("/proc/self/fd"))
    pair[0].send([{"m": "x"}], [null()])
    received(pair[1])
    with pytest.raises(WireError, match="no message asks for"):
        pair[1].check_all_taken()
    pair[1].close()
    assert len(os.listdir("/proc/self/fd")) == open_before - 1


def test_descriptors_of_a_frame_that_is_still_coming_wait(pair: Pair) -> None:
    reading, writing = os.pipe()
    frame = encode_frame([{"m": "x"}])
    with socket.socket(fileno=os.dup(pair[0].fileno())) as sock:
        socket.send_fds(sock, [frame[:7]], [reading])
        assert received(pair[1]) == []
        pair[1].check_all_taken()
        sock.send(frame[7:])
    assert received(pair[1]) == [{"m": "x"}]
    os.close(pair[1].take_descriptor())
    os.close(reading)
    os.close(writing)


def test_too_many_descriptors_are_a_fault(pair: Pair) -> None:
    with pytest.raises(ValueError, match="201 descriptors"):
        pair[0].send([{"m": "x"}], [0] * (MOST_DESCRIPTORS + 1))
    frame = encode_frame([{"m": "x"}])[:6]
    with socket.socket(fileno=os.dup(pair[0].fileno())) as sock:
        descriptor = null()
        socket.send_fds(sock, [frame[:4]], [descriptor] * MOST_DESCRIPTORS)
        socket.send_fds(sock, [frame[4:5]], [descriptor] * MOST_DESCRIPTORS)
        socket.send_fds(sock, [frame[5:]], [descriptor])
        os.close(descriptor)
    assert (received(pair[1]), received(pair[1])) == ([], [])
    with pytest.raises(WireError, match="no message asks for"):
        pair[1].receive()


def test_what_the_socket_does_not_take_waits_in_order(pair: Pair) -> None:
    sent = [{"m": str(number), "text": "x" * 10_000} for number in range(200)]
    for message in sent:
        pair[0].send([message], [null()] if message["m"] == "199" else [])
    assert pair[0].wants_write
    assert pair[0].queued_bytes > 0
    messages: list[Message] = []
    while len(messages) < 200:
        messages += received(pair[1])
        pair[0].flush()
    assert messages == sent
    assert (pair[0].wants_write, pair[0].queued_bytes) == (False, 0)
    os.close(pair[1].take_descriptor())


def test_closing_closes_the_descriptors_that_have_not_gone(pair: Pair) -> None:
    pair[0].send([{"m": "x", "text": "x" * 10_000_000}])
    descriptor = null()
    pair[0].send([{"m": "y"}], [descriptor])
    pair[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"3", b"[1]", b"[{}]", b"[" * 100_000, b"\xff", b'["m"]'])
def test_what_is_no_list_of_messages_is_a_fault(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_body(body)


def test_a_giant_frame_is_a_fault_before_it_comes(pair: Pair) -> None:
    os.write(pair[0].fileno(), LENGTH.pack(MOST_FRAME_BYTES + 1))
    with pytest.raises(WireError, match="a frame of"):
        pair[1].receive()


def test_the_other_end_s_close_is_told(pair: Pair) -> None:
    pair[0].close()
    assert pair[1].receive() is None
    with pytest.raises(WireError, match="cannot send"):
        pair[1].send([{"m": "x"}])


def test_nothing_to_receive_is_no_end(pair: Pair) -> None:
    assert pair[1].receive() == []


def test_nobody_at_the_address() -> None:
    with pytest.raises(ConnectionRefusedError):
        connect("kueue-keeper-that-is-none")
