"""HyperQueue: its own server and one worker, within this process, as its package offers it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

from benchmarks.peers.inside.asking import answer


class HyperQueue:
    """It is up."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(self, jobs: int) -> None:
        """A task a job, all in one of its jobs."""
        job = Job()
        for _ in range(jobs):
            job.program(["true"], stdout=None, stderr=None)
        assert self._client.wait_for_jobs([self._client.submit(job)])


@contextlib.contextmanager
def start(slots: int) -> Iterator[HyperQueue]:
    """A local cluster."""
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=slots))
        yield HyperQueue(cluster.client())


if __name__ == "__main__":
    answer(start)
