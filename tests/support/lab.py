"""A lab of real programs: one server and any workers as processes, the command line, all below one directory.

Everything that a test starts is ended by `close`, keepers and jobs included.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from kueue.cli.render.json_rows import job_object, worker_row
from kueue.client import Client
from kueue.errors import KueueError
from tests.support.waiting import wait_for
from tests.support.warm_client import WarmClient

SECRET = f"a-secret-of-test-run-{os.getppid()}-0123456789abcdef"
"""Those of another run on this machine may come upon our ports. All processes of one that is spread over several
have the same parent."""

_PORTS_FROM, _PORTS_EACH = 12_000, 1000
"""Ports of this range are nobody's outgoing ones, which a server that is down for a moment might lose its own to.
Those of numbers below it are for runs by hand."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now, of those that belong to this one of the processes
    that tests are spread over."""
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 20
    first = _PORTS_FROM + _PORTS_EACH * mine
    while True:
        port = first + random.randrange(_PORTS_EACH)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@functools.cache
def warm_client() -> WarmClient:
    """One for all labs whose clients start as this process would start them."""
    client = WarmClient()
    atexit.register(client.close)
    return client


class Lab:
    """`place` is a directory of the test's own. `server`, `worker`, `workers` settings go to the config."""

    host = "127.0.0.1"
    """Where the server is to be found, and listens."""

    def __init__(
        self,
        place: Path,
        *,
        common: str = "",
        server: str = "",
        worker: str = "",
        client: str = "",
        resources: str = "",
    ) -> None:
        self.place = place
        self.port = self.choose_port()
        self.state = place / "state"
        self.config = place / "config.toml"
        self.work = place / "work"
        self.work.mkdir()
        self.server_process: subprocess.Popen[bytes] | None = None
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.write_config(common=common, server=server, worker=worker, client=client, resources=resources)
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KUEUE_")},
            "KUEUE_CONFIG": str(self.config),
            "KUEUE_STATE_DIR": str(self.state),
            "NO_COLOR": "1",
        }
        self._first_start_env = self._start_env()
        self._warm_clients: dict[tuple[object, object], WarmClient] = {}

    def choose_port(self) -> int:
        """The server's."""
        return free_port()

    def write_config(
        self, *, common: str = "", server: str = "", worker: str = "", client: str = "", resources: str = ""
    ) -> None:
        """(Re)write the configuration; each argument is TOML of that section."""
        text = (
            f'[common_settings]\nshared_secret = "{SECRET}"\nserver_name = "{self.host}"\n'
            f"server_port = {self.port}\n{common}\n"
            f'[server_settings]\nbind_addresses = "{self.host}"\n{server}\n'
            f"[worker_settings]\ndynamic_check_free_resources = false\n{worker}\n"
            f"[client_settings]\nautostart = false\njob_default_ram_mb = 16\n{client}\n"
            f"[global_resources]\n{resources}\n"
        )
        if not self.config.exists():
            self.config.touch(mode=0o600)
        self.config.write_text(text)

    def before(self, program: str, name: str = "") -> list[str]:
        """Words before the command of a `server`, `worker` (of this name) or `client`, which becomes it."""
        return []

    # ---------------------------------------------------------------- daemons

    def start_server(
        self, *arguments: str, under: Sequence[str] = (), may_die: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start the server and wait until it listens. `under`: a command that becomes it, e.g. `strace -D`."""
        log = (self.place / "server.log").open("ab")
        self.server_process = subprocess.Popen(
            [*self.before("server"), *under, sys.executable, "-m", "kueue_server", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        process = self.server_process
        self._processes.append(process)
        wait_for("the server listens", lambda: self.is_listening() or process.poll() is not None)
        assert may_die or process.poll() is None, self.server_log()
        return process

    def is_listening(self) -> bool:
        """Does the server accept connections?"""
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
            return True
        return False

    def kill_server(self) -> None:
        """SIGKILL, at once."""
        assert self.server_process is not None
        self.server_process.kill()
        self.server_process.wait()

    def start_worker(
        self, name: str = "w1", *arguments: str, wait: bool = True, under: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a worker; with `wait`, until the server lists it as connected. `under`: as for the server."""
        log = (self.place / f"{name}.log").open("ab")
        agent = subprocess.Popen(
            [
                *self.before("worker", name),
                *under,
                sys.executable,
                "-m",
                "kueue_worker",
                "--name",
                name,
                *arguments,
            ],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        self.agents[name] = agent
        self._processes.append(agent)
        if wait:
            wait_for(
                f"worker {name} is connected",
                lambda: self.worker_state(name) == "connected" or agent.poll() is not None,
            )
            assert agent.poll() is None, self.worker_log(name)
        return agent

    def keeper_pids(self, name: str = "") -> list[int]:
        """Pids of the keepers of this lab (of one worker)."""
        found: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError, psutil.Error):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if "kueue_worker.keeper" not in words or str(self.place) not in " ".join(words):
                    continue
                spool = words[words.index("--spool") + 1]
                if not name or os.path.basename(spool) == name:
                    found[int(entry.name)] = psutil.Process(int(entry.name)).ppid()
        # A child that has not come to its `exec` yet looks like the keeper that starts it.
        return [pid for pid, parent in found.items() if parent not in found]

    def kill_keeper(self, name: str = "") -> None:
        """SIGKILL to the keepers of one worker (or all)."""
        for pid in self.keeper_pids(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def jobs_processes(self) -> list[int]:
        """Pids of processes whose environment says that they belong to a job of this lab."""
        return self._processes_with(b"KUEUE_FENCE=")

    def jobs_processes_of(self, job: int) -> list[int]:
        """Those of one job, of whatever attempt."""
        return self._processes_with(f"KUEUE_JOB_ID={job}\0".encode())

    def _processes_with(self, variable: bytes) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    environment = (entry / "environ").read_bytes()
                    if variable in environment and str(self.place).encode() in environment:
                        found.append(int(entry.name))
        return found

    # ---------------------------------------------------------------- the command line

    def kueue(
        self,
        *arguments: str | bytes,
        input: bytes | None = None,
        timeout: float = 60,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `kueue …` in the lab's working directory."""
        return subprocess.run(
            [*self.before("client"), sys.executable, "-m", "kueue", *arguments],
            env={**self.env, **(env or {})},
            cwd=cwd or self.work,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            timeout=timeout,
        )

    def start_client(self, name: str, *arguments: str | bytes) -> subprocess.Popen[bytes]:
        """`kueue …` in the background; what it says goes to NAME.out and NAME.err of the lab's directory."""
        with (self.place / f"{name}.out").open("wb") as out, (self.place / f"{name}.err").open("wb") as err:
            process = subprocess.Popen(
                [*self.before("client"), sys.executable, "-m", "kueue", *arguments],
                env=self.env,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        self._processes.append(process)
        return process

    def ok(self, *arguments: str | bytes, **options: Any) -> str:
        """Run `kueue …`, which must succeed; its stdout. For what is tested itself there is `kueue`."""
        if options.keys() <= {"cwd", "timeout"}:
            done = self._warm_kueue(*arguments, **options)
        else:
            done = self.kueue(*arguments, **options)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout.decode()

    def submit(self, *arguments: str | bytes) -> int:
        """`kueue cmd …`; the id."""
        return int(self.ok("cmd", *arguments))

    def json(self, *arguments: str) -> Any:
        """`kueue … --json`, parsed."""
        return json.loads(self.ok(*arguments, "--json"))

    def job(self, number: int) -> dict[str, Any]:
        """A job as `show-job --json` has it."""
        found: dict[str, Any]
        if self._clients_are_plain():
            with self._client() as client:
                found = json.loads(json.dumps(job_object(client.detail(number), None)))
        else:
            found = self.json("show-job", str(number))
        return found

    def state_of(self, number: int) -> str:
        """A job's state."""
        return str(self.job(number)["state"])

    def wait_state(self, number: int, *states: str, seconds: float = 30) -> dict[str, Any]:
        """Wait until a job is in one of the states; the job."""
        wait_for(f"job {number} is {'/'.join(states)}", lambda: self.state_of(number) in states, seconds)
        return self.job(number)

    def worker_state(self, name: str) -> str | None:
        """State of a worker by name, None if it is not listed or the server is away."""
        for worker in self._workers():
            if worker["name"] == name:
                return str(worker["state"])
        return None

    def _workers(self) -> list[dict[str, Any]]:
        if not self._clients_are_plain():
            done = self._warm_kueue("list-workers", "--json")
            listed: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
            return listed
        with contextlib.suppress(KueueError), self._client(patience=0.0) as client:
            return [worker_row(worker) for worker in client.workers()]
        return []

    def _warm_kueue(
        self, *arguments: str | bytes, timeout: float = 60, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """`kueue …` from a process that has started as it would: of its version, on its host, with its clock."""
        if self._clients_are_plain():
            warm = warm_client()
        else:
            before, started = tuple(self.before("client")), tuple(sorted(self._start_env().items()))
            warm = self._warm_clients.get((before, started)) or WarmClient(before, self.env)
            self._warm_clients[before, started] = warm
        return warm.run(arguments, env=self.env, cwd=cwd or self.work, timeout=timeout)

    def _clients_are_plain(self) -> bool:
        """Is what the lab starts as a client of the version under test, on this host, with this host's clock?"""
        return not self.before("client") and self._start_env() == self._first_start_env

    def _start_env(self) -> dict[str, str]:
        """What makes a difference when a program starts."""
        return {name: value for name, value in self.env.items() if name.startswith(("PYTHON", "LD_", "FAKE"))}

    def _client(self, patience: float = 10.0) -> Client:
        return Client(address=(self.host, self.port), secret=SECRET, connect_timeout=patience)

    def server_log(self) -> str:
        """What the server has said so far."""
        return (self.place / "server.log").read_text()

    def worker_log(self, name: str) -> str:
        """What a worker has said so far."""
        return (self.place / f"{name}.log").read_text()

    # ---------------------------------------------------------------- the end

    def close(self) -> None:
        """End everything that runs below this lab."""
        for warm in self._warm_clients.values():
            warm.close()
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        # The keepers first: one that lives would only see its jobs die and note it down.
        self.kill_keeper()
        for pid in self.jobs_processes():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        wait_for("the lab's keepers are gone", lambda: not self.keeper_pids())
