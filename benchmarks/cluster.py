"""A real cluster of one server and one worker below a directory of its own, and what CPU time each part has used.

The programs are those that people run, with TLS and the durable journal; settings are the defaults, but for the
places and that the machine's own load does not hold jobs back.
"""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import astuple, dataclass

import psutil

from benchmarks.places import new_place
from kueue.client import Client
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for

WORKER = "w1"
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Cpu:
    """CPU seconds so far. `jobs`: of those that have ended; the client is this process."""

    client: float
    server: float
    agent: float
    keeper: float
    jobs: float

    def __sub__(self, earlier: Cpu) -> Cpu:
        return Cpu(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))


class Cluster:
    """`with Cluster() as cluster:` it runs, and `cluster.client` is connected. `slots`: jobs at a time."""

    def __init__(self, slots: int = CORES) -> None:
        self._stack = contextlib.ExitStack()
        self.place = new_place()
        self.lab = Lab(self.place, worker=f"worker_max_parallel_jobs = {slots}")
        self._stack.callback(self.lab.close)
        self.client = Client(address=(self.lab.host, self.lab.port), secret=SECRET, connect_timeout=30)
        self._stack.callback(self.client.close)

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as unless_it_starts:
            unless_it_starts.callback(self._stack.close)
            self.lab.start_server()
            self.client.connect()
            self.lab.start_worker(WORKER, wait=False)
            wait_for("the worker is connected", self._has_worker)
            # The first job is like no other: the agent meets the directory, the environment, the program.
            self.client.wait(self.client.submit(["true"], cwd=self.lab.work), 30)
            unless_it_starts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _has_worker(self) -> bool:
        return any(worker.state == "connected" for worker in self.client.workers())

    @property
    def server(self) -> psutil.Process:
        """The server's process."""
        assert self.lab.server_process is not None
        return psutil.Process(self.lab.server_process.pid)

    @property
    def agent(self) -> psutil.Process:
        """The agent's."""
        return psutil.Process(self.lab.agents[WORKER].pid)

    @property
    def keeper(self) -> psutil.Process:
        """The keeper's."""
        (pid,) = wait_for("there is a keeper", lambda: self.lab.keeper_pids(WORKER) or self.lab.keeper_pids())
        return psutil.Process(pid)

    def cpu(self) -> Cpu:
        """Of each part, until now."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        server, agent, keeper = (part.cpu_times() for part in (self.server, self.agent, self.keeper))
        return Cpu(
            client=own.ru_utime + own.ru_stime,
            server=server.user + server.system,
            agent=agent.user + agent.system,
            keeper=keeper.user + keeper.system,
            jobs=keeper.children_user + keeper.children_system,
        )
