"""What clients ask of queues: read from the core, or posted to it and answered when it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import assert_never

import msgspec

from kueue.wire.messages import (
    Done,
    DumpedJob,
    DumpJobs,
    Failure,
    JobsDumped,
    ListQueues,
    PauseQueues,
    QueuePage,
    Reason,
    RemoveQueue,
    ResumeQueues,
    SetQueue,
    ToClient,
)
from kueue_server.core.events import (
    Event,
    PauseQueuesRequested,
    RemoveQueueRequested,
    ResumeQueuesRequested,
    SetQueueRequested,
)
from kueue_server.core.instructions import AnswerQueues
from kueue_server.services import Services

QueueRequest = ListQueues | PauseQueues | ResumeQueues | SetQueue | RemoveQueue | DumpJobs
Send = Callable[[ToClient], None]


def take(services: Services, message: QueueRequest, send: Send) -> None:
    """Take a request about queues; `send` is called once."""
    event: Event
    match message:
        case ListQueues():
            send(QueuePage(message.rid, services.core.queues(asyncio.get_running_loop().time())))
            return
        case DumpJobs():
            page = services.core.dump(message.queue, message.cursor)
            if page is None:
                send(Failure(message.rid, Reason("unknown_queue", f"no queue {message.queue}")))
            else:
                jobs = tuple(DumpedJob(number, msgspec.Raw(spec)) for number, spec in page[0])
                send(JobsDumped(message.rid, jobs, *page[1:]))
            return
        case PauseQueues():
            request = _expect(services, message.rid, send)
            event = PauseQueuesRequested(request, message.queues, message.reason, time.time())
        case ResumeQueues():
            event = ResumeQueuesRequested(_expect(services, message.rid, send), message.queues)
        case SetQueue():
            request = _expect(services, message.rid, send)
            event = SetQueueRequested(request, message.queue, message.weight, message.max_running)
        case RemoveQueue():
            request = _expect(services, message.rid, send)
            event = RemoveQueueRequested(request, message.queue, message.cancel, time.time())
        case _:
            assert_never(message)
    services.engine.post(event)


def _expect(services: Services, rid: int, send: Send) -> int:
    def answer(given: AnswerQueues) -> None:
        if given.error is not None:
            send(Failure(rid, given.error))
        else:
            send(Done(rid, given.lines))

    return services.desk.expect(answer)
