"""What a start needs is found side by side where one thing does not depend on the other; real threads and files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from kueue.resources import Shape
from kueue.wire.messages import Command, Context, Spec
from kueue_worker import directories, preparation, programs
from kueue_worker.contexts import Contexts
from kueue_worker.core.events import LookDone, PrepareDone
from kueue_worker.core.instructions import Prepare
from kueue_worker.directories import Directories, OpenDirectory
from kueue_worker.preparation import Preparations
from kueue_worker.threads import DeadlineThreads

ENOUGH_SECONDS = 20.0


class Bench:
    """Preparations, and the descriptors that a keeper would have been handed."""

    def __init__(self) -> None:
        self.contexts = Contexts()
        self.done: asyncio.Queue[PrepareDone] = asyncio.Queue()
        self.threads = DeadlineThreads(asyncio.get_running_loop())
        self.handed: list[int] = []
        places = Directories(self.threads, time.monotonic, self._hand_over, lambda number: None)
        self.preparations = Preparations(
            self.threads, places, self.contexts, "host", time.monotonic, self._looked, self.done.put_nowait
        )

    async def prepare(self, program: str, cwd: Path, path: str) -> PrepareDone:
        """The answer to an order."""
        context = msgspec.json.encode(Context(env=(("PATH", path),)))
        self.contexts.add(context)
        spec = Spec(Command((program,)), str(cwd), "/", Shape(), hashlib.sha256(context).hexdigest())
        self.preparations.prepare(Prepare("1:1", 1, 1, spec))
        async with asyncio.timeout(ENOUGH_SECONDS):
            return await self.done.get()

    def close(self) -> None:
        """Close what the keeper would."""
        self.threads.close()
        for descriptor in self.handed:
            os.close(descriptor)

    def _hand_over(self, number: int, descriptor: int) -> None:
        self.handed.append(descriptor)

    def _looked(self, event: LookDone) -> None:
        raise AssertionError("nobody asked")


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    found = Bench()
    yield found
    found.close()


async def test_a_program_is_looked_for_while_the_directory_does_not_answer_yet(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for = threading.Event()
    open_directory, find_program = directories.open_directory, programs.find_program

    def slow(path: str) -> OpenDirectory:
        assert looked_for.wait(ENOUGH_SECONDS)
        return open_directory(path)

    def find(name: str, path: str, cwd: str) -> str:
        found = find_program(name, path, cwd)
        looked_for.set()
        return found

    monkeypatch.setattr(directories, "open_directory", slow)
    monkeypatch.setattr(preparation, "find_program", find)
    assert await bench.prepare("sh", tmp_path, "/bin") == PrepareDone("1:1")
    job = bench.preparations.take("1:1")
    assert job is not None
    assert (job.program, job.directory is None) == ("/bin/sh", False)


async def test_a_program_of_the_directory_is_looked_for_there_once_it_is_open(
    bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o700)
    assert await bench.prepare("./run", tmp_path, "/bin") == PrepareDone("1:1")
    job = bench.preparations.take("1:1")
    assert job is not None
    assert job.program == "./run"


@pytest.mark.parametrize("program", ["sh", "nothing-of-this-name", "./nothing"])
async def test_a_missing_directory_is_the_reason_whatever_the_program(
    bench: Bench, tmp_path: Path, program: str
) -> None:
    answer = await bench.prepare(program, tmp_path / "absent", "/bin")
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.ancestor) == ("no_directory", str(tmp_path))
    assert bench.preparations.take("1:1") is None


async def test_a_missing_program_is_the_reason_where_the_directory_is_there(
    bench: Bench, tmp_path: Path
) -> None:
    answer = await bench.prepare("nothing-of-this-name", tmp_path, "/bin")
    assert answer.refusal is not None
    assert (answer.refusal.code, answer.ancestor) == ("no_program", None)
