"""The program `kueue_restart_workers`: arguments, one round or many, what people see of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncssh

from kueue import __version__
from kueue.config import Config, RestartWorkers, load_config
from kueue.durations import format_duration
from kueue.errors import ConfigError, KueueError
from kueue.supervise import cron
from kueue.supervise.hosts import chosen, expand
from kueue.supervise.perform import Row
from kueue.supervise.plan import Wish
from kueue.supervise.rounds import Cluster, keep_on, one_round
from kueue.supervise.table import json_object, lines, summary

if TYPE_CHECKING:
    from kueue.supervise.live import LiveTable


def main(argv: list[str] | None = None) -> int:
    """Run the supervisor in the foreground; the exit code."""
    arguments = _arguments(argv)
    _quiet_library()
    try:
        config = load_config(arguments.config, create=False)
        if arguments.install_cron or arguments.remove_cron:
            return cron.change(config, given=arguments.config, install=arguments.install_cron)
        cluster = _cluster(config, arguments.host)
        return asyncio.run(_serve(cluster, arguments))
    except KueueError as error:
        print(f"kueue_restart_workers: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 128 + 13


def argument_parser() -> argparse.ArgumentParser:
    """The options; man pages are made of them, too."""
    parser = argparse.ArgumentParser(
        prog="kueue_restart_workers",
        description="Keeps a worker alive on every machine of [restart_workers] hostnames, over ssh: looks at"
        " all of them, starts what is dead in a detached screen, sleeps, looks again.",
        epilog="Exit codes: 0 all is as wished; 1 a host is left without a worker, or could not be reached;"
        " 2 bad usage or configuration.",
    )
    parser.add_argument("-c", "--config", metavar="PATH", help="configuration file (default: KUEUE_CONFIG)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--once", action="store_true", help="a single round")
    what.add_argument("--status", action="store_true", help="look, change nothing")
    what.add_argument("--stop", action="store_true", help="end the workers; their jobs start again elsewhere")
    what.add_argument(
        "--upgrade",
        action="store_true",
        help="restart the agents host by host, without ending their jobs; stops at the first that fails",
    )
    what.add_argument(
        "--install-cron",
        action="store_true",
        help="put a line into your crontab that has this done after each boot and from time to time",
    )
    what.add_argument("--remove-cron", action="store_true", help="take that line out again")
    parser.add_argument("--drain", action="store_true", help="with --stop: let running jobs finish first")
    parser.add_argument(
        "--host", metavar="NAME", action="append", default=[], help="only this host of the list; repeatable"
    )
    parser.add_argument(
        "--json", action="store_true", help="print rows as JSON (not without --once and the like)"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing if nothing had to be done")
    parser.add_argument("--version", action="version", version=f"kueue_restart_workers {__version__}")
    return parser


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argument_parser()
    arguments = parser.parse_args(argv)
    once = arguments.once or arguments.status or arguments.stop or arguments.upgrade
    if arguments.drain and not arguments.stop:
        parser.error("--drain goes with --stop")
    if arguments.json and not once:
        parser.error("--json goes with --once, --status, --stop or --upgrade")
    return arguments


def _cluster(config: Config, names: Sequence[str]) -> Cluster:
    settings = config.restart_workers or RestartWorkers()
    hosts = expand(settings.host_list)
    if not hosts:
        raise ConfigError(f"{config.path}: [restart_workers] hostnames: names no host to keep a worker on")
    if not names:
        return Cluster(config, settings, hosts)
    return Cluster(config, settings, chosen(hosts, names), with_server=False)


def _wish(arguments: argparse.Namespace) -> Wish:
    if arguments.status:
        return Wish.LOOK
    if arguments.upgrade:
        return Wish.UPGRADE
    if arguments.stop:
        return Wish.DRAIN if arguments.drain else Wish.STOP
    return Wish.KEEP


async def _serve(cluster: Cluster, arguments: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        if arguments.once or _wish(arguments) is not Wish.KEEP:
            return await _once(cluster, arguments)
        await _keep_on(cluster, quiet=arguments.quiet)
    except asyncio.CancelledError:
        return 143
    return 0


async def _once(cluster: Cluster, arguments: argparse.Namespace) -> int:
    wish = _wish(arguments)
    if sys.stdout.isatty() and not arguments.json and not arguments.quiet:
        with _live_table(cluster) as table:
            rows = await one_round(cluster, wish, table.add)
    else:
        rows = _sorted(await one_round(cluster, wish, lambda row: None), cluster)
        rows_shown = _worth_telling(rows) if arguments.quiet else rows
        if arguments.json:
            print(json.dumps([json_object(row) for row in rows_shown], indent=2))
        elif rows_shown:
            print("\n".join(lines(rows_shown)))
    if wish in (Wish.STOP, Wish.DRAIN) and cron.is_installed(cluster.config):
        print("the line in your crontab starts them again: --remove-cron takes it out", file=sys.stderr)
    return 0 if all(row.is_well for row in rows) else 1


async def _keep_on(cluster: Cluster, *, quiet: bool) -> None:
    """On a terminal a table that is kept up to date, in a log what has changed."""
    if sys.stdout.isatty() and not quiet:
        with _live_table(cluster) as table:
            await keep_on(cluster, table.add, lambda rows, seconds: table.say(_of_round(rows, seconds)))
    remembered: dict[tuple[str, bool], str] = {}

    def on_round(rows: list[Row], seconds: float) -> None:
        for row in _sorted(rows, cluster):
            state = row.error or row.note or "well"
            is_news = remembered.get((row.host, row.is_server)) != state
            remembered[row.host, row.is_server] = state
            if row.done or (is_news and not (quiet and row.is_well)):
                print(f"{_now()} {row.host}: {', '.join(filter(None, (row.done, state)))}")
        if not quiet:
            print(_of_round(rows, seconds))
        sys.stdout.flush()

    await keep_on(cluster, lambda row: None, on_round)


def _live_table(cluster: Cluster) -> LiveTable:
    from kueue.supervise.live import LiveTable  # rich takes its time

    return LiveTable(cluster.labels(), colour=not os.environ.get("NO_COLOR"))


def _of_round(rows: list[Row], seconds: float) -> str:
    return f"{_now()} {summary(rows)}; next look in {format_duration(seconds)}"


def _worth_telling(rows: Sequence[Row]) -> list[Row]:
    """What was changed or was to be; and if keys alone keep us from every host, that."""
    told = [row for row in rows if row.done or (row.tried and row.error)]
    workers = [row for row in rows if not row.is_server]
    if not told and workers and all(row.by_keys for row in workers):
        return workers[:1]
    return told


def _sorted(rows: Sequence[Row], cluster: Cluster) -> list[Row]:
    order = {label: number for number, label in enumerate(cluster.labels())}
    return sorted(rows, key=lambda row: order.get((row.host, row.is_server), len(order)))


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _quiet_library() -> None:
    """What asyncssh logs is in our rows already."""
    asyncssh.set_log_level(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    sys.exit(main())
