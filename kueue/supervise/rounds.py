"""Rounds over all machines, side by side, again and again; nothing is launched before it is known how the server is."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from kueue.config import Config, RestartWorkers
from kueue.supervise.hosts import Host
from kueue.supervise.pauses import pause_seconds
from kueue.supervise.perform import Performer, Row
from kueue.supervise.plan import Ours, Wish
from kueue.supervise.programs import Programs
from kueue.supervise.server import ServerKeeper, ask, host_of, is_to_be_kept, seconds_up
from kueue.supervise.ssh import Connections
from kueue.text import visible
from kueue.wire.messages import ServerState

log = logging.getLogger(__name__)

OnRow = Callable[[Row], None]
TOGETHER_SECONDS = 1.0
"""Machines that are due so soon are looked at now."""
KNOCK_SECONDS = 5.0
"""How long a machine that was shut may take to show that it is open again."""
MOST_KNOCKS = 256
NOT_TOUCHED = "left as it was, since an upgrade failed before it"


@dataclass(frozen=True)
class Cluster:
    """The configuration of a supervisor, read once, and the machines that it looks after."""

    config: Config
    settings: RestartWorkers
    hosts: tuple[Host, ...]
    with_server: bool = True

    def is_server_kept(self) -> bool:
        """Does the server have a row?"""
        return self.with_server and is_to_be_kept(self.config, self.settings)

    def labels(self) -> list[tuple[str, bool]]:
        """Label and "is it the server's" of all rows in their order."""
        server = [(host_of(self.config, self.hosts).label, True)] if self.is_server_kept() else []
        return server + [(host.label, False) for host in self.hosts]


async def one_round(
    cluster: Cluster,
    wish: Wish,
    on_row: OnRow,
    hosts: Sequence[Host] | None = None,
    shut: Sequence[Host] = (),
) -> list[Row]:
    """Do what is wished on all machines (or some); `on_row` gets each row as it is ready.

    `shut` are others, that took no connection last time: those that do now are not left out.
    """
    settings = cluster.settings
    look_seconds = settings.connect_timeout_seconds
    programs = Programs(cluster.config, settings)
    connections = Connections(settings)
    chosen = list(cluster.hosts if hosts is None else hosts)
    rows: list[Row] = []

    def tell(row: Row) -> None:
        rows.append(row)
        on_row(row)

    async def one(host: Host) -> None:
        tell(await _row_of(performer.perform(host, wish), Row(host.label)))

    async def keep_server() -> Ours:
        if cluster.is_server_kept() and wish in (Wish.KEEP, Wish.LOOK):
            host = host_of(cluster.config, cluster.hosts)
            keeper = ServerKeeper(connections, programs, cluster.config, host, look_seconds)
            row = await _row_of(keeper.keep(change=wish is Wish.KEEP), Row(host.label, is_server=True))
            tell(row)
            serves, since = row.is_well, row.since
        else:
            told = await ask(cluster.config)
            serves = isinstance(told, ServerState)
            since = told.started_at if isinstance(told, ServerState) else None
        return programs.ours(server_answers=serves, server_seconds=seconds_up(since))

    try:
        async with asyncio.TaskGroup() as tasks:
            # Machines are looked at meanwhile: a server that can't be reached costs no time of theirs.
            ours = tasks.create_task(keep_server())
            performer = Performer(connections, programs, lambda: asyncio.shield(ours), look_seconds)
            if wish is Wish.UPGRADE:
                await _one_after_the_other(performer, chosen, tell)
            else:
                await _side_by_side(one, chosen, connections, shut, settings.max_parallel_hosts)
    finally:
        connections.close()
    return rows


async def keep_on(
    cluster: Cluster,
    on_row: OnRow,
    on_round: Callable[[list[Row], float], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Rounds until cancelled. `on_round` gets each round's rows, and the seconds until the next one."""
    interval = cluster.settings.sleep_minutes_before_recheck * 60
    failures: dict[str, int] = {}
    shut: set[str] = set()
    due = dict.fromkeys(cluster.hosts, 0.0)
    while True:
        now = clock()
        # Those that failed come last: many that take a connection and then hang would keep the others waiting.
        chosen = [host for host in cluster.hosts if due[host] <= now + TOGETHER_SECONDS]
        perhaps = [
            host for host in cluster.hosts if due[host] > now + TOGETHER_SECONDS and host.label in shut
        ]
        chosen.sort(key=lambda host: failures.get(host.label, 0))
        rows = await one_round(cluster, Wish.KEEP, on_row, chosen, perhaps)
        now = clock()
        of_label = {row.host: row for row in rows if not row.is_server}
        for host in cluster.hosts:
            row = of_label.get(host.label)
            if row is None:
                continue
            failures[host.label] = 0 if row.is_well else failures.get(host.label, 0) + 1
            (shut.add if row.shut else shut.discard)(host.label)
            pause = pause_seconds(interval, cluster.settings.backoff, failures[host.label], random.random())
            due[host] = now + pause
        next_round = min([*due.values(), now + interval])
        seconds = max(0.0, next_round - clock())
        on_round(rows, seconds)
        await sleep(seconds)


async def _side_by_side(
    perform: Callable[[Host], Awaitable[None]],
    hosts: Sequence[Host],
    connections: Connections,
    shut: Sequence[Host],
    most: int,
) -> None:
    """At most `most` at a time of those that take connections, and as many of those that don't: however many are off,
    they keep none of the others waiting. Who is which matters only where there are more than that."""
    awake, others, knocking = (asyncio.Semaphore(number) for number in (most, most, MOST_KNOCKS))

    async def one(host: Host, place: asyncio.Semaphore) -> None:
        async with place:
            await perform(host)

    async def knock(host: Host) -> bool | None:
        async with knocking:
            return await connections.is_open(host, KNOCK_SECONDS)

    async def one_of_many(host: Host) -> None:
        await one(host, others if await knock(host) is False else awake)

    async def one_if_open(host: Host) -> None:
        if await knock(host):
            await one(host, awake)

    async with asyncio.TaskGroup() as tasks:
        for host in hosts:
            tasks.create_task(one_of_many(host) if len(hosts) > most else one(host, awake))
        for host in shut:
            tasks.create_task(one_if_open(host))


async def _row_of(doing: Awaitable[Row], blank: Row) -> Row:
    """A fault of ours, or of a library, is that machine's row: the others have their turn."""
    try:
        return await doing
    except Exception as error:
        log.exception("%s", blank.host)
        return replace(blank, error=f"unexpected: {type(error).__name__}: {visible(str(error))}")


async def _one_after_the_other(performer: Performer, hosts: Sequence[Host], tell: OnRow) -> None:
    """A failed restart ends it: better one machine without a worker than all."""
    failed = False
    for host in hosts:
        if failed:
            tell(Row(host.label, note=NOT_TOUCHED))
            continue
        row = await _row_of(performer.perform(host, Wish.UPGRADE), Row(host.label))
        failed = row.tried and not row.is_well
        tell(replace(row, done="" if failed else row.done))
