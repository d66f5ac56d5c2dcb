"""Looks at a lab's jobs and workers through a connection of its own.

A command for each look would cost more than what is looked at, on a machine with two cores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import kueue
from kueue.wire.messages import JobView, WorkerView
from tests.support.lab import Lab
from tests.support.waiting import wait_for

OVER = ("succeeded", "failed", "canceled")


class Observer:
    """Of one lab; it has a connection only while it looks, so the server may go and come."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def submit(
        self,
        script: str,
        *,
        cwd: Path | None = None,
        out: Path | str | None = None,
        time_limit: float | None = 60.0,
        max_restarts: int = 5,
    ) -> int:
        """A job that `sh` runs, not looked at by the command line, which would look at the places itself."""
        with kueue.Client(self.lab.config) as client:
            command = ["/bin/sh", "-c", script]
            job = client.submit(
                command,
                cwd=cwd or self.lab.work,
                stdout=out,
                time_limit=time_limit,
                max_restarts=max_restarts,
            )
            return int(job.id)

    def jobs(self, numbers: Collection[int]) -> list[JobView]:
        """These jobs."""
        with kueue.Client(self.lab.config) as client:
            return list(client.job_views(ids=sorted(numbers)))

    def job(self, number: int) -> JobView:
        """This job."""
        (found,) = self.jobs([number])
        return found

    def wait_all(
        self, numbers: Collection[int], states: Sequence[str] = OVER, seconds: float = 60
    ) -> list[JobView]:
        """Wait until each of these is in one of the states."""
        with kueue.Client(self.lab.config) as client:

            def look() -> list[JobView] | None:
                found = list(client.job_views(ids=sorted(numbers)))
                there = len(found) == len(numbers) and all(job.state in states for job in found)
                self._last = [(job.id, job.state, job.reason) for job in found]
                return found if there else None

            try:
                found = wait_for(f"jobs {sorted(numbers)} are {'/'.join(states)}", look, seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}; they are {self._last}") from None
            assert found is not None
            return found

    def wait(self, number: int, *states: str, seconds: float = 60) -> JobView:
        """Wait until a job is in one of the states (without any: until it is over)."""
        (found,) = self.wait_all([number], states or OVER, seconds)
        return found

    def workers(self) -> dict[str, WorkerView]:
        """All workers by name."""
        with kueue.Client(self.lab.config) as client:
            return {worker.name: worker for worker in client.workers()}

    def start_worker(self, name: str = "w1", *, under: Sequence[str] = ()) -> None:
        """Start a worker, and wait until the server lists it as connected."""
        agent = self.lab.start_worker(name, wait=False, under=under)

        def is_connected() -> bool:
            found = self.workers().get(name)
            return agent.poll() is not None or (found is not None and found.state == "connected")

        wait_for(f"worker {name} is connected", is_connected, 60)
        assert agent.poll() is None, self.lab.worker_log(name)

    def cancel(self, numbers: Iterable[int]) -> None:
        """Cancel these, running ones too."""
        with kueue.Client(self.lab.config) as client:
            client.cancel(list(numbers), kill=True)
