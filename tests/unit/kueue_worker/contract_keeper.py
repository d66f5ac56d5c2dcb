"""A stand-in for the keeper, made from the contract in `kueue_worker.keeper` alone; runs real processes.

For what a real keeper can't be asked to do at will: fall silent, forget an environment, die between two
messages. It lives on the test's loop and serves one agent at a time, as the contract says.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
from typing import Any

from kueue_worker.host import boottime

LENGTH = struct.Struct(">I")
Message = dict[str, Any]


class ContractKeeper:
    """Serves at an abstract socket. `instant`: jobs end well at once, without a process."""

    def __init__(self, address: str, *, instant: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"\0{address}")
        self._listener.listen(5)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)
        self._agent: socket.socket | None = None
        self._buffer = bytearray()
        self._descriptors: list[int] = []
        self._out: list[Message] = []
        self._instant = instant
        self.keeper = secrets.token_hex(8)
        self.silent = False
        self.exited = asyncio.Event()
        self.records: dict[str, Message] = {}
        self.environments: dict[str, dict[str, str]] = {}
        self.directories: dict[int, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.spawned: list[Message] = []
        self._killed: dict[str, str] = {}
        self._waits: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------- for tests

    def forget_environments(self) -> None:
        """As if too many others had been used since."""
        self.environments.clear()

    def drop_agent(self) -> None:
        """The connection ends."""
        if self._agent is not None:
            self._loop.remove_reader(self._agent.fileno())
            self._agent.close()
            self._agent = None
            self._buffer.clear()

    def send(self, message: Message) -> None:
        """To the agent; all of one run of the loop in one frame."""
        self._out.append(message)
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """End everything."""
        self.drop_agent()
        with contextlib.suppress(ValueError, OSError):
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if self._waits:
            await asyncio.wait(self._waits)
        for descriptor in [*self.directories.values(), *self._descriptors]:
            os.close(descriptor)
        self.directories.clear()

    # ---------------------------------------------------------------- the socket

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        self.drop_agent()
        self._agent = connection
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._agent is not None
        try:
            data, ancillary, _, _ = self._agent.recvmsg(1 << 20, socket.CMSG_SPACE(1024))
        except OSError:
            data, ancillary = b"", []
        for _, _, raw in ancillary:
            received = array.array("i")
            received.frombytes(raw)
            self._descriptors += received
        if not data:
            self.drop_agent()
            return
        self._buffer += data
        while len(self._buffer) >= 4:
            (length,) = LENGTH.unpack_from(self._buffer)
            if len(self._buffer) < 4 + length:
                return
            body = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            for message in json.loads(body):
                self._on_message(message)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._agent is None or self.silent:
            return
        body = json.dumps(out).encode()
        self._agent.setblocking(True)
        with contextlib.suppress(OSError):
            self._agent.sendall(LENGTH.pack(len(body)) + body)
        self._agent.setblocking(False)

    # ---------------------------------------------------------------- the contract

    def _on_message(self, message: Message) -> None:
        match message["m"]:
            case "hello":
                assert message["v"] == 1
                records = list(self.records.values())
                for start in range(0, len(records), 500):
                    part = records[start : start + 500]
                    self.send({"m": "state", "v": 1, "keeper": self.keeper, "records": part, "more": True})
                self.send({"m": "state", "v": 1, "keeper": self.keeper, "records": [], "more": False})
            case "env":
                self.environments[message["id"]] = dict(message["env"])
            case "dir":
                self.directories[message["id"]] = self._descriptors.pop(0)
            case "undir":
                os.close(self.directories.pop(message["id"]))
            case "spawn":
                self._spawn(message)
            case "kill":
                self._kill(message)
            case "forget":
                for key in message["keys"]:
                    self.records.pop(key, None)
            case "ping":
                self.send({"m": "pong", "n": message["n"]})
            case "exit":
                self.exited.set()
                self.drop_agent()
            case other:
                raise AssertionError(f"not in the contract: {other}")

    def _output(self, wanted: Any) -> int:
        if wanted == "null":
            return os.open("/dev/null", os.O_WRONLY)
        if "path" in wanted:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            return os.open(wanted["path"], flags, 0o600)
        return self._descriptors.pop(0)

    def _spawn(self, message: Message) -> None:
        self.spawned.append(message)
        key = message["key"]
        out = self._output(message["out"])
        err = os.dup(out) if message["err"] == "out" else self._output(message["err"])
        if message["env"] not in self.environments:
            os.close(out)
            os.close(err)
            self.send({"m": "no_env", "key": key, "id": message["env"]})
            return
        started = boottime()
        record = {"key": key, "job": message["job"], "attempt": message["attempt"], "state": "running"}
        self.records[key] = {**record, "pid": 0, "started": started, "note": message["note"]}
        if self._instant:
            os.close(out)
            os.close(err)
            self.send({"m": "started", "key": key, "pid": 1, "started": started})
            self._ended(key, "exited", 0, 0.0, 0)
            return
        environment = {**self.environments[message["env"]], **dict(message["extra"]), "KUEUE_FENCE": key}
        directory = self.directories[message["dir"]]
        try:
            process = subprocess.Popen(
                [os.fsencode(word) for word in message["argv"]],
                executable=os.fsencode(message["program"]),
                cwd=f"/proc/self/fd/{directory}",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=(directory,),
            )
        except OSError as error:
            self._ended(key, "not_started", None, 0.0, 0, "spawn", str(error.strerror))
            return
        finally:
            os.close(out)
            os.close(err)
        self.processes[key] = process
        self.send({"m": "started", "key": key, "pid": process.pid, "started": started})
        task = self._loop.create_task(self._wait(key, process))
        self._waits.add(task)
        task.add_done_callback(self._waits.discard)

    async def _wait(self, key: str, process: subprocess.Popen[bytes]) -> None:
        _, status, usage = await asyncio.to_thread(os.wait4, process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        del self.processes[key]
        end = self._killed.pop(key, "exited")
        self._ended(key, end, status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)

    def _ended(
        self, key: str, end: str, status: int | None, cpu: float, peak: int, code: str = "", text: str = ""
    ) -> None:
        record = self.records[key]
        fields = {"end": end, "status": status, "started": record["started"], "ended": boottime()}
        fields |= {"cpu_seconds": cpu, "peak_kb": peak, "code": code, "text": text}
        if end == "not_started":
            fields |= {"started": None}
        record |= {**fields, "state": "ended"}
        self.send({"m": "ended", "key": key, **fields})

    def _kill(self, message: Message) -> None:
        process = self.processes.get(message["key"])
        if process is None:
            return
        self._killed[message["key"]] = message["end"]
        os.killpg(process.pid, signal.SIGTERM)

        def kill() -> None:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

        self._loop.call_later(message["grace"], kill)
