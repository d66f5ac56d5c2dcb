"""Reruns: old jobs are read in portions, the new ones are submitted as one block, in one transaction.

The token of a rerun makes a repetition harmless, as that of a submit; all of the block is there, or nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from functools import partial

import msgspec

from kueue.wire.messages import MAX_ITEMS, Reason, Reran, Rerun, Spec
from kueue_server.core.events import JobsSubmitted
from kueue_server.core.rerunning import Reruns, follow
from kueue_server.core.selection import Selection
from kueue_server.engine import Engine
from kueue_server.journal.interface import AddJobs, Journal
from kueue_server.submissions import Submissions

MOST_JOBS = 100_000
"""Of one rerun: they are written in one transaction, which others' commits wait for."""
FOLLOWED_AT_ONCE = 1000
"""Jobs whose predecessors are looked up in one go."""

Answer = Callable[[Reran | Reason], None]

_decode = msgspec.json.Decoder(Spec).decode


class Rerunning:
    """Takes reruns; `submissions` gives the ids and knows the tokens."""

    def __init__(self, engine: Engine, journal: Journal, submissions: Submissions) -> None:
        self._engine = engine
        self._journal = journal
        self._submissions = submissions
        self._loop = asyncio.get_running_loop()

    def rerun(self, message: Rerun, answer: Answer) -> None:
        """Begin one that can be meant; `answer` is called once, when it is durable or refused."""
        content = msgspec.json.encode((message.selector, message.changes))
        content_hash = "rerun " + hashlib.sha256(content).hexdigest()
        found = Reruns()

        def answered(first: int, count: int, refusal: Reason | None) -> None:
            if refusal is not None:
                answer(refusal)
                return
            warnings = self._engine.core.warnings_for(tuple(found.shapes.values())) if found.shapes else ()
            answer(Reran(message.rid, first, count, found.unfinished, found.refused, found.reason, warnings))

        refusal = self._submissions.refusal_of_token(message.token)
        if refusal is not None:
            answer(refusal)
            return
        if self._submissions.answer_known_token(message.token, content_hash, answered):
            return
        self._submissions.hold_token(message.token, content_hash, answered)
        core, wall = self._engine.core, time.time()
        selection = core.select_reruns(message.selector, wall)
        self._gather(message, content_hash, selection, core.newest, found)

    def _gather(
        self, message: Rerun, content_hash: str, selection: Selection, last: int, found: Reruns
    ) -> None:
        self._engine.core.gather_reruns(selection, message.changes, last, MOST_JOBS, found)
        if found.cursor is None:
            self._write(message, content_hash, found)
        else:
            self._loop.call_soon(self._gather, message, content_hash, selection, last, found)

    def _write(self, message: Rerun, content_hash: str, found: Reruns) -> None:
        token, count = message.token, len(found.encoded)
        if not count:
            self._submissions.end_token(token, 0, 0, None)
            return
        if count > MOST_JOBS:
            text = f"these are more than {MOST_JOBS} jobs: run them again in parts, e.g. by ranges of ids"
            self._submissions.end_token(token, 0, 0, Reason("too_many_jobs", text))
            return
        self._follow(message, content_hash, found, self._submissions.take_ids(count), 0)

    def _follow(
        self, message: Rerun, content_hash: str, found: Reruns, first: int, start: int | None
    ) -> None:
        """Jobs that waited for others are to wait for their new runs; in portions."""
        if start is not None and found.following:
            start = follow(found, start, FOLLOWED_AT_ONCE, first)
            self._loop.call_soon(self._follow, message, content_hash, found, first, start)
            return
        token, count, wall = message.token, len(found.encoded), time.time()
        if any(self._journal.context(digest) is None for digest in set(found.contexts)):
            text = "a job was dropped meanwhile, with its environment: try again"
            self._submissions.end_token(token, 0, 0, Reason("unknown_context", text))
            return
        blocks = [
            AddJobs(
                first=first + start,
                submitted_at=wall,
                specs=tuple(found.encoded[start : start + MAX_ITEMS]),
                context_of=tuple(found.contexts[start : start + MAX_ITEMS]),
                contexts=(),
                token="" if start else token,
                content_hash=content_hash,
                whole=count,
            )
            for start in range(0, count, MAX_ITEMS)
        ]

        def written(refusal: Reason | None) -> None:
            if refusal is None:
                self._tell(token, first, count, blocks, 0, follows=bool(found.following))
            else:
                self._submissions.end_token(token, 0, 0, refusal)

        self._submissions.write(tuple(blocks), written)

    def _tell(
        self, token: str, first: int, count: int, blocks: list[AddJobs], place: int, *, follows: bool
    ) -> None:
        """Tell the core of a block, and then of the next; last, whoever asked."""
        block = blocks[place]
        specs = tuple(map(_decode, block.specs))
        more = place + 1 < len(blocks)
        event = JobsSubmitted(block.first, specs, block.specs, block.submitted_at)
        if follows:
            event = msgspec.structs.replace(event, whole=first, more=more)
        self._engine.post(event)
        if more:
            tell = partial(self._tell, token, first, count, blocks, place + 1, follows=follows)
            self._loop.call_soon(tell)
        else:
            self._submissions.end_token(token, first, count, None)
