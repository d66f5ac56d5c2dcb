"""The server moves to another machine of a shared home in three commands, while jobs run and people wait."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.network import SERVER, SERVER_ADDRESS, Network, NetworkLab, why_no_networks
from tests.support.waiting import wait_for

NEW, WORKER = "new", "w1"
NEW_ADDRESS = "10.77.1.2"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[NetworkLab]:
    """Three machines that share state directory and configuration; the server listens to all of its addresses."""
    why = why_no_networks()
    if why:
        pytest.skip(why)
    lab = NetworkLab(tmp_path, Network((NEW, WORKER)), worker="worker_max_parallel_jobs = 4")
    lab.network.connect_all()
    text = lab.config.read_text().replace(
        f'bind_addresses = "{SERVER_ADDRESS}"', 'bind_addresses = "0.0.0.0"'
    )
    lab.config.write_text(text)
    try:
        yield lab
    finally:
        for host in (SERVER, NEW):
            on(lab, host, "kueue", "down", "--kill")
        lab.close()


def on(lab: NetworkLab, host: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Type a command on a machine."""
    program = ["-m", words[0], *words[1:]]
    return subprocess.run(
        [*lab.network.inside(host), sys.executable, *program],
        env=lab.env,
        cwd=lab.work,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(180)
def test_the_server_moves_in_three_commands_while_jobs_run(lab: NetworkLab) -> None:
    said = on(lab, SERVER, "kueue", "up", "--server-only")
    assert said.returncode == 0, said.stderr
    assert "log of the server: " in said.stderr
    lab.start_worker(WORKER)
    running = [lab.submit("sh", "-c", "until test -e go; do sleep 0.05; done")]
    queued = lab.submit("--job-slots", "4", "true")
    for job in running:
        lab.wait_state(job, "running")
    waiting = subprocess.Popen(
        [*lab.before("client"), sys.executable, "-m", "kueue", "wait-job", *map(str, [*running, queued])],
        env=lab.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    # The three commands.
    said = on(lab, SERVER, "kueue", "down", "--server-only")
    assert (said.returncode, said.stderr) == (0, "the server has ended; running jobs go on\n")
    lab.config.write_text(lab.config.read_text().replace(SERVER_ADDRESS, NEW_ADDRESS))
    said = on(lab, NEW, "kueue", "up", "--server-only")
    assert said.returncode == 0, said.stderr

    lab.client_host = NEW
    wait_for("the worker has followed", lambda: lab.worker_state(WORKER) == "connected", 60)
    assert [lab.job(job)["state"] for job in running] == ["running"]
    (lab.work / "go").touch()
    for job in (*running, queued):
        found = lab.wait_state(job, "succeeded", seconds=60)
        assert (found["attempt"], found["restarts"]) == (1, 0)
    assert lab.submit("true") == queued + 1
    # Who waited on the old machine has followed, too.
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    # And there none can be started any more.
    said = on(lab, SERVER, "kueue_server")
    assert (said.returncode, "start it there" in said.stderr) == (2, True)
    said = on(lab, SERVER, "kueue", "up", "--server-only")
    assert (said.returncode, f"belongs on {NEW_ADDRESS}" in said.stderr) == (2, True)
