"""`kueue …` as a process of its own, forked from one that has imported it: most of what a lab would wait for is an
interpreter that starts. For commands that a test needs; one that is tested itself is started as people start it.

Run as a program, by its path, this is that process. It imports nothing of the tests, so that what is tested is what
is installed. A connection is one command; the child that serves it tells its pid, is sent the request, and at the end
sends the exit code.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kueue.cli.commands import FAMILIES

MODULES = (
    *(f"kueue.cli.{module}" for modules in FAMILIES.values() for module in modules.values()),
    "kueue.cli.render.cluster",
    "kueue.cli.render.jobs",
    "kueue.cli.render.json_rows",
    "kueue.config",
    "kueue.operations",
    "kueue.wire.connection",
)


class WarmClient:
    """Starts the process that the commands are forked from; `run` may be called by several threads.

    Args:
        before: words before its command, which becomes it.
        env: what it is started with (this process's own environment), whatever commands have later.
    """

    def __init__(self, before: Sequence[str] = (), env: dict[str, str] | None = None) -> None:
        self._place = tempfile.mkdtemp(prefix="kueue-warm-")
        self._address = os.path.join(self._place, "socket")
        self._process = subprocess.Popen(
            [*before, sys.executable, __file__, self._address],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def run(
        self, arguments: Sequence[str | bytes], *, env: dict[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `kueue …` with nothing to read.

        Raises:
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        words = [os.fsdecode(word) for word in arguments]
        outputs = tempfile.mkdtemp(dir=self._place)
        request = {"arguments": words, "env": env, "cwd": str(cwd), "outputs": outputs}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._address)
            with connection.makefile("rb") as answers:
                pid = int(answers.readline())
                connection.sendall(json.dumps(request).encode() + b"\n")
                connection.settimeout(timeout)
                try:
                    code = answers.readline()
                except TimeoutError:
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(["kueue", *words], timeout) from None
        texts = [Path(outputs, name).read_bytes() for name in ("out", "err")]
        shutil.rmtree(outputs)
        return subprocess.CompletedProcess(["kueue", *words], int(code), *texts)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve(address: str) -> None:
    """Fork a child for each connection until our parent has closed our stdin, or is no more."""
    for module in MODULES:
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        os.write(1, b"ready\n")
        while True:
            readable, _, _ = select.select([listener.fileno(), 0], [], [])
            if 0 in readable:
                break
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _be_kueue(connection)
            connection.close()
    shutil.rmtree(os.path.dirname(address), ignore_errors=True)


def _be_kueue(connection: socket.socket) -> None:
    """Be one command; never returns."""
    code = 1
    with contextlib.suppress(BaseException):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        connection.sendall(b"%d\n" % os.getpid())
        request: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        for descriptor, name in ((0, os.devnull), (1, "out"), (2, "err")):
            path = os.path.join(request["outputs"], name)
            opened = os.open(path, os.O_RDWR | os.O_CREAT)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = ["kueue", *request["arguments"]]
        code = _exit_code()
        sys.stdout.flush()
        sys.stderr.flush()
    connection.sendall(b"%d\n" % code)
    os._exit(0)


def _exit_code() -> int:
    from kueue.cli import main

    try:
        return main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    _serve(sys.argv[1])
