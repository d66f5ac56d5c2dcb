"""Frames: a 4-byte big-endian length and that many bytes. No I/O, no knowledge of what is inside."""

from __future__ import annotations

from collections.abc import Iterator

from kueue.errors import ProtocolError

HEADER = 4


def frame(body: bytes) -> bytes:
    """`body` with its length in front."""
    return len(body).to_bytes(HEADER, "big") + body


class FrameDecoder:
    """Cuts a stream into frames. `limit` (bytes of one frame) may be raised while it is in use."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes, return the frames that are complete now.

        Raises:
            ProtocolError: a frame announces more than `limit` bytes, or none at all.
        """
        return list(self.frames(data))

    def frames(self, data: bytes | memoryview) -> Iterator[bytes]:
        """As `feed`, one after the other: `limit` may change between two of them."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while len(buffer) - position >= HEADER:
                length = int.from_bytes(buffer[position : position + HEADER], "big")
                if not 0 < length <= self.limit:
                    raise ProtocolError(f"a frame of {length} bytes (allowed: 1 to {self.limit})")
                start = position + HEADER
                if len(buffer) - start < length:
                    break
                position = start + length
                yield bytes(buffer[start:position])
        finally:
            del buffer[:position]
