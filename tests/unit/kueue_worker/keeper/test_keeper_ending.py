"""How jobs are ended: by order, by their time limit, with all that they have started."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import Agent, is_alive, processes_with


def pids_in(path: Path, count: int) -> list[int]:
    """The pids in a file, as soon as there are so many."""

    def read() -> list[int]:
        pids = [int(line) for line in path.read_text().split()] if path.exists() else []
        return pids if len(pids) >= count else []

    return wait_for(f"{count} pids in {path}", read)


@pytest.mark.parametrize("end", ["stopped", "interrupted", "output_limit"])
def test_a_kill_is_told_as_the_end_that_was_ordered(agent: Agent, end: str) -> None:
    key = agent.shell("sleep 1000")
    agent.started(key)
    agent.kill(key, end=end)
    ended = agent.ended(key)
    assert (ended["end"], os.WTERMSIG(ended["status"])) == (end, signal.SIGTERM)


def test_a_job_has_its_grace_to_end_in_order(agent: Agent, tmp_path: Path) -> None:
    ready, tidy = tmp_path / "ready", tmp_path / "tidy"
    key = agent.shell(
        f"trap 'sleep 0.2; echo x > {tidy}; exit 5' TERM; echo > {ready}; while :; do sleep 0.05; done"
    )
    wait_for("it has its trap", ready.exists)
    agent.kill(key)
    ended = agent.ended(key)
    assert (ended["end"], os.waitstatus_to_exitcode(ended["status"])) == ("stopped", 5)
    assert tidy.exists()


def test_who_ignores_term_is_killed_after_the_grace(agent: Agent, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; sleep 1000; :' & sleep 1000; wait"
    key = agent.shell(script)
    members = pids_in(pids, 2)
    agent.kill(key, grace=0.3)
    ended = agent.ended(key)
    assert (ended["end"], os.WTERMSIG(ended["status"])) == ("stopped", signal.SIGKILL)
    assert ended["ended"] - ended["started"] >= 0.3
    assert not any(is_alive(pid) for pid in members)
    assert not processes_with(f"KUEUE_FENCE={key}")


def test_no_grace_is_killed_at_once(agent: Agent, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    key = agent.shell(f"trap '' TERM; echo > {ready}; while :; do sleep 0.05; done")
    wait_for("it ignores TERM", ready.exists)
    agent.kill(key, grace=0)
    assert os.WTERMSIG(agent.ended(key)["status"]) == signal.SIGKILL


def test_a_stopped_job_notices_that_it_is_to_end(agent: Agent, tmp_path: Path) -> None:
    ready, tidy = tmp_path / "ready", tmp_path / "tidy"
    key = agent.shell(f"trap 'echo > {tidy}; exit 0' TERM; echo > {ready}; while :; do sleep 0.05; done")
    pid = agent.started(key)["pid"]
    wait_for("it has its trap", ready.exists)
    os.killpg(pid, signal.SIGSTOP)
    agent.kill(key)
    assert agent.ended(key)["status"] == 0
    assert tidy.exists()


def test_every_process_group_of_the_session_is_told(agent: Agent, tmp_path: Path) -> None:
    told = tmp_path / "told"
    child = f"trap 'echo x >> {told}; exit' TERM; echo >> {tmp_path}/ready; while :; do sleep 0.05; done"
    script = f'set -m; sh -c "{child}" & sh -c "{child}" & wait'
    key = agent.spawn(["/bin/bash", "-c", script])
    wait_for("both wait", lambda: (tmp_path / "ready").exists() and (tmp_path / "ready").stat().st_size == 2)
    agent.kill(key)
    agent.ended(key)
    assert told.read_text() == "x\nx\n"


def test_a_stray_that_left_the_session_is_ended_with_its_job(agent: Agent, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    # Twice forked, a session of its own, its parent gone: what a daemon does.
    stray = f"trap '' TERM; echo $$ >> {pids}; sleep 1000 & wait; sleep 1000"
    key = agent.shell(f'(setsid sh -c "{stray}" >/dev/null 2>&1 &) ; sleep 1000')
    (pid,) = pids_in(pids, 1)
    assert os.getsid(pid) == pid
    agent.kill(key, grace=0.2)
    assert agent.ended(key)["end"] == "stopped"
    assert not is_alive(pid)
    assert not processes_with(f"KUEUE_FENCE={key}")


def test_a_stray_without_its_environment_is_known_if_its_parent_lives(agent: Agent, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stray = f"env -i setsid /bin/sh -c 'echo $$ >> {pids}; sleep 1000; :'"
    key = agent.shell(f"{stray} & sleep 1000 & wait")
    (pid,) = pids_in(pids, 1)
    agent.kill(key, grace=5)
    agent.ended(key)
    assert not is_alive(pid)


def test_the_end_is_told_when_the_last_of_its_tree_is_gone(agent: Agent, tmp_path: Path) -> None:
    pids, late = tmp_path / "pids", tmp_path / "late"
    child = f"trap 'sleep 0.3; echo > {late}; exit' TERM; echo $$ >> {pids}; while :; do sleep 0.05; done"
    key = agent.shell(f'sh -c "{child}" & sleep 1000 & wait')
    pids_in(pids, 1)
    agent.kill(key)
    ended = agent.ended(key)
    assert late.exists()
    assert os.WTERMSIG(ended["status"]) == signal.SIGTERM


def test_what_a_job_leaves_behind_lives_on_and_holds_up_nothing(agent: Agent, tmp_path: Path) -> None:
    pids, out = tmp_path / "pids", tmp_path / "out"
    key = agent.shell(f"sh -c 'echo $$ >> {pids}; sleep 1000; :' & exit 4", out={"path": str(out)}, err="out")
    ended = agent.ended(key)
    assert os.waitstatus_to_exitcode(ended["status"]) == 4
    (pid,) = pids_in(pids, 1)
    agent.run(["/bin/true"])
    assert is_alive(pid)


def test_a_kill_after_the_exit_changes_no_end_but_ends_what_is_left(agent: Agent, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    key = agent.shell(f"sh -c 'echo $$ >> {pids}; sleep 1000; :' & exit 4")
    agent.ended(key)
    (pid,) = pids_in(pids, 1)
    agent.told.clear()
    agent.kill(key)
    wait_for("what was left is ended", lambda: not is_alive(pid))
    agent.ping()
    assert not any(message["m"] == "ended" for message in agent.told)
    again = agent.keeper.agent()
    assert again.records[key]["end"] == "exited"
    again.close()


def test_a_kill_spares_the_other_jobs_and_what_they_left_behind(agent: Agent, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    other = agent.shell("sleep 1000")
    agent.ended(agent.shell(f"setsid sh -c 'echo $$ >> {pids}; sleep 1000; :' & exit 0"))
    (left,) = pids_in(pids, 1)
    key = agent.shell("sleep 1000")
    agent.started(key)
    agent.kill(key)
    agent.ended(key)
    agent.ping()
    assert is_alive(left)
    assert is_alive(agent.started(other)["pid"])


def test_many_are_killed_at_once(agent: Agent) -> None:
    orders = [agent.order(["/bin/sh", "-c", "sleep 1000 & sleep 1000"]) for _ in range(60)]
    agent.send(*orders)
    for order in orders:
        agent.started(order["key"])
    agent.send(*({"m": "kill", "key": o["key"], "grace": 20, "end": "stopped"} for o in orders))
    for order in orders:
        assert agent.ended(order["key"])["end"] == "stopped"
    assert not processes_with(f"KUEUE_FENCE={agent.keeper.mark}")


def test_a_second_kill_keeps_the_end_and_may_shorten_the_grace(agent: Agent, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    key = agent.shell(f"trap '' TERM; echo > {ready}; while :; do sleep 0.05; done")
    wait_for("it ignores TERM", ready.exists)
    agent.kill(key, grace=10_000, end="interrupted")
    agent.kill(key, grace=0.1, end="stopped")
    assert agent.ended(key)["end"] == "interrupted"


def test_a_kill_of_an_unknown_key_does_nothing(agent: Agent) -> None:
    agent.kill("nobody/1/1")
    agent.ping()


def test_a_time_limit_ends_the_whole_tree(agent: Agent) -> None:
    key = agent.shell("sleep 1000 & sleep 1000", time_limit=0.3)
    ended = agent.ended(key)
    assert (ended["end"], os.WTERMSIG(ended["status"])) == ("time_limit", signal.SIGTERM)
    assert ended["ended"] - ended["started"] >= 0.3
    assert not processes_with(f"KUEUE_FENCE={key}")


def test_a_time_limit_that_is_not_reached_is_nothing(agent: Agent) -> None:
    ended = agent.run(["/bin/sh", "-c", "exit 0"], time_limit=0.5)
    assert ended["end"] == "exited"
    agent.output("sleep 0.7")  # its time comes, and finds nothing
    agent.ping()
    assert [m["key"] for m in agent.told if m["m"] == "ended"].count(ended["key"]) == 1
