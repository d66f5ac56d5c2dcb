"""The counter that `submit_many(progress=True)` shows on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO


class SubmitCounter:
    """One line: on a terminal it counts up in place, elsewhere only the last count is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._count = 0

    def __call__(self, count: int) -> None:
        """So many jobs are durable."""
        self._count = count
        if self._live:
            self._stream.write(f"\r{count} jobs submitted")
            self._stream.flush()

    def finish(self) -> None:
        """There will be no more."""
        if self._count:
            self._stream.write("\n" if self._live else f"{self._count} jobs submitted\n")
            self._stream.flush()


def counter_of(progress: bool | Callable[[int], None] | None) -> Callable[[int], None]:
    """What to call with each count for what the user gave as `progress`."""
    if progress is True:
        return SubmitCounter(sys.stderr)
    return progress or (lambda count: None)
