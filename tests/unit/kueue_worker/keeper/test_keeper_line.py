"""Starts that are ordered ahead: they wait in line for the end of another one of their room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kueue_worker.keeper.keeper import ENOUGH_IN_LINE
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import SECONDS, Agent, KeeperProcess

FAR = 4e8
"""Seconds of the boot's clock that no machine of ours has reached."""


def gate(place: Path, name: str) -> str:
    """A script that runs until `open_gate`."""
    return f"until [ -e {place / name} ]; do sleep 0.01; done"


def open_gate(place: Path, name: str) -> None:
    (place / name).touch()


def has_started(agent: Agent, key: str) -> bool:
    agent.ping()
    return any(m["m"] == "started" and m["key"] == key for m in agent.told)


def test_one_in_line_starts_when_another_of_its_room_ends_and_is_named_with_that_end(
    agent: Agent, tmp_path: Path
) -> None:
    first = agent.shell(gate(tmp_path, "a"), room="r")
    waiting = agent.shell("exit 3", room="r", until=FAR)
    last = agent.shell("exit 4", room="r", until=FAR)
    agent.started(first)
    assert not has_started(agent, waiting)
    open_gate(tmp_path, "a")
    assert agent.ended(first)["next"] == waiting
    assert agent.ended(waiting)["next"] == last
    assert "next" not in agent.ended(last)
    order = [(m["m"], m["key"]) for m in agent.told if "key" in m]
    assert order.index(("ended", first)) < order.index(("started", waiting))


def test_the_end_of_another_room_or_of_one_without_a_room_starts_nothing(agent: Agent) -> None:
    waiting = agent.shell("true", room="r", until=FAR)
    for room in ({"room": "other"}, {}):
        assert "next" not in agent.ended(agent.shell("true", **room))
    assert not has_started(agent, waiting)


def test_one_whose_time_is_over_does_not_start_by_itself_but_by_order(agent: Agent) -> None:
    late = agent.shell("exit 3", room="r", until=1.0)
    timely = agent.shell("exit 4", room="r", until=FAR)
    assert agent.ended(agent.shell("true", room="r"))["next"] == timely
    assert "next" not in agent.ended(timely)
    assert not has_started(agent, late)
    agent.send({"m": "go", "key": late})
    assert agent.ended(late)["status"] == 3 << 8


def test_to_let_go_of_one_that_has_started_changes_nothing(agent: Agent) -> None:
    waiting = agent.shell("exit 3", room="r", until=FAR)
    agent.ended(agent.shell("true", room="r"))
    agent.send({"m": "go", "key": waiting}, {"m": "drop", "key": waiting})
    agent.ended(waiting)
    agent.ping()
    assert [m["m"] for m in agent.told if m.get("key") == waiting] == ["started", "ended"]


def test_one_that_is_dropped_never_starts(agent: Agent) -> None:
    waiting = agent.shell("true", room="r", until=FAR)
    agent.send({"m": "drop", "key": waiting})
    agent.until("dropped", lambda told: {"m": "dropped", "key": waiting} in told)
    assert "next" not in agent.ended(agent.shell("true", room="r"))
    assert not has_started(agent, waiting)


def test_one_that_can_not_start_makes_way_for_the_next(agent: Agent) -> None:
    absent = agent.spawn(["/nowhere/at/all"], room="r", until=FAR)
    after = agent.shell("exit 3", room="r", until=FAR)
    assert agent.ended(agent.shell("true", room="r"))["next"] == absent
    ended = agent.ended(absent)
    assert (ended["end"], ended["code"], ended["next"]) == ("not_started", "no_program", after)
    assert agent.ended(after)["status"] == 3 << 8


def test_the_line_ends_with_its_agent(keeper: KeeperProcess, agent: Agent, tmp_path: Path) -> None:
    first = agent.shell(gate(tmp_path, "a"), room="r")
    agent.shell(f"touch {tmp_path}/ran", room="r", until=FAR)
    agent.started(first)
    agent.ping()
    agent.close()
    other = keeper.agent()
    open_gate(tmp_path, "a")
    assert "next" not in other.ended(first)
    other.ping()
    assert not (tmp_path / "ran").exists()


def test_the_line_ends_when_the_agent_is_gone_though_no_other_has_come(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    first = agent.shell(f"{gate(tmp_path, 'a')}; touch {tmp_path}/first", room="r")
    agent.shell(f"touch {tmp_path}/ran", room="r", until=FAR)
    agent.started(first)
    agent.ping()
    agent.close()
    open_gate(tmp_path, "a")
    wait_for("the first has ended", lambda: (tmp_path / "first").exists())
    other = keeper.agent()
    wait_for("its end is told", lambda: first in other.records or other.ended(first))
    assert not (tmp_path / "ran").exists()
    assert list(other.records) == [first]


def test_a_keeper_that_is_told_to_end_starts_nobody_in_line(agent: Agent, keeper: KeeperProcess) -> None:
    first = agent.shell("sleep 60", room="r")
    waiting = agent.shell("true", room="r", until=FAR)
    agent.started(first)
    keeper.terminate()
    assert agent.ended(waiting)["end"] == "interrupted"
    assert agent.ended(waiting)["status"] is None
    assert agent.ended(first)["end"] == "interrupted"


@pytest.mark.parametrize("fields", [{"room": 7}, {"room": "r", "until": "soon"}, {"room": "r", "until": -1}])
def test_an_order_ahead_that_can_not_be_read_costs_the_connection(
    agent: Agent, fields: dict[str, object]
) -> None:
    agent.shell("true", **fields)
    agent.wait_closed()


def test_ends_whose_room_is_taken_again_are_told_together_while_there_are_enough_in_line(
    agent: Agent,
) -> None:
    keys = [agent.shell("true", room="r", until=FAR) for _ in range(ENOUGH_IN_LINE + 20)]
    agent.ended(agent.shell("true", room="r"))
    frames = 0
    while not any(m["m"] == "ended" and m["key"] == keys[-1] for m in agent.told):
        assert agent.receive(SECONDS)
        frames += 1
    assert frames < 20 + 2 * ENOUGH_IN_LINE  # one by one it would be two for each


def test_files_of_an_order_that_is_dropped_are_closed(
    keeper: KeeperProcess, agent: Agent, tmp_path: Path
) -> None:
    assert keeper.process is not None
    descriptors = Path(f"/proc/{keeper.process.pid}/fd")
    agent.run(["/bin/true"])
    before = len(list(descriptors.iterdir()))
    file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    waiting = agent.shell("true", room="r", until=FAR, out={"fd": True}, descriptors=[file])
    agent.ping()
    assert len(list(descriptors.iterdir())) == before + 1
    agent.send({"m": "drop", "key": waiting})
    agent.ping()
    assert len(list(descriptors.iterdir())) == before
