"""The desk: where the engine's instructions go out, each to the session or waiting request it is for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from kueue_server.core.instructions import (
    AnswerCancel,
    AnswerChange,
    AnswerClean,
    AnswerForgetWorker,
    AnswerPredecessors,
    AnswerQueues,
    AnswerSteering,
    CloseSession,
    Instruction,
    JobsChanged,
    LogLine,
    OfferJobs,
    SendWorker,
)
from kueue_server.watch import WatchHub
from kueue_server.worker_session import WorkerSession

log = logging.getLogger("kueue_server")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


class Desk:
    """Knows the workers' sessions and the requests that wait for an answer of the core."""

    def __init__(self) -> None:
        self.workers: dict[int, WorkerSession] = {}
        self.hub: WatchHub | None = None
        self._waiting: dict[int, Callable[[Any], None]] = {}
        self._next_request = 1

    def expect(self, answer: Callable[[Any], None]) -> int:
        """A number for a request; `answer` is called once with the core's `Answer…` for it."""
        request = self._next_request
        self._next_request += 1
        self._waiting[request] = answer
        return request

    def perform(self, instruction: Instruction) -> None:
        """Carry out an instruction that may leave now."""
        match instruction:
            case SendWorker():
                session = self.workers.get(instruction.session)
                if session is not None:
                    session.send(instruction.message)
            case OfferJobs():
                session = self.workers.get(instruction.session)
                if session is not None:
                    session.offer(instruction)
            case CloseSession():
                session = self.workers.get(instruction.session)
                if session is not None and instruction.reason is not None:
                    session.refuse(instruction.reason)
                elif session is not None:
                    session.link.close()
            case (
                AnswerCancel()
                | AnswerClean()
                | AnswerChange()
                | AnswerForgetWorker()
                | AnswerSteering()
                | AnswerPredecessors()
                | AnswerQueues()
            ):
                self._waiting.pop(instruction.request)(instruction)
            case JobsChanged():
                if self.hub is not None:
                    self.hub.changed(instruction.jobs, instruction.ranges)
            case LogLine():
                log.log(_LEVELS[instruction.level], "%s", instruction.text)
            case _:
                raise AssertionError(f"{type(instruction).__name__} is a journal write")
