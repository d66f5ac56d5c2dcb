"""What keeps this worker from taking jobs, and what makes a bad end of a job an interruption."""

from __future__ import annotations

from dataclasses import dataclass, field

from kueue.wire.messages import Reason
from kueue_worker.core.departure import Departure

KEEPER_SILENT_SECONDS = 10.0
"""A keeper that does not answer for so long takes no offers."""


@dataclass(slots=True)
class Conditions:
    """`keeper` is the id of the one that answers, None while there is none."""

    departure: Departure = field(default_factory=Departure)
    keeper: str | None = None
    keeper_leaving: bool = False
    keeper_silent: float = 0.0
    system_stopping: bool = False
    spool_full: str = ""

    def keeper_came(self, keeper: str) -> None:
        """A keeper answers."""
        self.keeper, self.keeper_leaving, self.keeper_silent = keeper, False, 0.0

    def why_no_offers(self) -> Reason | None:
        """Why offers are refused, if they are."""
        if self.departure.begun:
            return Reason("draining", self.departure.why)
        if self.system_stopping:
            return Reason("draining", "the machine is shutting down")
        if self.keeper_leaving or self.keeper_silent >= KEEPER_SILENT_SECONDS:
            return Reason("keeper_silent", "the worker's keeper does not answer")
        return Reason("spool_full", self.spool_full) if self.spool_full else None

    def why_none_wanted(self) -> Reason | None:
        """Why the server is to offer none, if so: also while a keeper is being started. What comes anyway is
        held."""
        refusal = self.why_no_offers()
        if refusal is None and self.keeper is None:
            return Reason("keeper_silent", "the worker's keeper is being started")
        return refusal

    def why_interrupted(self) -> str:
        """Why a bad end now is an interruption; empty if it is not."""
        if self.departure.ending:
            return self.departure.why
        if self.keeper_leaving:
            return "the worker's keeper was told to end"
        return "the machine was shutting down" if self.system_stopping else ""
