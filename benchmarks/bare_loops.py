"""The limits of this machine: loops that do nothing but start `true` and wait for it, in processes of their own.

    python -m benchmarks.bare_loops keeper COUNT ROOM DIR    the keeper's way to start a job, and no more
    python -m benchmarks.bare_loops spawn COUNT PROCESSES    os.posix_spawn and waitpid, so many processes

The first has everything that the keeper does for a job by its defaults: directory, umask, niceness, OOM score,
session, signals, two files of output in directories of the spool's kind, SIGCHLD through epoll, `wait4`. It has no
agent, no records and no orders. Neither loop writes anything else.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from kueue_worker.keeper.limits import Limits, raise_open_files
from kueue_worker.keeper.orders import SpawnOrder
from kueue_worker.keeper.spawn import Spawner
from kueue_worker.spool import Spool

JOB_NICE, JOB_OOM = 10, 500
"""The worker's defaults."""
JOURNAL = "bare"


@dataclass(frozen=True)
class Took:
    """Seconds that a loop took, and CPU seconds of its own and of what it started."""

    seconds: float
    own_cpu: float
    children_cpu: float


def keeper_loop(count: int, room: int, place: Path) -> Took:
    """The bare loop with the keeper's spawn path, in a process of its own."""
    return _run("keeper", str(count), str(room), str(place))


def spawn_loop(count: int, processes: int) -> Took:
    """The bare loop with nothing, in processes of their own."""
    return _run("spawn", str(count), str(processes))


def program_of(name: str) -> str:
    """Path of a program."""
    found = shutil.which(name)
    assert found is not None, f"there is no program {name} here"
    return found


def _run(*words: str) -> Took:
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return Took(**json.loads(done.stdout))


def _spawn_as_the_keeper_does(count: int, room: int, place: str) -> Took:
    spawner = Spawner(place, Limits(raise_open_files()))
    spawner.set_environment("all", list(os.environb.items()))
    spawner.set_directory(1, os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    spool = Spool(f"{place}/spool")
    program = program_of("true").encode()
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _wake)
    epoll = select.epoll()
    epoll.register(reading, select.EPOLLIN)
    started = ended = 0
    clock = _Clock()
    while ended < count:
        while started < count and started - ended < room:
            started += 1
            spawner.spawn(_order(started, program, spool))
        spawner.settle()
        epoll.poll()
        os.read(reading, 4096)
        while started > ended:
            pid, _, _ = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            ended += 1
    return clock.took()


def _order(job: int, program: bytes, spool: Spool) -> SpawnOrder:
    return SpawnOrder(
        key=f"{JOURNAL}:{job}:1",
        job=job,
        attempt=1,
        program=program,
        argv=[b"true"],
        env="all",
        extra=[(b"KUEUE_JOB_ID", b"%d" % job), (b"KUEUE_ATTEMPT", b"1")],
        directory=1,
        out=os.fsencode(spool.path(JOURNAL, job, 1, "stdout")),
        err=os.fsencode(spool.path(JOURNAL, job, 1, "stderr")),
        err_is_out=False,
        umask=0o022,
        limits={},
        nice=JOB_NICE,
        oom=JOB_OOM,
        time_limit=None,
        note=None,
    )


def _wake(number: int, frame: FrameType | None) -> None:
    """Python has written to the descriptor already."""


def _spawn_and_wait(count: int, processes: int) -> Took:
    program = program_of("true")
    clock = _Clock()
    children = []
    for number in range(processes):
        share = count // processes + (number < count % processes)
        child = os.fork()
        if child == 0:
            for _ in range(share):
                os.waitpid(os.posix_spawn(program, ["true"], os.environ), 0)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return clock.took()


class _Clock:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._cpu = self._cpu_now()
        self._begin = time.monotonic()

    def took(self) -> Took:
        """Until now."""
        seconds = time.monotonic() - self._begin
        own, children = self._cpu_now()
        return Took(seconds, own - self._cpu[0], children - self._cpu[1])

    @staticmethod
    def _cpu_now() -> tuple[float, float]:
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime, children.ru_utime + children.ru_stime


def main() -> None:
    """Run a loop; its figures as JSON on stdout."""
    match sys.argv[1:]:
        case ["keeper", count, room, place]:
            took = _spawn_as_the_keeper_does(int(count), int(room), place)
        case ["spawn", count, processes]:
            took = _spawn_and_wait(int(count), int(processes))
        case _:
            sys.exit(__doc__)
    print(json.dumps(asdict(took)))


if __name__ == "__main__":
    main()
