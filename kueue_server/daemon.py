"""The program `kueue_server`: arguments, configuration, signals; the only place that builds the server."""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import resource
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import msgspec
import uvloop

import kueue.config_faults  # noqa: F401 (a reload may need it when its file is another version's already)
from kueue import __version__
from kueue.config import Config, load_config
from kueue.errors import KueueError
from kueue.logs import set_up_logging
from kueue.owner import owner_path, remove_owner, write_owner
from kueue.private_files import make_directories, why_not_own
from kueue.this_machine import is_this_machine
from kueue_server.guard import Guard
from kueue_server.journal.interface import JournalBrokenError
from kueue_server.journal.store import JournalOpenError, begin_new_epoch, damaged, open_journal
from kueue_server.server import Server

log = logging.getLogger("kueue_server")

ANNOUNCE_AGAIN_SECONDS = 5.0
_REACHED_BY_LOOPBACK = frozenset({"0.0.0.0", "::", "127.0.0.1", "::1"})


def argument_parser() -> argparse.ArgumentParser:
    """The options; man pages are made of them, too."""
    parser = argparse.ArgumentParser(
        prog="kueue_server",
        description="The server of Kueue: holds the jobs and hands them to workers. Runs in the foreground;"
        " Ctrl-C ends it, running jobs go on and are taken back at the next start.",
        epilog="Exit codes: 0 ended as asked; 1 the journal failed; 2 bad usage or configuration, the port is"
        " taken, another server uses the journal, or server_name is another machine.",
    )
    parser.add_argument("-c", "--config", metavar="PATH", help="configuration file (default: KUEUE_CONFIG)")
    parser.add_argument(
        "--local",
        action="store_true",
        help="serve this machine only: loopback, and another port if the configured one is taken",
    )
    parser.add_argument(
        "--restored",
        action="store_true",
        help="the journal is a restored backup: begin a new epoch, so that workers' memories of the lost"
        " time can't be mistaken for its jobs",
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="the journal belongs to a server on another machine that has surely ended without saying so",
    )
    parser.add_argument(
        "--any-host",
        action="store_true",
        help="serve though server_name is not this machine's (it is the name of a service, or of a gateway)",
    )
    parser.add_argument("--version", action="version", version=f"kueue_server {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the server; returns the exit code."""
    arguments = argument_parser().parse_args(argv)
    try:
        config = load_config(arguments.config, create=arguments.config is None)
        set_up_logging(config.common_settings.log_level)
        _raise_descriptor_limit()
        return uvloop.run(_serve(config, arguments))
    except (KueueError, JournalOpenError) as error:
        print(f"kueue_server: {error}", file=sys.stderr)
        return 2
    except JournalBrokenError as error:
        print(
            f"kueue_server: the journal failed: {error}; ended, since nothing can be promised any more:"
            " look at the disk, then start it again",
            file=sys.stderr,
        )
        return 1
    except OSError as error:
        print(f"kueue_server: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


async def _serve(config: Config, arguments: argparse.Namespace) -> int:
    _check_host(config, arguments)
    directory = config.state_dir / "server"
    for place in (config.state_dir, directory):
        make_directories(place)
        why = why_not_own(place)
        if why:
            raise KueueServerError(f"the state directory is not safe: {why}")
    guard = Guard(directory)
    guard.acquire(take_over=arguments.take_over)
    try:
        return await _serve_guarded(config, arguments, directory / "journal.sqlite", guard)
    finally:
        guard.release()


async def _serve_guarded(config: Config, arguments: argparse.Namespace, path: Path, guard: Guard) -> int:
    loop = asyncio.get_running_loop()
    if arguments.restored:
        begin_new_epoch(path)
        log.info(
            "a new epoch of the journal begins; workers that remember another one keep that to themselves"
        )
    journal = open_journal(path, loop)
    try:
        server = Server(config, journal, lambda: load_config(arguments.config, create=False))
    except (JournalOpenError, sqlite3.Error, msgspec.DecodeError) as error:
        journal.abandon()
        raise error if isinstance(error, JournalOpenError) else damaged(os.fspath(path), error) from error
    local = arguments.local
    addresses = _addresses(config, local)
    try:
        ports = await server.start(addresses)
    except OSError as error:
        if not (local and error.errno == errno.EADDRINUSE):
            journal.close()
            raise KueueServerError(f"can't listen: {error}") from error
        ports = await server.start([(host, 0) for host, _ in addresses])
    hosts = [host for host, _ in addresses]
    address = "" if _REACHED_BY_LOOPBACK & set(hosts) else hosts[0]
    announcing = loop.create_task(_announce(config.state_dir, ports[0], address))
    guarding = loop.create_task(guard.keep(_end_at_once))
    await asyncio.sleep(0)  # its first try is over when anybody is answered
    try:
        loop.add_signal_handler(signal.SIGTERM, server.stop)
        loop.add_signal_handler(signal.SIGINT, server.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: server.reload() and None)
        counts = server.core.counts(loop.time())
        log.info(
            "kueue_server %s on %s, port %d, pid %d; %d jobs unfinished, journal %s",
            __version__,
            socket.gethostname(),
            ports[0],
            os.getpid(),
            counts.waiting + counts.pending + counts.offered + counts.running,
            path,
        )
        await server.run()
    finally:
        guarding.cancel()
        announcing.cancel()
        remove_owner(config.state_dir)
    log.info("kueue_server has ended; running jobs go on")
    return 0


def _check_host(config: Config, arguments: argparse.Namespace) -> None:
    """One who starts a server on the wrong machine of a shared home would have two, or one that nobody finds."""
    name = config.common_settings.server_name
    if arguments.any_host or is_this_machine(name):
        return
    here = socket.gethostname()
    raise KueueServerError(
        f'server_name is "{name}", and this machine is {here}: start it there, or set server_name = "{here}"'
        f" in {config.path} (--any-host serves here all the same)"
    )


def _end_at_once(host: str) -> None:
    """Somebody else has the journal now: as if killed, since every further write would harm it."""
    log.error("a kueue_server on %s has taken the journal over; this one ends at once", host)
    logging.shutdown()
    os._exit(1)


async def _announce(state_dir: Path, port: int, address: str) -> None:
    """Say who serves. That is a hint: a disk without room for it must not keep the server from its workers."""
    said = False
    while True:
        try:
            write_owner(state_dir, port, address)
        except OSError as error:
            if not said:
                log.warning("%s can't be written: %s; tries on", owner_path(state_dir), error.strerror)
                said = True
            await asyncio.sleep(ANNOUNCE_AGAIN_SECONDS)
        else:
            return


def _raise_descriptor_limit() -> None:
    """Each worker and client is a descriptor, and the usual soft limit is 1,024 of them."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:  # where "unlimited" is more than the system gives
        log.debug("the limit of open files stays as it is: %s", error)


def _addresses(config: Config, local: bool) -> list[tuple[str, int]]:
    port = config.common_settings.server_port
    if local:
        return [("127.0.0.1", port)]
    return [(host, port) for host in config.server_settings.bind_hosts]


class KueueServerError(KueueError):
    """The server can't start; exit code 2."""

    exit_code = 2
