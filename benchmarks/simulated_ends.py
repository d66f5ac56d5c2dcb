"""The workers' ends of many connections, in one process: the real protocol over real TLS, and no jobs behind it.

They are as cheap as they can be, so that the server is the limit. Orders come on stdin, news leave on stdout, a
line each: `connected` when all are; on `go` they say that they are free; `done BEGIN END CPU` after so many jobs
were handed out, reported as ended, and acknowledged: monotonic seconds, and CPU seconds of this process between.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from typing import Any

import uvloop

from kueue import __version__
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
    Register,
    Report,
    Retract,
    Status,
    SystemInfo,
    Welcome,
)
from tests.support.simulated_worker import raise_descriptor_limit

CONNECTING_AT_A_TIME = 50
CONNECT_SECONDS = 60.0
HEARTBEAT_SECONDS = 15.0
HEARTBEATS_PER_STATUS = 4
"""An idle worker says what it can give once a minute (`system_update_interval_seconds`)."""
SLICES = 150
"""Heartbeats are spread over their interval."""
RAM_MB_PER_CPU = 4000
RUN_SECONDS = 0.001


class Ends:
    """All of them, and how many jobs were acknowledged."""

    def __init__(self, address: tuple[str, int], secret: str, count: int, cpus: int, jobs: int) -> None:
        self.cpus = cpus
        self.offers = 0
        self._address = address
        self._secret = secret
        self._count = count
        self._left = jobs
        self._ends: list[_End] = []
        self._are_free = False
        self.begin: tuple[float, float] | None = None
        self.end: tuple[float, float] = (0.0, 0.0)
        self.done = asyncio.Event()

    async def connect(self) -> None:
        """Connect and register all; those that are there already give signs of life meanwhile."""
        places = asyncio.Semaphore(CONNECTING_AT_A_TIME)

        async def one(number: int) -> None:
            async with places:
                end = _End(f"end{number}", self)
                await end.connect(self._address, self._secret)
                self._ends.append(end)

        await asyncio.gather(*(one(number) for number in range(self._count)))

    def say_free(self) -> None:
        """Each says what it can give, which is all it has."""
        self._are_free = True
        for end in self._ends:
            end.say_free()

    def speak(self, turn: int) -> None:
        """Send what is due in this of the slices of time: heartbeats, or now and then a status."""
        for number in range(turn % SLICES, len(self._ends), SLICES):
            due = turn // SLICES % HEARTBEATS_PER_STATUS == number % HEARTBEATS_PER_STATUS
            if due and self._are_free:
                self._ends[number].say_free()
            else:
                self._ends[number].beat()

    def offered(self) -> None:
        """Jobs have come."""
        self.offers += 1
        if self.begin is None:
            self.begin = time.monotonic(), time.process_time()

    def acknowledged(self, count: int) -> None:
        """The ends of so many jobs are safe."""
        was_left, self._left = self._left, self._left - count
        if self._left <= 0 < was_left:
            self.end = time.monotonic(), time.process_time()
            self.done.set()


class _End:
    def __init__(self, name: str, all_of_them: Ends) -> None:
        self._name = name
        self._all = all_of_them
        self._link: Link | None = None
        self._registered = asyncio.Event()

    async def connect(self, address: tuple[str, int], secret: str) -> None:
        self._link = await connect(
            *address,
            role="worker",
            secret=secret,
            version=__version__,
            handler=self,
            timeout=CONNECT_SECONDS,
        )
        cpus = self._all.cpus
        capacity = Capacity(cpus, RAM_MB_PER_CPU * cpus, cpus)
        name = self._name
        self._send(
            Register(name, name, __version__, f"keeper of {name}", f"boot of {name}", capacity, SystemInfo())
        )
        await self._registered.wait()

    def say_free(self) -> None:
        cpus = float(self._all.cpus)
        self._send(Status(usable_cpus=cpus, usable_ram_mb=RAM_MB_PER_CPU * cpus))

    def beat(self) -> None:
        self._send(Heartbeat())

    def on_message(self, message: Any) -> None:
        match message:
            case Offer():
                self._all.offered()
                self._send(Report(finished=tuple([_ended(job.job, job.fence) for job in message.jobs])))
            case Acknowledge():
                self._all.acknowledged(len(message.attempts))
            case Retract():
                kept = tuple([AttemptRef(ref.job, ref.fence) for ref in message.attempts])
                self._send(Report(kept=kept))
            case Welcome():
                self._send(Inventory(message.journal))
                self._registered.set()
            case _:
                pass

    def on_closed(self, error: BaseException | None) -> None:
        print(f"lost {self._name}: {error}", flush=True)
        os._exit(1)

    def _send(self, message: Any) -> None:
        if self._link is not None:
            self._link.send(message)


def _ended(job: int, fence: int) -> FinishedAttempt:
    return FinishedAttempt(
        job,
        fence,
        1,
        End.EXITED,
        exit_code=0,
        started_ago=RUN_SECONDS,
        run_seconds=RUN_SECONDS,
        cpu_seconds=RUN_SECONDS,
        peak_ram_mb=2.0,
    )


async def _speak(ends: Ends) -> None:
    for turn in itertools.count():
        ends.speak(turn)
        await asyncio.sleep(HEARTBEAT_SECONDS / SLICES)


async def _serve(arguments: argparse.Namespace) -> None:
    ends = Ends(
        (arguments.host, arguments.port),
        os.environ["SECRET"],
        arguments.count,
        arguments.cpus,
        arguments.jobs,
    )
    speaking = asyncio.create_task(_speak(ends))
    await ends.connect()
    print("connected", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    ends.say_free()
    await ends.done.wait()
    speaking.cancel()
    assert ends.begin is not None
    cpu_seconds = ends.end[1] - ends.begin[1]
    print(f"done {ends.begin[0]} {ends.end[0]} {cpu_seconds} {ends.offers}", flush=True)


def main() -> None:
    """Serve until all jobs are done, or this process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True, help="workers")
    parser.add_argument("--cpus", type=int, required=True, help="of each")
    parser.add_argument("--jobs", type=int, default=-1, help="how many are to be done; -1: for ever")
    arguments = parser.parse_args()
    raise_descriptor_limit()
    uvloop.run(_serve(arguments))


if __name__ == "__main__":
    main()
