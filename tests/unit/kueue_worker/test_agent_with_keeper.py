"""The worker as a process with the keeper that it starts itself: what a stand-in can not show."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kueue.job import End
from kueue.wire.messages import Leave
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.scripted_server import SECRET, ScriptedServer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("kueue_worker.keeper.__main__") is None, reason="there is no keeper to start"
)


class Lab:
    """A scripted server, and worker processes of one name."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.spool = place / "state" / "spool" / "w1"
        self.server = ScriptedServer()
        self.worker: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the worker."""
        config = self.place / "config.toml"
        config.touch(mode=0o600)
        config.write_text(
            f'[common_settings]\nshared_secret = "{SECRET}"\nserver_name = "127.0.0.1"\n'
            f"server_port = {self.server.port}\n"
            "[worker_settings]\nworker_max_parallel_jobs = 4\ndynamic_check_free_resources = false\n"
            "job_kill_grace_seconds = 1\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KUEUE_")}
        environment |= {"KUEUE_CONFIG": str(config), "KUEUE_STATE_DIR": str(self.place / "state")}
        with (self.place / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "kueue_worker", "--name", "w1"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.worker

    def keepers(self) -> list[int]:
        """Pids of the keepers of this spool."""
        return [pid for pid, words in processes("cmdline") if os.fsencode(self.spool) in words]

    def of_jobs(self) -> list[int]:
        """Pids of processes of this lab's jobs."""
        mine = b"KUEUE_LAB=" + os.fsencode(self.place)
        return [pid for pid, variables in processes("environ") if mine in variables]

    def offer(self, job: int, script: str) -> None:
        """Offer a shell script whose processes can be found again."""
        self.server.offer(
            job, "sh", "-c", f"KUEUE_LAB={self.place}; export KUEUE_LAB; {script}", cwd=str(self.place)
        )

    async def close(self) -> None:
        """End everything."""
        if self.worker is not None:
            self.worker.kill()
            self.worker.wait()
        for pid in [*self.keepers(), *self.of_jobs()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await self.server.stop()


def processes(what: str) -> list[tuple[int, list[bytes]]]:
    """All processes with the NUL-separated parts of a file of /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.append((int(entry.name), (entry / what).read_bytes().split(b"\0")))
    return found


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    await made.server.start()
    made.start()
    await made.server.connected()
    yield made
    await made.close()


async def test_a_worker_starts_its_keeper_runs_a_job_and_takes_it_along(lab: Lab) -> None:
    (keeper,) = lab.keepers()
    assert lab.worker is not None
    assert os.getsid(keeper) != os.getsid(lab.worker.pid)
    lab.server.offer(1, "sh", "-c", "echo out; echo err >&2", cwd=str(lab.place))
    end = await lab.server.end_of(1)
    assert (end.exit_code, end.stdout_tail, end.stderr_tail) == (0, b"out\n", b"err\n")
    lab.server.offer(2, "sh", "-c", "exit 4", cwd=str(lab.place), stdout="both", stderr="both")
    assert (await lab.server.end_of(2)).exit_code == 4
    lab.worker.terminate()
    assert await asyncio.to_thread(lab.worker.wait, 30) == 0
    await asyncio.to_thread(wait_for, "the keeper ends", lambda: not lab.keepers())


async def test_jobs_survive_the_agent_and_the_next_one_finds_them(lab: Lab) -> None:
    lab.offer(1, "sleep 60")
    await lab.server.until(lambda: 1 in lab.server.started)
    keepers = lab.keepers()
    assert lab.worker is not None
    lab.worker.kill()
    lab.worker.wait()
    lab.start()
    await lab.server.connected(2)
    assert [item.job for item in lab.server.inventories[-1].running] == [1]
    assert lab.keepers() == keepers
    lab.server.send(Leave(kill=True))
    assert (await lab.server.end_of(1)).end is End.INTERRUPTED
    await asyncio.to_thread(wait_for, "its processes are gone", lambda: not lab.of_jobs())


async def test_a_killed_keeper_s_jobs_are_ended_and_reported_lost(lab: Lab) -> None:
    lab.offer(1, "sleep 60")
    await lab.server.until(lambda: 1 in lab.server.started)
    (keeper,) = lab.keepers()
    os.kill(keeper, signal.SIGKILL)
    assert (await lab.server.end_of(1)).end is End.LOST
    assert lab.of_jobs() == []  # it was told only after they were ended
    await lab.server.connected(2)
    assert lab.server.registers[0].keeper != lab.server.registers[1].keeper
    lab.server.offer(2, "true", cwd=str(lab.place))
    assert (await lab.server.end_of(2)).exit_code == 0


async def test_keeper_and_agent_killed_at_once_leave_nothing_running_twice(lab: Lab) -> None:
    lab.offer(1, "sleep 60")
    await lab.server.until(lambda: 1 in lab.server.started)
    assert lab.worker is not None
    lab.worker.kill()
    for pid in lab.keepers():
        os.kill(pid, signal.SIGKILL)
    lab.worker.wait()
    lab.start()
    assert (await lab.server.end_of(1)).end is End.LOST
    assert lab.of_jobs() == []
