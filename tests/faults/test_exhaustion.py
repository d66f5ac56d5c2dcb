"""No descriptors, processes or memory left: what runs goes on, nothing acknowledged is lost, no job fails for
it, and all is well again when there is room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kueue.errors import KueueError
from kueue.resources import Shape
from kueue.wire.codec import encode
from kueue.wire.connection import BlockingConnection, ConnectionLostError
from kueue.wire.messages import Command, Context, Failure, ServerInfo, ServerState, Spec, Submit, Submitted
from tests.faults.gates import gated, go, starts
from tests.faults.memory_group import memory_group
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for


def open_files(pid: int) -> list[int]:
    """Numbers of the descriptors that a process has."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/fd")]


def cpu_seconds(pid: int) -> float:
    """Of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def limited(pid: int, kind: int, soft: int) -> Iterator[None]:
    """A running process under another soft limit."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)


def without_descriptors(pid: int, more: int = 0) -> contextlib.AbstractContextManager[None]:
    """No new descriptor for that process, but for `more` (numbers below the highest that are free count)."""
    numbers = set(open_files(pid))
    free = [number for number in range(max(numbers) + more + 2) if number not in numbers]
    return limited(pid, resource.RLIMIT_NOFILE, free[more])


def refused_by(lab: Lab, job: int) -> bool:
    """Has a worker said that it can't run this one now?"""
    found = lab.job(job)
    return bool(found["state"] == "pending" and found["attempt"] == 0)


def test_a_server_without_descriptors_serves_those_that_it_has_and_takes_newcomers_later(lab: Lab) -> None:
    assert lab.server_process is not None
    server = lab.server_process.pid
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    client = BlockingConnection("127.0.0.1", lab.port, SECRET, "0.1.0")
    with without_descriptors(server):
        newcomer = socket.create_connection(("127.0.0.1", lab.port), 5)
        wait_for("the server says so", lambda: "no more connections for a second" in lab.server_log())
        used = cpu_seconds(server)
        go(lab, "a")  # the worker is connected: its report is taken

        def done() -> bool:
            client.send(ServerInfo(1))
            answer = client.receive(10)
            assert isinstance(answer, ServerState), answer
            return answer.counts.succeeded == 1

        wait_for("the job's end is known", done)
        newcomer.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            assert not newcomer.recv(1), "it was accepted"
        assert cpu_seconds(server) - used < 1.0, "it spins"
    newcomer.close()
    client.close()
    later = lab.submit("true")
    lab.wait_state(later, "succeeded")
    assert lab.state_of(job) == "succeeded"


def test_an_agent_without_descriptors_fails_no_job(lab: Lab) -> None:
    agent = lab.agents["w1"].pid
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    with without_descriptors(agent):
        plain = lab.submit("--cwd", str(lab.place), "true")
        into_file = lab.submit("--stdout", "out", "echo", "written")
        wait_for("it tried", lambda: refused_by(lab, plain) and refused_by(lab, into_file))
        go(lab, "a")
        lab.wait_state(running, "succeeded")
    lab.wait_state(plain, "succeeded")
    lab.wait_state(into_file, "succeeded")
    assert (lab.work / "out").read_text() == "written\n"
    assert starts(lab, "a") == ["1"]


def test_a_keeper_without_descriptors_fails_no_job_and_does_not_spin(lab: Lab) -> None:
    (keeper,) = lab.keeper_pids("w1")
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    with without_descriptors(keeper):
        plain = lab.submit("true")
        other = lab.submit("--cwd", str(lab.place), "true")
        used = cpu_seconds(keeper), cpu_seconds(lab.agents["w1"].pid)
        go(lab, "a")
        wait_for("the running one ends", lambda: (lab.work / "a.done").exists())
        for job in (plain, other):
            assert lab.state_of(job) not in ("failed", "canceled"), lab.job(job)
        lab.kueue("wait-job", "--timeout", "3", str(plain), str(other))
        assert cpu_seconds(keeper) - used[0] < 1.5, "the keeper spins"
        assert cpu_seconds(lab.agents["w1"].pid) - used[1] < 2.0, "the agent spins"
    for job in (running, plain, other):
        assert lab.wait_state(job, "succeeded")["return_code"] == 0
    assert lab.keeper_pids("w1") == [keeper]
    assert starts(lab, "a") == ["1"]


def test_a_keeper_without_descriptors_lets_a_new_agent_wait_without_spinning(lab: Lab) -> None:
    (keeper,) = lab.keeper_pids("w1")
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    connected = len(open_files(keeper))
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    wait_for("the keeper closes the dead agent's connection", lambda: len(open_files(keeper)) < connected)
    with without_descriptors(keeper):
        lab.start_worker("w1", wait=False)
        log = lab.state / "spool" / "w1" / "keeper.log"
        wait_for("the agent knocks", lambda: "a connection has to wait" in log.read_text())
        used = cpu_seconds(keeper)
        time.sleep(3)  # spinning takes time
        assert cpu_seconds(keeper) - used < 0.5, "the keeper spins"
        assert log.read_text().count("a connection has to wait") < 60, "the keeper spins"
    wait_for("the agent is in", lambda: lab.worker_state("w1") == "connected")
    go(lab, "a")
    assert lab.wait_state(running, "succeeded")["attempt"] == 1
    assert lab.keeper_pids("w1") == [keeper]


@contextlib.contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """A running process whose system calls of these names fail."""
    tracer = subprocess.Popen(
        ["strace", "-qq", "-o", "/dev/null", "-e", f"inject={calls}:error={error}", "-p", str(pid)],
        stderr=subprocess.PIPE,
    )
    try:
        status = Path(f"/proc/{pid}/status")
        wait_for(
            "strace is attached",
            lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text() or tracer.poll() is not None,
        )
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            said = tracer.stderr.read().decode()
            assert "not permitted" in said, said
            pytest.skip(f"strace may not attach here: {said.strip()}")
        yield
    finally:
        tracer.terminate()
        tracer.wait()
        assert tracer.stderr is not None
        tracer.stderr.close()


@pytest.mark.parametrize(
    ("error", "says"), [("EAGAIN", "limit of processes"), ("ENOMEM", "no memory for another process")]
)
def test_a_machine_without_room_for_a_process_gives_the_job_back(lab: Lab, error: str, says: str) -> None:
    (keeper,) = lab.keeper_pids("w1")
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    with failing(keeper, "clone,clone3,vfork", error):
        job = lab.submit("true")
        wait_for("it was refused", lambda: lab.job(job)["state"] == "pending" and lab.job(job)["reason"])
        go(lab, "a")
        lab.wait_state(running, "succeeded")
        assert lab.state_of(job) in ("pending", "offered")
    found = lab.wait_state(job, "succeeded")
    assert found["attempt"] == 1, "an attempt that did not start counts for nothing"
    assert found["restarts"] == 0


def test_a_server_without_memory_loses_nothing_that_it_acknowledged(lab: Lab) -> None:
    server = lab.server_process
    assert server is not None
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    acknowledged = [running]
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0])
    room = pages * os.sysconf("SC_PAGE_SIZE") + 24 * 1024 * 1024
    failed = 0
    with limited(server.pid, resource.RLIMIT_AS, room):
        for number in range(60):
            # Each with an environment of its own, which the server keeps: the room is soon used up.
            if (job := submit_with_environment(lab, f"{number} " + "x" * 2_000_000)) is not None:
                acknowledged.append(job)
                continue
            failed += 1
            if failed == 3 or server.poll() is not None:
                break
    assert failed, "the limit was never felt"
    go(lab, "a")
    if server.poll() is not None:
        assert server.returncode in (0, 1), lab.server_log()
    else:
        lab.kill_server()
    lab.start_server()
    assert {job["id"] for job in lab.json("list-jobs")} >= set(acknowledged)
    assert lab.wait_state(running, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]


def submit_with_environment(lab: Lab, filler: str) -> int | None:
    """Submit a job with a large environment; its id if that was acknowledged."""
    context = encode(Context(env=(("FILLER", filler),)))
    digest = hashlib.sha256(context).hexdigest()
    spec = Spec(Command(("true",)), str(lab.work), "/", Shape(ram_mb=1_000_000), digest)
    try:
        connection = BlockingConnection("127.0.0.1", lab.port, SECRET, "0.1.0")
    except KueueError:
        return None
    try:
        connection.send(Submit(1, digest, (spec,), (context,)))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = connection.receive(5)
            if isinstance(answer, Submitted):
                return answer.first
            if isinstance(answer, Failure):
                return None
    except ConnectionLostError:
        return None
    finally:
        connection.close()
    return None


def test_a_job_dies_of_memory_before_keeper_agent_and_server(lab: Lab) -> None:
    job = lab.submit("sh", "-c", "cat /proc/self/oom_score_adj")
    lab.wait_state(job, "succeeded")
    of_job = int(lab.ok("logs", str(job)))
    assert lab.server_process is not None
    for pid in (*lab.keeper_pids("w1"), lab.agents["w1"].pid, lab.server_process.pid):
        assert int(Path(f"/proc/{pid}/oom_score_adj").read_text()) < of_job


EATS_ALL = """
eaten = []
while True:
    eaten.append(b"x" * 1_000_000)
"""


@pytest.mark.only_long  # not everybody may make a cgroup
def test_a_job_that_eats_all_memory_is_what_dies_of_it(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 2")
    lab.start_server()
    with memory_group(250) as under:
        try:
            lab.start_worker("w1", under=under)
            agent, keepers = lab.agents["w1"], lab.keeper_pids("w1")
            running = lab.submit(*gated(lab, "a"))
            lab.wait_state(running, "running")
            eater = lab.submit("--max-restarts", "0", sys.executable, "-c", EATS_ALL)
            assert lab.wait_state(eater, "failed", seconds=60)["signal"] == 9
            assert agent.poll() is None
            assert lab.keeper_pids("w1") == keepers
            later = lab.submit("true")
            lab.wait_state(later, "succeeded")
            go(lab, "a")
            assert lab.wait_state(running, "succeeded")["attempt"] == 1
        finally:
            lab.close()
