"""What does `kueue cmd true` cost as a process, against `python3 -c pass`?

The installed script of the same interpreter, to a server that is there already; from its start until it has ended,
the job's id printed. In turns, wall time and CPU time. Beside it: how many modules each imports.
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
GOAL = 6.0
IMPORT_LINE = "import time:"


def measure(quick: bool) -> Answer:
    """In turns: the bare interpreter, and the command."""
    python = [sys.executable, "-c", "pass"]
    wall: dict[str, list[float]] = {"python": [], "kueue": []}
    cpu: dict[str, list[float]] = {"python": [], "kueue": []}
    with Cluster() as cluster:
        command = [*_kueue(), "cmd", "true"]
        for words in (python, command):  # files into the cache, bytecode written
            _time(words, cluster)
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            for name, words in (("python", python), ("kueue", command)):
                seconds, cpu_seconds = _time(words, cluster)
                wall[name].append(1000 * seconds)
                cpu[name].append(1000 * cpu_seconds)
        modules = _modules(["-m", "kueue", "cmd", "true"], cluster)
        bare_modules = _modules(["-c", "pass"], cluster)
    kueue_wall = Figure("kueue cmd true, wall", "ms", tuple(wall["kueue"]))
    kueue_cpu = Figure("kueue cmd true, CPU", "ms", tuple(cpu["kueue"]))
    python_wall = Figure("python3 -c pass, wall", "ms", tuple(wall["python"]))
    python_cpu = Figure("python3 -c pass, CPU", "ms", tuple(cpu["python"]))
    return Answer(
        figures=[
            kueue_wall,
            python_wall,
            kueue_cpu,
            python_cpu,
            Figure("modules imported by kueue cmd", "", (modules,)),
            Figure("modules imported by python3 -c pass", "", (bare_modules,)),
        ],
        goals=[Goal(kueue_wall, GOAL, "at most", python_wall), Goal(kueue_cpu, GOAL, "at most", python_cpu)],
        notes=[f"the command is {Path(command[0]).name} {' '.join(command[1:])}"],
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
