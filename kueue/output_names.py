"""`%` in the names of output files: `-o run.%j.log`. Worker and server both need to know what becomes of it.

`%j` id, `%n` name, `%g` group, `%i` index within its array (0 outside of one), `%a` attempt, `%h` the worker's host,
`%%` a percent sign; anything else stays as it is. A slash in a name, group or host becomes `_`: whatever a job is
called, its output stays where it was sent.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kueue.wire.codec import os_bytes, to_os
from kueue.wire.messages import OsString

_MARK = re.compile(rb"%([jngiah%])")


class OutputNames(NamedTuple):
    """What the marks stand for."""

    job: int
    name: str
    group: str
    attempt: int
    host: str
    array_index: int = 0

    def fill(self, path: OsString | None) -> OsString | None:
        """The path with its marks replaced."""
        if path is None or (isinstance(path, str) and "%" not in path):
            return path
        return to_os(_MARK.sub(lambda found: self._value(found[1]), os_bytes(path)))

    def _value(self, letter: bytes) -> bytes:
        match letter:
            case b"j":
                return b"%d" % self.job
            case b"n":
                return _plain(self.name)
            case b"g":
                return _plain(self.group)
            case b"i":
                return b"%d" % self.array_index
            case b"a":
                return b"%d" % self.attempt
            case b"h":
                return _plain(self.host)
            case _:
                return b"%"


def _plain(text: str) -> bytes:
    return text.replace("/", "_").replace("\0", "_").encode("utf-8", "surrogateescape")
