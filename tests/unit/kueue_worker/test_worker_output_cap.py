"""The cap on output: who is over it, and what a file that does not answer costs the others."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue.wire.messages import OsString
from kueue_worker.core.events import Note
from kueue_worker.output_cap import MOST_HANGING, Output, OutputCap, output_of
from kueue_worker.spool import Spool
from kueue_worker.threads import DeadlineThreads


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, threading.Event]]:
    """Paths of which `stat` does not return before their event: a dead mount can't be had everywhere."""
    found: dict[str, threading.Event] = {}
    real = os.stat

    def stat(path: str, **more: object) -> os.stat_result:
        if isinstance(path, str) and path in found:
            found[path].wait()
        return real(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("kueue_worker.output_cap.os.stat", stat)
    yield found
    for gate in found.values():
        gate.set()


def file(place: Path, name: str, size: int) -> str:
    path = place / name
    path.write_bytes(b"x" * size)
    return str(path)


async def looked(cap: OutputCap, told: list[str], outputs: list[Output]) -> list[str]:
    """What one look tells."""
    told.clear()
    cap.look(outputs)
    await asyncio.sleep(0.2)
    return sorted(told)


async def test_both_streams_count_and_a_file_of_both_counts_once(tmp_path: Path) -> None:
    threads = DeadlineThreads(asyncio.get_running_loop())
    told: list[str] = []
    cap = OutputCap(threads, 100, told.append)
    a, b, long = file(tmp_path, "a", 60), file(tmp_path, "b", 60), file(tmp_path, "long", 101)
    os.link(a, tmp_path / "link")
    outputs = [
        Output("two", (a, b), False),
        Output("one twice", (a, str(tmp_path / "link")), False),
        Output("long", (long,), True),
        Output("absent", (str(tmp_path / "absent"),), True),
        Output("discarded", (), True),
    ]
    assert await looked(cap, told, outputs) == ["long", "two"]
    threads.close()


async def test_a_file_that_does_not_answer_is_left_out_and_others_are_looked_at(
    tmp_path: Path, gates: dict[str, threading.Event]
) -> None:
    threads = DeadlineThreads(asyncio.get_running_loop())
    told: list[str] = []
    cap = OutputCap(threads, 100, told.append)
    spooled = Output("spooled", (file(tmp_path, "spooled", 101),), True)
    dead = [Output(f"dead {n}", (file(tmp_path, f"dead{n}", 101),), False) for n in range(MOST_HANGING)]
    filed = Output("filed", (file(tmp_path, "filed", 101),), False)
    for output in dead:
        gates[output.paths[0]] = threading.Event()
    await looked(cap, told, [dead[0], filed])  # its thread hangs
    assert await looked(cap, told, [dead[0], filed, spooled]) == ["filed", "spooled"]
    for output in dead[1:]:
        await looked(cap, told, [output])
    assert await looked(cap, told, [*dead, filed, spooled]) == ["spooled"]
    for gate in gates.values():
        gate.set()
    await asyncio.sleep(0.2)
    assert await looked(cap, told, [*dead, filed, spooled]) == sorted(
        [*(output.key for output in dead), "filed", "spooled"]
    )
    threads.close()


def test_the_files_of_an_attempt(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path))

    def of(stdout: OsString | None, stderr: OsString | None) -> Output:
        return output_of("k", Note("j", 1, 2, 3, stdout=stdout, stderr=stderr), spool)

    assert of(None, "null") == Output("k", (f"{tmp_path}/j/0/1.3.out",), True)
    assert of("/a", None) == Output("k", ("/a", f"{tmp_path}/j/0/1.3.err"), False)
    assert of("null", "null") == Output("k", (), True)
