"""What the configuration says belongs on this machine, server and worker: started in the background, and ended.

`server_name` says where the server belongs; a worker belongs everywhere. With `server_name = "localhost"` both
are the local ones of `local.py`.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from kueue.client_config import ClientConfig
from kueue.errors import ServerUnreachableError, UsageError
from kueue.local import (
    START_SECONDS,
    STOP_SECONDS,
    end_server,
    ensure_running,
    is_local,
    log_path,
    one_at_a_time,
    owner_here,
    say_of_worker,
    start_server,
    start_worker,
    stop_local,
    wait_for_accept,
    worker_process,
)
from kueue.processes import send_signal, wait_until_ended
from kueue.this_machine import is_this_machine

Say = Callable[[str], None]

LOGIND_FILES = (
    "/usr/lib/systemd/logind.conf",
    "/etc/systemd/logind.conf",
    *(f"/{place}/systemd/logind.conf.d" for place in ("usr/lib", "run", "etc")),
)
"""Files, and directories of files; a later one has the last word."""
LINGER = "/var/lib/systemd/linger"
_KILL_PROCESSES = re.compile(r"^#?\s*KillUserProcesses\s*=\s*(\w+)", re.MULTILINE)


def start(config: ClientConfig, say: Say, *, server_only: bool = False, worker_only: bool = False) -> None:
    """Start what belongs here and does not run; `say` gets a line for each, with its log.

    Raises:
        UsageError: both or neither can't be meant, or the server belongs on another machine.
        ServerUnreachableError: something did not start; the text says why and where its log is.
    """
    want_server, want_worker = _wanted(config, server_only, worker_only)
    started: list[str] = []
    if is_local(config) and want_server:
        started += ensure_running(config, say, worker=want_worker).started
    else:
        with one_at_a_time(config):
            if want_server:
                owner = owner_here(config)
                if owner is None:
                    owner = start_server(config, START_SECONDS)
                    say(f"started the server, port {owner.port}")
                    started.append("server")
                else:
                    wait_for_accept(config, owner, START_SECONDS)
            if want_worker and worker_process(config) is None:
                fault = start_worker(config)
                if fault:
                    raise ServerUnreachableError(f"the worker ended at once: {fault}")
                say("started a worker")
                started.append("worker")
    for program in started:
        say(f"log of the {program}: {log_path(config, program)}")
    if not started:
        say(f"{_named(config, want_server, want_worker)} already")
    elif ends_with_session():
        say("logind ends what you have started when you log out; loginctl enable-linger keeps it")


def stop(
    config: ClientConfig,
    say: Say,
    *,
    kill: bool,
    server_only: bool = False,
    worker_only: bool = False,
    ask: Callable[[], object] | None = None,
) -> None:
    """End what was started here; with `kill`, running jobs are interrupted (they start again later).

    Raises:
        UsageError: as `start`. ServerUnreachableError: something does not end.
    """
    want_server, want_worker = _wanted(config, server_only, worker_only)
    if is_local(config) and want_server and want_worker:
        if not stop_local(config, kill, say, ask=ask):
            say("no local server runs")
        return
    with one_at_a_time(config):
        owner = owner_here(config) if want_server else None
        worker = worker_process(config) if want_worker else None
        if worker is not None:
            send_signal(worker.pid, worker.ticks, signal.SIGTERM if kill else signal.SIGINT)
            if kill:  # it reports what it interrupts: the server stays for that
                wait_until_ended(worker.pid, worker.ticks, STOP_SECONDS)
        if owner is not None:
            end_server(config, owner)
            say("the server has ended; running jobs go on")
        if worker is not None:
            say_of_worker(config, worker, kill, say)
    if owner is None and worker is None:
        say("nothing of it runs here")


def ends_with_session(
    files: Iterable[str] = LOGIND_FILES, linger: str = LINGER, uid: int | None = None
) -> bool:
    """Does logind end this user's processes at log-out? As far as its files tell; root's it leaves."""
    uid = os.getuid() if uid is None else uid
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    if uid == 0 or os.path.exists(os.path.join(linger, name)):
        return False
    kills = False
    for place in files:
        path = Path(place)
        for file in sorted(path.glob("*.conf")) if path.is_dir() else [path]:
            try:
                text = file.read_text(errors="replace")
            except OSError:
                continue
            # What is commented out there is what holds by default.
            for value in _KILL_PROCESSES.findall(text):
                kills = value.lower() in ("yes", "true", "on", "1", "y", "t")
    return kills


def _wanted(config: ClientConfig, server_only: bool, worker_only: bool) -> tuple[bool, bool]:
    if server_only and worker_only:
        raise UsageError("either --server-only or --worker-only")
    belongs = not worker_only and (is_local(config) or is_this_machine(config.server_name))
    if server_only and not belongs:
        raise UsageError(
            f"the server belongs on {config.server_name} (server_name in {config.path}), not on this machine"
        )
    return belongs, not server_only


def _named(config: ClientConfig, server: bool, worker: bool) -> str:
    if is_local(config) and server and worker:
        return "the local server and worker run"
    return "server and worker run" if server and worker else "the server runs" if server else "a worker runs"
