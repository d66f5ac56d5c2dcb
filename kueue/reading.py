"""Reading a job's output as an operation: what there is of it, or following it as it grows."""

from __future__ import annotations

import math
import time

from kueue.effects import TRIES, Close, Emit, Open, Operation, Receive, Send, answer, ask, broken
from kueue.wire.connection import ConnectionLostError
from kueue.wire.messages import LOG_CHUNK_BYTES, LogChunk, ReadLog, Stream

FOLLOW_SECONDS = 30.0
"""How long the worker holds its answer when there is nothing new."""
AWAY_SECONDS = 1.0
"""Pause before a worker that was there and is away is asked for again."""


def read_log(job: int, stream: Stream, attempt: int | None, start: int = 0) -> Operation[None]:
    """Emits the `LogChunk`s of what there is of a stream now, from `start` on (negative: so many bytes before
    its end). An answer with `tail` set is the last: the worker can't be asked."""
    offset = start
    while True:
        at, of = offset, attempt

        def chunk(rid: int, at: int = at, of: int | None = of) -> ReadLog:
            return ReadLog(rid, job, stream, of, at)

        reply = yield from ask(chunk, LogChunk)
        attempt = reply.attempt
        yield Emit(reply)
        offset = reply.offset + len(reply.data)
        if reply.tail or not reply.data or offset >= reply.size:
            return


def follow(job: int, streams: tuple[Stream, ...], attempt: int | None) -> Operation[int]:
    """Emits `(stream, LogChunk)` of an attempt (None: the current one) as its output grows, to its end;
    returns the attempt that it was.

    An answer with `tail` set is the last of its stream: the worker can't be asked. If it could be asked
    before and the attempt goes on, the worker is only away for now, and it is waited for; so is a server that
    was there.
    """
    offsets: dict[Stream, int] = dict.fromkeys(streams, 0)
    met: set[Stream] = set()
    rids: dict[int, Stream] = {}
    asked: dict[Stream, float] = {}
    known = attempt
    lost = 0
    while offsets:
        try:
            for stream in offsets:
                if stream not in rids.values():
                    rid = yield Open(math.inf)
                    rids[rid] = stream
                    asked[stream] = time.monotonic()
                    yield Send(
                        ReadLog(rid, job, stream, known, offsets[stream], LOG_CHUNK_BYTES, FOLLOW_SECONDS)
                    )
            rid, received = yield Receive(tuple(rids))
            stream = rids.pop(rid)
            yield Close(rid)
            reply = answer(received, LogChunk)
            lost = 0
            known = reply.attempt
            if reply.tail:
                if stream in met and not reply.at_end:
                    yield Receive((), AWAY_SECONDS)
                    continue
                yield Emit((stream, reply))
                del offsets[stream]
                continue
            met.add(stream)
            offsets[stream] = reply.offset + len(reply.data)
            if reply.data:
                yield Emit((stream, reply))
            if reply.at_end:
                del offsets[stream]
            elif not reply.data and time.monotonic() - asked[stream] < AWAY_SECONDS:
                yield Receive((), AWAY_SECONDS)  # it did not hold its answer: don't ask in a tight loop
        except ConnectionLostError as error:
            lost += 1
            if lost >= TRIES:
                raise broken(error) from None
            rids.clear()
            met.update(offsets)  # after a restart of the server its workers come back a little later than we
    return known or 0
