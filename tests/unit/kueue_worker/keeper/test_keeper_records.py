"""The record file: what is read back is what was written, whatever happened in between."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kueue_worker.keeper.attempts import Attempt, Ended
from kueue_worker.keeper.records import NAME, Records, RecordsError, read

ENDED = Ended("exited", 768, 1.5, 2.5, 0.25, 1000)


def attempt(number: int, **fields: object) -> Attempt:
    made = Attempt(f"j/{number}/1", number, 1, {"note": "\udcff"})
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def as_data(attempts: dict[str, Attempt]) -> dict[str, object]:
    return {key: each.record() for key, each in attempts.items()}


def test_nothing_is_the_beginning(tmp_path: Path) -> None:
    found = read(str(tmp_path))
    assert (found.attempts, found.boot, found.damaged) == ({}, "", 0)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    attempts: dict[str, Attempt] = {}
    records = Records(str(tmp_path), "boot", attempts)
    for number in range(4):
        attempts[f"j/{number}/1"] = attempt(number)
    records.will_spawn(attempts.values())
    for number in range(3):
        one = attempts[f"j/{number}/1"]
        one.pid, one.started = 100 + number, 1.5
        records.spawned(one)
    for number in range(2):
        attempts[f"j/{number}/1"].ended = ENDED
        records.ended(attempts[f"j/{number}/1"])
    del attempts["j/0/1"]
    records.forget(["j/0/1"])
    records.flush()
    found = read(str(tmp_path))
    assert (as_data(found.attempts), found.boot, found.damaged) == (as_data(attempts), "boot", 0)
    Records(str(tmp_path), "next", found.attempts)
    again = read(str(tmp_path))
    assert (as_data(again.attempts), again.boot) == (as_data(attempts), "next")


def test_an_intent_is_on_file_at_once_and_the_rest_at_the_flush(tmp_path: Path) -> None:
    one = attempt(1)
    records = Records(str(tmp_path), "boot", {one.key: one})
    records.will_spawn([one])
    one.pid, one.started = 5, 1.0
    records.spawned(one)
    assert read(str(tmp_path)).attempts[one.key].pid is None
    records.flush()
    assert read(str(tmp_path)).attempts[one.key].pid == 5


@pytest.mark.parametrize(
    "damage", [b'{"r":"end","key":"j/1/1","en', b"\0" * 100, b"[]", b'{"r":"end"}', b"\xff\xfe"]
)
def test_damaged_lines_cost_no_others(tmp_path: Path, damage: bytes) -> None:
    one, two = attempt(1), attempt(2)
    records = Records(str(tmp_path), "boot", {})
    records.will_spawn([one])
    with (tmp_path / NAME).open("ab") as file:
        file.write(damage + b"\n")
    records.will_spawn([two])
    found = read(str(tmp_path))
    assert (list(found.attempts), found.damaged) == ([one.key, two.key], 1)


def test_a_torn_last_line_is_gone_after_the_next_start(tmp_path: Path) -> None:
    one = attempt(1)
    Records(str(tmp_path), "boot", {one.key: one})
    with (tmp_path / NAME).open("ab") as file:
        file.write(b'{"r":"spawn","key":"torn')
    found = read(str(tmp_path))
    assert found.damaged == 1
    records = Records(str(tmp_path), "boot", found.attempts)
    records.will_spawn([attempt(2)])
    found = read(str(tmp_path))
    assert (list(found.attempts), found.damaged) == (["j/1/1", "j/2/1"], 0)


def test_a_later_version_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text('{"r":"keeper","v":2,"boot":"b"}\n')
    with pytest.raises(RecordsError, match="later version"):
        read(str(tmp_path))


def test_the_file_does_not_grow_with_what_was_forgotten(tmp_path: Path) -> None:
    attempts: dict[str, Attempt] = {}
    records = Records(str(tmp_path), "boot", attempts, slack_bytes=10_000)
    keep = attempt(0, pid=1, started=1.0, ended=ENDED)
    attempts[keep.key] = keep
    for number in range(1, 1000):
        one = attempts[f"j/{number}/1"] = attempt(number)
        records.will_spawn([one])
        one.pid, one.started, one.ended = number, 1.0, ENDED
        records.spawned(one)
        records.ended(one)
        if number > 5:
            del attempts[f"j/{number - 5}/1"]
            records.forget([f"j/{number - 5}/1"])
        records.flush()
        assert (tmp_path / NAME).stat().st_size < 20_000
    assert as_data(read(str(tmp_path)).attempts) == as_data(attempts)
    assert os.listdir(tmp_path) == [NAME]


def test_a_write_that_fails_leaves_no_torn_line_and_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = attempt(1, pid=5, started=1.0), attempt(2)
    attempts = {one.key: one}
    records = Records(str(tmp_path), "boot", attempts)
    write, full = os.write, True

    def write_some(descriptor: int, data: memoryview) -> int:
        if not full:
            return write(descriptor, data)
        if len(data) <= 20:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:-20])

    monkeypatch.setattr(os, "write", write_some)
    with pytest.raises(OSError, match="No space left"):
        records.will_spawn([two])
    one.ended = ENDED
    records.ended(one)
    with pytest.raises(OSError, match="No space left"):
        records.flush()
    for line in (tmp_path / NAME).read_text().splitlines():
        json.loads(line)
    assert list(read(str(tmp_path)).attempts) == [one.key]
    full = False
    records.flush()
    found = read(str(tmp_path))
    assert (as_data(found.attempts), found.damaged) == (as_data(attempts), 0)


def test_without_room_for_a_new_file_the_long_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: dict[str, Attempt] = {}
    records = Records(str(tmp_path), "boot", attempts, slack_bytes=100)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", fail)
    for number in range(20):
        one = attempts[f"j/{number}/1"] = attempt(number, ended=ENDED)
        records.will_spawn([one])
        records.ended(one)
        records.flush()
    assert as_data(read(str(tmp_path)).attempts) == as_data(attempts)
    monkeypatch.undo()
    attempts.clear()
    records.forget([f"j/{number}/1" for number in range(20)])
    records.flush()
    assert read(str(tmp_path)).attempts == {}
