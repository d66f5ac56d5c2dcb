"""A clock for ages that are kept in files: whoever sets the machine's clock makes nothing older or younger."""

from __future__ import annotations

import time


class SteadyClock:
    """Seconds since the epoch: the wall clock's when this was made, and what has passed since."""

    def __init__(self) -> None:
        self._made = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

    def __call__(self) -> float:
        """Now."""
        return self._made + time.clock_gettime(time.CLOCK_BOOTTIME)
