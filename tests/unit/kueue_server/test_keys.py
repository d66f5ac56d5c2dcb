"""Keys of jobs: what the queue has already, or is about to have, makes no second job."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, cast

from kueue.resources import Shape
from kueue.wire.messages import Command, Reason, Spec, Submit
from kueue_server.core.queues import digest_of
from kueue_server.engine import Engine
from kueue_server.journal.interface import AddJobs, Journal, JournalFullError, KnownToken
from kueue_server.submissions import Submissions
from tests.support.core_bench import Bench, make_spec

CONTEXT = b'{"env":[]}'
DIGEST = hashlib.sha256(CONTEXT).hexdigest()


class Desk:
    """Submissions over a core on the bench, which hears of them when told to; a journal that commits when told to."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.core = self.bench.core
        self.writes: list[tuple[AddJobs, Callable[[Any], None]]] = []
        self.tokens: dict[str, KnownToken] = {}
        self.events: list[Any] = []
        self.submissions = Submissions(cast(Engine, self), cast(Journal, self), 1)
        self.answers: list[tuple[int, int, str | None]] = []

    def post(self, event: Any) -> None:
        """The engine's part."""
        self.events.append(event)

    def hear(self) -> None:
        """The core takes in what was posted."""
        for event in self.events:
            self.core.handle(event, 100.0)
            self.core.check_invariants()
        self.events.clear()

    has_room_ahead = True

    def completed(self, block: AddJobs) -> AddJobs:
        """The journal's part."""
        return block

    def post_with(self, event: Any, write: AddJobs, done: Callable[[Any], None]) -> None:
        """The engine's part: a commit of its own."""
        self.post(event)
        self.write((write,), done, give_up_when_full=False)

    def write(self, writes: Sequence[Any], done: Callable[[Any], None], *, give_up_when_full: bool) -> None:
        """The journal's part."""
        self.writes.append((writes[0], done))

    def commit(self, error: Any = None) -> AddJobs:
        """The oldest write is durable, or failed."""
        block, done = self.writes.pop(0)
        if error is None:
            self.tokens[block.token] = KnownToken(block.first, len(block.specs), block.content_hash, 0.0)
        done(error)
        return block

    def token(self, token: str) -> KnownToken | None:
        """The journal's part."""
        return self.tokens.get(token)

    def context(self, digest: str) -> bytes | None:
        """The journal's part."""
        return CONTEXT

    def submit(self, *keys: str, token: str, queue: str = "q") -> None:
        """Jobs of these keys."""
        jobs = tuple(
            Spec(Command(("x",)), cwd="/", volume="/", shape=Shape(), context=DIGEST, key=key, queue=queue)
            for key in keys
        )

        def answer(first: int, count: int, reason: Reason | None) -> None:
            self.answers.append((first, count, None if reason is None else reason.code))

        self.submissions.submit(Submit(1, token, jobs, (CONTEXT,)), answer)


def test_a_key_that_the_queue_has_makes_no_second_job() -> None:
    desk = Desk()
    desk.submit("a", "b", "a", "", "", token="1")
    assert len(desk.commit().specs) == 4
    desk.hear()
    desk.submit("b", "c", token="2")
    assert len(desk.commit().specs) == 1
    desk.hear()
    desk.submit("a", "b", "c", token="3")
    assert desk.writes == []
    desk.submit("a", token="4", queue="another")
    desk.commit()
    assert desk.answers == [(1, 4, None), (5, 1, None), (0, 0, None), (6, 1, None)]


def test_a_key_that_is_being_written_is_waited_for() -> None:
    desk = Desk()
    desk.submit("a", token="1")
    desk.submit("a", "b", token="2")
    assert len(desk.writes) == 1
    desk.commit()
    assert len(desk.commit().specs) == 1  # the core has not heard of the first one yet
    desk.hear()
    assert desk.answers == [(1, 1, None), (2, 1, None)]


def test_who_needs_no_key_does_not_come_to_the_core_before_those_who_do() -> None:
    desk = Desk()
    desk.submit("a", token="1")
    desk.submit("", token="2")
    desk.hear()
    desk.commit()
    desk.submit("a", token="3")  # the core has not heard of the first one yet
    desk.commit()
    desk.hear()
    assert desk.writes == []
    assert desk.answers == [(1, 1, None), (0, 0, None), (2, 1, None)]


def test_if_that_fails_it_is_as_if_nobody_had_asked() -> None:
    desk = Desk()
    desk.submit("a", token="1")
    desk.submit("a", token="2")
    desk.commit(JournalFullError("no space left"))
    desk.commit()
    assert desk.answers == [(0, 0, "journal_full"), (2, 1, None)]


def test_a_repeated_submit_is_told_what_it_was_told() -> None:
    desk = Desk()
    desk.submit("a", token="1")
    desk.commit()
    desk.hear()
    desk.submit("a", "b", token="2")
    desk.commit()
    desk.hear()
    desk.submit("a", "b", token="2")
    assert desk.answers[1:] == [(2, 1, None), (2, 1, None)]


def test_keys_are_those_of_the_table_also_after_a_restart_and_go_with_their_jobs() -> None:
    bench = Bench()
    session = bench.worker(cpus=4)
    bench.submit(*[make_spec(queue="q", key=key) for key in ("a", "b", "b")])
    bench.finished(session, (1, 1), (2, 2))
    bench.clean()
    bench.restart()
    assert not bench.core.has_key("q", digest_of("a"))
    assert bench.core.has_key("q", digest_of("b"))  # of a new run, say
    assert not bench.core.has_key("other", digest_of("b"))
