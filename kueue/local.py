"""The local server and worker, in the background of one machine: starting them once, and ending them.

For `server_name = "localhost"` only. They are ordinary daemons, `python -m kueue_server --local` and
`python -m kueue_worker`, in sessions of their own with their output in `<state>/log/`. A lock on the state
directory keeps parallel starts apart; the journal's own lock has the last word.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from kueue.address import elsewhere, is_local, local_host, local_owner, resolve_address
from kueue.background import LogFile, start_in_background
from kueue.client_config import ClientConfig
from kueue.errors import KueueError, ServerUnreachableError, UsageError
from kueue.owner import Owner, lives_here, read_owner, read_process, this_process, write_process
from kueue.private_files import make_directories, why_not_own
from kueue.processes import is_alive, send_signal, wait_until_ended

__all__ = [
    "LocalAddress",
    "ensure_running",
    "is_local",
    "resolve_address",
    "stop_local",
    "worker_process",
    "write_worker_pid",
]

SERVER_MODULE = "kueue_server"
WORKER_MODULE = "kueue_worker"

START_SECONDS = 10.0
"""How long a server may take until it accepts connections."""
LOCK_SECONDS = 20.0
WORKER_WATCH_SECONDS = 1.0
"""How long a new worker is watched for a fault that ends it at once."""
STOP_SECONDS = 30.0
_STEP_SECONDS = 0.02

Say = Callable[[str], None]


class LocalAddress(NamedTuple):
    """Where the local server is, and what this call has started: `server`, `worker`, both, nothing."""

    host: str
    port: int
    started: tuple[str, ...] = ()


def ensure_running(
    config: ClientConfig,
    say: Say,
    *,
    server: bool = True,
    worker: bool = True,
    seconds: float = START_SECONDS,
) -> LocalAddress:
    """Start the local server and worker unless they run; return when the server accepts connections.

    Of parallel calls one starts, the others wait for it. `say` gets a line if something was started, and
    one if the worker ended at once.

    Raises:
        UsageError: the configuration names another machine.
        ServerUnreachableError: the server runs on another machine of the same home, or did not start; the
            text says why and where its log is.
    """
    _check_local(config)
    started = []
    with one_at_a_time(config):
        away = elsewhere(config)
        if away is not None:
            raise ServerUnreachableError(away)
        owner = local_owner(config)
        if owner is not None:
            wait_for_accept(config, owner, seconds)
        elif server:
            owner = start_server(config, seconds)
            started.append("server")
        else:
            raise ServerUnreachableError("no local server is running; kueue up starts one")
        fault = ""
        if worker and worker_process(config) is None:
            fault = start_worker(config)
            if not fault:
                started.append("worker")
    if started:
        what = " and ".join(started)
        say(f"started a local {what} (port {owner.port}, logs in {_log_dir(config)}); kueue down ends them")
    if fault:
        say(f"the local worker ended at once: {fault}")
    return LocalAddress(local_host(config, owner), owner.port, tuple(started))


def stop_local(
    config: ClientConfig, kill: bool, say: Say, *, ask: Callable[[], object] | None = None
) -> bool:
    """End the local server and worker; True if something was there to end.

    With `kill`, running jobs are interrupted (they start again later); without, the worker stays until
    they have finished. The server is asked first, by `ask` if given, else by a client of its own, so that
    all its workers leave in order; a server that does not answer gets a signal.

    Raises:
        UsageError: the configuration names another machine.
        ServerUnreachableError: it runs on another machine, or does not end.
    """
    _check_local(config)
    with one_at_a_time(config):
        away = elsewhere(config)
        if away is not None:
            raise ServerUnreachableError(away)
        owner = local_owner(config)
        worker = worker_process(config)
        if owner is None and worker is None:
            say("no local server is running")
            return False
        asked = owner is not None and _asked(config, kill, ask)
        if worker is not None and not asked:
            send_signal(worker.pid, worker.ticks, signal.SIGTERM if kill else signal.SIGINT)
            if kill:  # it reports what it interrupted: the server stays for that
                wait_until_ended(worker.pid, worker.ticks, STOP_SECONDS)
        if owner is not None:
            end_server(config, owner, asked=asked)
            say("the local server has ended")
        if worker is not None:
            say_of_worker(config, worker, kill, say)
    return True


def worker_process(config: ClientConfig) -> Owner | None:
    """The local worker that was started here, if it lives."""
    worker = read_process(_worker_path(config))
    return worker if worker is not None and lives_here(worker) else None


def write_worker_pid(config: ClientConfig, pid: int | None = None) -> None:
    """Note a process (by default the calling one) as this machine's local worker."""
    write_process(_worker_path(config), this_process(pid=pid))


# ---------------------------------------------------------------- starting


def start_server(config: ClientConfig, seconds: float) -> Owner:
    """Start the server of this machine in the background; returns when it accepts connections.

    Raises:
        ServerUnreachableError: it did not start; the text says why.
    """
    log = LogFile(log_path(config, "server"))
    arguments = [*(["--local"] if is_local(config) else []), "-c", str(config.path)]
    process = start_in_background(SERVER_MODULE, arguments, _environment(config), log)
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            owner = owner_here(config)
            # Another server, started by hand at the same moment, is as good as ours.
            if owner is not None and _accepts(config, owner):
                return owner
            if process.poll() is not None and owner is None:
                why = log.last_line().removeprefix("kueue_server: ")
                told = why or f"it ended at once with code {process.returncode}"
                raise ServerUnreachableError(
                    f"the {_local(config)}server did not start: {told} (log: {log.path})"
                )
            time.sleep(_STEP_SECONDS)
        raise ServerUnreachableError(
            f"the {_local(config)}server (pid {process.pid}) is not ready after {seconds:g} s; its log: {log.path}"
        )
    finally:
        _let_go(process)


def start_worker(config: ClientConfig) -> str:
    """Start the worker of this machine in the background; empty if it runs, else why it ended."""
    log = LogFile(log_path(config, "worker"))
    process = start_in_background(WORKER_MODULE, ["-c", str(config.path)], _environment(config), log)
    try:
        write_worker_pid(config, process.pid)
        if wait_until_ended(process.pid, None, WORKER_WATCH_SECONDS):
            process.wait()
            why = log.last_line().removeprefix("kueue_worker: ")
            return f"{why or f'code {process.returncode}'} (log: {log.path})"
        return ""
    finally:
        _let_go(process)


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """It outlives this program on purpose; that deserves no warning."""
    if process.returncode is None:
        process.returncode = 0


def wait_for_accept(config: ClientConfig, owner: Owner, seconds: float) -> None:
    """Wait until a server that lives accepts connections.

    Raises:
        ServerUnreachableError: it does not, within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not _accepts(config, owner):
        if time.monotonic() > deadline or not is_alive(owner.pid, owner.ticks):
            raise ServerUnreachableError(
                f"the {_local(config)}server (pid {owner.pid}) does not answer on port {owner.port};"
                f" its log: {log_path(config, 'server')}"
            )
        time.sleep(_STEP_SECONDS)


def _accepts(config: ClientConfig, owner: Owner) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((local_host(config, owner), owner.port), 1.0):
        return True
    return False


def _environment(config: ClientConfig) -> dict[str, str]:
    """What the daemons inherit: nothing of a job's (`KUEUE_JOB_ID`, …), or they pass for its children."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KUEUE_")}
    kept["KUEUE_CONFIG"] = str(config.path)
    if os.environ.get("KUEUE_STATE_DIR"):
        kept["KUEUE_STATE_DIR"] = str(config.state_dir)
    if "KUEUE_DEBUG" in os.environ:
        kept["KUEUE_DEBUG"] = os.environ["KUEUE_DEBUG"]
    return kept


# ---------------------------------------------------------------- ending


def _asked(config: ClientConfig, kill: bool, ask: Callable[[], object] | None) -> bool:
    try:
        if ask is not None:
            ask()
        else:
            from kueue.client import Client  # a client loads configurations: it comes after this module

            with Client(config=config) as client:
                client.shutdown(workers=True, kill=kill)
    except (KueueError, OSError):
        return False
    return True


def end_server(config: ClientConfig, owner: Owner, *, asked: bool = False) -> None:
    """End a server of this machine; it gets a signal, unless it was `asked` and ends by itself.

    Raises:
        ServerUnreachableError: it does not end.
    """
    if asked and wait_until_ended(owner.pid, owner.ticks, STOP_SECONDS):
        return
    send_signal(owner.pid, owner.ticks, signal.SIGTERM)
    if not wait_until_ended(owner.pid, owner.ticks, STOP_SECONDS):
        raise ServerUnreachableError(
            f"the {_local(config)}server (pid {owner.pid}) does not end; its log: {log_path(config, 'server')}"
        )


def say_of_worker(config: ClientConfig, worker: Owner, kill: bool, say: Say) -> None:
    """What became of a worker that was told to end."""
    ended = wait_until_ended(worker.pid, worker.ticks, STOP_SECONDS / 2 if kill else WORKER_WATCH_SECONDS)
    if kill and not ended:  # the server may not have reached it
        send_signal(worker.pid, worker.ticks, signal.SIGTERM)
        ended = wait_until_ended(worker.pid, worker.ticks, STOP_SECONDS / 2)
    if ended:
        say(f"the {_local(config)}worker has ended")
    elif kill:
        say(f"the {_local(config)}worker (pid {worker.pid}) is still ending its jobs")
    else:
        say(
            f"the {_local(config)}worker (pid {worker.pid}) ends when its jobs have; kueue down --kill ends them now"
        )


# ---------------------------------------------------------------- places, and one at a time


def _log_dir(config: ClientConfig) -> Path:
    return config.state_dir / "log"


def _local(config: ClientConfig) -> str:
    return "local " if is_local(config) else ""


def log_path(config: ClientConfig, program: str) -> Path:
    """The log of this machine's `server` or `worker`; those of several machines may be in one directory."""
    host = "" if is_local(config) else f"-{socket.gethostname()}"
    return _log_dir(config) / f"{program}{host}.log"


def owner_here(config: ClientConfig) -> Owner | None:
    """The server of the state directory, if it is a process of this machine that lives."""
    owner = read_owner(config.state_place)
    return owner if owner is not None and lives_here(owner) else None


def _worker_path(config: ClientConfig) -> Path:
    return config.state_dir / "worker" / f"{socket.gethostname()}.json"


def _check_local(config: ClientConfig) -> None:
    if not is_local(config):
        name = config.server_name
        raise UsageError(
            f'the server is {name}, not this machine; start kueue_server there (server_name = "{name}")'
        )


@contextlib.contextmanager
def one_at_a_time(config: ClientConfig) -> Iterator[None]:
    """One start or end of local programs at a time. Where the file system knows no locks, none is held."""
    try:
        make_directories(config.state_dir)
        why = why_not_own(config.state_dir)
        if why:
            raise ServerUnreachableError(f"the state directory is not safe: {why}")
        descriptor = os.open(config.state_dir / "local.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServerUnreachableError(
            f"can't use the state directory {config.state_dir}: {error.strerror}"
        ) from None
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerUnreachableError(
                        f"another program has been at the local server for {LOCK_SECONDS:g} s; try again"
                    ) from None
                time.sleep(_STEP_SECONDS)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)
