"""A keeper's own life: only one at a place, taking over from one that died, being told to end, ending by
itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue_worker.keeper.place import keeper_address
from kueue_worker.keeper.wire import connect
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import (
    Agent,
    KeeperProcess,
    is_alive,
    processes_with,
)


@pytest.fixture
def asleep(tmp_path: Path) -> Iterator[KeeperProcess]:
    """A keeper that has not been started."""
    process = KeeperProcess(tmp_path / "spool")
    yield process
    process.close()


def pid_in(path: Path) -> int:
    """The pid in a file, as soon as it is there."""
    return int(wait_for(f"a pid in {path}", lambda: path.exists() and path.read_text().strip()))


# ---------------------------------------------------------------- the place


def test_a_second_keeper_leaves_the_place_to_the_first(keeper: KeeperProcess, agent: Agent) -> None:
    command = [sys.executable, "-m", "kueue_worker.keeper", "--spool", str(keeper.spool)]
    assert subprocess.run(command, timeout=60).returncode == 0
    # With another address (in another container, say) the directory itself is the lock.
    assert subprocess.run([*command, "--address", f"{keeper.address}-2"], timeout=60).returncode == 0
    agent.ping()


def test_the_spool_is_made_for_this_user_only(keeper: KeeperProcess, agent: Agent) -> None:
    assert keeper.spool.stat().st_mode & 0o777 == 0o700
    for name in ("keeper.log", "records.jsonl"):
        assert (keeper.spool / name).stat().st_mode & 0o777 == 0o600


def test_a_place_that_can_not_be_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for spool, text in (
        (tmp_path / "file", "is not a directory"),
        (tmp_path / "file" / "x", "Not a directory"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "kueue_worker.keeper", "--spool", str(spool)],
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 1
        (line,) = done.stderr.decode().splitlines()
        assert line.startswith("keeper: ")
        assert text in line


def test_a_keeper_is_detached_from_all_of_its_starter(asleep: KeeperProcess) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    command = [sys.executable, "-m", "kueue_worker.keeper", "--spool", str(asleep.spool)]
    asleep.process = subprocess.Popen(command, close_fds=False, stdout=subprocess.PIPE, process_group=None)
    os.close(writing)
    agent = asleep.agent()
    assert os.read(reading, 1) == b""  # nobody holds the other end
    assert asleep.process.stdout is not None
    assert asleep.process.stdout.read() == b""
    pid = asleep.process.pid
    assert (os.getsid(pid), os.readlink(f"/proc/{pid}/cwd")) == (pid, "/")
    assert os.readlink(f"/proc/{pid}/fd/2") == str(asleep.spool / "keeper.log")
    os.close(reading)
    asleep.process.stdout.close()
    agent.close()


def test_hang_ups_and_the_like_end_nothing(keeper: KeeperProcess, agent: Agent) -> None:
    assert keeper.process is not None
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        keeper.process.send_signal(number)
    assert agent.output("echo fine") == "fine\n"


# ---------------------------------------------------------------- one that died


def test_what_a_dead_keeper_left_is_ended_before_the_next_one_serves(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    stray, daemon, tough = (tmp_path / name for name in ("stray", "daemon", "tough"))
    ended = agent.shell("exit 3")
    agent.ended(ended)
    forgotten = agent.shell("exit 0")
    agent.ended(forgotten)
    agent.forget(forgotten)
    children = (
        f"sh -c 'echo $$ > {stray}; sleep 1000; :' &",
        f"(setsid sh -c 'echo $$ > {daemon}; sleep 1000; :' &);",
    )
    runs = agent.shell(f"{' '.join(children)} wait")
    stubborn = agent.shell(f"trap '' TERM; echo $$ > {tough}; while :; do sleep 0.1; done")
    pids = [pid_in(path) for path in (stray, daemon, tough)] + [agent.started(runs)["pid"]]
    agent.ping()
    keeper.kill()
    agent.wait_closed()
    assert all(is_alive(pid) for pid in pids)
    keeper.start()
    other = keeper.agent()
    assert not any(is_alive(pid) for pid in pids)
    assert set(other.records) == {ended, runs, stubborn}
    assert os.waitstatus_to_exitcode(other.records[ended]["status"]) == 3
    for key in (runs, stubborn):
        record = other.records[key]
        assert (record["state"], record["end"], record["status"]) == ("ended", "lost", None)
        assert record["started"] == agent.started(key)["started"] <= record["ended"]
        assert record["text"] == "the worker's keeper died under it"
        assert record["note"] == {"any": ["thing"]}
    assert other.state["keeper"] != agent.state["keeper"]
    other.forget(*other.records)
    other.ping()
    keeper.kill()
    keeper.start()
    assert keeper.agent().records == {}


def test_a_job_that_hides_its_environment_is_found_by_its_record(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    # `exec env -i` leaves the same process, session and start, and no fence.
    hidden = tmp_path / "hidden"
    key = agent.shell(f"exec env -i /bin/sh -c ': > {hidden}; /bin/sleep 1000; :'")
    pid = agent.started(key)["pid"]
    wait_for("it has hidden", hidden.exists)
    agent.ping()
    keeper.kill()
    keeper.start()
    assert keeper.agent().records[key]["end"] == "lost"
    assert not is_alive(pid)


def test_others_live_though_a_record_names_their_number(keeper: KeeperProcess, agent: Agent) -> None:
    key = agent.shell("sleep 1000")
    started = agent.started(key)
    pid, when = started["pid"], started["started"]
    agent.ping()
    keeper.kill()
    os.killpg(pid, signal.SIGKILL)
    bystander = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    records = keeper.spool / "records.jsonl"
    text = records.read_text().replace(f'"pid":{pid}', f'"pid":{bystander.pid}')
    records.write_text(text.replace(f'"started":{when}', f'"started":{when - 60}'))
    keeper.start()
    agent = keeper.agent()
    assert agent.records[key]["end"] == "lost"
    agent.close()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_after_a_reboot_nothing_is_looked_for(keeper: KeeperProcess, agent: Agent) -> None:
    runs, ended = agent.shell("sleep 1000"), agent.shell("sleep 0.1; exit 3")
    pid = agent.started(runs)["pid"]
    end = agent.ended(ended)
    keeper.kill()
    records = keeper.spool / "records.jsonl"
    records.write_text(records.read_text().replace(agent.state["boot"], "of another boot"))
    keeper.start()
    other = keeper.agent()
    lost = other.records[runs]
    assert (lost["end"], lost["started"], lost["ended"]) == ("lost", None, None)
    assert lost["text"] == "its machine went down"
    assert is_alive(pid)  # only in this test
    record = other.records[ended]
    assert record["ended"] == 0.0  # at the boot, as far as this boot's clock can tell
    assert record["started"] == pytest.approx(end["started"] - end["ended"])


def test_a_torn_line_costs_no_other(keeper: KeeperProcess, agent: Agent) -> None:
    key = agent.shell("exit 3")
    agent.ended(key)
    agent.ping()
    keeper.kill()
    with (keeper.spool / "records.jsonl").open("ab") as file:
        file.write(b'{"r":"end","key":"x')
    keeper.start()
    assert os.waitstatus_to_exitcode(keeper.agent().records[key]["status"]) == 3
    assert "1 lines of the records can't be read" in keeper.log()


def test_records_of_a_later_version_are_left_alone(asleep: KeeperProcess) -> None:
    asleep.spool.mkdir()
    records = asleep.spool / "records.jsonl"
    records.write_text('{"r":"keeper","v":99,"boot":"x"}\n')
    asleep.start()
    assert asleep.wait() == 1
    assert records.read_text() == '{"r":"keeper","v":99,"boot":"x"}\n'
    assert "written by a later version of kueue_worker" in asleep.log()


# ---------------------------------------------------------------- being told to end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_interrupts_all_jobs(
    keeper: KeeperProcess, agent: Agent, number: signal.Signals
) -> None:
    assert keeper.process is not None
    runs = agent.shell("sleep 1000 & sleep 1000")
    failed, good = agent.shell("exit 3"), agent.shell("exit 0")
    agent.started(runs)
    agent.ended(failed)
    agent.ended(good)
    keeper.process.send_signal(number)
    agent.until("leaving", lambda told: {"m": "leaving"} in told)
    ended = agent.ended(runs)
    assert (ended["end"], os.WTERMSIG(ended["status"])) == ("interrupted", signal.SIGTERM)
    agent.wait_closed()
    assert keeper.wait() == 0
    assert not processes_with(f"KUEUE_FENCE={keeper.mark}")
    keeper.start()
    records = keeper.agent().records
    assert {key: record["end"] for key, record in records.items()} == {
        runs: "interrupted",
        failed: "interrupted",  # a bad end so shortly before: of the same shutdown, perhaps
        good: "exited",
    }


def test_who_ignores_term_has_the_grace_when_the_keeper_ends(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    key = agent.shell(f"trap '' TERM; echo $$ > {ready}; while :; do sleep 0.05; done")
    pid = pid_in(ready)
    keeper.terminate()
    agent.until("leaving", lambda told: {"m": "leaving"} in told)
    late = agent.spawn(["/bin/true"])
    assert agent.ended(late)["end"] == "interrupted"  # nothing starts any more
    other = keeper.agent()  # whoever comes is told at once
    other.until("leaving", lambda told: {"m": "leaving"} in told)
    assert is_alive(pid)
    keeper.terminate()  # the second time means at once
    assert os.WTERMSIG(other.ended(key)["status"]) == signal.SIGKILL
    assert keeper.wait() == 0


def test_exit_ends_the_jobs_and_the_keeper_without_a_word_of_leaving(
    keeper: KeeperProcess, agent: Agent
) -> None:
    key = agent.shell("sleep 1000")
    agent.started(key)
    agent.send({"m": "exit", "grace": 20})
    assert agent.ended(key)["end"] == "interrupted"
    agent.wait_closed()
    assert keeper.wait() == 0
    assert not any(message["m"] == "leaving" for message in agent.told)


def test_it_ends_when_there_is_nothing_to_do(asleep: KeeperProcess) -> None:
    asleep.start("--idle", "0.2")
    with contextlib.suppress(ConnectionRefusedError):
        connect(asleep.address).close()
    assert asleep.wait() == 0


def test_what_nobody_has_let_it_forget_keeps_it(asleep: KeeperProcess) -> None:
    asleep.start("--idle", "0.3")
    agent = asleep.agent()
    key = agent.shell("exit 0")
    agent.ended(key)
    agent.close()
    agent = asleep.agent()
    agent.output("sleep 0.5")
    assert asleep.process is not None
    assert asleep.process.poll() is None
    agent.forget(*(m["key"] for m in agent.told if m["m"] == "ended"), key)
    agent.ping()
    agent.close()
    assert asleep.wait() == 0


def test_a_full_disk_starts_nothing_and_loses_nothing(asleep: KeeperProcess) -> None:
    # A limit on the size of files stands in for the disk: the record file may not grow over it.
    script = f'ulimit -Sf 8; exec "$0" -m kueue_worker.keeper --spool {asleep.spool}'
    asleep.process = subprocess.Popen(["/bin/sh", "-c", script, sys.executable], start_new_session=True)
    agent = asleep.agent()
    ends = [agent.run(["/bin/true"], note="x" * 400) for _ in range(10)]
    assert ends[0]["end"] == "exited"
    assert (ends[-1]["end"], ends[-1]["code"]) == ("not_started", "output")
    assert ends[-1]["text"] == "cannot write the worker's records: File too large"
    for line in (asleep.spool / "records.jsonl").read_text().splitlines():
        json.loads(line)  # no torn one
    good = {end["key"] for end in ends if end["end"] == "exited"}
    agent.close()
    other = asleep.agent()
    assert set(other.records) == good


def test_addresses_follow_the_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert keeper_address(str(tmp_path / "a")) == keeper_address(str(tmp_path / "b"))
    assert keeper_address(str(tmp_path / "a")) != keeper_address(str(tmp_path))
