"""The running server: its parts connected, its timers, and its own verbs (reload, shut down).

Built by `daemon.py`; tests build it too. Peers' messages are the sessions' business, decisions the core's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator

from kueue import __version__
from kueue.config import Config
from kueue.errors import AuthenticationError, ConfigError
from kueue.logs import level_number
from kueue.wire.codec import to_os
from kueue.wire.link import Handler, Link
from kueue.wire.listener import Listener
from kueue.wire.messages import Heartbeat, Reason, ServerState
from kueue_server.client_session import ClientSession
from kueue_server.clients import Clients
from kueue_server.core.arrivals import heartbeat_deadline
from kueue_server.core.core import Core
from kueue_server.core.events import LimitsChanged
from kueue_server.desk import Desk
from kueue_server.engine import TICK_SECONDS, Engine
from kueue_server.farewell import farewell
from kueue_server.journal.interface import Journal, JournalBrokenError
from kueue_server.limits import changes, limits_of
from kueue_server.overview import Overview
from kueue_server.reruns import Rerunning
from kueue_server.submissions import Submissions
from kueue_server.watch import WatchHub
from kueue_server.worker_session import WorkerSession, heartbeat_seconds

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""How long an orderly end waits for what is decided to be on the disk (which may be full)."""
REGISTER_SECONDS = 30.0
"""A worker that has not registered and sent its inventory by then is no worker."""
LEAVE_SECONDS = 15.0
"""How long a shutdown with `--workers` waits for workers to say good-bye."""


class Server:
    """Everything between an open journal and a closed one. Implements `services.Services`."""

    def __init__(self, config: Config, journal: Journal, load_config: Callable[[], Config]) -> None:
        self._config = config
        self._load_config = load_config
        self._loop = asyncio.get_running_loop()
        self.journal = journal
        self.limits = limits_of(config)
        self.desk = Desk()
        self._clients = Clients()
        self._next_session = 1
        self._stopping = asyncio.Event()
        self._failed: JournalBrokenError | None = None
        self._workers_gone = asyncio.Event()
        self.started_at = time.time()
        now = self._loop.time()
        restored = journal.restore()
        gc.disable()  # nothing of what is read now is garbage; a collection over it would find nothing
        try:
            self.core = Core(self.limits, restored, journal.restored_jobs(), _fences(), now, self.started_at)
        finally:
            gc.enable()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self.engine = Engine(self.core, journal, self._loop, self.desk.perform, self._journal_broke)
        journal.on_broken = self.engine.fail  # a submit or a checkpoint may be what meets the fault
        self.submissions = Submissions(self.engine, journal, restored.next_job, self.desk.expect)
        self.reruns = Rerunning(self.engine, journal, self.submissions)
        self.hub = WatchHub(
            self.core.change_of,
            self.core.job_ids,
            self.engine.is_told,
            first_seq=secrets.randbits(52),
            journal=journal.uuid,
        )
        self.desk.hub = self.hub
        self.overview = Overview(self.core, lambda: self.limits.global_max_parallel_jobs)
        self._listener = Listener()
        self._timer: asyncio.TimerHandle | None = None

    # ---------------------------------------------------------------- life

    async def start(self, addresses: list[tuple[str, int]]) -> list[int]:
        """Listen, begin to tick; returns the ports."""
        settings = self._config.common_settings
        await self._listener.start(
            addresses,
            secrets=[settings.shared_secret, *settings.previous_secrets],
            version=__version__,
            accept=self._accept,
        )
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        return self._listener.ports

    def stop(self) -> None:
        """Begin to end; `run` returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped.

        Raises:
            JournalBrokenError: the journal failed; nothing was acknowledged after that.
        """
        await self._stopping.wait()
        if self._timer is not None:
            self._timer.cancel()
        if self._failed is None:
            await self._settle()
        self.engine.stop()
        self._clients.close()
        for worker in list(self.desk.workers.values()):
            worker.link.close()
        await self._listener.close()
        self.journal.close()
        if self._failed is not None:
            raise self._failed

    async def _settle(self) -> None:
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self.engine.settled()
        except TimeoutError:
            log.warning(
                "not all is on the disk after %g s; what is missing was never promised", SETTLE_SECONDS
            )

    def _journal_broke(self, error: JournalBrokenError) -> None:
        self._failed = error
        self._stopping.set()

    def _accept(self, link: Link) -> Handler:
        if link.role == "worker":
            number = self._next_session
            self._next_session += 1
            session = WorkerSession(
                number,
                link,
                self.engine,
                self.journal,
                worker_timeout_seconds=self.limits.worker_timeout_seconds,
                highest_job=lambda: self.submissions.next_job - 1,
                ended=self._worker_ended,
            )
            self.desk.workers[number] = session
            return session
        client = ClientSession(link, self)
        link.on_drained = self.hub.resume_unsent
        if not self._clients.add(client):
            link.abort()
        return client

    def _worker_ended(self, number: int) -> None:
        self.desk.workers.pop(number, None)
        if not self.desk.workers:
            self._workers_gone.set()

    def client_closed(self, session: ClientSession) -> None:
        """A client's connection ended."""
        self._clients.discard(session)

    def _tick(self) -> None:
        now = self._loop.time()
        self.engine.tick()
        interval = heartbeat_seconds(self.limits.worker_timeout_seconds)
        for worker in list(self.desk.workers.values()):
            if not worker.ready and now - worker.opened_at > REGISTER_SECONDS:
                log.warning("%s is connected as a worker, but does not register", worker.link.address)
                worker.link.abort()
            elif now - worker.last_sent >= interval - TICK_SECONDS:
                worker.send(Heartbeat())
        for client in self._clients:
            if client.stuck_ticks() * TICK_SECONDS > heartbeat_deadline(self.limits.worker_timeout_seconds):
                log.warning("client %s takes none of what we have for it, and is closed", client.link.address)
                client.link.abort()
            elif now - client.last_sent >= interval - TICK_SECONDS:
                client.heartbeat()
        self.hub.resume_unsent()
        self.overview.tick(now)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    # ---------------------------------------------------------------- verbs

    def server_state(self, now: float) -> ServerState:
        """Everything about the server itself (rid 0)."""
        return ServerState(
            rid=0,
            version=__version__,
            journal=self.journal.uuid,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self.started_at,
            state_dir=to_os(self._config.state_dir),
            counts=self.core.counts(now),
            workers=len(self.desk.workers),
        )

    def reload(self) -> tuple[str, ...] | Reason:
        """Reread licences, limits and secrets; what changed, as lines, or why nothing did."""
        try:
            config = self._load_config()
        except (ConfigError, OSError) as error:
            log.error("not reloaded: %s", error)
            return Reason("bad_config", f"not reloaded: {error}")
        lines = changes(self._config, config)
        self._config = config
        self.limits = limits_of(config)
        settings = config.common_settings
        self._accept_secrets([settings.shared_secret, *settings.previous_secrets])
        logging.getLogger().setLevel(level_number(settings.log_level))
        self.engine.post(LimitsChanged(self.limits))
        for line in lines:
            log.info("reloaded: %s", line)
        return lines or ("nothing changed",)

    def _accept_secrets(self, secrets: list[str]) -> None:
        """From now on only these; who came with another one has to go."""
        self._listener.set_secrets(secrets)
        links = [client.link for client in self._clients]
        links += [worker.link for worker in self.desk.workers.values()]
        strangers = [link for link in links if link.secret not in secrets]
        for link in strangers:
            link.abort(AuthenticationError("it came with a secret that is not accepted any more"))
        if strangers:
            log.warning(
                "closed %d connections that came with a secret that is not accepted any more", len(strangers)
            )

    def shut_down(self, workers: bool, kill: bool) -> tuple[str, ...]:
        """Begin to end; says what becomes of workers and jobs."""
        counts = self.core.counts(self._loop.time())
        unfinished = counts.waiting + counts.pending + counts.offered
        self._shutdown_task = self._loop.create_task(self._end(workers, kill))
        return farewell(unfinished, counts.running, workers=workers, kill=kill)

    async def _end(self, workers: bool, kill: bool) -> None:
        await self._settle()
        if workers and self.desk.workers:
            for session in list(self.desk.workers.values()):
                session.leave(kill)
            if kill or not self.core.counts(self._loop.time()).running:
                self._workers_gone.clear()
                try:
                    await asyncio.wait_for(self._workers_gone.wait(), LEAVE_SECONDS)
                except TimeoutError:
                    log.warning("%d workers did not leave in time", len(self.desk.workers))
        await asyncio.sleep(0.05)  # the answer to the client that asked is on its way
        self.stop()


def _fences() -> Iterator[int]:
    """Random numbers of 63 bits, never 0."""
    while True:
        fence = secrets.randbits(63)
        if fence:
            yield fence
