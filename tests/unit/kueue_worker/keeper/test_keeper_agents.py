"""Agents come and go, break, and fall silent: what the keeper makes of each, and that its jobs notice
nothing."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from kueue_worker.keeper.wire import LENGTH, MOST_DESCRIPTORS, MOST_FRAME_BYTES, Wire
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import Agent, KeeperProcess, is_alive


def test_the_next_agent_is_told_all_that_was_not_forgotten(keeper: KeeperProcess, agent: Agent) -> None:
    runs = agent.shell("sleep 1000", note={"of": "the one that runs \udcff"}, job=7, attempt=3)
    ended, gone = agent.shell("exit 3"), agent.shell("exit 0")
    pid = agent.started(runs)["pid"]
    end = agent.ended(ended)
    agent.ended(gone)
    agent.forget(gone)
    agent.ping()
    agent.close()
    other = keeper.agent()
    assert set(other.records) == {runs, ended}
    started = agent.started(runs)["started"]
    assert other.records[runs] == {
        "key": runs,
        "job": 7,
        "attempt": 3,
        "state": "running",
        "pid": pid,
        "started": started,
        "note": {"of": "the one that runs \udcff"},
    }
    expected = {name: value for name, value in end.items() if name != "m"}
    assert expected.items() <= other.records[ended].items()
    assert (other.records[ended]["state"], other.records[ended]["note"]) == ("ended", {"any": ["thing"]})
    assert other.state["keeper"] == agent.state["keeper"]
    assert other.state["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    other.kill(runs)
    assert other.ended(runs)["end"] == "stopped"
    other.close()


def test_ends_while_no_agent_is_there_are_kept(keeper: KeeperProcess, agent: Agent, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    key = agent.shell(f"while [ ! -e {go} ]; do sleep 0.02; done; echo > {done}; exit 6")
    agent.started(key)
    agent.close()
    go.touch()
    wait_for("it is done", done.exists)
    other = keeper.agent()
    if other.records[key]["state"] == "running":
        other.ended(key)
    else:
        assert os.waitstatus_to_exitcode(other.records[key]["status"]) == 6
    other.close()


def test_a_new_agent_s_hello_drops_the_old_one(keeper: KeeperProcess, agent: Agent) -> None:
    other = keeper.agent()
    agent.wait_closed()
    other.ping()
    other.close()


def test_an_agent_that_has_not_said_hello_drops_nobody(keeper: KeeperProcess, agent: Agent) -> None:
    silent = [keeper.connect() for _ in range(12)]
    agent.ping()
    silent[0].wait_closed()  # the first ones make room
    last = silent[-1]
    last.hello()
    agent.wait_closed()
    last.ping()
    for one in silent:
        one.close()


def test_environments_and_directories_are_the_agent_s_own(keeper: KeeperProcess, agent: Agent) -> None:
    order = agent.order(["/bin/true"])
    other = keeper.agent()
    other.send(order)
    other.until("no_env", lambda told: any(m["m"] == "no_env" for m in told))
    other.environment({})
    other.send(order)
    assert other.ended(order["key"])["code"] == "no_directory"
    other.close()


def test_state_comes_in_parts(keeper: KeeperProcess, agent: Agent) -> None:
    orders = [agent.order(["/bin/true"], program="/none", note="x" * 3000) for _ in range(700)]
    for start in range(0, 700, 100):
        agent.send(*orders[start : start + 100])
    agent.ended(orders[-1]["key"])
    agent.close()
    other = keeper.agent()
    assert set(other.records) == {order["key"] for order in orders}
    assert len(other.state["records"]) < 500
    other.forget(*other.records)
    other.ping()
    other.close()
    assert keeper.agent().records == {}


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        LENGTH.pack(MOST_FRAME_BYTES + 1),
        LENGTH.pack(3) + b"{{{",
        LENGTH.pack(2) + b"{}",
        LENGTH.pack(3) + b"[1]",
        LENGTH.pack(4) + b"[{}]",
        LENGTH.pack(100_000) + b"[" * 100_000,
        LENGTH.pack(2) + b"\xff\xfe",
    ],
)
def test_what_is_no_frame_costs_the_connection_and_nothing_else(
    keeper: KeeperProcess, agent: Agent, data: bytes
) -> None:
    key = agent.shell("sleep 1000")
    pid = agent.started(key)["pid"]
    agent.send_bytes(data)
    agent.wait_closed()
    other = keeper.agent()
    assert other.records[key]["state"] == "running"
    assert is_alive(pid)
    other.close()


BAD: list[dict[str, Any]] = [
    {"m": "unheard of"},
    {"m": "hello", "v": 1},
    {"m": ["spawn"]},
    {"m": "env", "id": 3, "env": []},
    {"m": "env", "id": "x", "env": [["only a name"]]},
    {"m": "env", "id": "x", "env": {"A": "1"}},
    {"m": "dir", "id": 1},
    {"m": "undir", "id": None},
    {"m": "kill", "key": "k", "grace": 1, "end": "exited"},
    {"m": "kill", "key": "k", "grace": -1, "end": "stopped"},
    {"m": "kill", "key": "k", "grace": float("nan"), "end": "stopped"},
    {"m": "kill", "key": "k"},
    {"m": "forget", "keys": "all"},
    {"m": "forget", "keys": [1]},
    {"m": "ping"},
    {"m": "exit", "grace": "now"},
    {"m": "spawn"},
]
BAD_FIELDS: list[dict[str, Any]] = [
    {"key": ""},
    {"key": "a\nb"},
    {"key": 7},
    {"program": None},
    {"argv": []},
    {"argv": "ls"},
    {"argv": [1]},
    {"env": 1},
    {"extra": [1]},
    {"dir": [1]},
    {"out": {"path": "relative"}},
    {"out": {"fd": True}},
    {"err": {}},
    {"err": 5},
    {"umask": -1},
    {"umask": "022"},
    {"limits": {"nofile": "many"}},
    {"nice": 1.5},
    {"oom": 10**6},
    {"time_limit": "long"},
    {"time_limit": True},
]


@pytest.mark.parametrize("message", BAD, ids=lambda message: json.dumps(message))
def test_a_message_that_can_not_be_meant_costs_the_connection(
    keeper: KeeperProcess, agent: Agent, message: dict[str, Any]
) -> None:
    agent.send(message)
    agent.wait_closed()
    keeper.agent().close()


def test_spawns_that_can_not_be_meant_cost_the_connection(keeper: KeeperProcess, agent: Agent) -> None:
    for fields in BAD_FIELDS:
        connected = keeper.agent()
        good, bad = connected.order(["/bin/true"]), connected.order(["/bin/true"])
        connected.send(good, {**bad, **fields})
        connected.wait_closed()
        other = keeper.agent()
        assert good["key"] in other.records, fields  # what came before it was done
        assert bad["key"] not in other.records, fields
        connected.close()
        other.close()


def test_descriptors_that_nobody_asked_for_cost_the_connection(keeper: KeeperProcess, agent: Agent) -> None:
    assert keeper.process is not None
    before = len(os.listdir(f"/proc/{keeper.process.pid}/fd"))
    descriptors = [os.open("/dev/null", os.O_RDONLY) for _ in range(MOST_DESCRIPTORS)]
    agent.send({"m": "ping", "n": 1}, descriptors=descriptors)
    agent.wait_closed()
    other = keeper.agent()
    other.ping()
    assert len(os.listdir(f"/proc/{keeper.process.pid}/fd")) == before
    other.close()


def test_half_a_frame_and_gone(keeper: KeeperProcess, agent: Agent) -> None:
    agent.send_bytes(LENGTH.pack(1000) + b"[")
    agent.close()
    keeper.agent().close()


def test_messages_before_hello_cost_the_connection(keeper: KeeperProcess, agent: Agent) -> None:
    for message in ({"m": "ping", "n": 1}, {"m": "hello", "v": 0}, {"m": "hello"}):
        stranger = keeper.connect()
        stranger.send(message)
        stranger.wait_closed()
        stranger.close()
    agent.ping()


def test_a_later_version_s_agent_is_told_ours(keeper: KeeperProcess) -> None:
    agent = keeper.connect()
    agent.send({"m": "hello", "v": 7, "agent": "of tomorrow"})
    agent.until("state", lambda told: any(m["m"] == "state" and m["v"] == 3 for m in told))
    agent.close()


def test_an_agent_that_does_not_read_is_dropped_and_holds_up_no_job(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    # Answers of 200 KB each: what the socket does not take is kept up to a bound.
    agent.shell(f"sleep 0.5; echo > {done}")
    number = "9" * 200_000
    frame = json.dumps([{"m": "ping", "n": number}]).encode()
    agent.wire.close()
    rude = keeper.connect()
    rude.send({"m": "hello", "v": 1, "agent": "rude"})
    sock = socket.socket(fileno=os.dup(rude.wire.fileno()))
    sock.settimeout(20)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        sock.sendall((LENGTH.pack(len(frame)) + frame) * 200)
    sock.close()
    rude.close()
    wait_for("the job went on", done.exists)
    keeper.agent().close()
    assert "the agent does not read" in keeper.log()


def test_a_slow_agent_gets_everything_in_order(agent: Agent) -> None:
    for number in range(40):
        agent.send(*({"m": "ping", "n": [number, part, "x" * 1000]} for part in range(100)))
    pongs = agent.until("all", lambda told: len(told) == 4000 and told)
    assert [m["n"][:2] for m in pongs] == [[number, part] for number in range(40) for part in range(100)]


def test_a_frame_may_come_byte_by_byte(keeper: KeeperProcess, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    wire = Wire(theirs)
    body = json.dumps([{"m": "ping", "n": 1}]).encode()
    found: list[Any] = []
    for byte in LENGTH.pack(len(body)) + body:
        assert not found
        ours.send(bytes([byte]))
        frames = wire.receive()
        assert frames is not None
        found += frames
    assert found == [[{"m": "ping", "n": 1}]]
    wire.close()
    ours.close()
