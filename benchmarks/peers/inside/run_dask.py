"""Dask distributed: a scheduler, and one worker process with so many threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from distributed import Client, LocalCluster

from benchmarks.peers.inside.asking import answer, run_true


class Dask:
    """It is up."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def run(self, jobs: int) -> None:
        """A task a job."""
        codes = self._client.gather(self._client.map(run_true, range(jobs), pure=False))
        assert codes == [0] * jobs


@contextlib.contextmanager
def start(slots: int) -> Iterator[Dask]:
    """A local cluster without its dashboard."""
    options = {"n_workers": 1, "threads_per_worker": slots, "processes": True, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield Dask(client)


if __name__ == "__main__":
    answer(start)
