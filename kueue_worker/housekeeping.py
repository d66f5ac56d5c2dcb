"""What an agent does from time to time: closes directories that nothing uses, keeps its spool within bounds."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from kueue.clocks import SteadyClock
from kueue_worker.core.attempts import Attempt
from kueue_worker.directories import Directories
from kueue_worker.spool import Spool

log = logging.getLogger(__name__)

HOUSEKEEPING_SECONDS = 60.0
HOUSEKEEPING_DEADLINE_SECONDS = 3600.0
DIRECTORY_SECONDS = 10.0


async def keep_house(
    spool: Spool,
    directories: Directories,
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
    attempts: Callable[[], Iterable[Attempt] | None],
    *,
    max_bytes: int,
    max_seconds: float,
) -> None:
    """Forever; cancelled by the agent. `attempts` is None while it is not known whose output is still written."""
    clock = SteadyClock()  # a clock that is set forward empties no spool
    tidied = -HOUSEKEEPING_SECONDS
    while True:
        await asyncio.sleep(DIRECTORY_SECONDS)
        directories.close_unused()
        spool.remake_directories()
        known = attempts()
        if known is None or time.monotonic() - tidied < HOUSEKEEPING_SECONDS:
            continue
        tidied = time.monotonic()
        live = frozenset((attempt.note.journal, attempt.note.job) for attempt in known)
        tidy = functools.partial(spool.tidy, max_bytes, clock() - max_seconds, live)
        say_problem("tidying the spool", await in_thread(tidy))


def say_problem(what: str, result: object) -> None:
    """Log what came of work in a thread: an error, or how many files it deleted."""
    if isinstance(result, BaseException):
        log.warning("%s: %s", what, result)
    elif result:
        log.debug("%s: %s files deleted", what, result)
