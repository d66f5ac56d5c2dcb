"""A real server in a directory of its own, on a real disk, and what it costs: CPU time by thread, memory.

For the questions about the server alone; its peers are the real client, or the simulated ends of workers.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.places import place_of_labs
from kueue.client import Client
from kueue.job_spec import JobSpec
from tests.support.lab import SECRET, Lab

DIRECTORY = "/data/work"
"""Jobs of these questions are said to work below it; nothing runs, so it need not be there."""
READY_SECONDS = 300.0


def place_on_disk() -> tempfile.TemporaryDirectory[str]:
    """A directory for a few large files, which is gone at once."""
    return tempfile.TemporaryDirectory(prefix="kueue-benchmark-", dir=place_of_labs())


def distinct_jobs(first: int, count: int) -> Iterator[JobSpec]:
    """Jobs with commands and directories of their own."""
    for number in range(first, first + count):
        yield JobSpec(
            ["./simulate", f"--seed={number}", f"case{number}.json"], cwd=f"{DIRECTORY}/case{number}"
        )


class ServerLab:
    """`with ServerLab() as lab:` a server runs, and `lab.client` is connected to it."""

    def __init__(self, *, server: str = "") -> None:
        self._stack = contextlib.ExitStack()
        self._lab = Lab(Path(self._stack.enter_context(place_on_disk())), server=server)
        self._stack.callback(self._lab.close)
        self.client = Client(address=(self._lab.host, self._lab.port), secret=SECRET, connect_timeout=30)
        self._stack.callback(self.client.close)

    def __enter__(self) -> ServerLab:
        with contextlib.ExitStack() as unless_it_starts:
            unless_it_starts.callback(self._stack.close)
            self._lab.start_server()
            self.client.connect()
            unless_it_starts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def process(self) -> psutil.Process:
        """The server's."""
        assert self._lab.server_process is not None
        return psutil.Process(self._lab.server_process.pid)

    @property
    def journal_bytes(self) -> int:
        """Size of the journal and its WAL."""
        return sum(path.stat().st_size for path in (self._lab.state / "server").glob("journal.sqlite*"))

    def memory(self) -> int:
        """Bytes that are the server's alone."""
        return int(self.process.memory_full_info().uss)

    def cpu(self) -> ServerCpu:
        """CPU seconds so far."""
        times = self.process.cpu_times()
        main = self.process.pid
        loop = next(thread for thread in self.process.threads() if thread.id == main)
        return ServerCpu(times.user + times.system, loop.user_time + loop.system_time)

    def restart(self) -> Restarted:
        """End the server as asked and start it again, until it has answered a client."""
        self.client.close()
        process = self._lab.server_process
        assert process is not None
        process.terminate()
        process.wait()
        log = (self._lab.place / "server.log").open("ab")
        begin = time.monotonic()
        with log:
            self._lab.server_process = subprocess.Popen(
                [sys.executable, "-m", "kueue_server"], env=self._lab.env, stdout=log, stderr=log
            )
        self._stack.callback(self._end, self._lab.server_process)
        while not self._lab.is_listening():
            assert self._lab.server_process.poll() is None, self._lab.server_log()
            assert time.monotonic() - begin < READY_SECONDS
            time.sleep(0.005)
        self.client.counts()
        return Restarted(time.monotonic() - begin, self.cpu().whole)

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()

    @contextlib.contextmanager
    def ends(self, count: int, cpus: int, jobs: int = -1) -> Iterator[SimulatedEnds]:
        """So many simulated workers, connected, and not yet free; `jobs` are to be done in all."""
        words = [
            "--port",
            str(self._lab.port),
            "--count",
            str(count),
            "--cpus",
            str(cpus),
            "--jobs",
            str(jobs),
        ]
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulated_ends", *words],
            env={**self._lab.env, "SECRET": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield SimulatedEnds(process)
        finally:
            self._end(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def run_jobs(self, workers: int, cpus: int, jobs: int) -> Done:
        """Have so many of the pending jobs handed out and ended; a few more may be."""
        with self.ends(workers, cpus, jobs) as ends:
            ends.go()
            return ends.wait()


class Restarted(NamedTuple):
    """From the start of a process until it serves: seconds, and CPU seconds of its own."""

    seconds: float
    cpu_seconds: float


class ServerCpu:
    """CPU seconds of all threads, and of the event loop's."""

    def __init__(self, whole: float, loop: float) -> None:
        self.whole = whole
        self.loop = loop

    @property
    def journal(self) -> float:
        """Of the other threads."""
        return self.whole - self.loop

    def __sub__(self, earlier: ServerCpu) -> ServerCpu:
        return ServerCpu(self.whole - earlier.whole, self.loop - earlier.loop)


class SimulatedEnds:
    """The process of `benchmarks.simulated_ends`, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._expect("connected")

    def go(self) -> None:
        """Say that all are free."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def wait(self) -> Done:
        """Until all jobs are done."""
        begin, end, cpu_seconds, offers = map(float, self._expect("done"))
        return Done(end - begin, cpu_seconds, int(offers))

    def _expect(self, word: str) -> list[str]:
        assert self._process.stdout is not None
        first, *others = self._process.stdout.readline().split() or [""]
        assert first == word, f"the simulated workers said {first!r} {others}"
        return others


class Done:
    """All jobs were handed out, ended, and acknowledged: seconds for that, CPU seconds of the ends, `Offer`s."""

    def __init__(self, seconds: float, cpu_seconds: float, offers: int) -> None:
        self.seconds = seconds
        self.cpu_seconds = cpu_seconds
        self.offers = offers
