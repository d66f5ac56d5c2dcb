"""A server's worth of answers without a server, for pictures of the screen that are the same on every machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from kueue import AsyncClient
from kueue.resources import Capacity
from kueue.wire.messages import (
    ClusterState,
    JobChange,
    JobCounts,
    JobPage,
    JobView,
    Pause,
    QueueView,
    Reason,
    ResourceView,
    Selector,
    Status,
    WorkerView,
)

NOW = 1_800_000_000.0
STATES = ("pending", "running", "succeeded", "failed", "canceled", "succeeded")


def job(number: int) -> JobView:
    """One of a mixed lot."""
    state = STATES[number % len(STATES)]
    reason = {"failed": Reason("exit", "exit 2"), "pending": Reason("resource", "genus 2/2 in use")}.get(
        state
    )
    return JobView(
        id=number,
        state=state,
        command=("./synthesize.sh", f"core_{number}"),
        cwd="/data/work",
        cpus=1,
        ram_mb=2048,
        name=f"synth-{number}" if number % 2 else "",
        group="tapeout" if number % 3 else "",
        worker=None if state == "pending" else f"ralab{number % 7:02d}",
        attempt=0 if state == "pending" else 1,
        reason=reason,
        run_seconds=None if state in ("pending", "canceled") else 3.0 * number,
    )


def worker(number: int, used: int) -> WorkerView:
    """A machine of eight CPUs."""
    return WorkerView(
        number,
        f"ralab{number:02d}",
        f"ralab{number:02d}",
        "0.1.0",
        "connected" if number != 3 else "silent",
        Capacity(8, 32 * 1024, 8),
        cpus_free=8.0 - used,
        ram_free_mb=16 * 1024.0,
        jobs=used,
        hour_succeeded=40 * used,
        hour_failed=60 if number == 2 else 0,
        status=Status(8.0 - used, 16.0, load=(1.5, 1.0, 0.5), busy=used / 8, uptime_seconds=3600.0),
    )


class ScriptedClient(AsyncClient):
    """A table of some jobs in which nothing happens."""

    def __init__(self, count: int) -> None:
        super().__init__(address=("127.0.0.1", 1), secret="x" * 32)
        self.table = [job(number) for number in range(1, count + 1)]

    async def page(
        self, which: Selector, *, newest_first: bool = False, cursor: int | None = None, limit: int = 1000
    ) -> JobPage:
        """By state and cursor."""
        found = [one for one in self.table if not which.states or one.state in which.states]
        if cursor is not None:
            found = [one for one in found if (one.id < cursor if newest_first else one.id > cursor)]
        rows = (found[::-1] if newest_first else found)[:limit]
        return JobPage(1, tuple(rows), rows[-1].id if len(found) > limit else None)

    async def watch_cluster(self, *, details: bool = False) -> AsyncGenerator[ClusterState | None, None]:
        """Once."""
        counts: dict[str, Any] = {}
        for one in self.table:
            counts[one.state] = counts.get(one.state, 0) + 1
        more: dict[str, Any] = {}
        if details:
            more["workers"] = tuple(worker(number, 2 * number) for number in (1, 2, 3))
            more["resources"] = (ResourceView("genus", 2, 2, (2, 8)), ResourceView("primelib", 4, 31, (2,)))
            more["queues"] = (
                QueueView("default", JobCounts(pending=3, running=2, succeeded=40, failed=1)),
                QueueView("night", JobCounts(pending=1200), paused=Pause(NOW - 7500.0, "until six")),
                QueueView("tapeout", JobCounts(pending=7, running=4), weight=3, max_running=4),
            )
        yield ClusterState(1, JobCounts(**counts), 1, len(self.table), 7, 24, 12.0, **more)
        await asyncio.Event().wait()

    async def watch(self, jobs: Any, timeout: float | None = None) -> AsyncGenerator[JobChange, None]:  # noqa: ASYNC109
        """Nothing happens."""
        await asyncio.Event().wait()
        yield JobChange(1, "unknown")
