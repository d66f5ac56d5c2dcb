"""No damage of a worker's record file stops the next keeper, and what that tells no agent stumbles over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kueue_worker.keeper.boot import boot_id
from kueue_worker.keeper_link import decode_messages
from kueue_worker.keeper_messages import kept_of
from tests.hostile.fuzz.seeds import seeds
from tests.hostile.fuzz.targets import TARGETS
from tests.unit.kueue_worker.keeper.keeper_client import KeeperProcess

FILES = list(seeds("keeper_records"))
LINES = [line for file in FILES for line in file.splitlines()]
FIELDS = sorted({name for line in LINES for name in json.loads(line)} - {"r"})
ODD = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            2**22 + 1,
            2**63,
            10**30,
            1e308,
            -1e308,
            float("inf"),
            float("nan"),
            "",
            "\0",
            "\ud800",
        ]
    ),
    st.integers(0, 2**16),
    st.text(max_size=5),
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=2) | st.fixed_dictionaries({"a": inner})),
)
GOOD = "j/7/77"
NOTE = {"journal": "j", "job": 7, "fence": 77, "attempt": 1}


@given(
    st.sampled_from(FILES), st.lists(st.tuples(st.integers(0), st.integers(0, 30), st.binary(max_size=20)))
)
def test_any_bytes_changed_lost_or_put_in_are_survived(
    file: bytes, damages: list[tuple[int, int, bytes]]
) -> None:
    for place, width, other in damages:
        start = place % (len(file) + 1)
        file = file[:start] + other + file[start + width :]
    TARGETS["keeper_records"](file)


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_lines_in_any_order_lost_and_doubled_are_survived(lines: list[bytes]) -> None:
    TARGETS["keeper_records"](b"\n".join(lines))


@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(FIELDS), ODD), max_size=12))
def test_fields_of_other_types_and_sizes_are_survived(changes: list[tuple[bytes, str, Any]]) -> None:
    file = [json.dumps({**json.loads(line), name: value}) for line, name, value in changes]
    TARGETS["keeper_records"]("\n".join(file).encode())


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3000))
def test_a_line_nested_to_any_depth_is_survived(around: int, depth: int) -> None:
    note = '{"a":' * around + "[" * depth + "]" * depth + "}" * around
    TARGETS["keeper_records"](b'{"r":"spawn","key":"k","job":1,"attempt":1,"note":%s}\n' % note.encode())


def test_a_note_that_can_just_be_read_is_not_too_deep_to_be_written() -> None:
    for depth in range(900, 1010):  # the recursion limit is somewhere there
        note = b"[" * depth + b"]" * depth
        TARGETS["keeper_records"](b'{"r":"spawn","key":"k","job":1,"attempt":1,"note":%s}\n' % note)


# ---------------------------------------------------------------- real keepers


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[KeeperProcess]:
    """A keeper that is not started yet, with an empty spool."""
    process = KeeperProcess(tmp_path / "spool")
    process.spool.mkdir(mode=0o700)
    yield process
    process.close()


def spawn(key: str, **fields: Any) -> dict[str, Any]:
    """The line of a start."""
    return {"r": "spawn", "key": key, "job": 7, "attempt": 1, "note": NOTE, **fields}


def end(key: str, **fields: Any) -> dict[str, Any]:
    """The line of an end."""
    times = {"started": 1.0, "ended": 2.0, "cpu_seconds": 0.5, "peak_kb": 100}
    return {"r": "end", "key": key, "end": "exited", "status": 0, "code": "", "text": "", **times, **fields}


def deep(depth: int) -> Any:
    """Lists within lists."""
    made: Any = []
    for _ in range(depth):
        made = [made]
    return made


DAMAGED: dict[str, list[dict[str, Any]]] = {
    "a process number without end": [
        spawn("x"),
        {"r": "pid", "key": "x", "pid": float("inf"), "started": 1.0},
    ],
    "a start that is no number": [spawn("x"), {"r": "pid", "key": "x", "pid": 99, "started": float("nan")}],
    "notes nested too deep": [spawn(f"x{depth}", note=deep(depth)) for depth in (45, 100, 900)],
    "times of other types": [spawn("x"), end("x", started="soon", ended=[])],
    "an unknown kind of end": [spawn("x"), end("x", end="bogus")],
    "a status of a stopped process": [spawn("x"), end("x", status=0x137F)],
    "a huge status": [spawn("x"), end("x", status=2**70)],
    "numbers no journal can hold": [spawn("x", note={**NOTE, "fence": 2**70}), spawn("y", job=10**30)],
    "keys that are none": [
        spawn(""),
        spawn("a\nb"),
        {"r": "spawn", "key": [1]},
        {"r": "forget", "keys": [{}]},
    ],
    "no lines of ours": [{"r": {}}, {"r": "keeper", "v": "2", "boot": 3}, {}, {"key": 1}],
}


@pytest.mark.parametrize("boot", ["this boot", "an earlier boot"])
def test_a_keeper_starts_whatever_its_records_say_and_tells_what_is_whole(
    keeper: KeeperProcess, boot: str
) -> None:
    said = boot_id() if boot == "this boot" else boot
    lines = [{"r": "keeper", "v": 1, "boot": said}, *[line for part in DAMAGED.values() for line in part]]
    text = "\n".join(
        [*map(json.dumps, lines), "\0\xff garbage", json.dumps(spawn(GOOD)), json.dumps(end(GOOD))]
    )
    (keeper.spool / "records.jsonl").write_bytes(text.encode("latin-1"))
    keeper.start()
    agent = keeper.agent()
    kept = kept_of(agent.records[GOOD])
    assert kept is not None
    assert kept.ended is not None
    assert (kept.note.fence, kept.ended.exit_code, kept.ended.cpu_seconds) == (77, 0, 0.5)
    told = [kept_of(record) for record in agent.records.values()]  # none of them is a fault of the keeper
    assert all(record.ended is not None for record in told if record is not None)
    assert "lines of the records can't be read" in keeper.log()


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_left_out_or_told_so_that_an_agent_understands(damage: str, tmp_path: Path) -> None:
    lines = [{"r": "keeper", "v": 1, "boot": "x"}, *DAMAGED[damage], spawn(GOOD), end(GOOD)]
    TARGETS["keeper_records"]("\n".join(map(json.dumps, lines)).encode())


def test_an_agent_takes_what_is_no_number_for_a_fault() -> None:
    (message,) = decode_messages(b'[{"m":"ended","end":"exited","status":0,"started":NaN}]')
    assert message["started"] != message["started"]
    TARGETS["agent_bodies"](b'[{"m":"ended","end":"exited","status":0,"started":NaN}]')
    TARGETS["agent_bodies"](b'[{"m":"ended","end":"exited","status":99999999999999999999}]')
    TARGETS["agent_bodies"](b'[{"m":"ended","end":"exited","status":0,"peak_kb":1%s}]' % (b"0" * 400))
