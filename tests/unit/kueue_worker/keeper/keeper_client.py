"""A keeper as a process, and a plain synchronous agent that talks to it; with deadlines on everything."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kueue_worker.keeper.place import keeper_address
from kueue_worker.keeper.wire import Message, Wire, WireError, connect

SECONDS = 60.0
FENCES = itertools.count(1)


class KeeperProcess:
    """A keeper with a spool of its own. `close` ends it and all that carries the fence of one of its jobs."""

    def __init__(self, spool: Path, *options: str) -> None:
        self.spool = spool
        self.address = keeper_address(str(spool))
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self._agents: list[Agent] = []
        self.mark = f"{os.getpid()}-{spool.name}-{spool.parent.name}"

    def start(self, *options: str) -> int:
        """Start it; its pid."""
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "kueue_worker.keeper",
                "--spool",
                str(self.spool),
                *self.options,
                *options,
            ],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        return self.process.pid

    def agent(self) -> Agent:
        """Connect as soon as it serves, say hello, and read its state."""
        agent = self.connect()
        agent.hello()
        return agent

    def connect(self) -> Agent:
        """Connect as soon as it serves."""
        until = time.monotonic() + SECONDS
        while True:
            try:
                agent = Agent(connect(self.address), self)
            except (ConnectionRefusedError, BlockingIOError):
                assert self.process is None or self.process.poll() is None, self.log()
                assert time.monotonic() < until, f"the keeper does not come up\n{self.log()}"
                time.sleep(0.01)
            else:
                self._agents.append(agent)
                return agent

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self.process is not None
        self.process.terminate()

    def wait(self) -> int:
        """Its exit code."""
        assert self.process is not None
        return self.process.wait(SECONDS)

    def log(self) -> str:
        """What it wrote to its log."""
        path = self.spool / "keeper.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        """End everything."""
        for agent in self._agents:
            agent.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in processes_with(f"KUEUE_FENCE={self.mark}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Agent:
    """An agent of the simplest kind. What it was told is in `told`, in order."""

    def __init__(self, wire: Wire, keeper: KeeperProcess) -> None:
        self.wire = wire
        self.keeper = keeper
        self.told: list[Message] = []
        self.records: dict[str, Message] = {}
        self.state: Message = {}
        self._directory: int | None = None
        self._has_environment = False

    # ---------------------------------------------------------------- the connection

    def send(self, *messages: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a frame, all of it; descriptors are closed here."""
        self.wire.send(messages, descriptors)
        until = time.monotonic() + SECONDS
        while self.wire.wants_write:
            assert time.monotonic() < until
            select.select([], [self.wire], [], 1.0)
            self.wire.flush()

    def send_bytes(self, data: bytes) -> None:
        """Send what may be no frame."""
        os.write(self.wire.fileno(), data)

    def receive(self, seconds: float = SECONDS) -> bool:
        """Take in what comes next; False if it was the end of the connection."""
        assert select.select([self.wire], [], [], seconds)[0], f"nothing comes\n{self.keeper.log()}"
        try:
            frames = self.wire.receive()
        except WireError:
            return False
        if frames is None:
            return False
        self.told += itertools.chain.from_iterable(frames)
        return True

    def until(self, what: str, found: Callable[[list[Message]], Any]) -> Any:
        """Receive until `found` of all that was told is true; that value."""
        deadline = time.monotonic() + SECONDS
        while not (value := found(self.told)):
            assert time.monotonic() < deadline, f"not told: {what}\n{self.told}\n{self.keeper.log()}"
            assert self.receive(), f"connection ended before: {what}\n{self.told}\n{self.keeper.log()}"
        return value

    def wait_closed(self) -> None:
        """Receive until the keeper has closed the connection."""
        while self.receive():
            pass

    def close(self) -> None:
        """Go away."""
        self.wire.close()

    # ---------------------------------------------------------------- what agents do

    def hello(self) -> None:
        """Say hello, read the state."""
        self.send({"m": "hello", "v": 1, "agent": "test"})
        self.until("state", lambda told: any(m["m"] == "state" and not m["more"] for m in told))
        for message in self.told:
            if message["m"] == "state":
                self.state = message
                self.records |= {record["key"]: record for record in message["records"]}
        self.told = [message for message in self.told if message["m"] != "state"]

    def order(self, argv: Sequence[str | bytes], **fields: Any) -> Message:
        """A `spawn` with defaults; environment and directory have been sent before it."""
        if not self._has_environment:
            self.environment(base_environment())
            self._has_environment = True
        if self._directory is None and "dir" not in fields:
            self._directory = self.directory(self.keeper.spool)
        words = [os.fsdecode(word) for word in argv]
        fence = next(FENCES)
        return {
            "m": "spawn",
            "key": f"{self.keeper.mark}/1/{fence}",
            "job": 1,
            "attempt": 1,
            "program": words[0],
            "argv": words,
            "env": "base",
            "extra": [],
            "dir": self._directory,
            "out": "null",
            "err": "null",
            "umask": None,
            "limits": {},
            "nice": 0,
            "oom": 0,
            "time_limit": None,
            "note": {"any": ["thing"]},
            **fields,
        }

    def spawn(self, argv: Sequence[str | bytes], descriptors: Sequence[int] = (), **fields: Any) -> str:
        """Order a start; the key."""
        message = self.order(argv, **fields)
        self.send(message, descriptors=descriptors)
        return str(message["key"])

    def shell(self, script: str, **fields: Any) -> str:
        """Order a start of /bin/sh; the key."""
        return self.spawn(["/bin/sh", "-c", script], **fields)

    def environment(self, variables: Mapping[str, str], name: str = "base") -> None:
        """Send an environment."""
        self.send({"m": "env", "id": name, "env": [[key, value] for key, value in variables.items()]})

    def directory(self, path: Path, name: int | None = None) -> int:
        """Send a directory; its number."""
        number = next(FENCES) if name is None else name
        self.send({"m": "dir", "id": number}, descriptors=[os.open(path, os.O_RDONLY | os.O_DIRECTORY)])
        return number

    def kill(self, key: str, grace: float = 20.0, end: str = "stopped") -> None:
        """Order a kill."""
        self.send({"m": "kill", "key": key, "grace": grace, "end": end})

    def forget(self, *keys: str) -> None:
        """Order to forget."""
        self.send({"m": "forget", "keys": list(keys)})

    def ping(self) -> None:
        """Until this returns all messages sent before have been dealt with."""
        number = next(FENCES)
        self.send({"m": "ping", "n": number})
        self.until("pong", lambda told: any(m["m"] == "pong" and m["n"] == number for m in told))

    def started(self, key: str) -> Message:
        """Wait until it is told to have started."""
        return self._told("started", key)

    def ended(self, key: str) -> Message:
        """Wait until it is told to have ended."""
        return self._told("ended", key)

    def run(self, argv: Sequence[str | bytes], **fields: Any) -> Message:
        """Start, and wait for the end."""
        return self.ended(self.spawn(argv, **fields))

    def output(self, script: str, **fields: Any) -> str:
        """What a shell script writes to its stdout."""
        path = self.keeper.spool / f"{next(FENCES)}.out"
        ended = self.ended(self.shell(script, **{"out": {"path": str(path)}, "err": "out", **fields}))
        text = path.read_text()
        assert (ended["end"], ended["status"]) == ("exited", 0), (ended, text)
        return text

    def _told(self, kind: str, key: str) -> Message:
        def find(told: list[Message]) -> Message | None:
            return next((m for m in told if m["m"] == kind and m["key"] == key), None)

        found: Message = self.until(f"{kind} {key}", find)
        return found


def base_environment() -> dict[str, str]:
    """A small environment for jobs."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}


def processes_with(text: str) -> list[int]:
    """Living processes that have this in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if text.encode() in Path("/proc", name, "environ").read_bytes() and is_alive(int(name)):
                    found.append(int(name))
    return found


def is_alive(pid: int) -> bool:
    """Is there such a process, and not only what is left to be waited for?"""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat[stat.rindex(b")") + 2 :][:1] not in (b"Z", b"X")
