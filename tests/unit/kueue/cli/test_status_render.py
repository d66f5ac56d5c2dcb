"""What of the whole wants attention."""

from __future__ import annotations

from typing import Any

import pytest

from kueue.cli.render.status import Cluster, Here, cluster_lines, warnings
from kueue.file_systems import FileSystem
from kueue.resources import Capacity
from kueue.wire.messages import (
    JobCounts,
    Pause,
    QueueView,
    ResourcePage,
    ResourceView,
    ServerState,
    Status,
    WorkerView,
)

NOW = 1_000_000.0
HERE = Here("/home/you/config.toml", "/home/you/state", FileSystem("ext4", 9000), True, "0.1.0")
SERVER = ServerState(1, "0.1.0", "j1", "ralab01", 7, NOW - 90, "/home/you/state")


def worker(name: str = "w1", state: str = "connected", **more: Any) -> WorkerView:
    """One of 8 CPUs, half of them free, that was heard of a minute ago."""
    values: dict[str, Any] = {"version": "0.1.0", "cpus_free": 4.0, "last_seen_at": NOW - 60, **more}
    return WorkerView(1, name, "ralab02", state=state, capacity=Capacity(8, 1000, 8), **values)


def cluster(*workers: WorkerView, server: ServerState = SERVER, **more: Any) -> Cluster:
    """With what the server says."""
    return Cluster("ralab01:11236", server, workers, ResourcePage(1, (), **more))


def test_a_sound_cluster_wants_nothing() -> None:
    assert warnings(HERE, cluster(worker()), NOW) == []


@pytest.mark.parametrize(
    ("here", "found", "expected"),
    [
        (
            HERE._replace(file_system=FileSystem("ext4", 100)),
            None,
            "/home/you/state: only 100 MB free; make room",
        ),
        (HERE._replace(file_system=FileSystem("nfs4", 9000)), None, "the journal is on nfs4"),
        (HERE, cluster(), "no worker is connected; start kueue_worker"),
        (HERE._replace(version="0.2.0"), cluster(worker()), "this kueue is 0.2.0, the server 0.1.0"),
        (
            HERE,
            cluster(worker(), worker("w2", "silent")),
            "worker w2 has not been heard of for 1 m 0 s; start kueue_worker on ralab02",
        ),
        (
            HERE,
            cluster(worker(), worker("w2", "lost", unconfirmed=2)),
            "or, if that machine is dead for good: kueue forget-worker w2",
        ),
        (
            HERE,
            cluster(worker(status=Status(8, 100, accepting=False, note="only 3 MB free"))),
            "worker w1 takes no jobs: only 3 MB free",
        ),
        (
            HERE,
            cluster(worker(version="0.0.9"), worker("w2", version="0.0.9")),
            "2 workers run 0.0.9, the server 0.1.0; kueue_restart_workers --upgrade",
        ),
        (
            HERE,
            cluster(
                worker(), server=ServerState(1, "0.1.0", "j", "h", 1, NOW, journal_error="disk I/O error")
            ),
            "the journal can't be written: disk I/O error",
        ),
    ],
)
def test_what_is_wrong_comes_with_what_helps(here: Here, found: Cluster | None, expected: str) -> None:
    lines = warnings(here, found, NOW)
    assert len(lines) == 1
    assert expected in lines[0]


def test_a_remote_state_directory_matters_only_where_the_journal_is() -> None:
    here = HERE._replace(file_system=FileSystem("nfs4", 9000), is_servers=False)
    assert warnings(here, cluster(worker()), NOW) == []


def test_the_cluster_in_lines() -> None:
    counts = JobCounts(pending=90, running=10, succeeded=5, average_run_seconds=3.0, eta_seconds=360.0)
    resources = (ResourceView("genus", 3, 3),)
    found = Cluster(
        "ralab01:11236",
        ServerState(1, "0.1.0", "j1", "ralab01", 7, NOW - 90, "/home/you/state", counts),
        (worker(), worker("w2", "lost")),
        ResourcePage(1, resources, 10, 50),
    )
    assert cluster_lines(found, NOW, colour=False) == [
        "server         0.1.0 at ralab01:11236 (pid 7 on ralab01), up 1 m 30 s",
        "journal        j1 in /home/you/state",
        "workers        1 connected, 1 lost; 4 of 8 CPUs in use; version 0.1.0",
        "jobs           105 jobs: 90 pending, 10 running, 5 succeeded; average run time 3.0 s;"
        " the rest takes about 6 m 0 s",
        "pace           1,000 jobs an hour",
        "resources      genus 3/3",
        "at once        10 of at most 50 jobs",
    ]


def test_queues_that_are_used_or_set_are_there() -> None:
    queues = (
        QueueView("default", JobCounts(pending=3)),
        QueueView("idle", JobCounts(succeeded=9)),
        QueueView("nightly", JobCounts(pending=12), paused=Pause(5.0)),
        QueueView("tapeout", JobCounts(running=2, pending=2, waiting=1), max_running=40),
    )
    lines = cluster_lines(cluster()._replace(queues=queues), NOW, colour=False)
    (line,) = [line for line in lines if line.startswith("queues")]
    assert line.split(None, 1)[1] == "nightly 0 running 12 waiting (paused), tapeout 2/40 running 3 waiting"
