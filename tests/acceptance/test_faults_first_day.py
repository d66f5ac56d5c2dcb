"""What it must withstand from the first day: deaths of server, agent, keeper, machine; licences; cancels."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.support.gated import gated, go, starts
from tests.support.lab import Lab
from tests.support.waiting import wait_for


def test_a_killed_server_loses_nothing_and_disturbs_nothing(lab: Lab) -> None:
    running = lab.submit(*gated(lab, "a"))
    lab.wait_state(running, "running")
    ending = lab.submit(*gated(lab, "b"))
    lab.wait_state(ending, "running")
    waiting = lab.submit("true")
    lab.kill_server()
    go(lab, "b")
    wait_for("b ends while the server is away", lambda: (lab.work / "b.done").exists())
    lab.start_server()
    assert {job["id"] for job in lab.json("list-jobs")} == {running, ending, waiting}
    assert lab.wait_state(ending, "succeeded")["attempt"] == 1
    lab.wait_state(waiting, "succeeded")
    assert lab.wait_state(running, "running")["attempt"] == 1
    go(lab, "a")
    assert lab.wait_state(running, "succeeded")["return_code"] == 0
    assert starts(lab, "a") == ["1"]
    assert starts(lab, "b") == ["1"]


def test_every_acknowledged_job_is_there_after_a_kill_during_a_stream_of_submits(lab: Lab) -> None:
    acknowledged = []
    for number in range(10):
        acknowledged.append(lab.submit("true"))
        if number == 6:
            lab.kill_server()
            lab.start_server()
    lab.ok("wait-job", *map(str, acknowledged))
    assert [job["id"] for job in lab.json("list-jobs")] == acknowledged


def test_a_killed_agent_leaves_its_jobs_running_and_a_new_one_adopts_them(lab: Lab) -> None:
    running = lab.submit(*gated(lab, "a"))
    ending = lab.submit(*gated(lab, "b"))
    lab.wait_state(running, "running")
    lab.wait_state(ending, "running")
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    go(lab, "b")
    wait_for("b ends while the agent is dead", lambda: (lab.work / "b.done").exists())
    lab.start_worker("w1")
    lab.wait_state(ending, "succeeded")
    assert lab.state_of(running) == "running"
    go(lab, "a")
    assert lab.wait_state(running, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]
    assert lab.ok("logs", str(running)) == "ok\n"


def test_a_killed_keeper_and_its_leftovers_end_before_the_job_starts_again(lab: Lab) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    old = set(lab.jobs_processes())
    assert old
    lab.kill_keeper("w1")
    wait_for("the job starts again", lambda: len(starts(lab, "a")) == 2)
    assert not old & set(lab.jobs_processes())
    go(lab, "a")
    found = lab.wait_state(job, "succeeded")
    assert found["attempt"] == 2
    assert [attempt["end"] for attempt in found["attempts"]] == ["lost", "exited"]


def test_a_machine_that_is_gone_gives_its_jobs_to_others_after_the_timeout(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(server="worker_timeout_seconds = 3", worker="worker_max_parallel_jobs = 1")
    lab.start_server()
    lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    lab.kill_keeper("w1")
    for pid in lab.jobs_processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    lab.start_worker("w2")
    wait_for("the job starts on w2", lambda: len(starts(lab, "a")) == 2)
    go(lab, "a")
    found = lab.wait_state(job, "succeeded")
    assert found["worker"] == "w2"
    assert [attempt["worker"] for attempt in found["attempts"]] == ["w1", "w2"]


def test_a_superseded_attempt_is_stopped_when_its_worker_comes_back(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(server="worker_timeout_seconds = 3", worker="worker_max_parallel_jobs = 1")
    lab.start_server()
    lab.start_worker("w1")
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    first = set(lab.jobs_processes())
    lab.agents["w1"].kill()  # the keeper and the job live on
    lab.agents["w1"].wait()
    lab.start_worker("w2")
    wait_for("the job starts on w2", lambda: len(starts(lab, "a")) == 2)
    lab.start_worker("w1")
    wait_for("the first attempt is ended", lambda: not first & set(lab.jobs_processes()))
    assert lab.state_of(job) == "running"
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["worker"] == "w2"


def test_without_restart_a_lost_job_fails_and_never_runs_twice(lab: Lab) -> None:
    job = lab.submit("--no-restart", *gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.kill_keeper("w1")
    found = lab.wait_state(job, "failed")
    assert found["reason"]["code"] == "lost"
    assert starts(lab, "a") == ["1"]


def test_an_orderly_reboot_puts_the_jobs_back_at_once(lab: Lab) -> None:
    lab.start_worker("w2")
    job = lab.submit(*gated(lab, "a"))
    name = lab.wait_state(job, "running")["worker"]
    keeper = lab.keeper_pids(name)
    # init ends every process of the machine at the same time
    for pid in [*lab.jobs_processes(), *keeper, lab.agents[name].pid]:
        with contextlib.suppress(ProcessLookupError):  # a `sleep` of the job may just have ended
            os.kill(pid, signal.SIGTERM)
    wait_for("the job starts again on the other machine", lambda: len(starts(lab, "a")) == 2)
    go(lab, "a")
    found = lab.wait_state(job, "succeeded")
    assert found["worker"] != name
    assert found["attempts"][0]["end"] == "interrupted"
    assert lab.agents[name].wait(30) is not None


def test_licences_are_never_over_assigned_not_even_by_a_restart(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(worker="worker_max_parallel_jobs = 8", resources="genus = 2")
    lab.start_server()
    for name in ("w1", "w2", "w3"):
        lab.start_worker(name)
    script = (
        f"n=$(ls {lab.work}/in | wc -l); touch {lab.work}/in/$KUEUE_JOB_ID; echo $n >> {lab.work}/seen; "
        f"sleep 0.05; rm {lab.work}/in/$KUEUE_JOB_ID"
    )
    (lab.work / "in").mkdir()
    jobs = [lab.submit("--resource", "genus", "-r", "1", "sh", "-c", script) for _ in range(12)]
    lab.kill_server()
    lab.start_server()
    jobs += [lab.submit("--resource", "genus", "-r", "1", "sh", "-c", script) for _ in range(12)]
    lab.ok("wait-job", *map(str, jobs))
    seen = [int(line) for line in (lab.work / "seen").read_text().split()]
    assert len(seen) == 24
    assert max(seen) <= 1


def test_a_job_wanting_more_than_there_is_is_refused_with_the_known_names(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(resources="genus = 3")
    lab.start_server()
    done = lab.kueue("cmd", "--resource", "genus=4", "true")
    assert done.returncode == 2
    assert b"3" in done.stderr
    done = lab.kueue("cmd", "--resource", "genius", "true")
    assert done.returncode == 2
    assert b"genus" in done.stderr


def test_a_canceled_job_ends_with_its_whole_tree_and_waiters_are_told(lab: Lab) -> None:
    job = lab.submit("sh", "-c", "setsid sleep 300 & trap '' TERM; sleep 300 & wait; sleep 300")
    lab.wait_state(job, "running")
    wait_for("its tree is there", lambda: len(lab.jobs_processes()) >= 3)
    refused = lab.kueue("remove-job", str(job))
    assert refused.returncode == 1
    assert b"--kill" in refused.stderr + refused.stdout
    lab.ok("remove-job", "--kill", str(job))
    lab.wait_state(job, "canceled")
    wait_for("nothing is left", lambda: not lab.jobs_processes())
    done = lab.kueue("wait-job", str(job))
    assert done.returncode == 1


def test_a_pending_job_that_is_removed_never_runs(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start_server()
    job = lab.submit("touch", "ran")
    lab.ok("remove-job", str(job))
    other = lab.submit("true")
    lab.start_worker("w1")
    lab.ok("wait-job", str(other))
    assert lab.state_of(job) == "canceled"
    assert not (lab.work / "ran").exists()


def test_a_second_worker_of_the_same_name_on_a_machine_is_refused(lab: Lab) -> None:
    agent = lab.start_worker("w1", wait=False)
    assert agent.wait(30) == 2
    assert "already" in lab.worker_log("w1")


def test_ctrl_c_on_a_worker_waits_for_its_jobs_and_gives_back_the_rest(lab: Lab) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.agents["w1"].send_signal(signal.SIGINT)
    wait_for("it says how many it waits for", lambda: "1" in lab.worker_log("w1").rsplit("wait", 1)[-1])
    assert lab.agents["w1"].poll() is None
    go(lab, "a")
    assert lab.agents["w1"].wait(30) == 0
    lab.wait_state(job, "succeeded")
    wait_for("the keeper has ended too", lambda: not lab.keeper_pids("w1"))


def test_an_upgrade_of_the_agent_leaves_jobs_alone(lab: Lab) -> None:
    job = lab.submit(*gated(lab, "a"))
    lab.wait_state(job, "running")
    lab.agents["w1"].send_signal(signal.SIGUSR2)
    assert lab.agents["w1"].wait(30) == 0
    assert lab.keeper_pids("w1")
    lab.start_worker("w1")
    assert lab.state_of(job) == "running"
    go(lab, "a")
    assert lab.wait_state(job, "succeeded")["attempt"] == 1
    assert starts(lab, "a") == ["1"]


def test_garbage_and_silent_peers_are_dropped_and_others_notice_nothing(lab: Lab) -> None:
    peers = []
    for number in range(200):
        peer = socket.create_connection(("127.0.0.1", lab.port), 5)
        if number % 2:
            peer.sendall(b"GET / HTTP/1.0\r\n\r\n" if number % 4 == 1 else os.urandom(64))
        peers.append(peer)
    assert lab.kueue("cmd", "--wait", "true").returncode == 0
    for peer in peers:
        peer.close()
    assert lab.kueue("cmd", "--wait", "true").returncode == 0
    assert "Traceback" not in lab.server_log()


def test_the_wrong_secret_and_a_server_that_is_not_kueue_get_one_line_and_code_3(
    lab: Lab, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.touch(mode=0o600)
    other.write_text(lab.config.read_text().replace("a-secret-of", "b-secret-of"))
    done = lab.kueue("-c", str(other), "list-jobs")
    assert done.returncode == 3
    assert b"shared_secret" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    with socket.create_server(("127.0.0.1", 0)) as imposter:
        imposter.listen()
        text = lab.config.read_text().replace(str(lab.port), str(imposter.getsockname()[1]))
        other.write_text(text)
        elsewhere = {
            "KUEUE_STATE_DIR": str(tmp_path / "state")
        }  # or the local server is found by its owner file
        done = lab.kueue("-c", str(other), "list-jobs", timeout=90, env=elsewhere)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr


def test_a_shell_loop_survives_a_restart_of_the_server(lab: Lab) -> None:
    lab.kill_server()
    later = threading.Timer(1.0, lab.start_server)
    later.start()
    done = lab.kueue("cmd", "true")
    later.join()
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if b"trying for" in line] == done.stderr.splitlines()[
        :1
    ]


def test_a_backup_is_a_working_journal(lab: Lab, tmp_path: Path) -> None:
    job = lab.submit("true")
    lab.ok("wait-job", str(job))
    copy = tmp_path / "copy.sqlite"
    lab.ok("backup", str(copy))
    again = lab.kueue("backup", str(copy))
    assert again.returncode == 1
    lab.ok("shutdown")
    assert lab.server_process is not None
    lab.server_process.wait(30)
    (lab.state / "server" / "journal.sqlite").write_bytes(copy.read_bytes())
    for leftover in ("-wal", "-shm"):
        (lab.state / "server" / f"journal.sqlite{leftover}").unlink(missing_ok=True)
    lab.start_server("--restored")
    assert lab.state_of(job) == "succeeded"
    next_job = lab.submit("true")
    assert next_job > job
    wait_for("the worker comes back", lambda: lab.worker_state("w1") == "connected")
    lab.wait_state(next_job, "succeeded")


def test_reload_takes_over_licences_and_says_what_changed(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(resources="genus = 3")
    lab.start_server()
    lab.write_config(resources="genus = 5\nprimelib = 2")
    said = lab.ok("reload")
    assert "genus" in said
    assert "primelib" in said
    totals = {row["name"]: row["total"] for row in lab.json("list-resources")}
    assert totals == {"genus": 5, "primelib": 2}


def test_shutdown_with_workers_ends_everything(lab: Lab) -> None:
    lab.ok("shutdown", "--workers")
    assert lab.server_process is not None
    assert lab.server_process.wait(30) == 0
    assert lab.agents["w1"].wait(30) == 0
    wait_for("the keeper has ended", lambda: not lab.keeper_pids())


def _waited(lab: Lab, *words: str) -> int:
    number = lab.submit(*words)
    lab.ok("wait-job", str(number))
    return number


def test_output_is_still_had_when_its_worker_is_away(lab: Lab) -> None:
    long = _waited(lab, "seq", "5000")
    short = _waited(lab, "sh", "-c", "echo out; echo err >&2")
    filed = _waited(lab, "-o", "o.log", "seq", "5000")
    lab.agents["w1"].kill()
    lab.agents["w1"].wait()
    wait_for("the server knows", lambda: lab.worker_state("w1") == "silent")
    # Longer than what the server keeps: the end of it, one line that says so, exit code 1.
    done = lab.kueue("logs", str(long))
    assert done.returncode == 1
    assert done.stdout.endswith(b"4999\n5000\n")
    assert len(done.stdout) == 4096
    assert len(done.stderr.splitlines()) == 1
    assert b"w1" in done.stderr
    # Shorter: that is all of it. In a file that is visible here: the file.
    done = lab.kueue("logs", str(short))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    for more in ((), ("-f",)):
        done = lab.kueue("logs", str(filed), *more)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 5001))
