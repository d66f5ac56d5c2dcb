"""What this machine is: system, processor, memory; and whether it is shutting down."""

from __future__ import annotations

import os
import platform
import subprocess
import time

import psutil

from kueue.resources import Capacity
from kueue.wire.messages import SystemInfo

SYSTEMCTL_SECONDS = 0.8


def cpu_count() -> int:
    """CPUs that we may use (`taskset` and containers may leave fewer than there are)."""
    return len(os.sched_getaffinity(0))


def ram_mb() -> int:
    """Memory of the machine."""
    return int(psutil.virtual_memory().total // 2**20)


def capacity(max_parallel_jobs: int | None, resources: tuple[tuple[str, int], ...]) -> Capacity:
    """What this machine can give in all."""
    cpus = cpu_count()
    return Capacity(cpus=cpus, ram_mb=ram_mb(), job_slots=max_parallel_jobs or cpus, resources=resources)


def boottime() -> float:
    """Seconds of the clock that all times towards core and keeper use; it counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def system_info() -> SystemInfo:
    """What people want to know about a worker's machine."""
    return SystemInfo(
        os=_os_name(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_model=_cpu_model(),
        cpu_mhz=_cpu_mhz(),
        cpus=psutil.cpu_count() or cpu_count(),
        ram_mb=ram_mb(),
        boot_time_ago=boottime(),
        python=platform.python_version(),
    )


def system_is_stopping() -> bool:
    """Is the operating system shutting down? Asks systemd where it runs; call it in a thread."""
    if not os.path.isdir("/run/systemd/system"):
        return False
    try:
        answer = subprocess.run(
            ["systemctl", "is-system-running"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=SYSTEMCTL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == b"stopping"


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _cpu_mhz() -> float:
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, ValueError):
        return 0.0  # some virtual machines don't tell
    return 0.0 if frequency is None else float(frequency.max or frequency.current or 0.0)


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() in ("model name", "Model", "cpu model"):
                    return value.strip()
    except OSError:
        pass
    return platform.processor()
