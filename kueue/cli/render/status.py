"""`kueue status` as lines: what there is, and what of it wants attention, with the remedy. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from kueue.cli.render.cluster import STATE_STYLES
from kueue.cli.render.jobs import count_line
from kueue.cli.render.table import styled
from kueue.durations import format_duration, format_ram
from kueue.file_systems import FileSystem
from kueue.probing import Step
from kueue.text import visible
from kueue.wire.codec import from_os
from kueue.wire.messages import QueueView, ResourcePage, ServerState, WorkerView
from kueue.wire.words import DEFAULT_QUEUE

LITTLE_ROOM_MB = 512
LABEL_WIDTH = 15


class Here(NamedTuple):
    """What this machine knows: of the configuration, and of the state directory (None: it can't be looked at)."""

    config: str
    state_dir: str
    file_system: FileSystem | None
    is_servers: bool
    """The server has its journal there."""
    version: str


class Cluster(NamedTuple):
    """What the server says. `address` is where it was reached."""

    address: str
    server: ServerState
    workers: tuple[WorkerView, ...]
    resources: ResourcePage
    queues: tuple[QueueView, ...] = ()


def here_lines(here: Here, *, colour: bool) -> list[str]:
    """About this machine."""
    place = visible(here.state_dir)
    if here.file_system is not None:
        kind = f"{here.file_system.kind}, " if here.file_system.kind else ""
        place += f" ({kind}{format_ram(here.file_system.free_mb)} free)"
    return [_line("configuration", visible(here.config), colour), _line("state", place, colour)]


def cluster_lines(cluster: Cluster, now: float, *, colour: bool) -> list[str]:
    """About the cluster."""
    server, workers = cluster.server, cluster.workers
    up = format_duration(now - server.started_at)
    lines = [
        _line(
            "server",
            f"{visible(server.version)} at {visible(cluster.address)} (pid {server.pid} on"
            f" {visible(server.host)}), up {up}",
            colour,
        ),
        _line("journal", f"{visible(server.journal)} in {visible(from_os(server.state_dir))}", colour),
        _line("workers", _workers(workers, colour), colour),
        _line("jobs", count_line(server.counts, _total(server), colour=colour), colour),
    ]
    counts = server.counts
    left = counts.waiting + counts.pending + counts.offered + counts.running
    if left and counts.eta_seconds:
        lines.append(_line("pace", f"{3600 * left / counts.eta_seconds:,.0f} jobs an hour", colour))
    if named := [_queue(queue) for queue in cluster.queues if _is_worth_a_word(queue)]:
        lines.append(_line("queues", ", ".join(named), colour))
    succeeded = sum(worker.hour_succeeded for worker in workers)
    failed = sum(worker.hour_failed for worker in workers)
    if succeeded or failed:
        lines.append(_line("last hour", f"{succeeded} attempts succeeded, {failed} failed", colour))
    shown = [f"{visible(one.name)} {one.used}/{one.total}" for one in cluster.resources.resources]
    if shown:
        lines.append(_line("resources", ", ".join(shown), colour))
    limit = cluster.resources.max_parallel_jobs
    if limit is not None:
        lines.append(_line("at once", f"{cluster.resources.parallel_jobs} of at most {limit} jobs", colour))
    return lines


def step_lines(steps: list[Step], *, colour: bool) -> list[str]:
    """How far one got on the way to the server."""
    lines = []
    for step in steps:
        text = visible(step.text) + (f" ({1000 * step.seconds:.0f} ms)" if step.succeeded else "")
        mark = styled("ok", "green", colour) if step.succeeded else styled("no", "red", colour)
        lines.append(f"  {mark}  {step.name:<11} {text}")
    return lines


def warnings(here: Here, cluster: Cluster | None, now: float) -> list[str]:
    """What wants attention, each with its remedy."""
    found = []
    if here.file_system is not None and here.file_system.free_mb < LITTLE_ROOM_MB:
        room = format_ram(here.file_system.free_mb)
        found.append(
            f"{visible(here.state_dir)}: only {room} free; make room, or set state_dir to another place"
        )
    if here.is_servers and here.file_system is not None and here.file_system.is_remote:
        found.append(
            f"the journal is on {here.file_system.kind}, where a sync is slow and locks can fail;"
            " set state_dir to a local disk of the server's machine"
        )
    if cluster is None:
        return found
    server = cluster.server
    if server.journal_error:
        found.append(f"the journal can't be written: {visible(server.journal_error)}; make room on its disk")
    if server.version != here.version:
        found.append(f"this kueue is {here.version}, the server {visible(server.version)}; upgrade the older")
    return found + _worker_warnings(cluster, now)


def _worker_warnings(cluster: Cluster, now: float) -> list[str]:
    found = []
    if not any(worker.state == "connected" for worker in cluster.workers):
        found.append("no worker is connected; start kueue_worker on each machine that is to run jobs")
    for worker in cluster.workers:
        name = visible(worker.name)
        if worker.state in ("silent", "lost"):
            seen = "" if worker.last_seen_at is None else f" for {format_duration(now - worker.last_seen_at)}"
            remedy = f"start kueue_worker on {visible(worker.host)}"
            if worker.unconfirmed:
                remedy += f", or, if that machine is dead for good: kueue forget-worker {name}"
            found.append(f"worker {name} has not been heard of{seen}; {remedy}")
        elif worker.paused is not None:
            why = f": {visible(worker.paused.reason)}" if worker.paused.reason else ""
            found.append(f"worker {name} is paused{why}; kueue resume-worker {name}")
        elif worker.status is not None and not worker.status.accepting:
            found.append(f"worker {name} takes no jobs: {visible(worker.status.note) or 'it is leaving'}")
    old = Counter(
        worker.version
        for worker in cluster.workers
        if worker.state == "connected" and worker.version != cluster.server.version
    )
    for version, number in old.items():
        who = "1 worker runs" if number == 1 else f"{number} workers run"
        found.append(
            f"{who} {visible(version)}, the server {visible(cluster.server.version)};"
            " kueue_restart_workers --upgrade, without ending jobs"
        )
    return found


def _is_worth_a_word(queue: QueueView) -> bool:
    """One that somebody has named, and that has something to do or is not as all are."""
    is_set = queue.paused is not None or queue.max_running is not None or queue.weight != 1
    counts = queue.counts
    unfinished = counts.waiting + counts.pending + counts.offered + counts.running
    return is_set or (bool(unfinished) and queue.name != DEFAULT_QUEUE)


def _queue(queue: QueueView) -> str:
    counts = queue.counts
    running = f"{counts.running + counts.offered}"
    if queue.max_running is not None:
        running += f"/{queue.max_running}"
    text = f"{visible(queue.name)} {running} running {counts.pending + counts.waiting} waiting"
    return f"{text} (paused)" if queue.paused is not None else text


def _workers(workers: tuple[WorkerView, ...], colour: bool) -> str:
    if not workers:
        return "none"
    states = Counter(worker.state for worker in workers)
    parts = [
        styled(f"{states[state]} {state}", style, colour)
        for state, style in STATE_STYLES.items()
        if states[state]
    ]
    ours = [worker for worker in workers if worker.state == "connected"]
    total = sum(worker.capacity.cpus for worker in ours)
    free = sum(worker.cpus_free for worker in ours)
    versions = ", ".join(sorted({visible(worker.version) for worker in ours}))
    text = ", ".join(parts)
    return f"{text}; {total - free:.0f} of {total} CPUs in use; version {versions}" if ours else text


def _total(server: ServerState) -> int:
    counts = server.counts
    finished = counts.succeeded + counts.failed + counts.canceled
    return counts.waiting + counts.pending + counts.offered + counts.running + finished


def _line(label: str, text: str, colour: bool) -> str:
    return styled(f"{label:<{LABEL_WIDTH}}", "bold", colour) + text
