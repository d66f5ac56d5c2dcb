"""The link to the server: connects, registers, keeps it alive, and comes back for as long as it takes.

A server that is away is waited for, with growing, jittered pauses; people see one line when it is lost and
one when it is back. Messages become events for the core; what the core tells goes out in few reports. One
that refuses us before it has ever taken us ends the program; one that refuses later (its secret was changed,
say) is asked again, since jobs may be running here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import assert_never

import msgspec

from kueue.errors import AuthenticationError, KueueError, ProtocolError, ServerUnreachableError, VersionError
from kueue.wire.dialing import DOUBTS
from kueue.wire.link import Link, connect
from kueue.wire.messages import (
    Acknowledge,
    FetchLog,
    Forget,
    Heartbeat,
    Leave,
    Leaving,
    Offer,
    Reason,
    Refuse,
    Register,
    Retract,
    Spec,
    Stop,
    ToWorker,
    Welcome,
)
from kueue_worker.contexts import Contexts
from kueue_worker.core import events as e
from kueue_worker.core.instructions import Tell, TellStarted
from kueue_worker.reports import Reports

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
CONNECT_SECONDS = 15.0
WELCOME_SECONDS = 30.0
TAKEN_SECONDS = 0.5
SILENT_HEARTBEATS = 3
LATE_SECONDS = 0.5  # a heartbeat that is due for longer was not sent since we slept ourselves
NAME_IN_USE = "name_in_use"
NAME_SLACK_SECONDS = 5.0
REPORT_INTERVAL_SECONDS = 0.003
BUSY_INTERVAL_SECONDS = 0.02
"""While more jobs are held here, reports leave at most so often: many ends together cost both sides far less."""
STARTS_WAIT_SECONDS = 0.05
"""Nobody waits for the news that a job has started. That of a short job goes with its end."""


class RefusedError(KueueError):
    """The server does not take this worker; exit code 3."""

    exit_code = 3


class ServerSession:
    """One worker's sessions with its server, one after the other. The handler of its link.

    Args:
        resolve: host and port to connect to, asked anew each time.
        register: what to register with, None while there is no keeper.
        highest_job: the highest id that the spool remembers of a journal.
        has_attempts: is there anything of a journal that the server is to hear of?
    """

    def __init__(
        self,
        *,
        resolve: Callable[[], Awaitable[tuple[str, int]]],
        secret: str,
        version: str,
        contexts: Contexts,
        register: Callable[[], Register | None],
        highest_job: Callable[[str], int],
        has_attempts: Callable[[str], bool],
        post: Callable[[e.Event], None],
        fetch_log: Callable[[str, FetchLog], None],
        forget: Callable[[str, Forget], None],
    ) -> None:
        self._resolve = resolve
        self._secret = secret
        self._version = version
        self._contexts = contexts
        self._register = register
        self._highest_job = highest_job
        self._has_attempts = has_attempts
        self._post = post
        self._fetch_log = fetch_log
        self._forget = forget
        self._decode_spec = msgspec.json.Decoder(Spec).decode
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._closed = asyncio.Event()
        self._leaving = False
        self._reconnecting = False
        self._journal: str | None = None  # of this session, once we are welcome
        self._taken = False  # this session: our inventory was not refused
        self._ever_taken = False
        self._alone_since: float | None = self._loop.time()
        self.why_alone = ""
        self._away_said = False
        self._refusal_said = ""
        self._wake = asyncio.Event()
        self._refusal: Reason | None = None
        self._name_used_since: float | None = None
        self._doubted = 0
        self._heartbeat_seconds = 15.0
        self._last_sent = 0.0
        self._heartbeat_due = 0.0
        self._awake_since = 0.0
        self._timer: asyncio.TimerHandle | None = None  # welcome, then heartbeat
        self._taken_timer: asyncio.TimerHandle | None = None
        self._reports = Reports()
        self._flush_timer: asyncio.Handle | None = None
        self._flush_due = 0.0
        self._last_flush = 0.0

    # ---------------------------------------------------------------- for the agent

    async def run(self) -> None:
        """Be connected, forever; cancelled by the agent.

        Raises:
            RefusedError: the server refused us and never took us before.
        """
        pause = FIRST_PAUSE_SECONDS
        while not self._leaving:
            self._wake.clear()
            if await self._one_session():
                pause = FIRST_PAUSE_SECONDS
            if self._leaving:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause * random.uniform(0.5, 1.0)):
                    await self._wake.wait()
            pause = min(pause * 1.6, LONGEST_PAUSE_SECONDS)

    @property
    def alone_seconds(self) -> float:
        """For how long no server has taken this worker; 0 while one has."""
        return 0.0 if self._alone_since is None else max(0.001, self._loop.time() - self._alone_since)

    def wake(self) -> None:
        """What was missing for a registration is there: try at once."""
        self._wake.set()

    def tell(self, item: Tell, *, more: bool) -> None:
        """Put it in the next report. `more`: other jobs wait here to be started, so that there is no hurry."""
        if self._journal is None:
            return
        self._reports.add(item)
        now = self._loop.time()
        if type(item) is TellStarted:
            due = now + STARTS_WAIT_SECONDS
        else:
            due = self._last_flush + (BUSY_INTERVAL_SECONDS if more else REPORT_INTERVAL_SECONDS)
        if self._flush_timer is not None:
            if self._flush_due <= due:
                return
            self._flush_timer.cancel()
        self._flush_due = due
        if due <= now:
            self._flush_timer = self._loop.call_soon(self._flush)
        else:
            self._flush_timer = self._loop.call_later(due - now, self._flush)

    def send(self, message: msgspec.Struct) -> None:
        """Send a message, after what has been told so far."""
        if self._link is not None and self._journal is not None and not self._leaving:
            self._send_reports()
            self._last_sent = self._loop.time()
            self._link.send(message)

    def reconnect(self) -> None:
        """End this session in good order; another one follows.

        What was not reported yet is in the next session's inventory. Told now, it would free room on a worker
        that the server still takes for the one that is leaving: what it then offers would never be seen.
        """
        self._reconnecting = True
        self._reports = Reports()
        self.send(Leaving(jobs_stay=True, text="registers anew"))
        if self._link is not None:
            self._link.close()

    async def leave(self, message: Leaving, seconds: float) -> None:
        """Say good-bye, and wait a moment for the server to end the session, after what it has on its way for us."""
        self.send(message)
        self._leaving = True
        if self._link is None:
            return
        if self._journal is None:  # not welcome yet
            self._link.close()
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            self._abort(None)

    # ---------------------------------------------------------------- one session

    async def _one_session(self) -> bool:
        """Until it ends; were we welcome?"""
        self._closed.clear()
        self._refusal = None
        self._taken = self._reconnecting = False
        register = self._register()
        if register is None:
            return False
        try:
            host, port = await self._resolve()
            self._link = await connect(
                host,
                port,
                role="worker",
                secret=self._secret,
                version=self._version,
                handler=self,
                timeout=CONNECT_SECONDS,
            )
        except (AuthenticationError, VersionError) as error:
            self._doubted += isinstance(error, AuthenticationError)
            if self._ever_taken or self._doubted > DOUBTS or isinstance(error, VersionError):
                self._on_refusal(Reason("refused", str(error)))
            return False
        except KueueError as error:
            self._doubted = 0
            self._say_away(str(error))
            return False
        self._doubted = 0
        if self._closed.is_set():  # it ended before `connect` returned
            self._link = None
            return False
        self._link.send(register)
        self._last_sent = self._loop.time()
        self._timer = self._loop.call_later(WELCOME_SECONDS, self._not_welcomed)
        await self._closed.wait()
        self._link = None
        if self._refusal is not None:
            self._on_refusal(self._refusal)
        return self._taken

    def _on_refusal(self, reason: Reason) -> None:
        self.why_alone = reason.text
        if self._ever_taken:
            if reason.text != self._refusal_said:
                self._refusal_said = reason.text
                log.error("the server refuses this worker: %s; tries again", reason.text)
            return
        if reason.code != NAME_IN_USE:
            raise RefusedError(reason.text)
        # It may be the session of this very machine before its reboot: the server drops that when it has been
        # silent for three heartbeats.
        now = self._loop.time()
        if self._name_used_since is None:
            self._name_used_since = now
            log.warning("refused: %s; tries again for a while", reason.text)
        elif now - self._name_used_since > SILENT_HEARTBEATS * self._heartbeat_seconds + NAME_SLACK_SECONDS:
            raise RefusedError(reason.text)

    def _say_away(self, text: str) -> None:
        self.why_alone = text
        if not self._away_said:
            self._away_said = True
            log.warning(
                "no server: %s; %swaits for it", text, "running jobs go on, " if self._ever_taken else ""
            )

    def _on_welcome(self, message: Welcome) -> None:
        assert self._link is not None
        try:
            highest = self._highest_job(message.journal)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        self._journal = message.journal
        self._heartbeat_seconds = max(0.05, message.heartbeat_seconds)
        self._reports = Reports()
        self._post(e.Welcomed(message.journal, message.worker_timeout_seconds, highest))
        if self._link.mismatch:
            self._on_mismatch(message.journal)
        else:
            self._taken_timer = self._loop.call_later(TAKEN_SECONDS, self._on_taken)
        self._schedule_heartbeat()

    def _on_mismatch(self, journal: str) -> None:
        """The server is of a version that is not ours: it is to have the results of what runs, no more."""
        assert self._link is not None
        text = self._link.mismatch
        if not self._has_attempts(journal):
            self._refusal = Reason("refused", text)
            self.send(Leaving())
            self._link.close()
        elif text != self._refusal_said:
            self._refusal_said = text
            log.error("%s; running jobs go on, and the server is told how they end", text)

    def _on_taken(self) -> None:
        """It did not say no to our inventory, or not for a moment at least: the server has taken us."""
        if self._taken or self._link is None:
            return
        self._taken = True
        self._alone_since, self.why_alone = None, ""
        if self._away_said or not self._ever_taken:
            again = "again " if self._ever_taken else ""
            log.info("%sconnected to the server at %s", again, self._link.address)
        elif self._refusal_said:
            log.info("the server takes this worker again")
        self._ever_taken = True
        self._away_said = False
        self._refusal_said = ""
        self._name_used_since = None

    # ---------------------------------------------------------------- what the server says

    def on_message(self, message: ToWorker) -> None:
        """A decoded message arrived."""
        journal = self._journal
        if journal is None:
            match message:
                case Welcome():
                    self._on_welcome(message)
                case Refuse():
                    self._refusal = message.reason
                case Heartbeat():
                    pass
                case _:
                    raise ProtocolError("orders before a welcome")
            return
        mismatch = self._link is not None and bool(self._link.mismatch)
        if not isinstance(message, Refuse) and not mismatch:
            self._on_taken()
        match message:
            case Offer():
                for blob in message.contexts:
                    self._contexts.add(blob)
                self._post(e.Offered(tuple(self._offered(message))))
            case Acknowledge():
                self._post(e.Acknowledged(message.attempts))
            case Heartbeat():
                self._post(e.ServerHeard())
            case Stop():
                self._post(e.StopOrdered(message.attempts, message.why))
            case Retract():
                self._post(e.RetractOrdered(message.attempts))
            case FetchLog():
                self._post(e.ServerHeard())
                self._fetch_log(journal, message)
            case Forget():
                self._post(e.ServerHeard())
                self._forget(journal, message)
            case Leave():
                if message.kill:
                    self._post(e.EndRequested("the server ends its workers"))
                else:
                    self._post(e.DrainRequested("the server lets its workers end"))
            case Refuse():
                self._refusal = message.reason
            case Welcome():
                raise ProtocolError("a second welcome")
            case _:
                assert_never(message)
        if mismatch and self._link is not None and self._refusal is None:
            self._on_mismatch(journal)

    def on_closed(self, error: BaseException | None) -> None:
        """The link is gone."""
        if self._alone_since is None:
            self._alone_since = self._loop.time()
        for timer in (self._timer, self._taken_timer, self._flush_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._taken_timer = self._flush_timer = None
        if self._journal is not None:
            self._journal = None
            self._post(e.ServerGone())
        self._link = None
        self._closed.set()
        if not (self._leaving or self._reconnecting or self._refusal is not None):
            self._say_away(str(error) if error is not None and str(error) else "the connection ended")

    def _offered(self, message: Offer) -> list[e.OfferedAttempt]:
        offered = []
        for job in message.jobs:
            try:
                spec = self._decode_spec(job.spec)
            except msgspec.MsgspecError as error:
                raise ProtocolError(f"job {job.job}: {error}") from None
            if spec.context not in self._contexts:
                raise ProtocolError(f"job {job.job} refers to a context that was not sent")
            offered.append(e.OfferedAttempt(job.job, job.fence, job.attempt, spec))
        return offered

    # ---------------------------------------------------------------- reports

    def _flush(self) -> None:
        self._flush_timer = None
        self._last_flush = self._loop.time()
        self._send_reports()

    def _send_reports(self) -> None:
        if self._link is None or self._journal is None or self._leaving or not self._reports:
            return
        self._last_sent = self._loop.time()
        for report in self._reports.take():
            self._link.send(report)

    # ---------------------------------------------------------------- deadlines

    def _schedule_heartbeat(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        now = self._loop.time()
        due = max(now + 0.01, self._last_sent + self._heartbeat_seconds)
        self._heartbeat_due = due
        self._timer = self._loop.call_at(due, self._heartbeat)

    def _heartbeat(self) -> None:
        link = self._link
        if link is None:
            return
        now = self._loop.time()
        if now - self._heartbeat_due > LATE_SECONDS:
            self._awake_since = now  # what the server has said may not have been read yet; or it slept, too
        silence = now - max(link.last_received, self._awake_since)
        if silence > SILENT_HEARTBEATS * self._heartbeat_seconds:
            self._abort(ServerUnreachableError(f"silent for {silence:.0f} s"))
            return
        if now - self._last_sent >= self._heartbeat_seconds * 0.999:
            self.send(Heartbeat())
        self._schedule_heartbeat()

    def _not_welcomed(self) -> None:
        self._abort(ServerUnreachableError(f"no welcome within {WELCOME_SECONDS:g} s"))

    def _abort(self, error: BaseException | None) -> None:
        if self._link is not None:
            self._link.abort(error)
