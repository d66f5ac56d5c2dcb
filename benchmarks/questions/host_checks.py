"""How long does `kueue_restart_workers` take to look at 200 hosts that answer at once?

The hosts are one machine under 200 addresses of loopback, behind one sshd with a real worker, so both ends share the
CPUs: the supervisor's connections, and for each an sshd, a login shell and the program that looks. On a cluster
the second half is done by the hosts.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.cluster import Cluster
from tests.support.lab import Lab, free_port
from tests.support.waiting import wait_for

HOSTS, QUICK_HOSTS = 200, 5
GOAL_SECONDS = 20.0
CLONE_NEWNET = 0x40000000
SSHD = "/usr/sbin/sshd"


def why_not() -> str:
    """Why this can't be measured here, empty if it can."""
    if not os.access(SSHD, os.X_OK) or shutil.which("ssh-keygen") is None:
        return "there is no sshd here (openssh-server)"
    return "there is no ip here (iproute2)" if shutil.which("ip") is None else ""


def measure(quick: bool) -> Answer:
    """Rounds of `--status` one after the other."""
    hosts = QUICK_HOSTS if quick else HOSTS
    problem = why_not()
    if problem:
        return Answer(notes=[f"not measured: {problem}"])
    _leave_the_network()
    wall, used = [], []
    with Cluster(slots=1) as cluster, _sshd(cluster.lab) as port:
        _configure(cluster.lab, hosts, port)
        for _ in range(1 if quick else REPETITIONS):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            begin = time.perf_counter()
            _look(cluster.lab, hosts)
            wall.append(time.perf_counter() - begin)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    took = Figure(f"a look at {hosts} hosts", "s", tuple(wall))
    return Answer(
        figures=[took, Figure("CPU of the supervisor alone", "s", tuple(used))],
        goals=[Goal(took, GOAL_SECONDS, "at most")],
        notes=["one sshd behind all addresses: the hosts' own work is done by the same CPUs"],
    )


def _leave_the_network() -> None:
    """As root, be on a network of our own: other workers of root on this machine are not to be asked, too."""
    if os.getuid() == 0 and ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextlib.contextmanager
def _sshd(lab: Lab) -> Iterator[int]:
    """An sshd on all addresses of loopback, for this user and one key; its port."""
    place, port = lab.place / "ssh", free_port()
    place.mkdir()
    for name in ("host_key", "key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    (place / "sshd_config").write_text(
        f"Port {port}\nListenAddress 0.0.0.0\nHostKey {place}/host_key\nAuthorizedKeysFile {place}/key.pub\n"
        "PidFile none\nUsePAM no\nUseDNS no\nStrictModes no\nPermitRootLogin prohibit-password\nMaxStartups 500\n"
        "LogLevel ERROR\n"
    )
    public = (place / "host_key.pub").read_text()
    (place / "known_hosts").write_text(f"[127.1.*]:{port} {public}")
    run = [SSHD, "-D", "-e", "-f", str(place / "sshd_config")]
    if (
        os.getuid() == 0
    ):  # it wants a directory of its own in /run; and what root's shell reads is not the question
        mounts = (
            "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && mkdir -m 1777 /run/screen"
            " && sed '/^root:/s,[^:]*$,/bin/sh,' /etc/passwd >/run/passwd && mount --bind /run/passwd /etc/passwd"
        )
        run = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *run]
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_for("sshd listens", lambda: _listens(port) or process.poll() is not None)
        assert process.poll() is None, (place / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A" for row in rows)


def _configure(lab: Lab, hosts: int, port: int) -> None:
    names = f"127.1.[0-{(hosts - 1) // 100}].[1-{min(hosts, 100)}]"
    ssh = lab.place / "ssh"
    with lab.config.open("a") as file:
        file.write(
            f'[restart_workers]\nhostnames = "{names}"\nssh_port = {port}\nssh_user = "{getpass.getuser()}"\n'
            f'ssh_key_files = ["{ssh}/key"]\nknown_hosts = "{ssh}/known_hosts"\nconnect_timeout_seconds = 60\n'
        )


def _look(lab: Lab, hosts: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kueue.supervise.cli", "--status", "--json"],
        env={**lab.env, "HOME": str(lab.place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.stdout, (done.returncode, done.stderr)
    rows = json.loads(done.stdout)
    bad = [row for row in rows if row["error"] or not row["connected"]]
    assert (done.returncode, bad, len(rows)) == (0, [], hosts), (done.returncode, bad, len(rows), done.stderr)
