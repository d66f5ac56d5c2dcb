"""Submissions: durable before they are known, all or none, and never twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import pytest

from kueue.resources import Shape
from kueue.wire.messages import Command, Reason, Spec, Submit, Waits
from kueue_server.core.events import Event, JobsSubmitted
from kueue_server.core.instructions import AnswerPredecessors
from kueue_server.engine import Engine
from kueue_server.journal.interface import (
    AddJobs,
    Journal,
    JournalBrokenError,
    JournalFullError,
    KnownToken,
)
from kueue_server.submissions import FEW_JOBS, FEW_JOBS_BYTES, Submissions

CONTEXT = b'{"env":[]}'


class FakeCore:
    newest_submitted = 0

    def has_key(self, queue: str, digest: bytes) -> bool:
        return False

    def refusal_of(self, spec: Spec) -> Reason | None:
        return Reason("unknown_resource", "no resource x") if spec.name == "bad" else None


class FakeEngine:
    def __init__(self) -> None:
        self.core = FakeCore()
        self.events: list[Event] = []
        self.along: list[tuple[AddJobs, Callable[[Any], None]]] = []

    def post(self, event: Event) -> None:
        self.events.append(event)

    def post_with(self, event: Event, write: AddJobs, done: Callable[[Any], None]) -> None:
        self.events.append(event)
        self.along.append((write, done))


class FakeJournal:
    """Commits when told to, and then knows tokens and contexts. Has room taken up ahead if a test says so."""

    def __init__(self) -> None:
        self.has_room_ahead = False
        self.queue: list[tuple[AddJobs, Callable[[Any], None]]] = []
        self.tokens: dict[str, KnownToken] = {}
        self.contexts: dict[str, bytes] = {}

    def write(
        self, writes: Sequence[AddJobs], done: Callable[[Any], None], *, give_up_when_full: bool
    ) -> None:
        assert give_up_when_full
        self.queue.append((writes[0], done))

    def completed(self, block: AddJobs) -> AddJobs:
        contexts = dict(block.contexts)
        contexts.update((one, self.contexts[one]) for one in block.context_of if one not in contexts)
        return msgspec.structs.replace(block, contexts=tuple(contexts.items()))

    def commit(self, error: JournalFullError | JournalBrokenError | None = None) -> AddJobs:
        block, done = self.queue.pop(0)
        if error is None:
            known = KnownToken(block.first, len(block.specs), block.content_hash, block.submitted_at)
            self.tokens[block.token] = known
            self.contexts.update(block.contexts)
        done(error)
        return block

    def token(self, token: str) -> KnownToken | None:
        return self.tokens.get(token)

    def context(self, digest: str) -> bytes | None:
        return self.contexts.get(digest)


class Desk:
    def __init__(self, next_job: int = 1) -> None:
        self.engine, self.journal = FakeEngine(), FakeJournal()
        self.submissions = Submissions(cast(Engine, self.engine), cast(Journal, self.journal), next_job)
        self.answers: list[tuple[int, int, str | None]] = []

    def submit(
        self,
        *names: str,
        token: str = "t",
        contexts: tuple[bytes, ...] = (CONTEXT,),
        context: bytes = CONTEXT,
        waits: Waits | None = None,
    ) -> None:
        digest = hashlib.sha256(context).hexdigest()
        jobs = tuple(
            Spec(Command((name,)), cwd="/", volume="/", shape=Shape(), context=digest, name=name, waits=waits)
            for name in names
        )
        self.submissions.submit(
            Submit(1, token, jobs, contexts),
            lambda first, count, reason: self.answers.append(
                (first, count, None if reason is None else reason.code)
            ),
        )


def test_a_block_is_answered_and_told_to_the_core_only_when_durable() -> None:
    desk = Desk(next_job=5)
    desk.submit("a", "b")
    assert desk.answers == []
    assert desk.engine.events == []
    block = desk.journal.commit()
    assert desk.answers == [(5, 2, None)]
    event = desk.engine.events[0]
    assert isinstance(event, JobsSubmitted)
    assert event.first == 5
    assert event.encoded == block.specs
    assert [msgspec.json.decode(spec, type=Spec).name for spec in block.specs] == ["a", "b"]


def test_ids_of_blocks_on_their_way_do_not_overlap() -> None:
    desk = Desk()
    desk.submit("a", "b", token="t1")
    desk.submit("c", token="t2")
    assert desk.journal.commit().first == 1
    assert desk.journal.commit().first == 3


def test_the_same_token_again_returns_the_same_block_once_committed() -> None:
    desk = Desk()
    desk.submit("a")
    desk.journal.commit()
    desk.submit("a")
    assert desk.answers == [(1, 1, None), (1, 1, None)]
    assert len(desk.engine.events) == 1


def test_the_same_token_while_in_flight_waits_for_the_first_one() -> None:
    desk = Desk()
    desk.submit("a")
    desk.submit("a")
    assert len(desk.journal.queue) == 1
    desk.journal.commit()
    assert desk.answers == [(1, 1, None), (1, 1, None)]


def test_the_same_token_with_other_jobs_is_refused() -> None:
    desk = Desk()
    desk.submit("a")
    desk.submit("b")
    desk.journal.commit()
    desk.submit("c")
    assert desk.answers == [(0, 0, "token_reused"), (1, 1, None), (0, 0, "token_reused")]


def test_one_bad_job_refuses_the_whole_block_before_any_id_is_given() -> None:
    desk = Desk()
    desk.submit("a", "bad", "c")
    assert desk.answers == [(0, 0, "unknown_resource")]
    assert desk.journal.queue == []
    assert desk.submissions.next_job == 1


def test_a_job_whose_environment_was_never_sent_is_refused() -> None:
    desk = Desk()
    desk.submit("a", contexts=())
    assert desk.answers == [(0, 0, "unknown_context")]
    desk.submit("a")
    desk.journal.commit()
    desk.submit("b", token="t2", contexts=())
    desk.journal.commit()
    assert desk.answers[1:] == [(1, 1, None), (2, 1, None)]


def test_a_full_disk_is_told_and_the_token_may_be_used_again() -> None:
    desk = Desk()
    desk.submit("a")
    desk.journal.commit(JournalFullError("no space left"))
    assert desk.answers == [(0, 0, "journal_full")]
    assert desk.engine.events == []
    desk.submit("a")
    desk.journal.commit()
    assert desk.answers[1][2] is None


def test_a_broken_journal_acknowledges_nothing() -> None:
    desk = Desk()
    desk.submit("a")
    desk.journal.commit(JournalBrokenError("fsync"))
    assert desk.answers == [(0, 0, "journal_broken")]
    assert desk.engine.events == []


def test_an_empty_block_or_token_is_refused() -> None:
    desk = Desk()
    desk.submit()
    desk.submit("a", token="")
    assert [code for _, _, code in desk.answers] == ["bad_block", "bad_token"]


def test_a_few_jobs_come_at_once_where_there_is_room_and_are_answered_when_durable() -> None:
    desk = Desk(next_job=5)
    desk.journal.has_room_ahead = True
    desk.submit("a", "b")
    (event,) = desk.engine.events
    assert isinstance(event, JobsSubmitted)
    ((block, committed),) = desk.engine.along
    assert (event.first, event.encoded) == (5, block.specs)
    assert (desk.answers, desk.journal.queue) == ([], [])
    committed(None)
    assert desk.answers == [(5, 2, None)]


def test_the_same_token_while_its_job_has_come_and_is_not_durable_waits() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    desk.submit("a")
    desk.submit("a")
    ((_, committed),) = desk.engine.along
    assert desk.answers == []
    committed(None)
    assert desk.answers == [(1, 1, None), (1, 1, None)]


def test_who_came_at_once_to_a_journal_that_breaks_is_not_acknowledged() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    desk.submit("a")
    ((_, committed),) = desk.engine.along
    committed(JournalBrokenError("fsync"))
    assert desk.answers == [(0, 0, "journal_broken")]


def test_nothing_comes_at_once_before_the_jobs_that_are_being_written() -> None:
    desk = Desk()
    desk.submit("a", token="1")
    desk.journal.has_room_ahead = True
    desk.submit("b", token="2")
    assert desk.engine.events == []
    assert [desk.journal.commit().first for _ in range(2)] == [1, 2]
    desk.submit("c", token="3")
    assert [event.first for event in desk.engine.events if isinstance(event, JobsSubmitted)] == [1, 2, 3]
    assert [block.first for block, _ in desk.engine.along] == [3]


def test_many_jobs_and_large_ones_may_be_refused_by_a_full_disk_so_they_do_not_come_before() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    for number, names in enumerate((["a"] * (FEW_JOBS + 1), ["x" * FEW_JOBS_BYTES])):
        desk.submit(*names, token=str(number))
        assert desk.engine.events == []
        desk.journal.commit(JournalFullError("no space left"))
    assert [code for _, _, code in desk.answers] == ["journal_full", "journal_full"]
    assert (desk.engine.events, desk.engine.along) == ([], [])


@pytest.mark.parametrize("known", [True, False])
def test_an_environment_counts_whether_it_was_sent_or_is_known(known: bool) -> None:
    large = msgspec.json.encode({"env": [["A", "x" * FEW_JOBS_BYTES]]})
    desk = Desk()
    desk.journal.has_room_ahead = True
    if known:
        desk.journal.contexts[hashlib.sha256(large).hexdigest()] = large
    desk.submit("a", context=large, contexts=() if known else (large,))
    assert desk.engine.events == []
    assert len(desk.journal.queue) == 1


def test_jobs_of_several_environments_are_on_more_pages_than_there_is_room_for() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    desk.submit("a", contexts=(CONTEXT, b'{"env":[["A","1"]]}'))
    assert desk.engine.events == []
    assert len(desk.journal.queue) == 1


def test_only_so_much_comes_at_once_as_there_is_room_for() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    third = "x" * (FEW_JOBS_BYTES // 6)  # which is its command and its name
    for token in "123":
        desk.submit(third, token=token)
    assert [len(desk.engine.along), len(desk.journal.queue)] == [2, 1]
    desk.journal.commit()
    for _, committed in desk.engine.along:
        committed(None)
    desk.submit(third, token="4")
    assert [len(desk.engine.along), len(desk.journal.queue)] == [3, 0]
    assert [first for first, _, _ in desk.answers] == [3, 1, 2]


def test_who_waits_for_others_goes_the_long_way() -> None:
    desk = Desk()
    desk.journal.has_room_ahead = True
    asked: list[Callable[[AnswerPredecessors], None]] = []
    desk.submissions._expect = lambda answer: asked.append(answer) or len(asked)  # type: ignore[func-returns-value]
    waits = Waits(after=((1, 1),))
    desk.submit("a", waits=waits)
    asked[0](AnswerPredecessors(1, None, (waits,)))
    assert [len(desk.engine.along), len(desk.journal.queue)] == [0, 1]
