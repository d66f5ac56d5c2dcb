"""Other programs that run jobs, measured in the same run as Kueue: a module each.

Every module has `available() -> str | None`, the reason why it can't be measured here; `NEEDS_A_CLUSTER`, whether it
has to be set up for each measure, which takes seconds; and what it can of `jobs_per_second(jobs, slots, place)` and
`latencies(samples, place)` (seconds from submit to finished, of one `true` at a time). Each starts what it needs below
`place` and ends it again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PLACE_VARIABLE = "BENCHMARK_PEERS"
NOT_PEERS = ("__main__", "inside")
DEADLINE_SECONDS = 300.0
START_SECONDS = 30.0
END_SECONDS = 10.0


def peers() -> dict[str, ModuleType]:
    """Their modules, by name, in order."""
    found = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in NOT_PEERS)
    return {name: importlib.import_module(f"{__name__}.{name}") for name in found}


def missing_program(*names: str) -> str | None:
    """Why programs can't be run."""
    absent = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def environment_of_peers() -> Path:
    """The virtual environment of those that are Python packages; it need not be there."""
    return Path(os.environ.get(PLACE_VARIABLE) or ROOT / "build" / "peers")


def missing_module(name: str) -> str | None:
    """Why a module can't be imported in the peers' environment."""
    python = environment_of_peers() / "bin" / "python"
    if python.exists():
        probe = f"import importlib.util as u, sys; sys.exit(u.find_spec({name!r}) is None)"
        if subprocess.run([python, "-c", probe], stderr=subprocess.DEVNULL).returncode == 0:
            return None
    return f"no {name} in {environment_of_peers()} (python -m benchmarks.peers --install)"


def ask_inside(script: str, what: str, *arguments: str | int, place: Path) -> list[float]:
    """Run a script of `inside` with the peers' interpreter; the numbers that it found."""
    done = subprocess.run(
        [
            environment_of_peers() / "bin" / "python",
            "-m",
            f"{__name__}.inside.{script}",
            what,
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, f"{script}: {done.stderr.decode(errors='replace')[-2000:]}"
    numbers: list[float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def lines(count: int) -> bytes:
    """Input for programs that run something a line."""
    return b"".join(b"%d\n" % number for number in range(count))


def time_of(words: Sequence[str], *, input: bytes | None = None, env: dict[str, str] | None = None) -> float:
    """Seconds of a command that must succeed; its output goes nowhere."""
    begin = time.perf_counter()
    done = subprocess.run(
        words,
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=None if env is None else {**os.environ, **env},
        timeout=DEADLINE_SECONDS,
    )
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, f"{words[0]}: {done.stderr.decode(errors='replace')[-2000:]}"
    return seconds


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(words: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A daemon in the foreground, ended at the end."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            words,
            env=None if env is None else {**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(
    what: str, condition: Callable[[], bool], seconds: float = START_SECONDS, pause: float = 0.05
) -> None:
    """Wait for something.

    Raises:
        AssertionError: it did not come about in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause)
