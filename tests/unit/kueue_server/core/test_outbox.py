"""The order in which what one step decided leaves the server."""

from __future__ import annotations

from kueue.wire.messages import Acknowledge, AttemptRef, Retract, Stop
from kueue_server.core.instructions import OfferJobs, SendWorker
from kueue_server.core.outbox import Outbox
from tests.support.core_bench import Bench


def test_a_worker_hears_of_an_attempt_before_it_is_asked_for_it_back() -> None:
    """It would say that it has none, and start it when the offer comes."""
    outbox = Outbox()
    outbox.retract(1, AttemptRef(5, 7))
    outbox.stop(1, AttemptRef(6, 8), "canceled")
    outbox.acknowledge(1, AttemptRef(4, 9))
    outbox.offer(1, (5, 7, 1, b"{}", "context"))
    outbox.offer(1, (6, 8, 1, b"{}", "context"))
    sent = [
        instruction.message if isinstance(instruction, SendWorker) else instruction
        for instruction in outbox.flush(Bench().core._state.table)
    ]
    assert [type(each) for each in sent] == [Acknowledge, OfferJobs, Stop, Retract]
