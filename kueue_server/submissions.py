"""Submissions: validated, given ids, journaled, and only then told to the core.

A block of jobs is all or none. Its token makes a repeated submit harmless: the same token returns the same
ids for seven days, also while the first one is still on its way to the disk.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import msgspec

from kueue.wire.messages import MAX_ITEMS, Reason, Spec, Submit
from kueue_server.core.events import JobsSubmitted
from kueue_server.engine import Engine
from kueue_server.journal.interface import AddJobs, Journal, JournalBrokenError, JournalFullError

MAX_CONTEXT_BYTES = 4 * 1024 * 1024
MAX_SPEC_BYTES = 4 * 1024 * 1024
"""Of a job as it is encoded; no system starts a program with as many arguments."""
MAX_TOKEN_CHARACTERS = 128

Answer = Callable[[int, int, Reason | None], None]
"""Called with first id, count, and None; or 0, 0 and why not."""


class _InFlight:
    def __init__(self, first: int, count: int, content_hash: str, answer: Answer) -> None:
        self.first = first
        self.count = count
        self.content_hash = content_hash
        self.answers = [answer]


class Submissions:
    """Owns the next job id and the tokens that are on their way to the journal."""

    def __init__(self, engine: Engine, journal: Journal, next_job: int) -> None:
        self._engine = engine
        self._journal = journal
        self.next_job = next_job
        self._in_flight: dict[str, _InFlight] = {}
        self._encoder = msgspec.json.Encoder()

    def submit(self, message: Submit, answer: Answer) -> None:
        """Take a block; `answer` is called once, when it is durable or refused."""
        refusal = self._refusal_of_form(message)
        if refusal is not None:
            answer(0, 0, refusal)
            return
        encoded = tuple(self._encoder.encode(spec) for spec in message.jobs)
        if max(map(len, encoded)) > MAX_SPEC_BYTES:
            answer(0, 0, Reason("bad_command", f"a job is larger than {MAX_SPEC_BYTES} bytes"))
            return
        content_hash = _hash_of(encoded)
        if self._answer_known_token(message.token, content_hash, answer):
            return
        contexts = tuple((hashlib.sha256(blob).hexdigest(), blob) for blob in message.contexts)
        refusal = self._refusal_of_jobs(message.jobs, dict(contexts))
        if refusal is not None:
            answer(0, 0, refusal)
            return
        first, count = self.next_job, len(encoded)
        self.next_job += count
        flight = _InFlight(first, count, content_hash, answer)
        self._in_flight[message.token] = flight
        wall = time.time()
        block = AddJobs(
            first=first,
            submitted_at=wall,
            specs=encoded,
            context_of=tuple(spec.context for spec in message.jobs),
            contexts=contexts,
            token=message.token,
            content_hash=content_hash,
        )

        def written(error: JournalFullError | JournalBrokenError | None) -> None:
            del self._in_flight[message.token]
            reason = None
            if error is None:
                self._engine.post(JobsSubmitted(first, message.jobs, encoded, wall))
            elif isinstance(error, JournalFullError):
                text = f"the server can't write its journal: {error}; nothing was submitted"
                reason = Reason("journal_full", text)
            else:
                text = (
                    "the server's journal failed; whether the jobs were taken will be known after a restart"
                )
                reason = Reason("journal_broken", text)
            for waiting in flight.answers:
                if reason is None:
                    waiting(first, count, None)
                else:
                    waiting(0, 0, reason)

        self._journal.write((block,), written, give_up_when_full=True)

    def _refusal_of_form(self, message: Submit) -> Reason | None:
        if not 0 < len(message.token) <= MAX_TOKEN_CHARACTERS:
            return Reason("bad_token", f"a submit token has 1 to {MAX_TOKEN_CHARACTERS} characters")
        if not 0 < len(message.jobs) <= MAX_ITEMS:
            return Reason("bad_block", f"a submit carries 1 to {MAX_ITEMS} jobs")
        if any(len(blob) > MAX_CONTEXT_BYTES for blob in message.contexts):
            return Reason("bad_context", f"the environment is larger than {MAX_CONTEXT_BYTES} bytes")
        return None

    def _answer_known_token(self, token: str, content_hash: str, answer: Answer) -> bool:
        differs = Reason("token_reused", "this submit token was used for other jobs before")
        flight = self._in_flight.get(token)
        if flight is not None:
            if flight.content_hash == content_hash:
                flight.answers.append(answer)
            else:
                answer(0, 0, differs)
            return True
        known = self._journal.token(token)
        if known is None:
            return False
        if known.content_hash == content_hash:
            answer(known.first, known.count, None)
        else:
            answer(0, 0, differs)
        return True

    def _refusal_of_jobs(self, specs: tuple[Spec, ...], sent: dict[str, bytes]) -> Reason | None:
        core = self._engine.core
        known: set[str] = set(sent)
        for index, spec in enumerate(specs):
            if spec.context not in known:
                if self._journal.context(spec.context) is None:
                    return Reason("unknown_context", "the environment of this job was not sent")
                known.add(spec.context)
            refusal = core.refusal_of(spec)
            if refusal is not None:
                if len(specs) == 1:
                    return refusal
                return Reason(refusal.code, f"job {index + 1} of {len(specs)}: {refusal.text}")
        return None


def _hash_of(encoded: tuple[bytes, ...]) -> str:
    digest = hashlib.sha256()
    for body in encoded:
        digest.update(len(body).to_bytes(4, "big"))
        digest.update(body)
    return digest.hexdigest()
