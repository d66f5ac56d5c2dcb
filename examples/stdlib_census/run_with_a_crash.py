"""The census on a small cluster of its own: one server, three workers, one of which is killed half-way.

    python3 run_with_a_crash.py DIRECTORY [MOST]

Starts `kueue_server` and three `kueue_worker`s with a configuration below DIRECTORY, runs the census, ends the
second worker with SIGKILL, keeper and all, once half of the results are there, and compares the outcome byte
for byte with a serial run. Exit code 0 if they are equal.
"""

from __future__ import annotations

import filecmp
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent

CONFIG = """\
[common_settings]
shared_secret = "{secret}"
server_name = "localhost"
server_port = {port}

[server_settings]
bind_addresses = "127.0.0.1"
worker_timeout_seconds = 6

[worker_settings]
worker_max_parallel_jobs = 2
dynamic_check_free_resources = false

[client_settings]
autostart = false
"""


def write_config(place: Path) -> Path:
    """A configuration for this cluster only, readable by us only."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = place / "config.toml"
    path.touch(mode=0o600)
    path.write_text(CONFIG.format(secret=secrets.token_urlsafe(48), port=port))
    return path


def program(name: str) -> list[str]:
    """How to call one of Kueue's daemons of this installation."""
    return [sys.executable, "-m", name]


def kill_worker_and_keeper(worker: subprocess.Popen[bytes], name: str) -> None:
    """SIGKILL for the agent and for its keeper, which is a process of its own."""
    worker.kill()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"kueue_worker.keeper" in arguments and any(name.encode() in word for word in arguments):
            os.kill(int(entry.name), signal.SIGKILL)


def main(directory: str, *most: str) -> int:
    """Run all of it; returns the exit code."""
    place = Path(directory).resolve()
    place.mkdir(parents=True, exist_ok=True)
    environment = dict(
        os.environ, KUEUE_CONFIG=str(write_config(place)), KUEUE_STATE_DIR=str(place / "state")
    )
    results = place / "results"
    names = ["census-1", "census-2", "census-3"]
    log = (place / "daemons.log").open("wb")
    server = subprocess.Popen(program("kueue_server"), env=environment, stderr=log)
    workers = [
        subprocess.Popen([*program("kueue_worker"), "--name", name], env=environment, stderr=log)
        for name in names
    ]
    try:
        census = subprocess.Popen(
            [sys.executable, str(HERE / "census.py"), str(place), *most], env=environment
        )
        listing = place / "sources.txt"
        while census.poll() is None:
            done = len(list(results.glob("*.json"))) if results.exists() else 0
            if listing.exists() and done * 2 >= len(listing.read_text().splitlines()) > 0:
                kill_worker_and_keeper(workers[1], names[1])
                print(f"{names[1]} killed with {done} results there", flush=True)
                break
            time.sleep(0.02)
        if census.wait() != 0:
            return 1
    finally:
        for process in [workers[0], workers[2], server]:
            process.terminate()
        for process in [*workers, server]:
            process.wait()
        log.close()
    serial = place / "serial"
    subprocess.run(
        [sys.executable, str(HERE / "serial.py"), str(listing), str(serial), str(place / "serial.json")],
        check=True,
    )
    same = filecmp.cmp(place / "census.json", place / "serial.json", shallow=False)
    print("equal to the serial run, byte for byte" if same else "DIFFERENT from the serial run")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
