"""One worker's connection: registration, inventory, then reports in and offers out.

Turns messages into events for the engine and instructions into messages. It decides nothing about jobs; what
a worker must not send in a given phase ends its connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import assert_never

import msgspec

from kueue import __version__
from kueue.errors import ProtocolError
from kueue.text import visible
from kueue.wire.handshake import FROZEN
from kueue.wire.link import Link
from kueue.wire.messages import (
    BATCH_BYTES,
    MAX_ITEMS,
    Acknowledge,
    AttemptRef,
    FetchLog,
    FinishedAttempt,
    Heartbeat,
    Inventory,
    Leave,
    Leaving,
    LogData,
    Offer,
    OfferedJob,
    Reason,
    Refuse,
    Register,
    Report,
    RunningAttempt,
    Status,
    ToWorker,
    Welcome,
    WorkerMessage,
)
from kueue_server.core.events import (
    WorkerConnected,
    WorkerDisconnected,
    WorkerHeard,
    WorkerReported,
    WorkerStatus,
)
from kueue_server.core.instructions import OfferJobs
from kueue_server.engine import Engine
from kueue_server.journal.interface import Journal

log = logging.getLogger(__name__)

MAX_INVENTORY_ATTEMPTS = 1_000_000
MAX_CONTEXTS_REMEMBERED = 4096
LONGEST_NAME = 255
LONGEST_TEXT = 200
"""Characters of what a worker says of its leaving, in the log."""
LOG_ANSWER_SECONDS = 15.0
"""A worker that does not answer for a log in this time (over what it was allowed to wait) counts as away."""


class WorkerSession:
    """Handler of an authenticated worker link. `ended` is called once when it is over."""

    def __init__(
        self,
        number: int,
        link: Link,
        engine: Engine,
        journal: Journal,
        *,
        worker_timeout_seconds: float,
        highest_job: Callable[[], int],
        ended: Callable[[int], None],
    ) -> None:
        self.number = number
        self.link = link
        self.name = ""
        self._engine = engine
        self._journal = journal
        self._timeout_seconds = worker_timeout_seconds
        self._highest_job = highest_job
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._register: Register | None = None
        self._inventory: list[Inventory] = []
        self._inventory_attempts = 0
        self.ready = False
        self._leaving: Leaving | None = None
        self._sent_contexts: dict[str, None] = {}
        self._next_fetch = 1
        self._fetches: dict[int, tuple[Callable[[LogData | None], None], asyncio.TimerHandle]] = {}
        self.opened_at = self.last_sent = self._loop.time()
        self._is_frozen = link.protocol == FROZEN  # of another version: its results are taken, no more

    # ---------------------------------------------------------------- from the worker

    def on_message(self, message: WorkerMessage) -> None:
        """A decoded message arrived."""
        if not self.ready:
            self._before_ready(message)
            return
        wall = time.time()
        match message:
            case Report():
                self._engine.post(WorkerReported(self.number, message, wall))
            case Status() if self._is_frozen:
                self._engine.post(WorkerHeard(self.number, wall))
            case Status():
                self._engine.post(WorkerStatus(self.number, message, wall))
            case Heartbeat():
                self._engine.post(WorkerHeard(self.number, wall))
            case LogData():
                self._engine.post(WorkerHeard(self.number, wall))
                self._on_log_data(message)
            case Leaving():
                self._leaving = message
                level = logging.DEBUG if self._is_frozen else logging.INFO  # those come and go
                text = visible(message.text[:LONGEST_TEXT])
                log.log(level, "worker %s leaves%s", self.name, f": {text}" if text else "")
                self.link.close()
            case Register() | Inventory():
                raise ProtocolError(f"{message.__class__.__name__.lower()} after the inventory")
            case _:
                assert_never(message)

    def _before_ready(self, message: WorkerMessage) -> None:
        match message:
            case Register() if self._register is None:
                if not is_name(message.name) or not message.keeper or not message.boot:
                    raise ProtocolError("a worker registers with a name, a keeper and a boot id")
                self._register = message
                self.name = message.name
                found = self._engine.core.find_worker(message.name)
                self.send(
                    Welcome(
                        journal=self._journal.uuid,
                        worker_id=found if isinstance(found, int) else 0,
                        heartbeat_seconds=heartbeat_seconds(self._timeout_seconds),
                        worker_timeout_seconds=self._timeout_seconds,
                        version=__version__,
                    )
                )
            case Inventory() if self._register is not None:
                self._on_inventory(message)
            case Heartbeat():
                pass
            case Leaving():
                self.link.close()
            case _:
                raise ProtocolError(f"{message.__class__.__name__.lower()} before registration and inventory")

    def _on_inventory(self, message: Inventory) -> None:
        if message.journal != self._journal.uuid:
            raise ProtocolError("inventory of another journal")
        self._inventory.append(message)
        self._inventory_attempts += len(message.held) + len(message.running) + len(message.finished)
        if self._inventory_attempts > MAX_INVENTORY_ATTEMPTS:
            raise ProtocolError(f"inventory of more than {MAX_INVENTORY_ATTEMPTS} attempts")
        if message.more:
            return
        parts, self._inventory = self._inventory, []
        remembered = max(part.highest_job for part in parts)
        if remembered > self._highest_job():
            text = (
                f"worker {self.name} remembers job {remembered}, but this journal ends at {self._highest_job()}: "
                "it is an older copy; start it with kueue_server --restored"
            )
            log.error("%s", text)
            self.refuse(Reason("older_journal", text))
            return
        register = self._register
        assert register is not None
        held: list[AttemptRef] = []
        running: list[RunningAttempt] = []
        finished: list[FinishedAttempt] = []
        for part in parts:
            held += part.held
            running += part.running
            finished += part.finished
        self.ready = True
        self._engine.post(
            WorkerConnected(
                session=self.number,
                name=register.name,
                host=register.host,
                version=register.version,
                keeper=register.keeper,
                boot=register.boot,
                capacity=register.capacity,
                system=register.system,
                address=self.link.address,
                held=tuple(held),
                running=tuple(running),
                finished=tuple(finished),
                wall=time.time(),
            )
        )
        if self._is_frozen:
            if self._inventory_attempts:
                log.warning("worker %s: %s; its results are taken meanwhile", self.name, self.link.mismatch)
            status = Status(0.0, 0.0, accepting=False, note=self.link.mismatch)
            self._engine.post(WorkerStatus(self.number, status, time.time()))

    def on_closed(self, error: BaseException | None) -> None:
        """The connection is gone."""
        for answer, timer in list(self._fetches.values()):
            timer.cancel()
            answer(None)
        self._fetches.clear()
        if self.ready:
            leaving = self._leaving is not None and not self._leaving.jobs_stay
            self._engine.post(WorkerDisconnected(self.number, leaving, time.time()))
            if self._leaving is None:
                log.info("worker %s is away%s", self.name, f": {error}" if error else "")
        self._ended(self.number)

    # ---------------------------------------------------------------- to the worker

    def send(self, message: ToWorker) -> None:
        """Send one message. No worker need be woken to hear that what it has told is durable."""
        self.last_sent = self._loop.time()
        self.link.send(message, late=type(message) is Acknowledge)

    def offer(self, instruction: OfferJobs) -> None:
        """Send offers, each context along with the first job of this session that refers to it."""
        jobs: list[OfferedJob] = []
        contexts: list[bytes] = []
        size = 0
        for job, fence, attempt, spec, digest in instruction.jobs:
            if digest not in self._sent_contexts:
                blob = self._journal.context(digest)
                if blob is None:
                    log.error("job %d: its environment %s is not in the journal", job, digest)
                    blob = b"{}"
                while len(self._sent_contexts) >= MAX_CONTEXTS_REMEMBERED:
                    self._sent_contexts.clear()
                self._sent_contexts[digest] = None
                contexts.append(blob)
                size += len(blob)
            jobs.append(OfferedJob(job, fence, attempt, msgspec.Raw(spec)))
            size += len(spec)
            if len(jobs) >= MAX_ITEMS or size >= BATCH_BYTES:
                self.send(Offer(tuple(jobs), tuple(contexts)))
                jobs, contexts, size = [], [], 0
        if jobs:
            self.send(Offer(tuple(jobs), tuple(contexts)))

    def refuse(self, reason: Reason) -> None:
        """End the session with a word why."""
        self.send(Refuse(reason))
        self.link.close()

    def leave(self, kill: bool) -> None:
        """Tell the worker to end."""
        self.send(Leave(kill))

    def fetch_log(
        self,
        answer: Callable[[LogData | None], None],
        fetch: FetchLog,
    ) -> None:
        """Ask the worker for output (`fetch.rid` is replaced by one of this session's own); `answer(None)`
        if it goes away or stays silent."""
        rid = self._next_fetch
        self._next_fetch += 1

        def give_up() -> None:
            del self._fetches[rid]
            answer(None)

        if self._is_frozen:
            self._loop.call_soon(answer, None)
            return
        timer = self._loop.call_later(fetch.wait_seconds + LOG_ANSWER_SECONDS, give_up)
        self._fetches[rid] = (answer, timer)
        self.send(msgspec.structs.replace(fetch, rid=rid))

    def _on_log_data(self, message: LogData) -> None:
        waiting = self._fetches.pop(message.rid, None)
        if waiting is not None:  # otherwise it came after we had given up
            answer, timer = waiting
            timer.cancel()
            answer(message)


def is_name(text: str) -> bool:
    """May a worker be called so? Its name is in logs, and in everybody's listings."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def heartbeat_seconds(worker_timeout_seconds: float) -> float:
    """How often each side says something: a third of the lease, at most 15 s."""
    return min(15.0, worker_timeout_seconds / 3)
