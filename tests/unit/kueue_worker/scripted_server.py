"""A server for tests of the agent: a real listener, offers by hand, and everything that workers say."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from kueue.resources import Shape
from kueue.wire.link import Link
from kueue.wire.listener import Listener
from kueue.wire.messages import (
    Acknowledge,
    AttemptRef,
    Command,
    Context,
    FetchLog,
    FinishedAttempt,
    Heartbeat,
    Inventory,
    Leaving,
    LogData,
    Offer,
    OfferedJob,
    OsString,
    RefusedAttempt,
    Register,
    Report,
    RunningAttempt,
    Spec,
    Status,
    Welcome,
)

SECRET = "a-secret-for-tests-only-0123456789abcdef"
ENVIRONMENT = Context(env=(("HOME", "/home/x"), ("PATH", "/usr/local/bin:/usr/bin:/bin")))
T = TypeVar("T")


class ScriptedServer:
    """Takes one worker. With `acknowledges`, ends are acknowledged as they come."""

    def __init__(self, *, acknowledges: bool = True) -> None:
        self.acknowledges = acknowledges
        self.journal = "journal-1"
        self.heartbeat_seconds = 5.0
        self.port = 0
        self.registers: list[Register] = []
        self.inventories: list[Inventory] = []
        self.statuses: list[Status] = []
        self.started: dict[int, RunningAttempt] = {}
        self.finished: dict[int, FinishedAttempt] = {}
        self.refused: dict[int, RefusedAttempt] = {}
        self.released: list[int] = []
        self.kept: list[int] = []
        self.leaving: list[Leaving] = []
        self.logs: dict[int, LogData] = {}
        self.reports = 0
        self.link: Link | None = None
        self._listener: Listener | None = None
        self._news = asyncio.Event()
        self._sent_contexts: set[str] = set()

    async def start(self, secret: str = SECRET) -> None:
        """Listen, on the same port each time."""
        self._listener = Listener()
        await self._listener.start(
            [("127.0.0.1", self.port)], secrets=[secret], version="0.1.0", accept=self._accept
        )
        self.port = self._listener.ports[0]

    async def stop(self) -> None:
        """Be away."""
        if self.link is not None:
            self.link.abort()
            self.link = None
        if self._listener is not None:
            await self._listener.close()
            self._listener = None

    def _accept(self, link: Link) -> ScriptedServer:
        self.link = link
        self._sent_contexts.clear()
        return self

    # ---------------------------------------------------------------- what workers say

    def on_closed(self, error: BaseException | None) -> None:
        self._news.set()

    def on_message(self, message: Any) -> None:
        assert self.link is not None
        match message:
            case Register():
                self.registers.append(message)
                self.link.send(Welcome(self.journal, 1, self.heartbeat_seconds, 600.0, "0.1.0"))
            case Inventory():
                self.inventories.append(message)
                self._on_finished(message.finished)
            case Status():
                self.statuses.append(message)
            case Report():
                self.reports += 1
                self.started |= {item.job: item for item in message.started}
                self.refused |= {item.job: item for item in message.refused}
                self.released += [item.job for item in message.released]
                self.kept += [item.job for item in message.kept]
                self._on_finished(message.finished)
            case LogData():
                self.logs[message.rid] = message
            case Leaving():
                self.leaving.append(message)
                self.link.close()
            case Heartbeat():
                self.link.send(Heartbeat())
        self._news.set()

    def _on_finished(self, finished: tuple[FinishedAttempt, ...]) -> None:
        self.finished |= {item.job: item for item in finished}
        if finished and self.acknowledges and self.link is not None:
            self.link.send(Acknowledge(tuple(AttemptRef(item.job, item.fence) for item in finished)))

    # ---------------------------------------------------------------- what tests do

    async def until(self, condition: Callable[[], T], seconds: float = 30.0) -> T:
        """The first truthy value of a condition over what workers have said."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := condition()):
                    self._news.clear()
                    await self._news.wait()
                return value
        except TimeoutError:
            state = (self.started, self.finished, self.refused, self.released, self.statuses[-1:])
            raise AssertionError(f"not within {seconds:g} s; seen: {state}") from None

    async def connected(self, times: int = 1) -> None:
        """A worker has registered so often and said what it can give."""
        await self.until(lambda: len(self.registers) >= times and len(self.statuses) >= times)

    def offer(
        self,
        job: int,
        *argv: OsString,
        cwd: OsString,
        attempt: int = 1,
        shape: Shape | None = None,
        context: Context = ENVIRONMENT,
        stdout: OsString | None = None,
        stderr: OsString | None = None,
        time_limit: float | None = None,
    ) -> None:
        """Offer one job with fence `10 * job + attempt`."""
        encoded = msgspec.json.encode(context)
        digest = hashlib.sha256(encoded).hexdigest()
        spec = Spec(
            Command(argv),
            cwd,
            "/",
            shape or Shape(cpus=1, ram_mb=1),
            digest,
            stdout=stdout,
            stderr=stderr,
            time_limit_seconds=time_limit,
        )
        assert self.link is not None
        contexts = () if digest in self._sent_contexts else (encoded,)
        self._sent_contexts.add(digest)
        body = msgspec.Raw(msgspec.json.encode(spec))
        self.link.send(Offer((OfferedJob(job, 10 * job + attempt, attempt, body),), contexts))

    def send(self, message: msgspec.Struct) -> None:
        """Send anything."""
        assert self.link is not None
        self.link.send(message)

    def ref(self, job: int, attempt: int = 1) -> AttemptRef:
        """The name of an offered attempt."""
        return AttemptRef(job, 10 * job + attempt)

    async def end_of(self, job: int, seconds: float = 30.0) -> FinishedAttempt:
        """The report of a job's end."""
        await self.until(lambda: job in self.finished, seconds)
        return self.finished[job]

    async def log(self, rid: int, job: int, **more: Any) -> LogData:
        """Fetch output."""
        fields: dict[str, Any] = {"attempt": 1, "fence": 10 * job + 1, "stream": "stdout", **more}
        self.send(FetchLog(rid=rid, job=job, **fields))
        await self.until(lambda: rid in self.logs)
        return self.logs.pop(rid)
