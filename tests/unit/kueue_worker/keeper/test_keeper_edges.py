"""Rare turns that once went wrong: processes that survive KILL, unusual orders."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue_worker.keeper.attempts import Attempt
from kueue_worker.keeper.records import NAME, Records, read
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import KeeperProcess, is_alive

HANGING = """
import kueue_worker.keeper.kill as kill
kill.GIVE_UP_SECONDS = 0.2
kill._signal = lambda *_: None
"""
"""A keeper whose signals have no effect, as on processes that hang in the kernel."""


class AlteredKeeper(KeeperProcess):
    """A keeper that runs some lines before it serves."""

    def __init__(self, spool: Path, lines: str) -> None:
        super().__init__(spool)
        self.lines = lines

    def start(self, *options: str) -> int:
        """Start it; its pid."""
        serve = "import sys\nfrom kueue_worker.keeper.__main__ import main\nsys.exit(main(sys.argv[1:]))"
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"{self.lines}\n{serve}", "--spool", str(self.spool), *options],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        return self.process.pid


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def hanging(spool: Path) -> Iterator[KeeperProcess]:
    keeper = AlteredKeeper(spool, HANGING)
    keeper.start()
    yield keeper
    keeper.close()


def test_a_process_that_hangs_in_the_kernel_does_not_keep_the_keeper_from_ending(
    hanging: KeeperProcess,
) -> None:
    agent = hanging.agent()
    key = agent.shell("exec sleep 600")
    pid = agent.started(key)["pid"]
    agent.kill(key, grace=0.1)
    assert (agent.ended(key)["end"], is_alive(pid)) == ("stopped", True)
    agent.send({"m": "exit", "grace": 0.1})
    assert hanging.wait() == 0
    os.kill(pid, signal.SIGKILL)
    agent.close()


def test_a_hung_process_that_ends_after_all_hides_no_other_job(hanging: KeeperProcess) -> None:
    agent = hanging.agent()
    key = agent.shell("exec sleep 600")
    pid = agent.started(key)["pid"]
    agent.kill(key, grace=0.1)
    agent.ended(key)
    os.kill(pid, signal.SIGKILL)
    wait_for("it is reaped", lambda: not Path(f"/proc/{pid}").exists())
    os.mkfifo(hanging.spool / "go")
    other = agent.shell("read line < go; exit 7")
    agent.started(other)
    agent.send({"m": "exit", "grace": 30})
    (hanging.spool / "go").write_text("on\n")
    assert agent.ended(other)["status"] == 7 << 8
    assert hanging.wait() == 0
    agent.close()


def test_an_attempt_that_is_forgotten_and_started_again_at_once_is_on_file(spool: Path) -> None:
    spool.mkdir()
    attempts = {"j/1/1": Attempt("j/1/1", 1, 1, "first")}
    records = Records(str(spool), "boot", attempts)
    records.forget(["j/1/1"])
    attempts["j/1/1"] = Attempt("j/1/1", 1, 1, "second")
    records.will_spawn(attempts.values())
    assert read(str(spool)).attempts["j/1/1"].note == "second"
    records.flush()
    assert [json.loads(line)["r"] for line in (spool / NAME).read_text().splitlines()][-2:] == [
        "forget",
        "spawn",
    ]


def test_a_connection_that_never_says_hello_does_not_keep_an_idle_keeper(spool: Path) -> None:
    keeper = KeeperProcess(spool, "--idle", "0.5")
    keeper.start()
    silent = keeper.connect()
    assert keeper.wait() == 0
    silent.close()
