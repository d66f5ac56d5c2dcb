"""Frozen samples of what other versions say or have left on disk: all of it is understood for ever.

`tests/samples/wire/N` has every message of protocol version N with all its fields, `tests/samples/keeper/N` what
agent and keeper of version N said and the keeper's records. A sample is never changed: whoever changes a message
so that one of these fails makes a new version, with samples of its own, and goes on understanding the version
before. A new message, or field with a default, needs no new version, only a sample.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from kueue.job import End
from kueue.wire import codec
from kueue.wire.messages import (
    ClientMessage,
    Context,
    Spec,
    ToClient,
    ToWorker,
    WorkerMessage,
)
from kueue.wire.versions import PROTOCOL_MAX, PROTOCOL_MIN
from kueue_worker.keeper import records
from kueue_worker.keeper.attempts import INTERRUPTED, OUTPUT_LIMIT, STOPPED
from kueue_worker.keeper.orders import read_spawn
from kueue_worker.keeper.wire import VERSION as KEEPER_VERSION
from kueue_worker.keeper_messages import ended_of, kept_of

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
DIRECTIONS: dict[str, tuple[Callable[[bytes], Any], Any]] = {
    "worker_to_server": (codec.decode_worker_message, WorkerMessage),
    "server_to_worker": (codec.decode_to_worker, ToWorker),
    "client_to_server": (codec.decode_client_message, ClientMessage),
    "server_to_client": (codec.decode_to_client, ToClient),
}
FROZEN = {
    "register",
    "welcome",
    "inventory",
    "report",
    "acknowledge",
    "stop",
    "heartbeat",
    "refuse",
    "leaving",
}


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def assert_holds(whole: Any, part: Any, where: str) -> None:
    """All of `part` is in `whole`: nothing was dropped or changed on the way."""
    if isinstance(part, dict):
        assert isinstance(whole, dict), where
        for name, value in part.items():
            assert name in whole, f"{where}.{name} is not understood any more"
            assert_holds(whole[name], value, f"{where}.{name}")
    elif isinstance(part, list):
        assert len(whole) >= len(part), where
        for index, value in enumerate(part):
            assert_holds(whole[index], value, f"{where}[{index}]")
    else:
        assert whole == part, where


@pytest.mark.parametrize("version", range(PROTOCOL_MIN, PROTOCOL_MAX + 1))
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_message_of_a_version_that_is_spoken_is_understood_with_all_its_fields(
    direction: str, version: int
) -> None:
    decode, _ = DIRECTIONS[direction]
    for line in lines_of(SAMPLES / "wire" / str(version) / f"{direction}.jsonl"):
        sample = json.loads(line)
        again = json.loads(codec.encode(decode(line)))
        assert_holds(again, sample, sample["type"])


@pytest.mark.parametrize("direction", ["worker_to_server", "server_to_worker"])
def test_the_frozen_subset_of_every_version_is_understood(direction: str) -> None:
    decode, _ = DIRECTIONS[direction]
    for folder in (SAMPLES / "wire").iterdir():
        for line in lines_of(folder / f"{direction}.jsonl"):
            sample = json.loads(line)
            if sample["type"] in FROZEN:
                assert_holds(json.loads(codec.encode(decode(line))), sample, sample["type"])


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_message_has_a_sample_with_all_its_fields(direction: str) -> None:
    _, union = DIRECTIONS[direction]
    samples = {}
    for line in lines_of(SAMPLES / "wire" / str(PROTOCOL_MAX) / f"{direction}.jsonl"):
        sample = json.loads(line)
        samples[sample["type"]] = set(sample) - {"type"}
    wanted = {
        message.__struct_config__.tag: set(message.__struct_encode_fields__) for message in get_args(union)
    }
    assert samples == wanted


def test_jobs_and_environments_that_were_stored_are_understood() -> None:
    for folder in (SAMPLES / "wire").iterdir():
        spec, context = lines_of(folder / "parts.jsonl")
        assert_holds(json.loads(codec.encode(msgspec.json.decode(spec, type=Spec))), json.loads(spec), "spec")
        again = codec.encode(msgspec.json.decode(context, type=Context))
        assert_holds(json.loads(again), json.loads(context), "context")


@pytest.mark.parametrize("version", range(1, KEEPER_VERSION + 1))
def test_a_keepers_records_are_read_by_every_later_keeper(tmp_path: Path, version: int) -> None:
    shutil.copy(SAMPLES / "keeper" / str(version) / "records.jsonl", tmp_path / records.NAME)
    found = records.read(str(tmp_path))
    assert found.damaged == 0
    assert found.boot == "2e606eb7-12e6-49f7-94a4-1e3d3c9fec87"
    running, ended = found.attempts.values()
    assert (running.job, running.pid, running.started, running.ended) == (1, 28483, 20568.93419664, None)
    assert ended.ended is not None
    assert (ended.job, ended.ended.end, ended.ended.status) == (2, End.EXITED.value, 768)


@pytest.mark.parametrize("version", range(1, KEEPER_VERSION + 1))
def test_an_agent_understands_every_keeper(version: int) -> None:
    ends = []
    for line in lines_of(SAMPLES / "keeper" / str(version) / "keeper_to_agent.jsonl"):
        message = json.loads(line)
        if message["m"] == "state":
            (record,) = message["records"]
            kept = kept_of(record)
            assert kept is not None
            assert (kept.note.job, kept.note.attempt, kept.started) == (1, 1, 20568.93419664)
        elif message["m"] == "ended":
            end = ended_of(message)
            ends.append((end.end, end.exit_code, end.signal))
            assert (end.started, end.ended) == (message["started"], message["ended"])
    seen = [(End.EXITED, 3, None), (End.STOPPED, None, 15)]
    assert ends == (seen if version == 1 else [*seen, (End.OUTPUT_LIMIT, None, 15)])


@pytest.mark.parametrize("version", range(1, KEEPER_VERSION + 1))
def test_a_keeper_understands_the_orders_of_every_agent(version: int) -> None:
    orders = []
    for line in lines_of(SAMPLES / "keeper" / str(version) / "agent_to_keeper.jsonl"):
        message = json.loads(line)
        if message["m"] == "kill":
            assert message["end"] in (STOPPED, INTERRUPTED, OUTPUT_LIMIT)
        if message["m"] == "spawn":
            orders.append(read_spawn(message, lambda: 99))
    into_file, limited = orders
    assert (into_file.argv, into_file.out) == ([b"sh", b"-c", b"echo x; exit 3"], 99)
    assert (limited.program, limited.time_limit, limited.attempt) == (b"/usr/bin/sleep", 3600.0, 1)
    waits = [(order.room, order.until) for order in orders]
    assert waits == (
        [("", None)] * 2 if version < 3 else [('{"ram_mb":16}', None), ('{"ram_mb":16}', 20574.5)]
    )
