"""What is logged of many peers that do the same: a line now and then, not one for each."""

from __future__ import annotations

import asyncio
import logging

LOG_SECONDS = 10.0
"""At most one line so often of each kind."""


class Complaints:
    """Lines about failures of one kind: the first at once, later ones together, at a limited rate."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._text = ""
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, text: str) -> None:
        """Say it, now or with others when it is time."""
        self._text = text
        self._count += 1
        if self._timer is None:
            self._say()

    def close(self) -> None:
        """Say what has not been said."""
        if self._timer is not None:
            self._timer.cancel()
            self._say()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _say(self) -> None:
        self._timer = None
        if self._count:
            self._log.warning(
                "%s%s", self._text, f" (and {self._count - 1} more like it)" if self._count > 1 else ""
            )
            self._count = 0
            self._timer = asyncio.get_running_loop().call_later(LOG_SECONDS, self._say)
