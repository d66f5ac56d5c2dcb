"""The whole agent between a scripted server and a stand-in for the keeper that runs real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from kueue.job import End
from kueue.resources import Capacity, Shape
from kueue.wire.messages import (
    Acknowledge,
    Context,
    Forget,
    Leave,
    RawBytes,
    Reason,
    Retract,
    Stop,
    SystemInfo,
)
from kueue_worker import keeper_process
from kueue_worker.agent import Agent
from kueue_worker.core.machine import Settings
from kueue_worker.options import Options
from kueue_worker.place import name_on_host
from kueue_worker.spawning import JobPolicy
from kueue_worker.spool import Spool
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.contract_keeper import ContractKeeper
from tests.unit.kueue_worker.scripted_server import ENVIRONMENT, SECRET, ScriptedServer

SETTINGS = Settings(
    capacity=Capacity(4, 4000, 4, (("gpu", 2),)),
    unit_names={"gpu": ("0", "1")},
    dynamic_check=False,
    kill_grace_seconds=1.0,
)


class Lab:
    """Server, keeper, and agents one after the other."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.work = place / "work"
        self.work.mkdir()
        self.cwd = str(self.work)
        self.server = ScriptedServer()
        self.spool = Spool(str(place / "spool"))
        self.spool.set_up()
        self.address = name_on_host("keeper", self.spool.root)
        self.keeper = ContractKeeper(self.address)
        self.agent: Agent | None = None
        self.running: asyncio.Task[int] | None = None

    def start(self, settings: Settings = SETTINGS) -> Agent:
        """Start an agent."""
        self.agent = Agent(
            Options(
                name="w1",
                host="host",
                boot="boot-1",
                version="0.1.0",
                secret=SECRET,
                resolve=lambda: ("127.0.0.1", self.server.port),
                settings=settings,
                system=SystemInfo(),
                policy=JobPolicy(nice=10, oom_score_adj=500),
                spool=self.spool,
                keeper_address=self.address,
                max_output_mb=0,
                spool_max_bytes=2**30,
                spool_max_seconds=1e6,
                server=lambda: "localhost:11236",
                config="/none",
                pid=os.getpid(),
            )
        )
        self.running = asyncio.create_task(self.agent.run())
        return self.agent

    async def exit_code(self) -> int:
        """How the agent ended."""
        assert self.running is not None
        return await asyncio.wait_for(self.running, 30)

    async def crash_agent(self) -> None:
        """The agent vanishes without a word; keeper and jobs stay."""
        assert self.running is not None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        if self.server.link is not None:
            self.server.link.abort()

    async def replace_keeper(self) -> None:
        """The keeper dies with all its records; another one comes."""
        old = self.keeper
        await old.close()
        self.keeper = ContractKeeper(self.address)

    async def close(self) -> None:
        """End everything."""
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)
        await self.keeper.close()
        await self.server.stop()


def no_keeper(spool: str, address: str) -> subprocess.Popen[bytes]:
    """In place of a real one, which would take the stand-in's address."""
    return subprocess.Popen(["true"])


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(keeper_process, "start_keeper", no_keeper)
    made = Lab(tmp_path)
    await made.server.start()
    yield made
    await made.close()


@pytest.fixture
async def connected(lab: Lab) -> Lab:
    """A lab whose agent is connected."""
    lab.start()
    await lab.server.connected()
    return lab


# ---------------------------------------------------------------- one job


async def test_a_job_runs_and_its_end_comes_with_the_tails(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sh", "-c", "echo out; echo err >&2", cwd=connected.cwd)
    end = await server.end_of(1)
    assert (end.end, end.exit_code, end.attempt) == (End.EXITED, 0, 1)
    assert (end.stdout_tail, end.stderr_tail) == (b"out\n", b"err\n")
    assert (end.stdout_path, end.stderr_path) == (None, None)
    assert end.peak_ram_mb > 0
    assert server.started[1].fence == 11
    await server.until(lambda: True)
    data = await server.log(1, 1)
    assert (data.data, data.at_end) == (b"out\n", True)
    assert (await server.log(2, 1, stream="stderr", offset=-2)).data == b"r\n"
    # Acknowledged: nobody remembers it.
    assert connected.agent is not None
    assert connected.agent.machine.book.attempts == {}


async def test_registration_says_what_the_worker_is(connected: Lab) -> None:
    (register,) = connected.server.registers
    assert (register.name, register.keeper) == ("w1", connected.keeper.keeper)
    assert register.capacity == SETTINGS.capacity
    assert connected.server.inventories[0].held == ()
    assert connected.server.statuses[0].usable_cpus == 4


async def test_the_environment_and_the_directory_are_the_job_s(connected: Lab) -> None:
    shape = Shape(cpus=2, ram_mb=5, resources=(("gpu", 1), ("lic-x", 3)))
    context = Context(
        env=(("PATH", "/usr/bin:/bin"), ("RAW", RawBytes(b"\xff")), ("TMPDIR", "/no/such")), umask=0o27
    )
    connected.server.offer(7, "env", cwd=connected.cwd, shape=shape, context=context)
    end = await connected.server.end_of(7)
    lines = dict(line.split(b"=", 1) for line in end.stdout_tail.splitlines())
    assert lines.pop(b"KUEUE_FENCE") == b"journal-1/7/71"
    assert lines == {
        b"PATH": b"/usr/bin:/bin",
        b"RAW": b"\xff",
        b"PWD": os.fsencode(connected.cwd),
        b"KUEUE_JOB_ID": b"7",
        b"KUEUE_ATTEMPT": b"1",
        b"KUEUE_CPUS": b"2",
        b"KUEUE_RAM_MB": b"5",
        b"KUEUE_WORKER": b"w1",
        b"KUEUE_RESOURCE_GPU": b"0",
        b"CUDA_VISIBLE_DEVICES": b"0",
        b"KUEUE_RESOURCE_LIC_X": b"3",
        b"OMP_NUM_THREADS": b"2",
    }
    (spawn,) = connected.keeper.spawned
    assert (spawn["umask"], spawn["nice"], spawn["oom"], spawn["time_limit"]) == (0o27, 10, 500, None)


async def test_words_and_directories_that_are_not_utf8(connected: Lab) -> None:
    place = os.path.join(os.fsencode(connected.cwd), b"\xe4")
    os.mkdir(place)
    connected.server.offer(1, "printf", "%s", RawBytes(b"\xfe\xff"), cwd=RawBytes(place))
    assert (await connected.server.end_of(1)).stdout_tail == b"\xfe\xff"


async def test_a_failed_job_is_told_after_a_second(connected: Lab) -> None:
    connected.server.offer(1, "sh", "-c", "exit 3", cwd=connected.cwd)
    end = await connected.server.end_of(1)
    assert (end.end, end.exit_code) == (End.EXITED, 3)
    assert 0.9 < end.ended_ago < 5


async def test_many_short_jobs_of_one_directory_cost_few_looks(connected: Lab) -> None:
    for job in range(1, 101):
        connected.server.offer(job, "true", cwd=connected.cwd)
    await connected.server.until(lambda: len(connected.server.finished) == 100)
    assert len(connected.keeper.directories) == 1
    assert len(connected.keeper.environments) == 1
    assert connected.server.reports < 150


# ---------------------------------------------------------------- output


async def test_output_goes_to_the_job_s_own_files(connected: Lab) -> None:
    server = connected.server
    (connected.work / "log").write_text("old\n")
    script = "echo out; echo err >&2"
    server.offer(1, "sh", "-c", script, cwd=connected.cwd, stdout="log", stderr="log")
    end = await server.end_of(1)
    assert (connected.work / "log").read_text() == "out\nerr\n"
    assert end.stdout_path == end.stderr_path == f"{connected.cwd}/log"
    assert end.stdout_tail == end.stderr_tail == b"out\nerr\n"
    server.offer(1, "echo", "again", cwd=connected.cwd, stdout="log", stderr="null", attempt=2)
    await server.until(lambda: server.finished[1].attempt == 2)
    assert (connected.work / "log").read_text() == "out\nerr\nagain\n"
    assert server.finished[1].stderr_path == "null"
    data = await server.log(1, 1, attempt=2, fence=12, path=f"{connected.cwd}/log", offset=-6)
    assert data.data == b"again\n"


async def test_output_goes_to_files_named_after_the_attempt(connected: Lab) -> None:
    script = "echo here; echo there >&2"
    connected.server.offer(1, "sh", "-c", script, cwd=connected.cwd, stdout="logs/%j.%a.%%", stderr="%n.e")
    end = await connected.server.end_of(1)
    assert end.end is End.EXITED, end.reason
    assert end.stdout_path == f"{connected.cwd}/logs/1.1.%"
    assert (connected.work / "logs" / "1.1.%").read_text() == "here\n"
    assert (connected.work / ".e").read_text() == "there\n"


async def test_output_that_can_not_be_written_is_an_end_of_the_job(connected: Lab) -> None:
    os.mkfifo(connected.work / "fifo")
    connected.server.offer(1, "true", cwd=connected.cwd, stdout="fifo")
    connected.server.offer(2, "true", cwd=connected.cwd, stderr="fifo/out")
    reason = (await connected.server.end_of(1)).reason
    assert reason == Reason("output", "cannot write fifo: not a regular file")
    end = await connected.server.end_of(2)
    assert end.end is End.NOT_STARTED
    assert end.reason == Reason("output", "cannot write fifo/out: Not a directory")
    assert connected.keeper.spawned == []


async def test_output_is_followed_while_the_job_runs(connected: Lab) -> None:
    server = connected.server
    os.mkfifo(connected.work / "go")
    server.offer(1, "sh", "-c", "echo one; read x < go; echo two", cwd=connected.cwd)
    assert (await server.log(1, 1, wait_seconds=30.0)).data == b"one\n"
    waiting = asyncio.create_task(server.log(2, 1, offset=4, wait_seconds=30.0))
    await server.until(lambda: 1 in server.started)
    (connected.work / "go").write_text("x\n")
    data = await waiting
    assert data.data == b"two\n"
    last = await server.log(3, 1, offset=8, wait_seconds=30.0)
    assert (last.data, last.at_end) == (b"", True)


# ---------------------------------------------------------------- what can't be run here


async def test_a_missing_directory_or_program_is_refused(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "true", cwd=f"{connected.cwd}/a/b")
    await server.until(lambda: 1 in server.refused)
    refused = server.refused[1]
    assert (refused.code, refused.ancestor) == ("no_directory", connected.cwd)
    assert refused.text == f"{connected.cwd}/a/b: No such file or directory"
    server.offer(2, "dc_shell", cwd=connected.cwd)
    server.offer(3, "./dc_shell", cwd=connected.cwd)
    await server.until(lambda: {2, 3} <= server.refused.keys())
    refused = server.refused[2]
    assert (refused.code, refused.text, refused.ancestor) == ("no_program", "no dc_shell in PATH", None)
    refused = server.refused[3]
    assert (refused.code, refused.text) == ("no_program", "./dc_shell: no such file")
    assert refused.ancestor == connected.cwd  # another directory may have it


async def test_a_held_job_whose_directory_is_missing_goes_on_to_others_at_once(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd, shape=Shape(cpus=4, ram_mb=1))
    await server.until(lambda: 1 in server.started)
    server.offer(2, "true", cwd="/no/such/place")
    await server.until(lambda: 2 in server.refused)
    assert server.refused[2].ancestor == "/"


async def test_an_environment_that_the_keeper_forgot_is_sent_again(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "true", cwd=connected.cwd)
    await server.end_of(1)
    connected.keeper.forget_environments()
    server.offer(2, "true", cwd=connected.cwd)
    assert (await server.end_of(2)).exit_code == 0
    assert [message["job"] for message in connected.keeper.spawned] == [1, 2, 2]


# ---------------------------------------------------------------- orders


async def test_stop_ends_a_running_job_and_retract_gives_back_a_held_one(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd, shape=Shape(cpus=4, ram_mb=1))
    server.offer(2, "true", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started)
    server.send(Retract((server.ref(1), server.ref(2))))
    await server.until(lambda: server.kept == [1] and server.released == [2])
    server.send(Stop((server.ref(1), server.ref(9))))
    end = await server.end_of(1)
    assert (end.end, end.signal) == (End.STOPPED, signal.SIGTERM)
    assert server.released == [2, 9]


async def test_forgotten_jobs_leave_the_spool(connected: Lab) -> None:
    server = connected.server
    for job in (1, 2):
        server.offer(job, "echo", "x", cwd=connected.cwd)
        await server.end_of(job)
    server.send(Forget(((1, 1),)))
    one, two = (Path(connected.spool.path("journal-1", job, 1, "stdout")) for job in (1, 2))
    await asyncio.to_thread(wait_for, "its output is gone", lambda: not one.exists())
    assert two.read_text() == "x\n"
    assert stat.S_IMODE(two.stat().st_mode) == 0o600
    error = (await server.log(1, 1)).error
    assert error is not None
    assert error.code == "no_output"


# ---------------------------------------------------------------- faults


async def test_jobs_run_on_without_the_server_and_are_told_when_it_is_back(connected: Lab) -> None:
    server = connected.server
    os.mkfifo(connected.work / "go")
    server.offer(1, "sh", "-c", "read x < go; echo done", cwd=connected.cwd)
    server.offer(2, "sleep", "60", cwd=connected.cwd)
    await server.until(lambda: {1, 2} <= server.started.keys())
    await server.stop()
    (connected.work / "go").write_text("x\n")
    await server.start()
    await server.connected(2)
    end = await server.end_of(1)
    assert (end.exit_code, end.stdout_tail) == (0, b"done\n")
    assert [item.job for item in server.inventories[-1].running if item.job == 2] == [2]
    server.send(Stop((server.ref(2),)))
    await server.end_of(2)


async def test_a_new_agent_takes_over_what_a_crashed_one_left(connected: Lab) -> None:
    server = connected.server
    server.acknowledges = False
    shape = Shape(cpus=1, ram_mb=1, resources=(("gpu", 1),))
    os.mkfifo(connected.work / "go")
    server.offer(1, "sh", "-c", "read x < go; echo done", cwd=connected.cwd, shape=shape)
    server.offer(2, "echo", "two", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started and 2 in server.finished)
    await connected.crash_agent()
    server.finished.clear()
    server.acknowledges = True
    connected.start()
    await server.connected(2)
    assert [item.job for item in server.inventories[-1].running] == [1]
    assert (await server.end_of(2)).stdout_tail == b"two\n"
    server.offer(3, "sh", "-c", "echo $KUEUE_RESOURCE_GPU", cwd=connected.cwd, shape=shape)
    assert (await server.end_of(3)).stdout_tail == b"1\n"  # unit 0 is still the first one's
    (connected.work / "go").write_text("x\n")
    assert (await server.end_of(1)).stdout_tail == b"done\n"
    await asyncio.to_thread(wait_for, "the record is dropped", lambda: not connected.keeper.records)


async def test_a_dead_keeper_s_jobs_are_lost_and_the_worker_registers_anew(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started)
    await connected.replace_keeper()
    end = await server.end_of(1)
    assert end.end is End.LOST
    await server.connected(2)
    assert server.registers[-1].keeper == connected.keeper.keeper
    assert server.leaving[0].jobs_stay
    server.offer(2, "true", cwd=connected.cwd)  # its directories and environments are told again
    assert (await server.end_of(2)).exit_code == 0


async def test_a_silent_keeper_takes_no_offers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_process, "PING_SECONDS", 0.05)
    monkeypatch.setattr(keeper_process, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr("kueue_worker.core.conditions.KEEPER_SILENT_SECONDS", 0.3)
    monkeypatch.setattr("kueue_worker.core.machine.KEEPER_SILENT_SECONDS", 0.3)
    lab.start()
    server = lab.server
    await server.connected()
    lab.keeper.silent = True
    await server.until(lambda: not server.statuses[-1].accepting)
    assert server.statuses[-1].keeper_silent_seconds >= 0.3
    server.offer(1, "true", cwd=lab.cwd)
    await server.until(lambda: 1 in server.refused)
    assert server.refused[1].code == "keeper_silent"
    lab.keeper.silent = False
    await server.until(lambda: server.statuses[-1].accepting)
    server.offer(2, "true", cwd=lab.cwd)
    assert (await server.end_of(2)).exit_code == 0


# ---------------------------------------------------------------- ending


async def test_the_first_interrupt_waits_for_running_jobs(connected: Lab) -> None:
    server = connected.server
    os.mkfifo(connected.work / "go")
    shape = Shape(cpus=4, ram_mb=1)
    server.offer(1, "sh", "-c", "read x < go", cwd=connected.cwd, shape=shape)
    server.offer(2, "true", cwd=connected.cwd, shape=shape)
    await server.until(lambda: 1 in server.started)
    assert connected.agent is not None
    connected.agent.interrupt()
    await server.until(lambda: server.released == [2] and not server.statuses[-1].accepting)
    (connected.work / "go").write_text("x\n")
    assert await connected.exit_code() == 0
    assert server.finished[1].exit_code == 0
    assert [message.jobs_stay for message in server.leaving] == [False]
    assert connected.keeper.exited.is_set()
    assert connected.keeper.records == {}


@pytest.mark.parametrize("how", ["second interrupt", "SIGTERM", "Leave"])
async def test_ending_interrupts_running_jobs(connected: Lab, how: str) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started)
    assert connected.agent is not None
    match how:
        case "second interrupt":
            connected.agent.interrupt()
            connected.agent.interrupt()
        case "SIGTERM":
            connected.agent.terminate()
        case _:
            server.send(Leave(kill=True))
    assert await connected.exit_code() == 0
    assert server.finished[1].end is End.INTERRUPTED
    assert connected.keeper.exited.is_set()


async def test_a_job_that_was_killed_by_the_shutdown_itself_is_interrupted(connected: Lab) -> None:
    server = connected.server
    server.offer(
        1, "sh", "-c", "trap 'exit 1' TERM; echo ready; while :; do sleep 0.02; done", cwd=connected.cwd
    )
    await server.until(lambda: 1 in server.started)
    assert (await server.log(1, 1, wait_seconds=30.0)).data == b"ready\n"
    (process,) = connected.keeper.processes.values()
    os.killpg(process.pid, signal.SIGTERM)  # the system ends every process; ours is next
    await asyncio.to_thread(wait_for, "the job has ended", lambda: not connected.keeper.processes)
    assert connected.agent is not None
    connected.agent.terminate()
    assert await connected.exit_code() == 0
    assert server.finished[1].end is End.INTERRUPTED


async def test_departing_leaves_jobs_to_the_next_agent(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started)
    assert connected.agent is not None
    connected.agent.depart()
    assert await connected.exit_code() == 0
    assert server.leaving[-1].jobs_stay
    assert not connected.keeper.exited.is_set()
    connected.start()
    await server.connected(2)
    assert [item.job for item in server.inventories[-1].running] == [1]


async def test_kill_jobs_interrupts_what_an_earlier_worker_left(connected: Lab) -> None:
    server = connected.server
    server.offer(1, "sleep", "60", cwd=connected.cwd)
    await server.until(lambda: 1 in server.started)
    await connected.crash_agent()
    connected.start(msgspec.structs.replace(SETTINGS, kill_earlier_jobs=True))
    assert (await server.end_of(1)).end is End.INTERRUPTED
    server.offer(2, "true", cwd=connected.cwd)
    assert (await server.end_of(2)).exit_code == 0


async def test_an_end_that_was_never_acknowledged_is_told_again_after_a_restart(connected: Lab) -> None:
    server = connected.server
    server.acknowledges = False
    server.offer(1, "echo", "x", cwd=connected.cwd, context=ENVIRONMENT)
    await server.end_of(1)
    await connected.crash_agent()
    server.finished.clear()
    connected.start()
    end = await server.end_of(1)
    assert (end.exit_code, end.stdout_tail) == (0, b"x\n")
    server.send(Acknowledge((server.ref(1),)))
    await asyncio.to_thread(wait_for, "the record is dropped", lambda: not connected.keeper.records)
