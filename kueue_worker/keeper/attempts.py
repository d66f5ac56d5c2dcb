"""What the keeper knows of an attempt, and how that looks in messages and in the record file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kueue_worker.keeper.wire import Message

INTERRUPTED = "interrupted"
STOPPED = "stopped"
TIME_LIMIT = "time_limit"
OUTPUT_LIMIT = "output_limit"
EXITED = "exited"
LOST = "lost"
NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended. `end`: as in `kueue.job.End`; `status`: the raw wait status; `ended` None: nobody
    knows when."""

    end: str
    status: int | None = None
    started: float | None = None
    ended: float | None = None
    cpu_seconds: float = 0.0
    peak_kb: int = 0
    code: str = ""
    text: str = ""

    def fields(self) -> dict[str, Any]:
        """As messages and records have them."""
        return {
            "end": self.end,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "cpu_seconds": self.cpu_seconds,
            "peak_kb": self.peak_kb,
            "code": self.code,
            "text": self.text,
        }

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Ended:
        """From `fields`, with more beside them.

        Raises:
            KeyError: one is missing.
        """
        return cls(
            str(fields["end"]),
            fields["status"],
            fields["started"],
            fields["ended"],
            fields["cpu_seconds"],
            fields["peak_kb"],
            fields["code"],
            fields["text"],
        )


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that is not forgotten. `pid`: its first process, the leader of its session; `ended`: as
    soon as nothing of it is left to wait for."""

    key: str
    job: Any
    number: Any
    note: Any
    pid: int | None = None
    started: float | None = None
    ended: Ended | None = None

    def record(self) -> Message:
        """As `state` tells it."""
        record = {
            "key": self.key,
            "job": self.job,
            "attempt": self.number,
            "state": "running" if self.ended is None else "ended",
            "pid": self.pid,
            "started": self.started,
            "note": self.note,
        }
        if self.ended is not None:
            record |= self.ended.fields()
        return record

    def message(self) -> Message:
        """What is known of it, as `started` or `ended`."""
        if self.ended is None:
            return {"m": "started", "key": self.key, "pid": self.pid, "started": self.started}
        return {"m": "ended", "key": self.key, **self.ended.fields()}
