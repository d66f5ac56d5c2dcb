"""Workers without machines: they speak the real protocol over real TLS, thousands in one process.

As a program (`python -m tests.support.simulated_worker`) it keeps many of them connected to a server until it
is ended; the secret is in the variable SECRET.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import resource
import socket
import time
from typing import Any

from kueue import __version__
from kueue.errors import KueueError
from kueue.job import End
from kueue.resources import Capacity
from kueue.wire.link import Link, connect
from kueue.wire.messages import (
    Acknowledge,
    AttemptRef,
    FinishedAttempt,
    Heartbeat,
    Inventory,
    Offer,
    OfferedJob,
    Refuse,
    Register,
    Report,
    Retract,
    RunningAttempt,
    Status,
    Stop,
    SystemInfo,
    Welcome,
)

CONNECT_SECONDS = 15.0


class SimulatedWorker:
    """One worker. With `finishing`, jobs succeed as soon as they are offered; otherwise they run for ever.

    It remembers what it has across its sessions, as a worker's keeper does.
    """

    def __init__(
        self, name: str, address: tuple[str, int], secret: str, *, cpus: int = 4, finishing: bool = True
    ) -> None:
        self.name = name
        self.offered = 0
        self._address = address
        self._secret = secret
        self._cpus = cpus
        self._finishing = finishing
        self._running: dict[AttemptRef, tuple[int, float]] = {}  # attempt number, start
        self._finished: dict[AttemptRef, FinishedAttempt] = {}
        self._highest_job = 0
        self._link: Link | None = None
        self._closed = asyncio.Event()
        self._heartbeat_seconds = 15.0

    async def run(self, pause_seconds: float) -> None:
        """Be connected for ever; after a loss, try again after up to so many seconds."""
        while True:
            if await self.connect():
                await self.stay()
            await asyncio.sleep(random.uniform(0.0, pause_seconds))

    async def connect(self) -> bool:
        """Begin a session; False if there is no server."""
        self._closed.clear()
        host, port = self._address
        try:
            self._link = await connect(
                host,
                port,
                role="worker",
                secret=self._secret,
                version=__version__,
                handler=self,
                timeout=CONNECT_SECONDS,
            )
        except KueueError:
            return False
        capacity = Capacity(self._cpus, 1000 * self._cpus, self._cpus)
        boot = f"boot of {self.name}"
        self._link.send(
            Register(
                self.name,
                socket.gethostname(),
                __version__,
                f"keeper of {self.name}",
                boot,
                capacity,
                SystemInfo(),
            )
        )
        return True

    async def stay(self) -> None:
        """Send heartbeats until the session ends."""
        while not self._closed.is_set():
            try:
                await asyncio.wait_for(self._closed.wait(), self._heartbeat_seconds)
            except TimeoutError:
                self._send(Heartbeat())

    def close(self) -> None:
        """End the session."""
        if self._link is not None:
            self._link.close()

    def on_message(self, message: Any) -> None:
        """The server said something."""
        match message:
            case Welcome():
                self._heartbeat_seconds = message.heartbeat_seconds
                self._send(
                    Inventory(
                        message.journal,
                        running=tuple(self._as_running(ref) for ref in self._running),
                        finished=tuple(self._finished.values()),
                        highest_job=self._highest_job,
                    )
                )
                self._send(Status(usable_cpus=float(self._cpus), usable_ram_mb=1000.0 * self._cpus))
            case Offer():
                self._take(message.jobs)
            case Acknowledge():
                for ref in message.attempts:
                    self._finished.pop(ref, None)
            case Stop():
                self._end([ref for ref in message.attempts if ref in self._running], End.STOPPED)
            case Retract():
                self._send(Report(kept=message.attempts))  # all start as soon as they are offered
            case Refuse():
                self.close()
            case _:
                pass

    def on_closed(self, error: BaseException | None) -> None:
        """The session is over."""
        self._link = None
        self._closed.set()

    def _take(self, jobs: tuple[OfferedJob, ...]) -> None:
        now = time.monotonic()
        refs = [AttemptRef(job.job, job.fence) for job in jobs]
        self.offered += len(jobs)
        for ref, job in zip(refs, jobs, strict=True):
            self._running[ref] = (job.attempt, now)
            self._highest_job = max(self._highest_job, job.job)
        self._send(Report(started=tuple(map(self._as_running, refs))))
        if self._finishing:
            self._end(refs, End.EXITED)

    def _end(self, refs: list[AttemptRef], end: End) -> None:
        for ref in refs:
            attempt, _ = self._running.pop(ref)
            code = 0 if end is End.EXITED else None
            self._finished[ref] = FinishedAttempt(ref.job, ref.fence, attempt, end, exit_code=code)
        if refs:
            self._send(Report(finished=tuple(self._finished[ref] for ref in refs)))

    def _as_running(self, ref: AttemptRef) -> RunningAttempt:
        attempt, since = self._running[ref]
        return RunningAttempt(ref.job, ref.fence, attempt, time.monotonic() - since)

    def _send(self, message: Any) -> None:
        if self._link is not None:
            self._link.send(message)


def raise_descriptor_limit() -> int:
    """As many open files as this process may have at most; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


async def _keep(arguments: argparse.Namespace) -> None:
    workers = [
        SimulatedWorker(
            f"s{number}",
            (arguments.host, arguments.port),
            os.environ["SECRET"],
            finishing=not arguments.never_finishing,
        )
        for number in range(arguments.count)
    ]
    async with asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run(arguments.pause))


def main() -> None:
    """Keep workers connected until this process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between attempts at most")
    parser.add_argument("--never-finishing", action="store_true", help="jobs run for ever")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    import uvloop

    uvloop.run(_keep(arguments))


if __name__ == "__main__":
    main()
