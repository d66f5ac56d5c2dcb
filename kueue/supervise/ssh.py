"""Connections to the machines: asyncssh, with the user's agent, key files and `~/.ssh/config`, and never unchecked.

Host keys are compared with the known ones whatever a configuration says; nothing is forwarded; nobody is ever
asked for a password. What goes wrong is one line that says what helps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

import asyncssh
import msgspec

from kueue.config import RestartWorkers
from kueue.errors import ConfigError
from kueue.supervise import keys
from kueue.supervise.hosts import Host, expand
from kueue.supervise.remote.orders import MARK
from kueue.supervise.seen import Fault
from kueue.supervise.sent import COMMAND, program
from kueue.text import visible

GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
USERS_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
CONFIGS = ("~/.ssh/config", "/etc/ssh/ssh_config")
MAX_ANSWER = 4 * 1024 * 1024
T = TypeVar("T")


class HostError(Exception):
    """This machine can't be reached or does not do what it is told; the text is one line for people.

    `reached`: somebody could log in. `by_keys`: it is our keys that were not taken. `shut`: nobody took so much as
    a connection.
    """

    def __init__(
        self, text: str, *, reached: bool = False, by_keys: bool = False, shut: bool = False
    ) -> None:
        super().__init__(text)
        self.reached = reached
        self.by_keys = by_keys
        self.shut = shut


class Machine:
    """An open session on a machine: orders out, answers in, one at a time."""

    def __init__(self, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._process = process
        self._buffer = b""
        self._noise = b""
        self._write(program())

    async def ask(self, order: bytes, kind: type[T], seconds: float) -> T:
        """The answer to an order.

        Raises:
            HostError: none came in `seconds`, or it is a fault.
        """
        try:
            async with asyncio.timeout(seconds):
                self._write(order)
                line = await self._answer()
        except TimeoutError:
            raise HostError(f"logged in, but no answer within {seconds:.3g} s: its login shell, its home or"
                            " the machine itself hangs", reached=True) from None  # fmt: skip
        except (asyncssh.Error, OSError) as error:
            raise HostError(f"the connection ended: {visible(str(error))}", reached=True) from None
        try:
            told = msgspec.json.decode(line, type=dict)
            if "fault" in told:
                raise HostError(visible(msgspec.convert(told, Fault).fault), reached=True)
            return msgspec.convert(told, kind)
        except msgspec.MsgspecError as error:
            raise HostError(f"an answer that makes no sense: {error}", reached=True) from None

    def _write(self, data: bytes) -> None:
        """To a shell that has ended already, nothing: what it said at its end is read as the answer is."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)

    async def _answer(self) -> bytes:
        mark = MARK.encode()
        while True:
            while (end := self._buffer.find(b"\n")) >= 0:
                line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
                if line.startswith(mark):
                    return line[len(mark) :]
                self._noise = line.strip() or self._noise
            piece = await self._process.stdout.read(65536)
            if not piece:
                raise HostError(await self._why_ended(), reached=True)
            self._buffer += piece
            if len(self._buffer) > MAX_ANSWER:
                raise HostError("its login shell prints without end", reached=True)

    async def _why_ended(self) -> str:
        said = b""
        with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                said = await self._process.stderr.read(65536)
        lines = [line.strip() for line in (said or self._buffer or self._noise).splitlines() if line.strip()]
        told = f": {visible(lines[-1].decode(errors='replace'))[:200]}" if lines else ""
        return f"its login shell ended{told}"


class _KnownHosts:
    """Known keys of hosts, and whether any were known of the one that was asked for, and it was there at all."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = [place for place in map(os.path.expanduser, files) if os.access(place, os.R_OK)]
        self.known = False
        self.asked = ""
        self.met = False

    def __call__(self, host: str, addr: str, port: int | None) -> Any:
        found = asyncssh.match_known_hosts(_read_known_hosts(tuple(self._files)), host, addr, port)
        self.known = bool(found[0] or found[1])
        self.asked = host if port in (None, 22) else f"[{host}]:{port}"
        return found


class _Client(asyncssh.SSHClient):
    """Notes that there was somebody to talk to."""

    def __init__(self, checker: _KnownHosts) -> None:
        self._checker = checker

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._checker.met = True


_read: dict[tuple[tuple[str, float], ...], asyncssh.SSHKnownHosts] = {}


def _read_known_hosts(files: tuple[str, ...]) -> asyncssh.SSHKnownHosts:
    """Read once for all hosts, and again when a file has changed."""
    key = tuple((file, os.stat(file).st_mtime) for file in files)
    if key not in _read:
        _read.clear()
        _read[key] = asyncssh.read_known_hosts(list(files))
    return _read[key]


class Connections:
    """Opens sessions as the settings and ssh's own configuration say; machines to go through are shared."""

    def __init__(self, settings: RestartWorkers) -> None:
        self._settings = settings
        self._configs = [place for place in map(os.path.expanduser, CONFIGS) if os.access(place, os.R_OK)]
        self._jumps: dict[str, asyncio.Task[asyncssh.SSHClientConnection]] = {}

    @contextlib.asynccontextmanager
    async def machine(self, host: Host, seconds: float) -> AsyncIterator[Machine]:
        """A session on `host`, opened within so long.

        Raises:
            HostError: it can't be reached.
        """
        known: list[_KnownHosts] = []
        until = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(until):
                connection = await self._connect(host, known)
        except TimeoutError:
            raise HostError(f"no answer within {seconds:.3g} s", shut=_is_shut(known)) from None
        except (asyncssh.Error, OSError, ValueError) as error:
            failure = _reason(error, host, known, self._settings)
            failure.shut = _is_shut(known)
            raise failure from None
        try:
            try:
                async with asyncio.timeout_at(until):
                    process = await _process(connection)
            except TimeoutError:
                raise HostError(f"logged in, but no session within {seconds:.3g} s", reached=True) from None
            yield Machine(process)
        finally:
            connection.abort()

    def close(self) -> None:
        """Let go of the machines gone through."""
        for task in self._jumps.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().abort()
            task.cancel()
        self._jumps.clear()

    async def is_open(self, host: Host, seconds: float) -> bool | None:
        """Does anybody take a connection there, within so long? None where the way leads through others."""
        try:
            _, options = self._options(host, jumps=0)
            if self._settings.jump_host or options.tunnel or options.proxy_command:
                return None
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(options.host, options.port, family=options.family)
        except (asyncssh.Error, OSError, ValueError):
            return False
        writer.close()
        return True

    def _options(self, host: Host, jumps: int) -> tuple[dict[str, Any], asyncssh.SSHClientConnectionOptions]:
        """Words to connect with, and what ssh's own configuration makes of them."""
        settings = self._settings
        port = host.port or (settings.ssh_port if jumps == 0 else None)
        words: dict[str, Any] = {
            "config": self._configs,
            "agent_forwarding": False,
            "x11_forwarding": False,
            "gss_delegate_creds": False,
            "password_auth": False,
            "kbdint_auth": False,
            "ignore_encrypted": True,
            "connect_timeout": None,
        }
        if port is not None:
            words["port"] = port
        user = host.user or settings.ssh_user
        if user is not None:
            words["username"] = user
        if settings.ssh_key_files:
            words["client_keys"] = keys.named(settings)
        return words, asyncssh.SSHClientConnectionOptions(host=host.name, **words)

    async def _connect(
        self, host: Host, known: list[_KnownHosts], jumps: int = 0, through: str = ""
    ) -> asyncssh.SSHClientConnection:
        settings = self._settings
        words, options = self._options(host, jumps)
        if settings.known_hosts is not None:
            files: Sequence[str] = (settings.known_hosts,)
        else:
            # Without a file, or with `none` in a configuration, asyncssh would use one file only or check nothing.
            named = options.known_hosts or ()
            files = [*(named if isinstance(named, list) else USERS_KNOWN_HOSTS), *GLOBAL_KNOWN_HOSTS]
        checker = _KnownHosts(files)
        known.append(checker)
        tunnel = through or (settings.jump_host if jumps == 0 else None) or options.tunnel
        words["tunnel"] = None
        if isinstance(tunnel, str) and tunnel and tunnel != host.name and jumps < 8:
            words["tunnel"] = await self._jump(tunnel, jumps + 1)
        return await asyncssh.connect(
            host.name, known_hosts=checker, client_factory=lambda: _Client(checker), **words
        )

    async def _jump(self, tunnel: str, jumps: int) -> asyncssh.SSHClientConnection:
        """The machine to go through last; what comes before it in a list is gone through first, by itself."""
        task = self._jumps.get(tunnel)
        if task is None or (
            task.done() and (task.cancelled() or task.exception() or task.result().is_closed())
        ):
            task = self._jumps[tunnel] = asyncio.create_task(self._open_jump(tunnel, jumps))
            task.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # nobody may wait any more
        return await asyncio.shield(task)

    async def _open_jump(self, tunnel: str, jumps: int) -> asyncssh.SSHClientConnection:
        known: list[_KnownHosts] = []
        before, _, last = tunnel.rpartition(",")
        host = Host(last.strip())
        try:
            (host,) = expand([host.name])
            # Less than the host behind it has: it is to be blamed, not that.
            async with asyncio.timeout(0.8 * self._settings.connect_timeout_seconds):
                return await self._connect(host, known, jumps, before)
        except TimeoutError:
            raise OSError(f"no answer from {host.label}, which is gone through") from None
        except (asyncssh.Error, OSError, ValueError, ConfigError) as error:
            reason = _reason(error, host, known, self._settings)
            raise OSError(f"through {host.label}: {reason}") from None


async def _process(connection: asyncssh.SSHClientConnection) -> asyncssh.SSHClientProcess[bytes]:
    try:
        return await connection.create_process(
            COMMAND, encoding=None, request_pty=False, send_env=[], env={}, x11_forwarding=False
        )
    except (asyncssh.Error, OSError) as error:
        raise HostError(f"logged in, but no session: {visible(str(error))}", reached=True) from None


def _is_shut(known: Sequence[_KnownHosts]) -> bool:
    """Of the machines on the way and the one that was asked for, did none take a connection?"""
    return not any(each.met for each in known)


def _reason(
    error: Exception, host: Host, known: Sequence[_KnownHosts], settings: RestartWorkers
) -> HostError:
    """One line that says what helps."""
    user = f"{host.user or settings.ssh_user}@" if host.user or settings.ssh_user else ""
    port = host.port or settings.ssh_port
    login = shlex.join(["ssh", *(["-p", str(port)] if port else []), f"{user}{host.name}"])
    checker = known[-1] if known else _KnownHosts(())
    match error:
        case asyncssh.HostKeyNotVerifiable() if checker.known:
            forget = shlex.join(["ssh-keygen", "-R", checker.asked])
            return HostError(f"its host key has CHANGED; if you know why: {forget} && {login} true")
        case asyncssh.HostKeyNotVerifiable():
            return HostError(f"its host key is not known; compare and accept it once: {login} true")
        case asyncssh.KeyExchangeFailed() if checker.known:
            forget = shlex.join(["ssh-keygen", "-R", checker.asked])
            return HostError(
                f"it no longer has the host key that is known; if you know why: {forget} && {login} true"
            )
        case asyncssh.PermissionDenied():
            return HostError(f"it takes none of our keys{keys.situation(settings)}", by_keys=True)
        case socket.gaierror():
            return HostError("no such host")
        case ConnectionRefusedError():
            return HostError(f"refuses connections to port {port or 22}: is its sshd running?")
        case OSError():
            return HostError(visible(error.strerror or str(error)) or "the connection failed")
        case _:
            return HostError(visible(str(error)) or type(error).__name__)
