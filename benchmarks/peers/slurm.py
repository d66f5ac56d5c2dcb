"""Slurm: its controller and one node, configured in a directory of our own; needs root.

Jobs are one array, which is its fastest way in; a latency is that of `srun true`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import DEADLINE_SECONDS, free_port, missing_program, running, time_of, until

NEEDS_A_CLUSTER = True
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "sinfo")
PARTITION = "all"
MOST_IN_AN_ARRAY = 1000
CONFIG = """\
ClusterName=benchmark
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CredType=cred/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/node
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MaxArraySize=100001
MaxJobCount=200000
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0,default_queue_depth=10000
NodeName={host} NodeAddr=127.0.0.1 CPUs={slots} State=UNKNOWN
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def available() -> str | None:
    """Why not."""
    if (reason := missing_program(*PROGRAMS)) is not None:
        return reason
    return None if os.geteuid() == 0 else "needs root"


def jobs_per_second(jobs: int, slots: int, place: Path) -> float:
    """An array of `true`, outputs kept, until none is in the queue."""
    with _cluster(place, slots) as env:
        words = ["sbatch", "-Q", "-o", f"{place}/%A.%a.out", f"--array=1-{jobs}", "--wrap", "true"]
        begin = time.perf_counter()
        time_of(words, env=env)
        until("all jobs have ended", lambda: not _output(["squeue", "-h"], env), DEADLINE_SECONDS, pause=0.2)
        return jobs / (time.perf_counter() - begin)


def latencies(samples: int, place: Path) -> list[float]:
    """`srun true`, one after the other."""
    with _cluster(place, 1) as env:
        return [time_of(["srun", "true"], env=env) for _ in range(samples)]


@contextlib.contextmanager
def _cluster(place: Path, slots: int) -> Iterator[dict[str, str]]:
    host = socket.gethostname().partition(".")[0]
    for name in ("state", "node"):
        (place / name).mkdir()
    key = place / "munge.key"
    key.touch(mode=0o400)
    key.write_bytes(os.urandom(128))
    config = place / "slurm.conf"
    config.write_text(
        CONFIG.format(
            host=host,
            controller_port=free_port(),
            node_port=free_port(),
            place=place,
            slots=slots,
            partition=PARTITION,
        )
    )
    env = {"SLURM_CONF": str(config)}
    munged = ["munged", "--foreground", "--force", f"--socket={place}/munge.socket", f"--key-file={key}"]
    munged += [
        f"--pid-file={place}/munge.pid",
        f"--log-file={place}/munge.log",
        f"--seed-file={place}/munge.seed",
    ]
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(munged, place / "munged.log"))
        until("munge's socket is there", (place / "munge.socket").exists)
        stack.enter_context(running(["slurmctld", "-D", "-f", str(config)], place / "slurmctld.log", env))
        stack.enter_context(
            running(["slurmd", "-D", "-f", str(config), "-N", host], place / "slurmd.log", env)
        )
        until("the node is idle", lambda: _output(["sinfo", "-h", "-o", "%T"], env) == "idle")
        time_of(["srun", "true"], env=env)
        yield env


def _output(words: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(
        words, env={**os.environ, **env}, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr
