"""Keeps a keeper within reach: finds the one that runs, starts one where none does, notices a silent one.

A keeper that does not answer is never killed from here: its jobs would go with it. It is told to the core,
which takes no more jobs meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable

import msgspec

from kueue import __version__
from kueue_worker.core.events import (
    AttemptEnded,
    AttemptStarted,
    Event,
    KeeperGone,
    KeeperLeaving,
    KeeperReady,
    KeeperSilent,
    KeptAttempt,
    SpawnUndone,
    StartDropped,
)
from kueue_worker.keeper_link import PROTOCOL_VERSION, KeeperFaultError, KeeperLink, Message, peer_of
from kueue_worker.keeper_messages import ended_of, kept_of
from kueue_worker.memory_kills import MemoryKills

log = logging.getLogger(__name__)

PING_SECONDS = 2.0
SILENT_SECONDS = 10.0
START_SECONDS = 30.0
"""A keeper first ends what a dead one left behind, with a grace time."""
EXIT_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 15.0
LINE_VERSION = 3
"""Keepers of it know starts that are ordered ahead."""


class KeeperProcess:
    """`post` gets the keeper's news as events; `on_new` is called before `KeeperReady` of each connection."""

    def __init__(
        self, spool: str, address: str, post: Callable[[Event], None], on_new: Callable[[], None]
    ) -> None:
        self.pid: int | None = None
        self.version = 0
        self._spool = spool
        self._address = address
        self._post = post
        self._on_new = on_new
        self._link: KeeperLink | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._records: list[KeptAttempt] = []
        self._ready = False
        self._is_first = True  # of the keepers that this agent has met
        self._replacing = False
        self._ending = False
        self._closed = asyncio.Event()
        self._last_heard = 0.0
        self._silent = False
        self._stranger_said = False
        self._pings = 0
        self._memory_kills = MemoryKills()

    def look_for_memory_kills(self) -> None:
        """To be called from time to time, so that what is killed for want of memory can be told."""
        self._memory_kills.look(self.pid)

    def send(self, message: Message, descriptors: tuple[int, ...] = (), *, late: bool = False) -> None:
        """To the keeper, if there is one; else the descriptors are closed and `KeeperGone` makes it good. `late`:
        there is no hurry."""
        if self._link is not None:
            self._link.send(message, descriptors, late=late)
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    async def run(self) -> None:
        """Have a keeper, forever; cancelled by the agent."""
        loop = asyncio.get_running_loop()
        pause = 0.2
        while not self._ending:
            sock = await self._connect()
            if sock is None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            self._closed.clear()
            self._ready = False
            self._records = []
            self._link = KeeperLink(sock, self._on_messages, self._on_closed)
            self._link.send({"m": "hello", "v": PROTOCOL_VERSION, "agent": secrets.token_hex(8)})
            self._last_heard = loop.time()
            while not self._closed.is_set():
                await self._ping(loop)
            if self._process is not None:
                self._process.poll()
            # Another agent took over, or the keeper died; either way not at once again.
            pause = 0.2 if self._ready else min(pause * 2, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(0 if self._ready else pause)

    async def exit(self) -> None:
        """Tell the keeper to end, and wait a moment for it."""
        self._ending = True
        if self._link is None:
            return
        self.send({"m": "exit", "grace": 1.0})
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            log.warning("the keeper (pid %s) has not ended yet", self.pid)

    def close(self) -> None:
        """Leave the keeper to itself."""
        self._ending = True
        if self._link is not None:
            self._link.flush()
            self._link.close()
        if self._process is not None and self._process.poll() is None:
            self._process.returncode = 0  # it lives on, and nobody is to miss that we did not wait for it

    # ---------------------------------------------------------------- connecting and starting

    async def _connect(self) -> socket.socket | None:
        """A socket to a living keeper, started if need be; None if that failed (and was logged)."""
        sock = self._try_connect()
        if sock is not None:
            return sock
        loop = asyncio.get_running_loop()
        if self._process is None or self._process.poll() is not None:
            self._process = start_keeper(self._spool, self._address)
        process = self._process
        until = loop.time() + START_SECONDS
        wait = 0.005
        while loop.time() < until:
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, 0.1)
            sock = self._try_connect()
            if sock is not None:
                return sock
            if process.poll() == 0:  # it found another one, which has gone since
                self._process = process = start_keeper(self._spool, self._address)
            elif process.poll() is not None:
                log.error("the keeper ended with %s; see %s/keeper.log", process.returncode, self._spool)
                return None
        log.error("the keeper does not come up; see %s/keeper.log", self._spool)
        return None

    def _try_connect(self) -> socket.socket | None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.connect(f"\0{self._address}")
            if peer_of(sock)[1] not in (os.getuid(), 0):
                if not self._stranger_said:
                    self._stranger_said = True
                    log.error("the keeper's address is held by a process of another user; tries on")
                sock.close()
                return None
        except OSError:
            sock.close()
            return None
        self._stranger_said = False
        return sock

    async def _ping(self, loop: asyncio.AbstractEventLoop) -> None:
        """One turn: wait for the end of the connection or the time for a ping, and judge the silence."""
        try:
            async with asyncio.timeout(PING_SECONDS):
                await self._closed.wait()
            return
        except TimeoutError:
            pass
        silence = loop.time() - self._last_heard
        if silence >= SILENT_SECONDS:
            if not self._silent:
                log.warning("the keeper has not answered for %.0f s; takes no jobs meanwhile", silence)
            self._silent = True
            self._post(KeeperSilent(silence))
        self._pings += 1
        self.send({"m": "ping", "n": self._pings})

    # ---------------------------------------------------------------- what it says

    def _on_messages(self, messages: list[Message]) -> None:
        self._last_heard = asyncio.get_running_loop().time()
        if self._silent:
            self._silent = False
            log.info("the keeper answers again")
            self._post(KeeperSilent(0.0))
        for message in messages:
            try:
                self._on_message(message)
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise KeeperFaultError(f"{message.get('m')}: {error!r}") from None

    def _on_message(self, message: Message) -> None:
        match message["m"]:
            case "ended":
                ended = ended_of(message)
                if (killed := self._memory_kills.explain(ended)) is not None:
                    ended = msgspec.structs.replace(ended, reason=killed)
                self._post(AttemptEnded(str(message["key"]), ended, message.get("next")))
            case "started":
                self._post(AttemptStarted(str(message["key"]), float(message["started"])))
            case "no_env":
                self._post(SpawnUndone(str(message["key"])))
            case "dropped":
                self._post(StartDropped(str(message["key"])))
            case "state":
                self._on_state(message)
            case "leaving":
                self._post(KeeperLeaving())
            case _:
                pass  # pong, or what a newer keeper says besides

    def _on_state(self, message: Message) -> None:
        for record in message["records"]:
            kept = kept_of(record)
            if kept is None:
                log.warning("a record of the keeper is not ours: %s", record.get("key"))
            else:
                self._records.append(kept)
        if message.get("more"):
            return
        is_first, self._is_first = self._is_first, False
        if is_first and not self._records and message.get("program", __version__) != __version__:
            # Of another version of the programs; while it has no job, it costs nothing to have one of ours.
            self._replacing = True
            self.send({"m": "exit", "grace": 0.0})
            return
        self._ready = True
        self.version = int(message["v"])
        records, self._records = tuple(self._records), []
        if self._link is not None:
            self.pid = self._link.peer_pid
        self.look_for_memory_kills()
        self._on_new()
        self._post(KeeperReady(str(message["keeper"]), records, has_line=self.version >= LINE_VERSION))

    def _on_closed(self, error: BaseException | None) -> None:
        self._link = None
        self.pid = None
        self._silent = False
        self._closed.set()
        if not self._ending and not self._replacing:
            log.warning("the connection to the keeper ended%s", f": {error}" if error else "")
        self._replacing = False
        self._post(KeeperGone())


def start_keeper(spool: str, address: str) -> subprocess.Popen[bytes]:
    """Start a keeper in the background, detached from our terminal and session."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kueue_worker.keeper",
            "--spool",
            spool,
            "--address",
            address,
            "--program",
            __version__,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,
        close_fds=True,
    )
