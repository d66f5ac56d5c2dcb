"""HyperQueue: its own server and one worker, within this process, as its package offers it.

Its client looks for ends once a second. For the latency of one job that would be all there is to see: there the end
is that of the job's output, a pipe, which closes with the process. The throughput may be too low by that second.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.peers.inside.asking import answer

PIPE = "hyperqueue.pipe"


class HyperQueue:
    """It is up."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(self, jobs: int) -> None:
        """A task a job, all in one of its jobs."""
        if jobs == 1:
            self._run_one()
            return
        job = Job()
        for _ in range(jobs):
            job.program(["true"], stdout=None, stderr=None)
        assert self._client.wait_for_jobs([self._client.submit(job)])

    def _run_one(self) -> None:
        """Until its output ends."""
        job = Job()
        job.program(["true"], stdout=os.path.abspath(PIPE), stderr=None)
        self._client.submit(job)
        with open(PIPE, "rb") as pipe:  # waits until it is opened for writing, too
            assert pipe.read() == b""


@contextlib.contextmanager
def start(slots: int) -> Iterator[HyperQueue]:
    """A local cluster."""
    os.mkfifo(PIPE)
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        yield HyperQueue(cluster.client())


if __name__ == "__main__":
    answer(start)
