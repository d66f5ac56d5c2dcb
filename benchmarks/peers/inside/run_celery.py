"""Celery: a redis of our own, one worker with so many processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import celery

from benchmarks.peers.inside.asking import answer, run_true

ADDRESS = "BENCHMARK_REDIS"
START_SECONDS = 60.0
FOR_EACH_SECONDS = 300

app = celery.Celery("benchmark")
url = os.environ.get(ADDRESS, "")
app.conf.update(
    broker_url=url,
    result_backend=url,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
job = app.task(run_true, name="run_true")


class Celery:
    """It is up."""

    def run(self, jobs: int) -> None:
        """A task a job, all in one group."""
        codes = celery.group([job.s() for _ in range(jobs)])().get(timeout=FOR_EACH_SECONDS, interval=0.001)
        assert codes == [0] * jobs


@contextlib.contextmanager
def start(slots: int) -> Iterator[Celery]:
    """Start redis on a socket here, and the worker; wait until it answers."""
    socket = os.path.abspath("redis.socket")
    place = f"redis+socket://{socket}"
    app.conf.update(broker_url=place, result_backend=place)
    words = ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"]
    worker = [sys.executable, "-m", "celery", "-A", "benchmarks.peers.inside.run_celery", "worker"]
    options = [
        f"-c{slots}",
        "-Ofair",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "-lERROR",
    ]
    with _running(words, {}), _running([*worker, *options], {ADDRESS: place}):
        deadline = time.monotonic() + START_SECONDS
        while not os.path.exists(socket):
            assert time.monotonic() < deadline, "redis does not start"
            time.sleep(0.05)
        while not app.control.ping(timeout=0.5):
            assert time.monotonic() < deadline, "the worker does not answer"
        yield Celery()


@contextlib.contextmanager
def _running(words: list[str], env: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(words, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    from benchmarks.peers.inside import run_celery  # the module that the worker knows, not `__main__`

    answer(run_celery.start)
