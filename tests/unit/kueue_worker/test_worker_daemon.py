"""The program `kueue_worker` as a process: exit codes, one line for what is wrong, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kueue_worker.place import name_on_host
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.contract_keeper import ContractKeeper
from tests.unit.kueue_worker.scripted_server import SECRET, ScriptedServer


class Lab:
    """A configuration, a server, a keeper for worker `w1`, and worker processes."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.server = ScriptedServer()
        self.config = place / "config.toml"
        spool = place / "state" / "spool" / "w1"
        self.keeper = ContractKeeper(name_on_host("keeper", str(spool)))
        self.workers: list[subprocess.Popen[bytes]] = []

    def write_config(self, secret: str = SECRET, worker: str = "") -> None:
        """The configuration, with these worker settings."""
        self.config.touch(mode=0o600)
        self.config.write_text(
            f'[common_settings]\nshared_secret = "{secret}"\nserver_name = "127.0.0.1"\n'
            f"server_port = {self.server.port}\n[worker_settings]\n{worker}\n"
        )

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a worker; its stderr goes to a file of its number."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KUEUE_")}
        environment |= {"KUEUE_CONFIG": str(self.config), "KUEUE_STATE_DIR": str(self.place / "state")}
        with self.log(len(self.workers)).open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "kueue_worker", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.workers.append(worker)
        return worker

    def log(self, number: int) -> Path:
        """What a worker says."""
        return self.place / f"worker{number}.log"

    async def ends(self, worker: subprocess.Popen[bytes]) -> int:
        """Its exit code."""
        return await asyncio.to_thread(worker.wait, 30)

    async def close(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        await self.keeper.close()
        await self.server.stop()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    await made.server.start()
    made.write_config()
    yield made
    await made.close()


async def test_a_worker_serves_until_sigterm_and_a_hang_up_ends_nothing(lab: Lab) -> None:
    worker = lab.start("--name", "w1")
    await lab.server.connected()
    worker.send_signal(signal.SIGHUP)
    lab.server.offer(1, "echo", "x", cwd=str(lab.place))
    assert (await lab.server.end_of(1)).stdout_tail == b"x\n"
    worker.terminate()
    assert await lab.ends(worker) == 0
    assert [message.jobs_stay for message in lab.server.leaving] == [False]
    lines = lab.log(0).read_text().splitlines()
    assert "as w1: " in lines[0]
    assert "connected to the server at 127.0.0.1" in lines[1]
    assert SECRET not in lab.log(0).read_text()


async def test_two_ctrl_c_interrupt_and_sigusr2_leaves_the_jobs(lab: Lab) -> None:
    worker = lab.start("--name", "w1")
    await lab.server.connected()
    lab.server.offer(1, "sleep", "60", cwd=str(lab.place))
    await lab.server.until(lambda: 1 in lab.server.started)
    worker.send_signal(signal.SIGUSR2)
    assert await lab.ends(worker) == 0
    assert lab.server.leaving[-1].jobs_stay
    again = lab.start("--name", "w1")
    await lab.server.connected(2)
    assert [item.job for item in lab.server.inventories[-1].running] == [1]
    again.send_signal(signal.SIGINT)
    await lab.server.until(lambda: not lab.server.statuses[-1].accepting)
    again.send_signal(signal.SIGINT)
    assert await lab.ends(again) == 0
    assert lab.server.finished[1].end == "interrupted"
    assert "waits for 1 running job" in lab.log(1).read_text()


async def test_a_second_worker_of_the_name_is_told_so(lab: Lab) -> None:
    lab.start("--name", "w1")
    await lab.server.connected()
    second = lab.start("--name", "w1")
    assert await lab.ends(second) == 2
    assert lab.log(1).read_text() == "kueue_worker: a worker named w1 runs on this machine already\n"


async def test_a_killed_worker_s_name_is_free_at_once_and_its_jobs_run_on(lab: Lab) -> None:
    first = lab.start("--name", "w1")
    await lab.server.connected()
    lab.server.offer(1, "sleep", "60", cwd=str(lab.place))
    await lab.server.until(lambda: 1 in lab.server.started)
    first.kill()
    first.wait()
    lab.start("--name", "w1")
    await lab.server.connected(2)
    assert [item.job for item in lab.server.inventories[-1].running] == [1]
    await asyncio.to_thread(wait_for, "it says so", lambda: "takes over 1 job" in lab.log(1).read_text())


async def test_a_wrong_secret_is_exit_code_3_and_one_line(lab: Lab) -> None:
    lab.write_config(secret="another-secret-0123456789-abcdefghij")
    worker = lab.start("--name", "w1")
    assert await lab.ends(worker) == 3
    last = lab.log(0).read_text().splitlines()[-1]
    assert last.startswith("kueue_worker: ")
    assert "shared_secret" in last
    await asyncio.wait_for(lab.keeper.exited.wait(), 30)  # nothing ran: it is not left behind


async def test_a_server_that_is_away_is_waited_for(lab: Lab) -> None:
    await lab.server.stop()
    lab.start("--name", "w1")
    await asyncio.to_thread(wait_for, "it says so", lambda: "waits for it" in lab.log(0).read_text())
    await lab.server.start()
    await lab.server.connected()


@pytest.mark.parametrize(
    ("arguments", "config", "expected"),
    [
        (("--name", "a/b"), "", "--name 'a/b': letters, digits, _ . - (beginning with a letter or digit)"),
        ((), "job_nice = 99", "job_nice"),
        ((), 'spool_dir = "/dev/null/x"', "a part of the path is not a directory"),
    ],
)
async def test_bad_usage_is_exit_code_2_and_one_line(
    lab: Lab, arguments: tuple[str, ...], config: str, expected: str
) -> None:
    lab.write_config(worker=config)
    worker = lab.start(*arguments)
    assert await lab.ends(worker) == 2
    (line,) = lab.log(0).read_text().splitlines()
    assert line.startswith("kueue_worker: ")
    assert expected in line


def test_the_package_stays_light_for_the_keeper() -> None:
    code = (
        "import sys, kueue_worker;"
        "print([name for name in ('asyncio', 'msgspec', 'kueue', 'psutil') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_the_version_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kueue_worker", "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"kueue_worker ")
