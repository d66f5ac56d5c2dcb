"""The worker's sessions, against a scripted server on a real listener."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from kueue.job import End
from kueue.resources import Capacity, Shape
from kueue.wire.link import Link
from kueue.wire.listener import Listener
from kueue.wire.messages import (
    Acknowledge,
    AttemptRef,
    Command,
    Context,
    FetchLog,
    FinishedAttempt,
    Forget,
    Heartbeat,
    Leave,
    Leaving,
    Offer,
    OfferedJob,
    Reason,
    Refuse,
    Register,
    Report,
    Retract,
    RunningAttempt,
    Spec,
    Stop,
    SystemInfo,
    Welcome,
)
from kueue_worker import server_session
from kueue_worker.contexts import Contexts
from kueue_worker.core import events as e
from kueue_worker.core.instructions import TellFinished, TellStarted
from kueue_worker.server_session import RefusedError, ServerSession
from kueue_worker.spool import check_journal
from tests.support.dying_server import CHALLENGE, dying
from tests.support.waiting import wait_for

SECRET = "a-secret-for-tests-only-0123456789abcdef"
REGISTER = Register("w1", "host", "0.1.0", "k1", "b1", Capacity(1, 100, 1), SystemInfo())


class Peer:
    """One session as the server sees it. `last_words`: what it sends before it lets a worker go that leaves."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.last_words: list[Any] = []
        self.lets_go = True
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = asyncio.Event()

    def on_message(self, message: Any) -> None:
        self.received.put_nowait(message)
        if isinstance(message, Leaving) and self.lets_go:
            for word in self.last_words:
                self.link.send(word, late=True)
            self.link.close()

    def on_closed(self, error: BaseException | None) -> None:
        self.closed.set()

    async def next_of(self, kind: type) -> Any:
        """The next message of a kind."""
        while not isinstance(message := await asyncio.wait_for(self.received.get(), 15), kind):
            pass
        return message

    async def next(self) -> Any:
        """The next message that is no heartbeat."""
        while True:
            message = await asyncio.wait_for(self.received.get(), 15)
            if not isinstance(message, Heartbeat):
                return message


class Lab:
    """A listener and a session; `heartbeat_seconds` as the server says."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.events: asyncio.Queue[e.Event] = asyncio.Queue()
        self.fetched: list[tuple[str, FetchLog]] = []
        self.forgotten: list[tuple[str, Forget]] = []
        self.register: Register | None = REGISTER
        self.port = 0
        self.contexts = Contexts()
        self.links: list[Link] = []

    async def listen(self, secret: str = SECRET) -> None:
        """Start (again)."""
        self.listener = Listener()
        await self.listener.start(
            [("127.0.0.1", self.port)], secrets=[secret], version="0.1.0", accept=self._accept
        )
        self.port = self.listener.ports[0]

    def _accept(self, link: Link) -> Peer:
        peer = Peer(link)
        self.links.append(link)
        self.peers.put_nowait(peer)
        return peer

    async def stop(self) -> None:
        """The server is gone."""
        for link in self.links:
            link.abort()
        await self.listener.close()

    def session(self, secret: str = SECRET) -> ServerSession:
        """A worker's session."""

        async def resolve() -> tuple[str, int]:
            return "127.0.0.1", self.port

        return ServerSession(
            resolve=resolve,
            secret=secret,
            version="0.1.0",
            contexts=self.contexts,
            register=lambda: self.register,
            highest_job=highest_job,
            has_attempts=lambda journal: True,
            post=self.events.put_nowait,
            fetch_log=lambda journal, message: self.fetched.append((journal, message)),
            forget=lambda journal, message: self.forgotten.append((journal, message)),
        )

    async def peer(self) -> Peer:
        """The next session that the server gets."""
        return await asyncio.wait_for(self.peers.get(), 15)

    async def event(self) -> e.Event:
        """The next event that is not just a sign of life."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 15)
            if not isinstance(event, e.ServerHeard):
                return event

    async def welcomed(self, heartbeat_seconds: float = 15.0) -> Peer:
        """A session that is welcome."""
        peer = await self.peer()
        assert await peer.next() == self.register
        peer.link.send(Welcome("j", 1, heartbeat_seconds, 600.0, "0.1.0"))
        assert await self.event() == e.Welcomed("j", 600.0, 42)
        return peer


@pytest.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.setattr(server_session, "TAKEN_SECONDS", 0.05)
    made = Lab()
    await made.listen()
    yield made
    await made.stop()


def highest_job(journal: str) -> int:
    """As the spool: a journal's id names a directory."""
    check_journal(journal)
    return 42


class Running:
    """A session that runs while the block does."""

    def __init__(self, session: ServerSession) -> None:
        self.session = session

    async def __aenter__(self) -> asyncio.Task[None]:
        self.task = asyncio.create_task(self.session.run())
        return self.task

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.session.leave(Leaving(), 5.0)


async def said(caplog: pytest.LogCaptureFixture, part: str) -> None:
    """Wait for a line of the log."""
    await asyncio.to_thread(wait_for, part, lambda: any(part in text for text in caplog.messages))


async def test_it_registers_first_and_is_welcomed(lab: Lab) -> None:
    async with Running(lab.session()):
        await lab.welcomed()


async def test_orders_become_events_and_contexts_are_kept(lab: Lab) -> None:
    encoded = msgspec.json.encode(Context(env=(("A", "b"),)))
    digest = hashlib.sha256(encoded).hexdigest()
    spec = Spec(Command(("true",)), "/w", "/", Shape(), digest)
    async with Running(lab.session()):
        peer = await lab.welcomed()
        job = OfferedJob(1, 10, 1, msgspec.Raw(msgspec.json.encode(spec)))
        refs = (AttemptRef(1, 10),)
        fetch = FetchLog(1, 1, 1, 10, "stdout")
        for message in (
            Offer((job,), (encoded,)),
            Stop(refs, "superseded"),
            Retract(refs),
            fetch,
            Forget(((1, 2),)),
            Acknowledge(refs),
            Leave(),
            Leave(kill=True),
        ):
            peer.link.send(message)
        assert [await lab.event() for _ in range(6)] == [
            e.Offered((e.OfferedAttempt(1, 10, 1, spec),)),
            e.StopOrdered(refs, "superseded"),
            e.RetractOrdered(refs),
            e.Acknowledged(refs),
            e.DrainRequested("the server lets its workers end"),
            e.EndRequested("the server ends its workers"),
        ]
        assert lab.fetched == [("j", fetch)]
        assert lab.forgotten == [("j", Forget(((1, 2),)))]
        assert lab.contexts.get(digest).context.env == (("A", "b"),)


async def test_a_job_whose_context_was_not_sent_ends_the_session_and_another_begins(lab: Lab) -> None:
    spec = Spec(Command(("true",)), "/w", "/", Shape(), "unknown")
    async with Running(lab.session()):
        peer = await lab.welcomed()
        peer.link.send(Offer((OfferedJob(1, 10, 1, msgspec.Raw(msgspec.json.encode(spec))),)))
        assert await lab.event() == e.ServerGone()
        await lab.welcomed()


async def test_what_is_told_in_one_moment_is_one_report_and_comes_before_what_is_sent_after(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        running = RunningAttempt(1, 10, 1, 0.0)
        finished = FinishedAttempt(1, 10, 1, End.EXITED, exit_code=0)
        session.tell(TellStarted(running), more=False)
        session.tell(TellFinished(finished), more=False)
        assert await peer.next() == Report(started=(running,), finished=(finished,))
        session.tell(TellStarted(running), more=False)
        session.send(Leaving(text="x"))
        assert await peer.next() == Report(started=(running,))
        assert await peer.next() == Leaving(text="x")


async def test_both_sides_silence_is_bounded(lab: Lab) -> None:
    """Heartbeats go out when nothing else does; a server that says nothing is left for another try."""
    async with Running(lab.session()):
        peer = await lab.welcomed(heartbeat_seconds=0.1)
        assert isinstance(await asyncio.wait_for(peer.received.get(), 15), Heartbeat)
        assert await lab.event() == e.ServerGone()
        await lab.welcomed()


async def test_a_server_s_heartbeats_keep_the_session(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed(heartbeat_seconds=0.2)
        for _ in range(20):
            peer.link.send(Heartbeat())
            await asyncio.sleep(0.05)
        assert not peer.closed.is_set()


async def test_a_server_that_is_away_is_waited_for_with_one_line_each_way(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="kueue_worker")
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        peer.link.send(Heartbeat())
        await said(caplog, "connected to the server")
        await lab.stop()
        assert await lab.event() == e.ServerGone()
        session.tell(
            TellStarted(RunningAttempt(1, 10, 1, 0.0)), more=False
        )  # nobody to tell: the inventory will
        await asyncio.sleep(0.5)
        await lab.listen()
        peer = await lab.welcomed()
        peer.link.send(Heartbeat())
        await said(caplog, "again connected")
    lines = [text for text in caplog.messages if "server" in text]
    assert len(lines) == 3, lines
    assert lines[1].startswith("no server: ")
    assert lines[1].endswith("running jobs go on, waits for it")


async def test_without_a_keeper_there_is_no_registration_until_there_is_one(lab: Lab) -> None:
    lab.register = None
    session = lab.session()
    async with Running(session):
        await asyncio.sleep(0.1)
        assert lab.peers.empty()
        lab.register = REGISTER
        session.wake()
        await lab.welcomed()


async def test_who_slept_does_not_take_the_server_for_silent(lab: Lab) -> None:
    """As after a suspend: what it has said meanwhile is not read yet, or it slept, too."""
    async with Running(lab.session()):
        peer = await lab.welcomed(heartbeat_seconds=0.5)
        time.sleep(2.5)  # noqa: ASYNC251 (five heartbeats, while the loop stands still)
        await peer.next_of(Heartbeat)
        peer.link.send(Heartbeat())
        await peer.next_of(Heartbeat)
        assert not peer.closed.is_set()


async def test_a_server_that_dies_while_it_shakes_hands_for_the_first_time_is_waited_for(lab: Lab) -> None:
    """It hangs up as one that has another secret."""
    await lab.stop()
    with dying(lab.port, CHALLENGE) as dead:
        async with Running(lab.session()) as task:
            assert await asyncio.to_thread(dead.wait, 20)
            await lab.listen()
            await lab.welcomed()
            assert not task.done()


async def test_a_wrong_secret_is_final(lab: Lab) -> None:
    session = lab.session(secret="another-secret-0123456789-abcdefghij")
    with pytest.raises(RefusedError, match="shared_secret"):
        await asyncio.wait_for(session.run(), 15)
    assert RefusedError.exit_code == 3


async def test_a_secret_that_is_changed_under_a_running_worker_is_waited_out(lab: Lab) -> None:
    async with Running(lab.session()) as task:
        peer = await lab.welcomed()
        peer.link.send(Heartbeat())
        await asyncio.sleep(0.1)
        lab.listener.set_secrets(["another-secret-0123456789-abcdefghij"])
        peer.link.abort()
        assert await lab.event() == e.ServerGone()
        await asyncio.sleep(0.5)
        assert not task.done()
        lab.listener.set_secrets([SECRET])
        await lab.welcomed()


async def refuse(peer: Peer, code: str) -> None:
    """Answer a registration with no."""
    await peer.next()
    peer.link.send(Welcome("j", 1, 0.05, 600.0, "0.1.0"))
    peer.link.send(Refuse(Reason(code, f"refused: {code}")))
    peer.link.close()


async def test_a_refusal_is_final_when_the_server_never_took_us(lab: Lab) -> None:
    session = lab.session()
    task = asyncio.create_task(session.run())
    await refuse(await lab.peer(), "older_journal")
    with pytest.raises(RefusedError, match="refused: older_journal"):
        await asyncio.wait_for(task, 15)


async def test_a_name_in_use_may_be_our_own_before_a_reboot_and_is_asked_for_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_session, "NAME_SLACK_SECONDS", 0.3)
    task = asyncio.create_task(lab.session().run())

    async def always_refuse() -> None:
        while True:
            await refuse(await lab.peer(), "name_in_use")

    refusing = asyncio.create_task(always_refuse())
    with pytest.raises(RefusedError, match="name_in_use"):
        await asyncio.wait_for(task, 15)
    refusing.cancel()
    await asyncio.gather(refusing, return_exceptions=True)


async def test_registering_anew_says_so_and_is_no_loss(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        session.reconnect()
        assert await peer.next() == Leaving(jobs_stay=True, text="registers anew")
        assert await lab.event() == e.ServerGone()
        await lab.welcomed()
    assert not any("no server" in text for text in caplog.messages)


async def test_leaving_delivers_what_was_told(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        session.tell(TellStarted(RunningAttempt(1, 10, 1, 0.0)), more=False)
        await session.leave(Leaving(text="bye"), 5.0)
        assert isinstance(await peer.next(), Report)
        assert await peer.next() == Leaving(text="bye")
        await asyncio.wait_for(peer.closed.wait(), 15)


async def test_who_leaves_hears_what_the_server_still_had_to_acknowledge(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        refs = (AttemptRef(1, 10),)
        peer.last_words = [Acknowledge(refs)]
        await session.leave(Leaving(), 5.0)
        assert await lab.event() == e.Acknowledged(refs)
        assert await lab.event() == e.ServerGone()


async def test_who_has_said_good_bye_says_nothing_more(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        peer.lets_go = False
        leaving = asyncio.create_task(session.leave(Leaving(), 15.0))
        assert await peer.next() == Leaving()
        session.tell(TellStarted(RunningAttempt(1, 10, 1, 0.0)), more=False)
        session.send(Heartbeat())
        for number in (1, 2):  # there and back, so that it would have arrived
            peer.link.send(Acknowledge((AttemptRef(number, 10),)))
            assert await lab.event() == e.Acknowledged((AttemptRef(number, 10),))
        peer.link.close()
        await asyncio.wait_for(peer.closed.wait(), 15)
        await leaving
        assert peer.received.empty()


async def test_who_leaves_before_it_is_welcome_waits_for_nothing(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.peer()
        await asyncio.wait_for(session.leave(Leaving(), 3600.0), 15)
        await asyncio.wait_for(peer.closed.wait(), 15)


async def test_who_leaves_does_not_wait_for_a_server_that_says_nothing(lab: Lab) -> None:
    session = lab.session()
    async with Running(session):
        peer = await lab.welcomed()
        peer.lets_go = False
        await session.leave(Leaving(), 0.2)
        assert await lab.event() == e.ServerGone()
        assert await peer.next() == Leaving()


@pytest.mark.parametrize(
    "send",
    [
        lambda peer: peer.link.send(Welcome("../j", 1, 1.0, 600.0, "0.1.0")),
        lambda peer: peer.link.send(Acknowledge(())),
        lambda peer: peer.link.send_encoded(b"{}"),
        lambda peer: peer.link.send_encoded(b"[" * 100_000),
    ],
)
async def test_what_a_server_must_not_say_ends_the_session_only(
    lab: Lab, send: Callable[[Peer], None]
) -> None:
    async with Running(lab.session()):
        peer = await lab.peer()
        send(peer)
        await asyncio.wait_for(peer.closed.wait(), 15)
        await lab.welcomed()
