"""The program `kueue_worker`: arguments, configuration, signals; the only place that builds the agent."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys

import uvloop

from kueue import __version__
from kueue.address import Whereabouts
from kueue.config import Config, WorkerSettings, load_config
from kueue.errors import KueueError
from kueue.logs import set_up_logging
from kueue_worker.agent import Agent
from kueue_worker.core.machine import Settings
from kueue_worker.environment import GPU
from kueue_worker.host import capacity, system_info
from kueue_worker.inquiries import Inquiries
from kueue_worker.options import Options
from kueue_worker.place import (
    AgentLock,
    AlreadyRunningError,
    NameTakenError,
    boot_id,
    default_name,
    name_on_host,
)
from kueue_worker.spawning import JobPolicy
from kueue_worker.spool import Spool, SpoolError

log = logging.getLogger("kueue_worker")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
MOST_NUMBERED_GPUS = 1024


class KueueWorkerError(KueueError):
    """The worker can't start; exit code 2."""

    exit_code = 2


def main(argv: list[str] | None = None) -> int:
    """Run a worker in the foreground; the exit code."""
    arguments = argument_parser().parse_args(argv)
    try:
        config = load_config(arguments.config, create=arguments.config is None)
        set_up_logging(config.common_settings.log_level)
        return uvloop.run(_serve(config, arguments))
    except KueueError as error:
        print(f"kueue_worker: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def argument_parser() -> argparse.ArgumentParser:
    """The options; man pages are made of them, too."""
    parser = argparse.ArgumentParser(
        prog="kueue_worker",
        description="A worker of Kueue: runs jobs on this machine. Runs in the foreground; Ctrl-C waits for"
        " running jobs, a second Ctrl-C interrupts them (they start again elsewhere).",
        epilog="Exit codes: 0 ended as asked; 2 bad usage or configuration, or a worker of this name runs"
        " here already; 3 the server refuses this worker.",
    )
    parser.add_argument("-c", "--config", metavar="PATH", help="configuration file (default: KUEUE_CONFIG)")
    parser.add_argument("--name", help="name in the cluster (default: the host's name and a part of its id)")
    parser.add_argument(
        "--kill-jobs", action="store_true", help="end what an earlier worker of this name left running"
    )
    parser.add_argument("--version", action="version", version=f"kueue_worker {__version__}")
    return parser


async def _serve(config: Config, arguments: argparse.Namespace) -> int:
    hostname = socket.gethostname()
    name = arguments.name or default_name(hostname)
    if NAME.fullmatch(name) is None:
        raise KueueWorkerError(f"--name {name!r}: letters, digits, _ . - (beginning with a letter or digit)")
    spool = Spool(str(config.spool_dir_for(name, hostname)))
    try:
        spool.set_up()
        lock = AgentLock(spool.root)
    except SpoolError as error:
        raise KueueWorkerError(str(error)) from None
    except AlreadyRunningError:
        raise KueueWorkerError(f"a worker named {name} runs on this machine already") from None
    except NameTakenError:
        raise KueueWorkerError(
            f"a process of another user holds the place of a worker named {name} on this machine;"
            " choose another --name"
        ) from None
    try:
        options = _options(config, name, hostname, spool, kill_jobs=arguments.kill_jobs)
        agent = Agent(options)
        loop = asyncio.get_running_loop()
        inquiries = Inquiries(lock.socket, agent.answer)
        loop.add_signal_handler(signal.SIGINT, agent.interrupt)
        loop.add_signal_handler(signal.SIGTERM, agent.terminate)
        loop.add_signal_handler(signal.SIGUSR2, agent.depart)
        loop.add_signal_handler(signal.SIGHUP, _ignore)
        log.info("%s", _introduction(options))
        try:
            return await agent.run()
        finally:
            inquiries.close()
    finally:
        lock.release()


def _options(config: Config, name: str, hostname: str, spool: Spool, *, kill_jobs: bool) -> Options:
    settings, whereabouts = config.worker_settings_for(hostname), Whereabouts(config.for_clients)
    return Options(
        name=name,
        host=hostname,
        boot=boot_id(),
        version=__version__,
        secret=config.common_settings.shared_secret,
        resolve=whereabouts,
        settings=Settings(
            capacity=capacity(settings.worker_max_parallel_jobs, settings.own_resources()),
            unit_names=_unit_names(settings),
            dynamic_check=settings.dynamic_check_free_resources,
            cpu_scale=settings.dynamic_cpu_load_scale_factor,
            status_interval_seconds=settings.system_update_interval_seconds,
            kill_grace_seconds=settings.job_kill_grace_seconds,
            stop_when_alone_seconds=settings.stop_jobs_when_alone_seconds,
            kill_earlier_jobs=kill_jobs,
        ),
        system=system_info(),
        policy=JobPolicy(settings.job_nice, settings.job_oom_score_adj),
        spool=spool,
        keeper_address=name_on_host("keeper", spool.root),
        max_output_mb=settings.job_max_output_mb,
        spool_max_bytes=settings.spool_max_mb * 2**20,
        spool_max_seconds=settings.spool_max_days * 86400,
        pid=os.getpid(),
        server=whereabouts.named,
        config=str(config.path),
    )


def _unit_names(settings: WorkerSettings) -> dict[str, tuple[str, ...]]:
    """Units that have names. Counted GPUs have too: their numbers, so that no two jobs share one."""
    names: dict[str, tuple[str, ...]] = {}
    for resource, units in settings.resources.items():
        if not isinstance(units, int):
            names[resource] = tuple(units)
        elif resource == GPU and units <= MOST_NUMBERED_GPUS:
            names[resource] = tuple(str(number) for number in range(units))
    return names


def _introduction(options: Options) -> str:
    has = options.settings.capacity
    parts = [f"{has.cpus} CPUs", f"{has.ram_mb} MB", f"{has.job_slots} job slots"]
    parts += [f"{name} {amount}" for name, amount in has.resources]
    return f"kueue_worker {options.version} as {options.name}: {', '.join(parts)}; spool {options.spool.root}"


def _ignore() -> None:
    """A terminal's hang-up ends nothing."""
