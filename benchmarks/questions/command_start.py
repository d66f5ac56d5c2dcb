"""What does a command of `kueue` cost as a process, against `python3 -c pass`?

The installed script of the same interpreter, to a server that is there already; from its start until it has ended,
its output written. In turns, wall time and CPU time. Beside it: how many modules `kueue cmd` imports, and the bare
interpreter. `cmd` is called a thousand times in a row, the others by people all day.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.answers import Answer, Figure, Goal
from benchmarks.cluster import Cluster

ROUNDS, QUICK_ROUNDS = 40, 3
PYTHON = "python3 -c pass"
MOST_TIMES_PYTHON = {
    "cmd true": 6.0,
    "list-jobs": 10.0,
    "show-job last": 10.0,
    "wait-job last": 10.0,
    "logs last": 10.0,
    "list-workers": 10.0,
    "__complete cmd --re": 10.0,
}
"""How many times the bare interpreter each may take: the goal that was set for `cmd`, our own for the others."""
IMPORT_LINE = "import time:"


def measure(quick: bool) -> Answer:
    """In turns: the bare interpreter, and each command."""
    calls = {PYTHON: [sys.executable, "-c", "pass"]}
    calls |= {f"kueue {words}": [*_kueue(), *words.split()] for words in MOST_TIMES_PYTHON}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    with Cluster() as cluster:
        # Files into the cache, bytecode written, and a job that there is something to say of.
        for call in calls.values():
            _time(call, cluster)
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            for name, call in calls.items():
                seconds, cpu_seconds = _time(call, cluster)
                wall[name].append(1000 * seconds)
                cpu[name].append(1000 * cpu_seconds)
        modules = _modules(["-m", "kueue", "cmd", "true"], cluster)
        bare_modules = _modules(["-c", "pass"], cluster)
    walls = {name: Figure(f"{name}, wall", "ms", tuple(values)) for name, values in wall.items()}
    cpus = {name: Figure(f"{name}, CPU", "ms", tuple(values)) for name, values in cpu.items()}
    return Answer(
        figures=[
            *(figures[name] for name in calls for figures in (walls, cpus)),
            Figure("modules imported by kueue cmd", "", (modules,)),
            Figure(f"modules imported by {PYTHON}", "", (bare_modules,)),
        ],
        goals=[
            Goal(figures[f"kueue {words}"], most, "at most", figures[PYTHON])
            for words, most in MOST_TIMES_PYTHON.items()
            for figures in (walls, cpus)
        ],
    )


def _kueue() -> list[str]:
    """The script as it is installed; from a checkout that is not, the module."""
    script = Path(sys.executable).with_name("kueue")
    return [str(script)] if shutil.which(script) else [sys.executable, "-m", "kueue"]


def _time(words: list[str], cluster: Cluster) -> tuple[float, float]:
    """Seconds, and CPU seconds, of a process that must succeed."""
    output = os.open(os.devnull, os.O_RDWR)
    try:
        begin = time.perf_counter()
        actions = [(os.POSIX_SPAWN_DUP2, output, number) for number in (0, 1)]
        pid = os.posix_spawn(words[0], words, cluster.lab.env, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - begin
    finally:
        os.close(output)
    assert status == 0, f"{words} ended with status {status}"
    return seconds, usage.ru_utime + usage.ru_stime


def _modules(words: list[str], cluster: Cluster) -> int:
    """How many modules a run of Python imports, those of its start included."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        env=cluster.lab.env,
        cwd=cluster.lab.work,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith(IMPORT_LINE)]
    return len(lines) - 1  # the first is the title
