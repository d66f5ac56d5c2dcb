"""A server in this process whose core is checked after each event, and peers that say whatever they like to it.

The peers authenticate as real ones do, over real TCP and TLS; from then on they send bodies of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kueue import AsyncClient, __version__
from kueue.config import load_config
from kueue.errors import ProtocolError
from kueue.wire import codec
from kueue.wire.handshake import Role
from kueue.wire.link import Link, connect
from kueue.wire.messages import Acknowledge, Heartbeat
from kueue_server.core.core import Core
from kueue_server.core.events import Event
from kueue_server.core.instructions import Instruction
from kueue_server.journal.store import open_journal
from kueue_server.server import Server
from tests.hostile.forging import encoded
from tests.support.simulated_worker import SimulatedWorker

SECRET = "a-secret-for-tests-only-0123456789abcdef"
SECONDS = 60.0
"""What is to happen at once has happened by then, however busy the machine is."""
CONFIG = """
[common_settings]
shared_secret = "{secret}"
[server_settings]
worker_timeout_seconds = 600
[global_resources]
genus = 2
"""


class CheckedServer:
    """A server on a free port. `faults`: the first event after which an invariant did not hold."""

    def __init__(self, place: Path) -> None:
        path = place / "config.toml"
        path.touch(mode=0o600)
        path.write_text(CONFIG.format(secret=SECRET))
        self.config = load_config(path)
        self.place = place
        self.port = 0
        self.faults: list[str] = []
        self.events = 0
        self.server: Server
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        """Start, on the same port as before."""
        journal = open_journal(self.place / "journal.sqlite", asyncio.get_running_loop())
        self.server = Server(self.config, journal, lambda: self.config)
        self.server.core.check_invariants()
        self._check_each_event(self.server.core)
        (self.port,) = await self.server.start([("127.0.0.1", self.port)])
        self.task = asyncio.ensure_future(self.server.run())

    async def stop(self) -> None:
        """End in order. A server that has ended by itself says why here."""
        self.server.stop()
        await self.task

    def client(self) -> AsyncClient:
        """An honest one."""
        return AsyncClient(address=("127.0.0.1", self.port), secret=SECRET)

    def _check_each_event(self, core: Core) -> None:
        handle = core.handle

        def checked(event: Event, now: float) -> list[Instruction]:
            found = handle(event, now)
            self.events += 1
            try:
                core.check_invariants()
            except AssertionError as error:
                self.faults.append(f"{event}: {error}")
                raise
            return found

        core.handle = checked  # type: ignore[method-assign]


class RawPeer:
    """An authenticated peer that sends bodies as they are, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.closed = asyncio.Event()
        self._news = asyncio.Event()
        self._link: Link

    async def connect(self, port: int, role: Role) -> None:
        """Authenticate."""
        self._link = await connect(
            "127.0.0.1", port, role=role, secret=SECRET, version=__version__, handler=self, timeout=SECONDS
        )

    def on_message(self, message: Any) -> None:
        """The server said something."""
        if not isinstance(message, Heartbeat):
            self.told.append(message)
            self._news.set()

    def on_closed(self, error: BaseException | None) -> None:
        """The server has enough of it."""
        self.closed.set()
        self._news.set()

    def send(self, data: Any) -> None:
        """Send JSON data, or the bytes of a body."""
        self._link.send_encoded(data if isinstance(data, bytes) else encoded(data))

    async def until(self, found: Callable[[list[Any]], Any]) -> Any:
        """Wait until what was told has something, or the connection is closed (then None)."""
        async with asyncio.timeout(SECONDS):
            while not (value := found(self.told)) and not self.closed.is_set():
                self._news.clear()
                await self._news.wait()
        return value

    async def read_to_the_end(self) -> bool:
        """Wait until the server has taken all that this worker said; False if it has closed the connection."""
        last = {"job": 10**15, "fence": 1, "attempt": 1, "end": "exited"}
        self.send({"type": "report", "finished": [last]})
        return bool(await self.until(_acknowledged))

    def close(self) -> None:
        """Go away."""
        self._link.abort()


def _acknowledged(told: list[Any]) -> bool:
    return any(ref.job == 10**15 for m in told if isinstance(m, Acknowledge) for ref in m.attempts)


@contextlib.asynccontextmanager
async def honest_worker(
    port: int, name: str = "honest", *, finishing: bool = True
) -> AsyncIterator[SimulatedWorker]:
    """A worker that does what it should: jobs succeed as soon as they are offered, or run for ever."""
    worker = SimulatedWorker(name, ("127.0.0.1", port), SECRET, finishing=finishing)
    task = asyncio.ensure_future(worker.run(0.1))
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        worker.close()


async def all_goes_on(client: AsyncClient, states: Sequence[str] = ("succeeded",)) -> None:
    """An honest client gets a job done by the honest worker, and answers to what it asks."""
    async with asyncio.timeout(SECONDS):
        job = await client.submit(["true"], ram_mb=1, workers=["honest"])
        done = await client.wait(job, timeout=SECONDS)
        assert done.state in states, done
        assert "honest" in {worker.name for worker in await client.workers()}
        await client.resources()
        await client.counts()
        async for _ in client.job_views():
            pass


def request(kind: type[msgspec.Struct], **fields: Any) -> dict[str, Any]:
    """A message as JSON data."""
    return {"type": kind.__struct_config__.tag, **fields}


def is_valid(body: bytes, role: Role) -> bool:
    """Does it get through the server's decoder?"""
    decode = codec.decode_worker_message if role == "worker" else codec.decode_client_message
    try:
        decode(body)
    except ProtocolError:
        return False
    return True
