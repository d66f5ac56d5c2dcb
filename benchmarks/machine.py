"""The machine and the versions that figures belong to: without them they mean nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import ssl
from dataclasses import dataclass
from pathlib import Path

import psutil

import kueue
from benchmarks.places import place_of_labs

MOST_LOAD = 0.3
"""More than this, and something else takes part in what is measured."""


@dataclass(frozen=True)
class Machine:
    """As it was before the run. `load`: runnable processes, mean over a minute; `file_system`: of the labs."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    file_system: str
    load: float


def this_machine() -> Machine:
    """What we run on, now."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        file_system=_file_system(place_of_labs()),
        load=os.getloadavg()[0],
    )


def versions() -> dict[str, str]:
    """Of what has a part in the figures."""
    return {
        "Kueue": kueue.__version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "OpenSSL": ssl.OPENSSL_VERSION.split()[1],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(place: Path) -> str:
    """Type of the file system with the longest mount point above `place`."""
    above = [str(place.resolve()), *map(str, place.resolve().parents)]
    types = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next((types[directory] for directory in above if directory in types), "unknown")
