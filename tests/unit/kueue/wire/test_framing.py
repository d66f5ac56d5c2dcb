"""Frames are cut out of a stream wherever it is torn, and never larger than allowed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kueue.errors import ProtocolError
from kueue.wire.framing import FrameDecoder, frame


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=8), st.lists(st.integers(1, 40), max_size=30))
def test_frames_come_out_as_they_went_in_however_the_stream_is_torn(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(map(frame, bodies))
    decoder = FrameDecoder(60)
    found: list[bytes] = []
    position = 0
    for cut in cuts:
        found += decoder.feed(stream[position : position + cut])
        position += cut
    found += decoder.feed(stream[position:])
    assert found == bodies


def test_an_unfinished_frame_is_waited_for() -> None:
    decoder = FrameDecoder(100)
    whole = frame(b"abcdef")
    assert decoder.feed(whole[:-1]) == []
    assert decoder.feed(whole[-1:]) == [b"abcdef"]


@pytest.mark.parametrize("length", [0, 11, 2**31, 2**32 - 1])
def test_a_length_that_is_not_allowed_is_refused_before_its_bytes_arrive(length: int) -> None:
    with pytest.raises(ProtocolError):
        FrameDecoder(10).feed(length.to_bytes(4, "big"))


def test_frames_before_a_bad_one_still_count() -> None:
    decoder = FrameDecoder(10)
    frames = decoder.frames(frame(b"good") + b"\xff\xff\xff\xff")
    assert next(frames) == b"good"
    with pytest.raises(ProtocolError):
        next(frames)


def test_the_limit_may_be_raised_between_two_frames_of_one_read() -> None:
    decoder = FrameDecoder(4)
    found = []
    for body in decoder.frames(frame(b"abcd") + frame(b"x" * 50)):
        found.append(body)
        decoder.limit = 50
    assert found == [b"abcd", b"x" * 50]
