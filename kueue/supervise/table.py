"""The supervisor's table: plain lines, and objects with `--json`. Pure; `live.py` has the terminal's."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from kueue.supervise.perform import Row
from kueue.text import visible

TITLES = ("host", "reachable", "up since", "version", "jobs", "done", "remark")


def json_object(row: Row) -> dict[str, Any]:
    """A row as `docs/json.md` has it."""
    agent = row.agent
    since = agent.since if agent else row.since
    return {
        "host": row.host,
        "role": "server" if row.is_server else "worker",
        "reachable": row.reachable,
        "name": agent.name or None if agent else None,
        "pid": agent.pid if agent else None,
        "up_since": _iso(since),
        "version": agent.version or None if agent else None,
        "connected": agent.connected if agent else None,
        "jobs": agent.jobs if agent and agent.answers else None,
        "done": row.done or None,
        "note": row.note or None,
        "error": row.error or None,
    }


def cells(row: Row) -> tuple[str, ...]:
    """A row as texts, in the order of `TITLES`."""
    agent = row.agent
    since = agent.since if agent else row.since
    return (
        f"{row.host} (server)" if row.is_server else row.host,
        "yes" if row.reachable else "no",
        _local(since),
        visible(agent.version) if agent else "",
        str(agent.jobs) if agent and agent.answers else "",
        row.done,
        visible(row.error or row.note),
    )


def lines(rows: Sequence[Row]) -> list[str]:
    """Plain lines, title first, in columns; nothing is shortened."""
    table = [TITLES, *map(cells, rows)]
    widths = [max(len(each[column]) for each in table) for column in range(len(TITLES))]
    return ["  ".join(map(str.ljust, each, widths)).rstrip() for each in table]


def summary(rows: Sequence[Row]) -> str:
    """One line about a round."""
    workers = [row for row in rows if not row.is_server]
    well = sum(row.is_well for row in workers)
    told = f"{well} of {len(workers)} {'host' if len(workers) == 1 else 'hosts'} well"
    changed = sum(bool(row.done) for row in rows)
    return f"{told}, {changed} changed" if changed else told


def _local(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
