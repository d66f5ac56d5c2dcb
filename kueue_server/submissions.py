"""Submissions: validated, given ids, journaled, and then told to the core.

A block of jobs is all or none. Its token makes a repeated submit harmless: the same token returns the same
ids for seven days, also while the first one is still on its way to the disk. If some of its jobs wait for others, the
core says first which these are.

A few plain jobs are told to the core at once, and are durable together with what it decides of them: a lone job that
can start waits for one commit instead of two. They can't be refused any more when the disk is full, so that is done
only where there is room for them. Jobs with keys go the long way, and none overtake those that go it: the core has to
meet keys in the order of ids.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import msgspec

from kueue.indices import Step, count_of, fault_of_indices
from kueue.wire.messages import MAX_ITEMS, Reason, Spec, Submit, SubmitArray, Waits
from kueue_server.core.arrays import task_spec
from kueue_server.core.events import ArraySubmitted, JobsSubmitted, PredecessorsAsked, SubmitFailed
from kueue_server.core.instructions import AnswerPredecessors, SavePart
from kueue_server.core.predecessors import MOST_RANGES
from kueue_server.core.records import encoded_plan
from kueue_server.core.tasks import first_state
from kueue_server.engine import Engine
from kueue_server.journal.interface import AddJobs, Journal, JournalBrokenError, JournalFullError
from kueue_server.keys import Flight, Keys, Name

MAX_CONTEXT_BYTES = 4 * 1024 * 1024
MAX_SPEC_BYTES = 4 * 1024 * 1024
"""Of a job as it is encoded; no system starts a program with as many arguments."""
MAX_TOKEN_CHARACTERS = 128
FEW_JOBS = 8
FEW_JOBS_BYTES = 32 * 1024
"""Of all that came at once and are not durable yet, with their environments."""
PORTION_OF_WAITS = 100
"""So many different ones the core looks up in one go; it takes about 3 ms."""
MAX_AWAITED_RANGES = 1_000_000
"""Ranges of ids that the jobs of a block wait for, all in all; the journal keeps those of each job."""

_TOO_LARGE = Reason("bad_command", f"a job is larger than {MAX_SPEC_BYTES} bytes")
_OURS = Reason("bad_array", "which array a job is of is for the server to say")

Answer = Callable[[int, int, Reason | None], None]
"""Called with first id, count, and None (0, 0: all were duplicates); or 0, 0 and why not."""
Pins = tuple[int, ...]
"""Questions for whom jobs on their way wait: their gates are kept until `SubmitFailed` says that this is over."""
Expect = Callable[[Callable[[AnswerPredecessors], None]], int]
"""Gives a number for a question to the core, and calls with the answer."""

_UNKNOWN_CONTEXT = Reason("unknown_context", "the environment of this job was not sent")
_TOO_MANY_AWAITED = Reason(
    "too_many_ranges",
    f"the jobs of a block may wait for at most {MAX_AWAITED_RANGES} ranges of ids in all: let one job wait for them,"
    " and the others for that one",
)


class _InFlight:
    def __init__(self, content_hash: str, answer: Answer) -> None:
        self.content_hash = content_hash
        self.answers = [answer]


class _Array(NamedTuple):
    """One on its way to the journal."""

    token: str
    content_hash: str
    spec: Spec
    steps: tuple[Step, ...]
    contexts: tuple[tuple[str, bytes], ...]


class _Block(NamedTuple):
    """Jobs on their way to the journal; `encoded[i]` is the encoded `jobs[i]`."""

    token: str
    content_hash: str
    jobs: tuple[Spec, ...]
    encoded: tuple[bytes, ...]
    contexts: tuple[tuple[str, bytes], ...]


class Submissions:
    """Owns the next job id and the tokens that are on their way to the journal."""

    def __init__(self, engine: Engine, journal: Journal, next_job: int, expect: Expect | None = None) -> None:
        self._engine = engine
        self._journal = journal
        self._expect = expect
        self.next_job = next_job
        self._in_flight: dict[str, _InFlight] = {}
        self._being_written = 0  # blocks that go the long way
        self._at_once_bytes = 0
        self._keys = Keys(engine.core)
        self._encoder = msgspec.json.Encoder()

    def submit(self, message: Submit, answer: Answer) -> None:
        """Take a block; `answer` is called once, when it is durable or refused."""
        refusal = self._refusal_of_form(message)
        if refusal is not None:
            answer(0, 0, refusal)
            return
        encoded = tuple(self._encoder.encode(spec) for spec in message.jobs)
        if max(map(len, encoded)) > MAX_SPEC_BYTES:
            answer(0, 0, _TOO_LARGE)
            return
        content_hash = _hash_of(encoded)
        if self.answer_known_token(message.token, content_hash, answer):
            return
        contexts = _with_digests(message.contexts)
        refusal = self._refusal_of_jobs(message.jobs, dict(contexts))
        if refusal is not None:
            answer(0, 0, refusal)
            return
        self.hold_token(message.token, content_hash, answer)
        block = _Block(message.token, content_hash, message.jobs, encoded, contexts)
        waits = tuple(dict.fromkeys(spec.waits for spec in message.jobs if spec.waits is not None))
        if waits:
            self._resolve(block, waits)
        else:
            self._sift(block, ())

    def _ask_predecessors(
        self,
        token: str,
        waits: tuple[Waits, ...],
        answered: Callable[[dict[Waits, Waits], Pins], None],
    ) -> None:
        """The core says in its turn which jobs are meant, so it knows of all that was submitted before. Of many it is
        asked in portions, which other events may come between."""
        assert self._expect is not None
        portions = _portions(waits)
        found: list[AnswerPredecessors] = []

        def take(answer: AnswerPredecessors) -> None:
            found.append(answer)
            if len(found) < len(portions):
                return
            pins = tuple(one.request for one in found if one.error is None)
            error = next((one.error for one in found if one.error is not None), None)
            if error is not None:
                self._give_up(token, pins, error)
                return
            by_request = {one.request: one.waits for one in found}
            meant = [one for request in requests for one in by_request[request]]
            answered(dict(zip(chain(*portions), meant, strict=True)), pins)

        requests = [self._expect(take) for _ in portions]
        wall = time.time()
        for request, portion in zip(requests, portions, strict=True):
            self._engine.post(PredecessorsAsked(request, portion, wall))

    def _resolve(self, block: _Block, waits: tuple[Waits, ...]) -> None:
        """Have it known for whom its jobs wait, and go on."""

        def answered(meant: dict[Waits, Waits], pins: Pins) -> None:
            jobs = tuple(
                spec if spec.waits is None else msgspec.structs.replace(spec, waits=meant[spec.waits])
                for spec in block.jobs
            )
            ranges = sum(len(spec.waits.after) + len(spec.waits.after_any) for spec in jobs if spec.waits)
            if ranges > MAX_AWAITED_RANGES:
                self._give_up(block.token, pins, _TOO_MANY_AWAITED)
                return
            encoded = tuple(
                body if spec.waits is None else self._encoder.encode(spec)
                for spec, body in zip(jobs, block.encoded, strict=True)
            )
            self._sift(block._replace(jobs=jobs, encoded=encoded), pins)

        self._ask_predecessors(block.token, waits, answered)

    def _sift(self, block: _Block, pins: Pins) -> None:
        """Leave out the jobs whose keys are there already, or wait until it is known whether they are."""
        sifted = self._keys.sift(block.jobs)
        if isinstance(sifted, Flight):
            sifted.waiting.append(lambda: self._sift(block, pins))
            return
        places, names = sifted
        if len(places) < len(block.jobs):
            jobs = tuple([block.jobs[place] for place in places])
            block = block._replace(jobs=jobs, encoded=tuple([block.encoded[place] for place in places]))
        sent = {digest for digest, _ in block.contexts}
        if not block.jobs:
            self._give_up(block.token, pins, None)
        elif any(self._journal.context(one) is None for one in {spec.context for spec in block.jobs} - sent):
            self._give_up(block.token, pins, _UNKNOWN_CONTEXT)  # it was dropped meanwhile
        else:
            self._write_block(block, names, pins)

    def _give_up(self, token: str, pins: Pins, reason: Reason | None) -> None:
        """Nothing of it will be in the journal."""
        self._unpin(pins)
        self.end_token(token, 0, 0, reason)

    def _come(self, event: JobsSubmitted | ArraySubmitted, pins: Pins) -> None:
        """It is durable; `event` lets go of the first of the pins."""
        self._engine.post(event)
        self._unpin(pins[1:])  # they have come to their gates

    def _unpin(self, pins: Pins) -> None:
        for request in pins:
            self._engine.post(SubmitFailed(request))

    def _write_block(self, block: _Block, names: list[Name], pins: Pins) -> None:
        first, count = self.take_ids(len(block.encoded)), len(block.encoded)
        wall = time.time()
        event = JobsSubmitted(first, block.jobs, block.encoded, wall, pins[0] if pins else 0)
        rows = AddJobs(
            first=first,
            submitted_at=wall,
            specs=block.encoded,
            context_of=tuple(spec.context for spec in block.jobs),
            contexts=block.contexts,
            token=block.token,
            content_hash=block.content_hash,
        )
        may_come_now = not (names or pins or self._being_written)
        if count <= FEW_JOBS and may_come_now and self._come_at_once(event, self._journal.completed(rows)):
            return
        flight = self._keys.take_off(names, first + count - 1)

        def written(reason: Reason | None) -> None:
            if reason is None:
                self._come(event, pins)
                self.end_token(block.token, first, count, None)
            else:
                self._give_up(block.token, pins, reason)
            self._keys.land(flight, durable=reason is None)

        self.write((rows,), written)

    def _come_at_once(self, event: JobsSubmitted, rows: AddJobs) -> bool:
        """Tell the core now, if there is room for these rows; False if not, and nothing happened."""
        size = sum(map(len, rows.specs)) + sum(len(blob) for _, blob in rows.contexts)
        if len(rows.contexts) != 1 or self._at_once_bytes + size > FEW_JOBS_BYTES:
            return False
        if not self._journal.has_room_ahead:
            return False
        self._at_once_bytes += size

        def committed(error: JournalBrokenError | None) -> None:
            self._at_once_bytes -= size
            if error is None:
                self.end_token(rows.token, rows.first, len(rows.specs), None)
            else:
                self.end_token(rows.token, 0, 0, _why_not_written(error))

        self._engine.post_with(event, rows, committed)
        return True

    def submit_array(self, message: SubmitArray, answer: Answer) -> None:
        """Take an array; `answer` is called once, when it is durable or refused."""
        spec, steps = message.spec, message.indices
        fault = fault_of_indices(steps)
        refusal = self.refusal_of_token(message.token) or _refusal_of_contexts(message.contexts)
        if refusal is None and fault is not None:
            refusal = Reason("bad_array", fault)
        if refusal is None and (spec.array is not None or spec.array_index is not None):
            refusal = _OURS
        if refusal is None and spec.key:
            refusal = Reason("bad_array", "the tasks of an array have no key")
        content = self._encoder.encode((spec, steps))
        # A task is the longer the higher its index is.
        longest = spec if refusal is not None else task_spec(spec, max(last for _, last, _ in steps))
        if refusal is None and max(len(content), len(self._encoder.encode(longest))) > MAX_SPEC_BYTES:
            refusal = _TOO_LARGE
        if refusal is not None:
            answer(0, 0, refusal)
            return
        content_hash = "array " + hashlib.sha256(content).hexdigest()
        if self.answer_known_token(message.token, content_hash, answer):
            return
        contexts = _with_digests(message.contexts)
        refusal = self._refusal_of_jobs((longest,), dict(contexts))
        if refusal is not None:
            answer(0, 0, refusal)
            return
        self.hold_token(message.token, content_hash, answer)
        array = _Array(message.token, content_hash, spec, steps, contexts)
        if spec.waits is None:
            self._write_array(array, ())
            return

        def answered(meant: dict[Waits, Waits], pins: Pins) -> None:
            (waits,) = meant.values()
            if spec.context not in dict(contexts) and self._journal.context(spec.context) is None:
                self._give_up(array.token, pins, _UNKNOWN_CONTEXT)  # it was dropped meanwhile
            else:
                self._write_array(array._replace(spec=msgspec.structs.replace(spec, waits=waits)), pins)

        self._ask_predecessors(array.token, (spec.waits,), answered)

    def _write_array(self, array: _Array, pins: Pins) -> None:
        count = count_of(array.steps)
        first = self.take_ids(count)
        last = first + count - 1
        spec = msgspec.structs.replace(array.spec, array=first)
        wall = time.time()
        plan = encoded_plan(spec, array.steps)
        part = SavePart(first, last, wall, spec.context, plan, first_state(spec), 0.0)
        block = AddJobs(
            first, wall, (), (), array.contexts, array.token, array.content_hash, whole=count, array=part
        )

        def written(reason: Reason | None) -> None:
            if reason is None:
                self._come(ArraySubmitted(first, last, spec, array.steps, wall, pins[0] if pins else 0), pins)
                self.end_token(array.token, first, count, None)
            else:
                self._give_up(array.token, pins, reason)

        self.write((block,), written)

    # ---------------------------------------------------------------- what reruns use, too

    def take_ids(self, count: int) -> int:
        """The first of so many ids that were never given before."""
        first = self.next_job
        self.next_job += count
        return first

    def hold_token(self, token: str, content_hash: str, answer: Answer) -> _InFlight:
        """A new token is on its way to the journal; `end_token` answers whoever asks with it until then."""
        flight = self._in_flight[token] = _InFlight(content_hash, answer)
        return flight

    def end_token(self, token: str, first: int, count: int, reason: Reason | None) -> None:
        """All is durable, or was refused."""
        for waiting in self._in_flight.pop(token).answers:
            waiting(first, count, reason)

    def write(self, blocks: tuple[AddJobs, ...], done: Callable[[Reason | None], None]) -> None:
        """Have blocks written in one transaction; `done` is told why not, if not."""
        self._being_written += 1

        def written(error: JournalFullError | JournalBrokenError | None) -> None:
            self._being_written -= 1
            done(None if error is None else _why_not_written(error))

        self._journal.write(blocks, written, give_up_when_full=True)

    def refusal_of_token(self, token: str) -> Reason | None:
        """What is wrong with a token itself."""
        if not 0 < len(token) <= MAX_TOKEN_CHARACTERS:
            return Reason("bad_token", f"a submit token has 1 to {MAX_TOKEN_CHARACTERS} characters")
        return None

    def _refusal_of_form(self, message: Submit) -> Reason | None:
        refusal = self.refusal_of_token(message.token)
        if refusal is not None:
            return refusal
        if not 0 < len(message.jobs) <= MAX_ITEMS:
            return Reason("bad_block", f"a submit carries 1 to {MAX_ITEMS} jobs")
        if any((spec.array, spec.max_running) != (None, None) for spec in message.jobs):
            return _OURS
        return _refusal_of_contexts(message.contexts)

    def answer_known_token(self, token: str, content_hash: str, answer: Answer) -> bool:
        """Whether a token was used before, or is on its way; then `answer` is called, now or when that is over."""
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
                    return _UNKNOWN_CONTEXT
                known.add(spec.context)
            refusal = core.refusal_of(spec)
            if refusal is not None:
                if len(specs) == 1:
                    return refusal
                return Reason(refusal.code, f"job {index + 1} of {len(specs)}: {refusal.text}")
        return None


def _why_not_written(error: JournalFullError | JournalBrokenError) -> Reason:
    if isinstance(error, JournalFullError):
        return Reason("journal_full", f"the server can't write its journal: {error}; nothing was submitted")
    text = "the server's journal failed; whether the jobs were taken will be known after a restart"
    return Reason("journal_broken", text)


def _refusal_of_contexts(contexts: tuple[bytes, ...]) -> Reason | None:
    if any(len(blob) > MAX_CONTEXT_BYTES for blob in contexts):
        return Reason("bad_context", f"the environment is larger than {MAX_CONTEXT_BYTES} bytes")
    return None


def _with_digests(contexts: tuple[bytes, ...]) -> tuple[tuple[str, bytes], ...]:
    return tuple((hashlib.sha256(blob).hexdigest(), blob) for blob in contexts)


def _portions(waits: tuple[Waits, ...]) -> list[tuple[Waits, ...]]:
    """What the core is asked at once. All that selects jobs is one question: it means the same jobs in all of them."""
    if sum(len(one.after) + len(one.after_any) for one in waits) > MOST_RANGES:
        return [waits]  # the core refuses it
    selecting = tuple(one for one in waits if one.select or one.select_any)
    others = tuple(one for one in waits if not (one.select or one.select_any))
    found = [others[at : at + PORTION_OF_WAITS] for at in range(0, len(others), PORTION_OF_WAITS)]
    return [selecting, *found] if selecting else found


def _hash_of(encoded: tuple[bytes, ...]) -> str:
    digest = hashlib.sha256()
    for body in encoded:
        digest.update(len(body).to_bytes(4, "big"))
        digest.update(body)
    return digest.hexdigest()
