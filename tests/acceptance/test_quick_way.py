"""`kueue cmd` on its quick way, with a real server: refusals are told, and a lost answer makes no second job."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kueue import quick_submit
from kueue.client_config import ClientConfig
from tests.support.lab import Lab


def cmd(lab: Lab, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from kueue.cli import main; code = main(sys.argv[1:]); sys.stdout.flush();"
        "print('msgspec' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**lab.env, **env},
        cwd=lab.work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_plain_submit_takes_the_quick_way_and_runs(lab: Lab) -> None:
    done = cmd(lab, "cmd", "--name", "é", "--env", "A=1 2", "--", "sh", "-c", 'echo "$A" > out')
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert done.stderr == "False\n"
    assert lab.wait_state(1, "succeeded")["name"] == "é"
    assert (lab.work / "out").read_text() == "1 2\n"


def test_warnings_are_said_as_by_the_client(lab: Lab) -> None:
    done = cmd(lab, "cmd", "--worker", "nobody", "true")
    assert done.returncode == 0
    assert "job 1: " in done.stderr
    assert "nobody" in done.stderr or "worker" in done.stderr


def test_a_refusal_is_told_by_the_long_way(lab: Lab) -> None:
    done = cmd(lab, "cmd", "--resource", "unheard_of", "true")
    assert done.returncode != 0
    assert "unheard_of" in done.stderr
    assert done.stderr.endswith("True\n")
    assert lab.json("list-jobs") == []


def test_jobs_that_wait_for_others_take_the_quick_way_and_are_refused_by_the_long_one(lab: Lab) -> None:
    for words in (("true",), ("--after", "1,last", "--after-any", "1", "--on-failure", "hold", "true")):
        done = cmd(lab, "cmd", *words)
        assert (done.returncode, done.stderr) == (0, "False\n")
    found = lab.wait_state(2, "succeeded")
    assert (found["after"], found["after_any"], found["on_failure"]) == ([[1, 1]], [[1, 1]], "hold")
    done = cmd(lab, "cmd", "--after", "1,7", "true")
    assert done.returncode != 0
    assert "no job 7 that could be waited for" in done.stderr
    assert done.stderr.endswith("True\n")


def test_a_directory_that_each_machine_has_its_own_of_keeps_a_job_here_on_both_ways(lab: Lab) -> None:
    quick, long = cmd(lab, "cmd", "true"), cmd(lab, "cmd", "--wait", "true")  # the lab is below /tmp
    assert (quick.stderr, long.stderr.splitlines()[-1]) == ("False\n", "True")
    asked = [lab.json("show-job", job)["workers"] for job in ("1", "2")]
    assert asked == [[socket.gethostname()]] * 2
    assert cmd(lab, "cmd", "--worker", "w*", "true").returncode == 0
    assert lab.json("show-job", "3")["workers"] == ["w*"]
    assert cmd(lab, "cmd", "-C", "/", "true").returncode == 0
    assert lab.json("show-job", "4")["workers"] == []


def test_bytes_that_are_not_utf_8_go_the_long_way(lab: Lab) -> None:
    done = cmd(lab, "cmd", "--wait", "printf", "%s", os.fsdecode(b"\xff"))
    assert done.returncode == 0, done.stderr


class Middle:
    """Passes bytes between clients and the server; cuts the first connection after some pieces of the server's."""

    def __init__(self, server: tuple[str, int], pieces: int) -> None:
        self._server = server
        self._pieces = pieces
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._connections = 0
        self.has_cut = False
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with self._listening:
            while True:
                try:
                    here, _ = self._listening.accept()
                except OSError:
                    return
                self._connections += 1
                left = self._pieces if self._connections == 1 else None
                threading.Thread(target=self._connect, args=(here, left), daemon=True).start()

    def _connect(self, here: socket.socket, left: int | None) -> None:
        with here, socket.create_connection(self._server) as there:
            back = threading.Thread(target=self._pass, args=(here, there, None), daemon=True)
            back.start()
            self._pass(there, here, left)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if left is not None:
                    if left == 0:
                        self.has_cut = True
                        break
                    left -= 1
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("pieces", range(7))
def test_a_lost_answer_makes_no_second_job(make_lab: Callable[..., Lab], pieces: int) -> None:
    lab = make_lab()
    lab.start_server()
    middle = Middle((lab.host, lab.port), pieces)
    try:
        config = lab.place / "middle.toml"
        config.touch(mode=0o600)
        text = lab.config.read_text()
        assert f"server_port = {lab.port}" in text
        config.write_text(text.replace(f"server_port = {lab.port}", f"server_port = {middle.port}"))
        # Another state directory: what is found in the lab's own would lead past the middle.
        done = cmd(lab, "-c", str(config), "cmd", "true", KUEUE_STATE_DIR=str(lab.place / "another"))
    finally:
        middle.close()
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert done.stderr.splitlines()[-1] == str(middle.has_cut)  # then the client has done it
    assert [job["id"] for job in lab.json("list-jobs")] == [1]


def test_a_server_without_the_secret_gets_no_job(lab: Lab) -> None:
    wrong = ClientConfig(path="/nowhere", shared_secret="another-secret-of-some-length")
    job: dict[str, Any] = {
        "payload": {"kind": "command", "argv": ["true"]},
        "cwd": "/",
        "volume": "/",
        "shape": {},
    }
    blob = quick_submit.context([])
    address = (lab.host, lab.port)
    assert quick_submit.submit(wrong, address, "t", quick_submit.spec(job, blob), blob, "0") is None
    assert lab.json("list-jobs") == []
