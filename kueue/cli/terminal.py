"""Where output goes: results to stdout, everything else to stderr; colours and width of the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

WIDE = 1_000_000
"""Columns of something that is no terminal: nothing is shortened there."""


class Terminal:
    """`colour` is `auto`, `always` or `never`."""

    def __init__(self, colour: str = "auto") -> None:
        if colour == "auto":
            self.colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
            if os.environ.get("TERM") == "dumb":
                self.colour = False
        else:
            self.colour = colour == "always"

    @property
    def is_interactive(self) -> bool:
        """Results go to a person's terminal."""
        return sys.stdout.isatty()

    @property
    def width(self) -> int:
        """Columns for results."""
        return _size().columns if sys.stdout.isatty() else WIDE

    @property
    def height(self) -> int:
        """Lines of the terminal."""
        return _size().lines

    def print(self, lines: Iterable[str]) -> None:
        """Results."""
        for line in lines:
            sys.stdout.write(line + "\n")

    def say(self, line: str) -> None:
        """Whatever is not a result."""
        sys.stdout.flush()
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def _size() -> os.terminal_size:
    import shutil

    return shutil.get_terminal_size((100, 24))


def write_bytes(stream: str, data: bytes) -> None:
    """Output of jobs, byte for byte, to our stdout or stderr."""
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.flush()
    target.buffer.write(data)
    target.buffer.flush()
