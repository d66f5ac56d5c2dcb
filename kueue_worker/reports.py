"""Gathers what is to be told to the server, and cuts it into as few reports as fit."""

from __future__ import annotations

from typing import TypeVar, assert_never

from kueue.wire.messages import (
    MAX_ITEMS,
    AttemptRef,
    FinishedAttempt,
    RefusedAttempt,
    Report,
    RunningAttempt,
)
from kueue_worker.core.instructions import (
    Tell,
    TellFinished,
    TellKept,
    TellRefused,
    TellReleased,
    TellStarted,
)
from kueue_worker.core.inventory import cut

T = TypeVar("T")


class Reports:
    """What has happened since the last report. An attempt's start is never behind its end."""

    def __init__(self) -> None:
        self._started: list[RunningAttempt] = []
        self._finished: list[FinishedAttempt] = []
        self._refused: list[RefusedAttempt] = []
        self._released: list[AttemptRef] = []
        self._kept: list[AttemptRef] = []

    def __bool__(self) -> bool:
        return bool(self._started or self._finished or self._refused or self._released or self._kept)

    def add(self, tell: Tell) -> None:
        """Take one more."""
        match tell:
            case TellStarted():
                self._started.append(tell.item)
            case TellFinished():
                self._finished.append(tell.item)
            case TellRefused():
                self._refused.append(tell.item)
            case TellReleased():
                self._released.append(tell.item)
            case TellKept():
                self._kept.append(tell.item)
            case _:
                assert_never(tell)

    def take(self) -> list[Report]:
        """All of it, in order, as messages of a bounded size; nothing is left."""
        finished = cut(self._finished)
        others = len(self._started) + len(self._refused) + len(self._released) + len(self._kept)
        if len(finished) <= 1 and others <= MAX_ITEMS:
            reports = [
                Report(
                    started=tuple(self._started),
                    finished=finished[0] if finished else (),
                    refused=tuple(self._refused),
                    released=tuple(self._released),
                    kept=tuple(self._kept),
                )
            ]
        else:
            reports = [Report(started=tuple(part)) for part in _parts(self._started)]
            reports += [Report(finished=part) for part in finished]
            reports += [Report(refused=tuple(part)) for part in _parts(self._refused)]
            reports += [Report(released=tuple(part)) for part in _parts(self._released)]
            reports += [Report(kept=tuple(part)) for part in _parts(self._kept)]
        self._started, self._finished, self._refused, self._released, self._kept = [], [], [], [], []
        return reports


def _parts(items: list[T]) -> list[list[T]]:
    return [items[i : i + MAX_ITEMS] for i in range(0, len(items), MAX_ITEMS)]
