"""One machine, nothing but the template configured: the first command, `up`, `down`, several first calls at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue.config_file import create_config
from tests.support.waiting import wait_for

CHECKED = "\ndynamic_check_free_resources = true"
NOT_CHECKED = "\ndynamic_check_free_resources = false"


class Home:
    """A user's home in which Kueue was never used. The port is taken, so the local server takes another one."""

    def __init__(self, place: Path) -> None:
        self.state = place / "state"
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("KUEUE_")},
            "HOME": str(place),
            "XDG_CONFIG_HOME": str(place / "config"),
            "XDG_STATE_HOME": str(place / "xdg-state"),
            "KUEUE_STATE_DIR": str(self.state),
            "NO_COLOR": "1",
        }
        self.place = place
        self.config = place / "config" / "kueue" / "config.toml"
        create_config(self.config)
        # A machine that is busy with other tests is one on which Kueue rightly starts nothing.
        text = self.config.read_text()
        assert text.count(CHECKED) == 1
        self.config.write_text(text.replace(CHECKED, NOT_CHECKED))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "kueue", *arguments],
            env=self.env,
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()

    def daemons(self) -> list[bytes]:
        """Command lines of the daemons of this home."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if str(self.state).encode() in environment and (
                    b"kueue_server" in words or b"kueue_worker" in words
                ):
                    found.append(words)
        return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """Ended with everything that was started in it."""
    home = Home(tmp_path)
    yield home
    home.run("down", "--kill")
    wait_for("nothing of this home runs any more", lambda: not home.daemons())


def test_the_first_command_starts_what_it_needs_and_says_so_in_one_line(home: Home) -> None:
    code, out, err = home.run("cmd", "--wait", "--", "uname", "-a")
    assert (code, out) == (0, "0\n")
    lines = err.splitlines()
    assert "started a local server and worker" in lines[0]
    assert lines[1].startswith("job 1 → ")
    assert home.run("logs", "1")[1].startswith("Linux")
    code, out, err = home.run("cmd", "--wait", "true")
    assert "started" not in err


def test_the_first_command_writes_a_configuration_that_only_its_user_can_read(home: Home) -> None:
    home.config.unlink()
    assert home.run("cmd", "true")[0] == 0
    assert home.config.stat().st_mode & 0o777 == 0o600


def test_several_first_calls_at_once_start_one_server_and_one_worker(home: Home) -> None:
    calls = [home.start("cmd", "--wait", "sh", "-c", f"exit {number}") for number in range(6)]
    codes = []
    for call in calls:
        call.communicate(timeout=90)
        codes.append(call.returncode)
    assert codes == list(range(6))
    assert sum(b"kueue_server" in words for words in home.daemons()) == 1
    agents = [words for words in home.daemons() if b"kueue_worker\0" in words]
    assert len(agents) == 1


def test_up_and_down_are_each_others_reverse_and_may_be_repeated(home: Home) -> None:
    assert home.run("up")[0] == 0
    assert len(home.daemons()) == 3  # server, agent, keeper
    code, _, err = home.run("up")
    assert code == 0
    assert "run already" in err
    assert home.run("down")[0] == 0
    wait_for("all of them have ended", lambda: not home.daemons())
    assert home.run("down")[0] == 0
    code, _, err = home.run("list-jobs")
    assert code == 3
    assert "kueue up" in err


def test_down_says_what_becomes_of_unfinished_jobs_and_they_come_back(home: Home) -> None:
    marker = home.place / "go"
    script = f"while [ ! -e {marker} ]; do sleep 0.05; done"
    assert home.run("cmd", "sh", "-c", script)[0] == 0
    wait_for("it runs", lambda: '"running"' in home.run("show-job", "1", "--json")[1])
    code, _, err = home.run("down", "--kill")
    assert code == 0
    assert "1 running" in err
    wait_for("all of them have ended", lambda: not home.daemons())
    marker.touch()
    assert home.run("up")[0] == 0
    assert home.run("wait-job", "1")[0] == 0
    assert '"interrupted"' in home.run("show-job", "1", "--json")[1]
