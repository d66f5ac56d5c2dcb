"""What a person does at the desk of a cluster: the configuration, the supervisor, jobs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.cluster.hosts import DESK, RealHosts
from tests.support.lab import SECRET

CONFIG = ".config/kueue/config.toml"
WATCH = """
import sys, time
from kueue import Client
until = time.monotonic() + float(sys.argv[2])
with Client() as client:
    while True:
        counts = client.counts()
        seen = {
            "running": counts.running,
            "unfinished": counts.waiting + counts.pending + counts.offered + counts.running,
            "connected": {worker.host for worker in client.workers() if worker.state == "connected"},
        }
        if eval(sys.argv[1], {}, seen):
            break
        if time.monotonic() > until:
            sys.exit(f"last seen: {seen}")
        time.sleep(0.1)
"""
LOGS = ".local/state/kueue/log"


class Desk:
    """The hosts, seen from the desk. `names` are those that workers are kept on; `supervisor` starts the supervisor."""

    def __init__(self, hosts: RealHosts) -> None:
        self.hosts = hosts
        self.names = [name for name in hosts.hosts if name != DESK]
        self.supervisor: tuple[str, ...] = ("kueue_restart_workers",)

    def write_config(
        self,
        *,
        supervisor: str = "",
        worker: str = "",
        server: str = "",
        common: str = "",
        names: str | None = None,
        server_name: str = DESK,
    ) -> None:
        """(Re)write the configuration; the arguments are TOML of their sections."""
        listed = " ".join(self.names) if names is None else names
        self.hosts.write_home(
            CONFIG,
            f'[common_settings]\nshared_secret = "{SECRET}"\nserver_name = "{server_name}"\n{common}\n'
            f"[server_settings]\n{server}\n"
            f"[worker_settings]\ndynamic_check_free_resources = false\n{worker}\n"
            f"[client_settings]\njob_default_ram_mb = 16\n"
            f'[restart_workers]\nhostnames = "{listed}"\n{supervisor}\n',
        )

    def supervise(
        self, *words: str, check: bool = True, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the supervisor once, with these words."""
        done = self.hosts.run(DESK, *self.supervisor, *words, check=False, environment=environment)
        assert not check or done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def rows(
        self, *words: str, code: int = 0, environment: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, Any]]:
        """The rows of a round by host; the server's is `server`."""
        done = self.supervise(*words, "--json", check=False, environment=environment)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        rows = json.loads(done.stdout)
        return {"server" if row["role"] == "server" else row["host"]: row for row in rows}

    def kueue(self, *words: str, check: bool = True) -> str:
        """What a command of the client prints."""
        return self.hosts.run(DESK, "kueue", *words, check=check).stdout

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs."""
        listed: list[dict[str, Any]] = json.loads(self.kueue("list-jobs", "-n", "100000", "--json"))
        return listed

    def connected(self) -> set[str]:
        """Hosts with a worker that the server takes for connected."""
        workers = json.loads(self.kueue("list-workers", "--json"))
        return {worker["host"] for worker in workers if worker["state"] == "connected"}

    def wait_until(self, condition: str, seconds: float = 30) -> None:
        """Until a condition holds of `running`, `unfinished` (numbers of jobs) and `connected` (a set of hosts)."""
        words = (sys.executable, "-c", WATCH, condition, str(seconds))
        done = self.hosts.run(DESK, *words, check=False, seconds=seconds + 60)
        assert done.returncode == 0, (condition, done.stdout, done.stderr)

    def wait_until_connected(self, names: set[str], seconds: float = 30) -> None:
        """Until these, and no others, have a worker that the server takes for connected."""
        self.wait_until(f"connected == {names!r}", seconds)

    def worker_log(self, name: str) -> str:
        """What the workers that were launched on a host have written."""
        return (self.hosts.home / LOGS / f"kueue_worker-{name}.log").read_text()
