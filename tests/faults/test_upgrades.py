"""Versions that meet: an upgrade under running programs, older and newer sides, and what a mismatch costs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.gates import gated, go, starts
from tests.faults.other_versions import break_installation, install, programs_of
from tests.support.lab import Lab
from tests.support.waiting import wait_for

FAR = (3, 4)
"""Protocol versions that have none in common with ours."""


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """An installation whose protocol is too new for ours."""
    return install(tmp_path / "far", version="3.0.0", protocol=FAR)


def agent_leaves(lab: Lab, name: str = "w1") -> None:
    """SIGUSR2: the agent ends, keeper and jobs stay."""
    lab.agents[name].send_signal(signal.SIGUSR2)
    assert lab.agents[name].wait(30) == 0


def server_ends(lab: Lab) -> None:
    """In order."""
    assert lab.server_process is not None
    lab.server_process.terminate()
    assert lab.server_process.wait(30) == 0


@pytest.mark.parametrize("upgraded", ["server", "worker", "client"])
def test_a_side_of_the_next_version_works_with_the_others(lab: Lab, tmp_path: Path, upgraded: str) -> None:
    following = install(tmp_path / "following", version="0.2.0", protocol=(1, 2), keeper=2)
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    with programs_of(lab, following):
        if upgraded == "server":
            server_ends(lab)
            lab.start_server()
        elif upgraded == "worker":
            agent_leaves(lab)
            lab.start_worker("w1")
        if upgraded != "client":
            lab.env["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
        later = lab.submit("sh", "-c", "echo later")
        lab.ok("wait-job", str(later))
        assert lab.ok("logs", str(later)) == "later\n"
        go(lab, "a")
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]


def test_a_client_of_another_version_is_told_which_side_to_upgrade(lab: Lab, far: Path) -> None:
    with programs_of(lab, far):
        done = lab.kueue("list-jobs")
    assert done.returncode == 3
    assert b"the server is Kueue 0.1.0, too old for this client (3.0.0): upgrade the server" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_results_arrive_though_the_upgraded_server_speaks_no_version_of_the_worker(
    lab: Lab, far: Path
) -> None:
    job = lab.submit(*gated(lab, "a"))
    ended = lab.submit(*gated(lab, "b"))
    lab.wait_state(job, "running")
    lab.wait_state(ended, "running")
    server_ends(lab)
    go(lab, "b")
    wait_for("b ends while the server is away", lambda: (lab.work / "b.done").exists())
    with programs_of(lab, far):
        lab.start_server()
        assert lab.wait_state(ended, "succeeded")["return_code"] == 0
        assert lab.state_of(job) == "running"
        assert lab.ok("logs", str(ended)) == "ok\n"  # the end of it came with the report
        fresh = lab.submit("true")
        go(lab, "a")
        assert lab.wait_state(job, "succeeded")["attempt"] == 1
        # Nothing new for a worker of another version; it says what is wrong, once, and is back when that is.
        assert lab.state_of(fresh) == "pending"
        text = "this worker is Kueue 0.1.0, too old for the server (3.0.0): upgrade the worker"
        wait_for("the worker says so", lambda: text in lab.worker_log("w1"))
        assert lab.worker_log("w1").count(text) == 1
        assert lab.agents["w1"].poll() is None
        assert "the worker is Kueue 0.1.0, too old for this server (3.0.0)" in lab.server_log()
        agent_leaves(lab)
        lab.start_worker("w1")
        lab.wait_state(fresh, "succeeded")
    assert starts(lab, "a") == starts(lab, "b") == ["1"]


@pytest.mark.parametrize("newer", ["server", "worker"])
def test_a_worker_of_another_version_that_has_nothing_to_tell_ends_with_the_sentence(
    make_lab: Callable[..., Lab], far: Path, newer: str
) -> None:
    lab = make_lab()
    if newer == "server":
        with programs_of(lab, far):
            lab.start_server()
        agent = lab.start_worker("w1", wait=False)
        text = "this worker is Kueue 0.1.0, too old for the server (3.0.0): upgrade the worker"
    else:
        lab.start_server()
        with programs_of(lab, far):
            agent = lab.start_worker("w1", wait=False)
        text = "the server is Kueue 0.1.0, too old for this worker (3.0.0): upgrade the server"
    assert agent.wait(30) == 3
    assert text in lab.worker_log("w1")
    wait_for("its keeper ends, too", lambda: not lab.keeper_pids("w1"))


def test_a_newer_agent_delivers_what_ran_and_then_ends_with_the_sentence(lab: Lab, far: Path) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    agent_leaves(lab)
    with programs_of(lab, far):
        agent = lab.start_worker("w1", wait=False)
        wait_for("it says so", lambda: "upgrade the server" in lab.worker_log("w1"))
    assert lab.state_of(job) == "running"
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert agent.wait(30) == 3


def test_a_canceled_job_is_stopped_on_a_worker_of_another_version(lab: Lab, far: Path) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    server_ends(lab)
    with programs_of(lab, far):
        lab.start_server()
        wait_for("the worker is back", lambda: lab.worker_state("w1") == "connected")
        lab.ok("remove-job", "--kill", str(job))
        lab.wait_state(job, "canceled")
        wait_for("its processes are gone", lambda: not lab.jobs_processes())


def test_programs_go_on_when_their_files_are_replaced_by_others_that_they_could_not_load(
    make_lab: Callable[..., Lab], tmp_path: Path
) -> None:
    """Whatever a daemon may do later, it has imported what it needs for it."""
    place = install(tmp_path / "installed")
    lab = make_lab(worker="worker_max_parallel_jobs = 2", server="maintenance_interval_seconds = 1")
    with programs_of(lab, place):
        server = lab.start_server()
        agent = lab.start_worker("w1", wait=False)
    wait_for("the worker is connected", lambda: lab.worker_state("w1") == "connected")
    (keeper,) = lab.keeper_pids("w1")
    for pid in (server.pid, agent.pid, keeper):
        assert_environment(pid, "PYTHONPATH", str(place))
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")

    break_installation(place)

    # What a day brings.
    into_file = lab.submit("--stdout", "out", "--stderr", "out", "echo", "written")
    lab.wait_state(into_file, "succeeded")
    failing = lab.submit("no-such-program")
    assert lab.wait_state(failing, "failed")["reason"]["code"] == "no_program"
    elsewhere = lab.submit("--time-limit", "1s", "sleep", "60")
    assert lab.wait_state(elsewhere, "failed")["reason"]["code"] == "time_limit"
    doomed = lab.submit("sleep", "60")
    lab.wait_state(doomed, "running")
    assert lab.ok("logs", str(running)) == ""
    lab.ok("remove-job", "--kill", str(doomed))
    lab.ok("list-workers")
    lab.ok("show-worker", "w1")
    lab.ok("list-resources")
    lab.write_config(resources="licence = 2")
    assert "licence" in lab.ok("reload")
    server.send_signal(signal.SIGHUP)
    lab.ok("backup", str(tmp_path / "copy.sqlite"))
    lab.ok("clean-jobs", "--all")
    lab.write_config(server="worker_timeout_seconds = -1")
    server.send_signal(signal.SIGHUP)
    wait_for("the server tells of the fault", lambda: "not reloaded" in lab.server_log())
    lab.write_config()
    agent.send_signal(signal.SIGSTOP)
    agent.send_signal(signal.SIGCONT)
    go(lab, "a")
    lab.wait_state(running, "succeeded")
    assert lab.ok("logs", str(running)) == "ok\n"

    # And how they end: the worker with a job that it interrupts, the server in order.
    last = lab.submit(*gated(lab, "b"))
    lab.wait_state(last, "running")
    agent.terminate()
    assert agent.wait(30) == 0
    assert lab.state_of(last) == "pending"
    wait_for("the keeper has ended", lambda: not lab.keeper_pids("w1"))
    lab.ok("shutdown")
    assert server.wait(30) == 0
    for log in (lab.server_log(), lab.worker_log("w1")):
        assert "Traceback" not in log
        assert "ImportError" not in log
        assert "from another version" not in log


MODULES_AND_LATER_IMPORTS = """
import ast, importlib, json, sys
here = {*sys.builtin_module_names}
importlib.import_module(sys.argv[1])
if "kueue.config" in sys.modules:
    sys.modules["kueue.config"].load_config(None, create=True)  # as both do before anything else
if sys.argv[1] == "kueue_server.daemon":
    sys.modules["kueue.wire.listener"].server_context()  # as it does before it listens
missing = []
for name, module in list(sys.modules.items()):
    if name.partition(".")[0] not in ("kueue", "kueue_server", "kueue_worker"):
        continue
    for function in ast.walk(ast.parse(open(module.__file__).read())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            wanted = []
            if isinstance(node, ast.Import):
                wanted = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                wanted = [node.module]
            missing += [f"{name}: {each}" for each in wanted if each not in here | set(sys.modules)]
print(json.dumps(missing))
"""


FOR_A_CERTIFICATE = {
    "kueue.wire.tls: datetime",
    "kueue.wire.tls: tempfile",
    "kueue.wire.tls: cryptography",
    "kueue.wire.tls: cryptography.hazmat.primitives",
    "kueue.wire.tls: cryptography.hazmat.primitives.asymmetric",
    "kueue.wire.tls: cryptography.x509.oid",
}
AT_THE_START_ONLY = {
    "kueue_server.daemon": set[str](),
    "kueue_worker.daemon": FOR_A_CERTIFICATE | {"kueue.config: kueue.config_faults"},
    "kueue_worker.keeper.__main__": {
        "kueue_worker: kueue_worker.daemon",
        "kueue_worker.keeper.place: hashlib",
    },
}
"""What a program's functions import and it does not have: never called, or only before it serves."""


@pytest.mark.parametrize("program", AT_THE_START_ONLY)
def test_a_daemon_has_imported_all_that_its_functions_import(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MODULES_AND_LATER_IMPORTS, program], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= AT_THE_START_ONLY[program]


def assert_environment(pid: int, name: str, value: str) -> None:
    """A process was started with this variable (a path: or begins with it)."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    found = [e.partition(b"=")[2].decode() for e in entries if e.startswith(f"{name}=".encode())]
    assert found, name
    assert found[0].split(os.pathsep)[0] == value


def test_an_agent_is_replaced_several_times_while_jobs_run_and_end(lab: Lab, long_form: bool) -> None:
    (keeper,) = lab.keeper_pids("w1")
    names = [f"job{number}" for number in range(12 if long_form else 3)]
    first = lab.submit(*gated(lab, names[0]))
    lab.wait_state(first, "running")
    jobs = {names[0]: first}
    for previous, name in itertools.pairwise(names):
        jobs[name] = lab.submit(*gated(lab, name))
        lab.wait_state(jobs[name], "running")
        agent_leaves(lab)
        go(lab, previous)
        wait_for(f"{previous} ends without an agent", lambda p=previous: (lab.work / f"{p}.done").exists())  # type: ignore[misc]
        lab.start_worker("w1")
        assert lab.wait_state(jobs[previous], "succeeded")["return_code"] == 0
        assert lab.state_of(jobs[name]) == "running"
    assert lab.keeper_pids("w1") == [keeper]
    go(lab, names[-1])
    lab.wait_state(jobs[names[-1]], "succeeded")
    for name, job in jobs.items():
        assert lab.job(job)["attempt"] == 1
        assert starts(lab, name) == ["1"]


def test_an_upgraded_agent_takes_over_the_old_keeper_with_its_jobs_and_replaces_an_idle_one(
    lab: Lab, tmp_path: Path
) -> None:
    following = install(tmp_path / "following", version="0.2.0", keeper=2)
    (old,) = lab.keeper_pids("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    agent_leaves(lab)
    with programs_of(lab, following):
        lab.start_worker("w1")
    assert lab.keeper_pids("w1") == [old], "it has a job"
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    agent_leaves(lab)
    with programs_of(lab, following):
        lab.start_worker("w1")
    wait_for(
        "another keeper serves", lambda: len(lab.keeper_pids("w1")) == 1 and lab.keeper_pids("w1") != [old]
    )
    (new,) = lab.keeper_pids("w1")
    assert_environment(new, "PYTHONPATH", str(following))
    later = lab.submit("true")
    lab.wait_state(later, "succeeded")


def test_a_restored_backup_swallows_no_result_and_gives_no_id_twice(lab: Lab, tmp_path: Path) -> None:
    known = lab.submit("true")
    lab.wait_state(known, "succeeded")
    lab.ok("backup", str(tmp_path / "copy.sqlite"))
    running = lab.submit(*gated(lab, "a"))
    ended = lab.submit(*gated(lab, "b"))
    lab.wait_state(running, "running")
    lab.wait_state(ended, "running")
    lab.kill_server()
    go(lab, "b")
    wait_for("b ends while the server is away", lambda: (lab.work / "b.done").exists())
    journal = lab.state / "server" / "journal.sqlite"
    keep = {path.name: path.read_bytes() for path in journal.parent.glob("journal.sqlite*")}
    for path in journal.parent.glob("journal.sqlite*"):
        path.unlink()
    journal.write_bytes((tmp_path / "copy.sqlite").read_bytes())

    # Without --restored the worker's memory gives it away: nothing is mixed up, and somebody says what to do.
    lab.start_server()
    wait_for("the server says so", lambda: "start it with kueue_server --restored" in lab.server_log())
    wait_for("the worker does", lambda: "it is an older copy" in lab.worker_log("w1"))
    server_ends(lab)

    lab.start_server("--restored")
    wait_for("the worker is connected", lambda: lab.worker_state("w1") == "connected")
    assert [job["id"] for job in lab.json("list-jobs")] == [known]
    fresh = lab.submit("--cwd", str(lab.place), "true")
    assert fresh > ended
    assert fresh >= 100_000, "ids of the new time can be told from the lost ones"
    lab.wait_state(fresh, "succeeded")
    assert starts(lab, "a") == ["1"]
    assert not (lab.work / "a.done").exists()
    server_ends(lab)

    # The journal of the lost time turns up after all: what its jobs came to is still there.
    for path in journal.parent.glob("journal.sqlite*"):
        path.unlink()
    for name, data in keep.items():
        (journal.parent / name).write_bytes(data)
    lab.start_server()
    assert lab.wait_state(ended, "succeeded")["attempt"] == 1
    assert lab.wait_state(running, "running")["attempt"] == 1
    go(lab, "a")
    lab.wait_state(running, "succeeded")
    assert starts(lab, "a") == starts(lab, "b") == ["1"]


def test_an_emptied_state_directory_meets_workers_without_mixing_up_jobs(lab: Lab) -> None:
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    old = lab.ok("show-worker", "w1")
    assert old
    lab.kill_server()
    journal = lab.state / "server" / "journal.sqlite"
    for path in journal.parent.glob("journal.sqlite*"):
        path.unlink()
    lab.start_server()
    wait_for("the worker is connected", lambda: lab.worker_state("w1") == "connected")
    assert lab.json("list-jobs") == []
    same_id = lab.submit("echo", "another job")
    assert same_id == running, "a new journal begins anew"
    assert lab.wait_state(same_id, "succeeded")["command"] == ["echo", "another job"]
    assert lab.ok("logs", str(same_id)) == "another job\n"
    go(lab, "a")
    wait_for("the old journal's job ends", lambda: (lab.work / "a.done").exists())
    later = lab.submit("true")
    lab.wait_state(later, "succeeded")
    assert lab.ok("logs", str(same_id)) == "another job\n"
    assert lab.job(same_id)["attempts"][0]["end"] == "exited"
    assert len(lab.job(same_id)["attempts"]) == 1
