"""The smallest parts of messages: strings of the operating system, ranges of ids and of indices.

Apart from `messages.py` so that other parts of the wire can be made of them.
"""

from __future__ import annotations

import msgspec


class RawBytes(msgspec.Struct, frozen=True, gc=False):
    """An OS string that is not UTF-8; JSON carries it as base64."""

    b64: bytes


OsString = str | RawBytes
Range = tuple[int, int]
Step = tuple[int, int, int]
"""First and last index, both of which are there, and the distance between two."""
DEFAULT_QUEUE = "default"
"""Of jobs for which nobody names another."""
