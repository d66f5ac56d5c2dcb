"""Being told when a file grows, by inotify: whoever follows output waits for an event and never polls.

Writers of a job's output run on this machine, so this also works on network file systems. Where inotify is
exhausted, or the file is not there yet, it is looked at again after a second instead.

Two steps, since naming a file may hang on a dead mount: `watch` in a thread, before the file is read; `wait`
on the loop, after. What happens in between is remembered.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
EVENT = struct.Struct("iIII")
NO_WATCH = -1
LOOK_AGAIN_SECONDS = 1.0
READ_BYTES = 64 * 1024
MOST_EARLY = 1024


class Growth:
    """Calls back once when a file has changed. Lives on one loop; only `watch` is for threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._waiting: dict[int, dict[int, Callable[[], None]]] = {}  # by watch, by ticket
        self._watch_of: dict[int, int] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._early: dict[int, None] = {}  # watches with news that nobody waited for yet
        self._tickets = 0
        if self._descriptor >= 0:
            loop.add_reader(self._descriptor, self._readable)

    def watch(self, path: str) -> int:
        """Begin to watch a file, for `wait`. May hang; call it in a thread."""
        if self._descriptor < 0:
            return NO_WATCH
        return int(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), IN_MODIFY | IN_ATTRIB))

    def wait(self, watch: int, changed: Callable[[], None]) -> int:
        """Call `changed` once, soon after the file has changed since `watch`; a ticket for `forget`."""
        self._tickets += 1
        ticket = self._tickets
        if watch == NO_WATCH or watch in self._early:
            self._early.pop(watch, None)
            delay = LOOK_AGAIN_SECONDS if watch == NO_WATCH else 0.0
            self._timers[ticket] = self._loop.call_later(delay, self._time_over, ticket, changed)
        else:
            self._waiting.setdefault(watch, {})[ticket] = changed
            self._watch_of[ticket] = watch
        return ticket

    def forget(self, ticket: int) -> None:
        """Do not call back any more (a ticket that was called back is forgotten already)."""
        timer = self._timers.pop(ticket, None)
        if timer is not None:
            timer.cancel()
        watch = self._watch_of.pop(ticket, None)
        if watch is not None:
            waiting = self._waiting[watch]
            del waiting[ticket]
            if not waiting:
                del self._waiting[watch]
                # The kernel announces this as an event too: a thread that has just watched the same file, and
                # got the same number, is called back by it.
                self._libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """End all waiting."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._waiting.clear()
        self._watch_of.clear()

    def _time_over(self, ticket: int, changed: Callable[[], None]) -> None:
        del self._timers[ticket]
        changed()

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return
        position = 0
        changed: list[Callable[[], None]] = []
        while position + EVENT.size <= len(data):
            watch, _, _, length = EVENT.unpack_from(data, position)
            position += EVENT.size + length
            waiting = self._waiting.get(watch)
            if waiting is None:
                self._early[watch] = None
                if len(self._early) > MOST_EARLY:
                    del self._early[next(iter(self._early))]
                continue
            for ticket, callback in list(waiting.items()):
                self.forget(ticket)
                changed.append(callback)
        for callback in changed:
            callback()
