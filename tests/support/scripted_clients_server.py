"""A server for tests of the clients: a real listener in a thread, jobs in a dictionary, faults on demand.

It keeps what a real server promises towards clients (tokens, watches, pages), and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from kueue.wire.codec import encode
from kueue.wire.link import Link
from kueue.wire.listener import Listener
from kueue.wire.messages import (
    Cancel,
    Canceled,
    Clean,
    Cleaned,
    Done,
    Failure,
    Heartbeat,
    JobChange,
    JobCounts,
    JobDetail,
    JobPage,
    JobView,
    ListJobs,
    ListResources,
    ListWorkers,
    LogChunk,
    ReadLog,
    Reason,
    ResourcePage,
    ResourceView,
    ServerInfo,
    ServerState,
    ShowJob,
    Shutdown,
    Spec,
    Submit,
    Submitted,
    Unwatch,
    Watch,
    WatchState,
    WorkerPage,
)

SECRET = "a-secret-for-tests-only-0123456789abcdef"


class ClientsServer:
    """`before` and `after` are called with each message, before and after it is handled; True drops the
    connection at that moment (`after`: what was to be answered is lost)."""

    def __init__(self) -> None:
        self.port = 0
        self.received: list[Any] = []
        self.connections = 0
        self.jobs: dict[int, Spec] = {}
        self.changes: dict[int, JobChange] = {}
        self.tokens: dict[str, tuple[int, int, bytes]] = {}
        self.contexts: dict[str, bytes] = {}
        self.outputs: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self.output_ends = True
        self.seq = 100
        self.journal = "one"
        self.refuse: Callable[[Spec], Reason | None] = lambda spec: None
        self.before: Callable[[Any], bool | None] = lambda message: None
        self.after: Callable[[Any], bool | None] = lambda message: None
        self.news = threading.Condition()
        self._watches: dict[tuple[int, int], tuple[Link, Watch]] = {}
        self._links: set[Link] = set()
        self._listener: Listener | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="clients' server")
        self._thread.start()

    # ---------------------------------------------------------------- for tests, from any thread

    def start(self, secret: str = SECRET) -> None:
        """Listen, on the same port each time."""
        self._call(self._start(secret))

    def stop(self) -> None:
        """Be away; connections break."""
        self._call(self._stop())

    def close(self) -> None:
        """End it all."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def drop_connections(self) -> None:
        """Break what there is."""

        async def drop() -> None:
            for link in list(self._links):
                link.abort()

        self._call(drop())

    def change(self, job: int, state: str, **more: Any) -> None:
        """A job changes; watchers are told."""

        async def tell() -> None:
            self._change(job, state, **more)

        self._call(tell())

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait for something that the server has seen."""
        with self.news:
            assert self.news.wait_for(condition, seconds), self.received[-5:]

    def of(self, kind: type) -> list[Any]:
        """Messages of a kind that arrived."""
        return [message for message in self.received if isinstance(message, kind)]

    @property
    def watching(self) -> int:
        """Watches that are open."""
        return len(self._watches)

    # ---------------------------------------------------------------- the listener's side

    async def _start(self, secret: str) -> None:
        self._listener = Listener()
        await self._listener.start(
            [("127.0.0.1", self.port)], secrets=[secret], version="0.1.0", accept=self._accept
        )
        self.port = self._listener.ports[0]

    async def _stop(self) -> None:
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        for link in list(self._links):
            link.abort()
        while self._links:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def _accept(self, link: Link) -> _Session:
        self._links.add(link)
        with self.news:
            self.connections += 1
            self.news.notify_all()
        return _Session(self, link)

    def gone(self, link: Link) -> None:
        """A connection ended."""
        self._links.discard(link)
        with self.news:
            self._watches = {key: value for key, value in self._watches.items() if value[0] is not link}
            self.news.notify_all()

    def handle(self, link: Link, message: Any) -> None:
        """A message arrived."""
        with self.news:
            self.received.append(message)
            self.news.notify_all()
        if self.before(message):
            link.abort()
            return
        answer = self._answer(link, message)
        with self.news:
            self.news.notify_all()
        if self.after(message):
            link.abort()
            return
        for part in answer if isinstance(answer, list) else [answer]:
            if part is not None:
                link.send(part)

    def _answer(self, link: Link, message: Any) -> Any:
        match message:
            case Submit():
                return self._submit(message)
            case Watch(rid=rid):
                with self.news:
                    self._watches[id(link), rid] = (link, message)
                    self.news.notify_all()
                return self._snapshot(message)
            case Unwatch(rid=rid):
                with self.news:
                    self._watches.pop((id(link), rid), None)
                    self.news.notify_all()
                return None
            case ListJobs():
                return self._page(message)
            case ShowJob(rid=rid, job=job):
                if job not in self.jobs:
                    return Failure(rid, Reason("unknown_job", f"no job {job}"))
                spec = self.jobs[job]
                context = self.contexts[spec.context] if message.context else None
                return JobDetail(rid, self._view(job), spec.max_restarts, spec.restart, context=context)
            case ReadLog():
                return self._log(message)
            case Cancel(rid=rid, ranges=ranges):
                ids = [job for first, last in ranges for job in range(first, last + 1)]
                for job in ids:
                    self._change(job, "canceled")
                return Canceled(rid, len(ids))
            case Clean(rid=rid):
                return Cleaned(rid, 7)
            case ListWorkers(rid=rid):
                return WorkerPage(rid, ())
            case ListResources(rid=rid):
                return ResourcePage(rid, (ResourceView("genus", 1, 2, (3,)),), 5, None)
            case ServerInfo(rid=rid):
                return ServerState(rid, "0.1.0", "journal", "here", 1, 0.0)
            case Shutdown(rid=rid):
                return Done(rid, ("bye",))
            case Heartbeat():
                return None
        return Failure(message.rid, Reason("unsupported", "not in this test"))

    def _submit(self, message: Submit) -> Any:
        content = encode(msgspec.structs.replace(message, rid=0))
        known = self.tokens.get(message.token)
        if known is not None:
            assert known[2] == content, "a token came back with other jobs"
            return Submitted(message.rid, known[0], known[1])
        for spec in message.jobs:
            reason = self.refuse(spec)
            if reason is not None:
                return Failure(message.rid, reason)
        for context in message.contexts:
            self.contexts[hashlib.sha256(context).hexdigest()] = context
        first = max(self.jobs, default=0) + 1
        self.tokens[message.token] = (first, len(message.jobs), content)
        for job, spec in enumerate(message.jobs, first):
            self.jobs[job] = spec
            self.changes[job] = JobChange(job, "pending")
        return Submitted(message.rid, first, len(message.jobs), (Reason("no_worker", "no worker is there"),))

    def _change(self, job: int, state: str, **more: Any) -> None:
        self.seq += 1
        self.changes[job] = JobChange(job, state, **more)
        for link, watch in self._watches.values():
            if any(first <= job <= last for first, last in watch.ranges):
                link.send(WatchState(watch.rid, self.seq, (self.changes[job],)))

    def _snapshot(self, message: Watch) -> list[WatchState]:
        ids = [job for first, last in message.ranges for job in range(first, last + 1)]
        found = [self.changes.get(job, JobChange(job, "unknown")) for job in ids]
        parts = [tuple(found[start : start + 1000]) for start in range(0, len(found), 1000)] or [()]
        return [
            WatchState(
                message.rid,
                self.seq,
                part,
                more=number < len(parts) - 1,
                journal="" if number else self.journal,
            )
            for number, part in enumerate(parts)
        ]

    def _page(self, message: ListJobs) -> JobPage:
        wanted = {job for first, last in message.filter.ranges for job in range(first, last + 1)}
        ids = [job for job in self.jobs if not message.filter.ranges or job in wanted]
        ids = [
            job
            for job in ids
            if not message.filter.states or self.changes[job].state in message.filter.states
        ]
        ids.sort(reverse=message.newest_first)
        if message.cursor is not None:
            cursor = message.cursor
            ids = [job for job in ids if (job < cursor if message.newest_first else job > cursor)]
        page = ids[: message.limit]
        left = len(ids) > len(page)
        counts = JobCounts(pending=len(self.jobs)) if message.counts else None
        return JobPage(message.rid, tuple(map(self._view, page)), page[-1] if left else None, counts)

    def _view(self, job: int) -> JobView:
        spec, change = self.jobs[job], self.changes[job]
        shape = spec.shape
        return JobView(
            job,
            change.state,
            spec.payload.argv,
            spec.cwd,
            shape.cpus,
            shape.ram_mb,
            resources=shape.resources,
            name=spec.name,
            return_code=change.return_code,
            submitted_at=1_700_000_000.5,
            stdout_path=spec.stdout,
        )

    def _log(self, message: ReadLog) -> LogChunk:
        data = self.outputs[message.stream]
        offset = message.offset if message.offset >= 0 else max(0, len(data) + message.offset)
        part = data[offset : offset + message.limit]
        ends = self.output_ends and offset + len(part) >= len(data)
        return LogChunk(message.rid, 1, offset, part, len(data), at_end=ends, worker="lab1")

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


class _Session:
    """Handler of one client's link."""

    def __init__(self, server: ClientsServer, link: Link) -> None:
        self._server = server
        self._link = link

    def on_message(self, message: Any) -> None:
        """Handle it."""
        self._server.handle(self._link, message)

    def on_closed(self, error: BaseException | None) -> None:
        """It ended."""
        self._server.gone(self._link)


@contextmanager
def clients_server() -> Iterator[ClientsServer]:
    """One that runs."""
    server = ClientsServer()
    try:
        server.start()
        yield server
    finally:
        server.close()
