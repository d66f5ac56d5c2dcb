"""Output of jobs for clients: asked of the worker that has it; else the end of it that the journal has."""

from __future__ import annotations

from collections.abc import Callable

from kueue.wire.messages import (
    LOG_CHUNK_BYTES,
    Failure,
    FetchLog,
    LogChunk,
    LogData,
    ReadLog,
    Reason,
)
from kueue_server.core.views import LogPlace
from kueue_server.services import Services

MAX_WAIT_SECONDS = 60.0
"""That a request may be held for output to come."""

Send = Callable[[Failure | LogChunk], None]


def read_log(services: Services, message: ReadLog, send: Send) -> None:
    """Answer a request for output, now or when the worker has."""
    place = services.core.log_place(message.job, message.attempt)
    if isinstance(place, Reason):
        send(Failure(message.rid, place))
        return
    path = place.stdout_path if message.stream == "stdout" else place.stderr_path
    if path == "null":
        send(LogChunk(message.rid, place.attempt, at_end=True, worker=place.worker_name, path=path))
        return
    session = None if place.session is None else services.desk.workers.get(place.session)
    if session is None:
        _send_tail(services, message, place, send)
        return
    fetch = FetchLog(
        rid=0,
        job=message.job,
        attempt=place.attempt,
        fence=place.fence,
        stream=message.stream,
        offset=message.offset,
        limit=max(1, min(message.limit, LOG_CHUNK_BYTES)),
        wait_seconds=max(0.0, min(message.wait_seconds, MAX_WAIT_SECONDS)),
        path=path,
    )

    def answer(data: LogData | None) -> None:
        if data is None or data.error is not None or len(data.data) > fetch.limit:
            _send_tail(services, message, place, send)
            return
        chunk = LogChunk(
            rid=message.rid,
            attempt=place.attempt,
            offset=data.offset,
            data=data.data,
            size=data.size,
            at_end=data.at_end,
            worker=place.worker_name,
            path=path,
        )
        send(chunk)

    session.fetch_log(answer, fetch)


def _send_tail(services: Services, message: ReadLog, place: LogPlace, send: Send) -> None:
    """The worker can't be asked: what the server keeps, and where the whole is."""
    path = place.stdout_path if message.stream == "stdout" else place.stderr_path

    def answer(tails: tuple[bytes, bytes] | None) -> None:
        data = b"" if tails is None else tails[0 if message.stream == "stdout" else 1]
        chunk = LogChunk(
            rid=message.rid,
            attempt=place.attempt,
            data=data,
            size=len(data),
            at_end=place.finished,
            tail=True,
            worker=place.worker_name,
            path=path,
        )
        send(chunk)

    services.journal.read_tails(message.job, place.attempt, answer)
