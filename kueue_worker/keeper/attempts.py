"""What the keeper knows of an attempt, and how that looks in messages and in the record file."""

from __future__ import annotations

import os
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
ENDS = (INTERRUPTED, STOPPED, TIME_LIMIT, OUTPUT_LIMIT, EXITED, LOST, NOT_STARTED)

MOST_STATUS = 0xFFFF
MOST_KB = 2**53
LONGEST_AGO_SECONDS = 5e8
"""Neither a boot nor a job is as old."""
MOST_CPU_SECONDS = 1e12
SHUTDOWN_SECONDS = 5.0
"""A bad end so shortly before the keeper is told to end was the same shutdown's doing."""
DEEPEST = 50
"""Lists within lists, of what is kept for an agent: what can just be read might be too deep to be written."""


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

    def may_be_of_shutdown(self, now: float) -> bool:
        """Is it what a machine that goes down does to a job, whose keeper is told to end now? Not what was in an
        earlier boot."""
        if self.end != EXITED or self.status == 0 or self.ended is None:
            return False
        return self.ended > 0 and now - self.ended <= SHUTDOWN_SECONDS

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Ended:
        """From `fields`, with more beside them.

        Raises:
            KeyError: one is missing.
            TypeError: one is of another type.
            ValueError: one is out of range.
        """
        end, status, started, ended = (fields[name] for name in ("end", "status", "started", "ended"))
        if end not in ENDS or not (status is None or _is_of_an_end(whole(status, 0, MOST_STATUS))):
            raise ValueError("no end")
        return cls(
            end,
            status,
            None if started is None else seconds(started),
            None if ended is None else seconds(ended),
            seconds(fields["cpu_seconds"], MOST_CPU_SECONDS),
            whole(fields["peak_kb"], 0, MOST_KB),
            _text(fields["code"]),
            _text(fields["text"]),
        )


@dataclass(slots=True, eq=False)
class Attempt:
    """An attempt that is not forgotten. `room`: what it takes up; `pid`: its first process, the leader of its
    session; `ended`: as soon as nothing of it is left to wait for."""

    key: str
    job: Any
    number: Any
    note: Any
    pid: int | None = None
    started: float | None = None
    ended: Ended | None = None
    room: str = ""

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


def whole(value: object, least: int, most: int) -> int:
    """A whole number in this range.

    Raises:
        TypeError, ValueError: it is none.
    """
    if type(value) is not int:
        raise TypeError("not a whole number")
    if not least <= value <= most:
        raise ValueError("out of range")
    return value


def seconds(value: object, most: float = LONGEST_AGO_SECONDS) -> float:
    """A time or a time span; times before the boot are negative.

    Raises:
        TypeError, ValueError: it is none.
    """
    if type(value) is not int and type(value) is not float:
        raise TypeError("not a number")
    if not -most <= value <= most:  # nor what is not a number at all
        raise ValueError("out of range")
    return float(value)


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("not text")
    return value


def _is_of_an_end(status: int) -> bool:
    return os.WIFEXITED(status) or os.WIFSIGNALED(status)


def check_depth(value: object, left: int = DEEPEST) -> None:
    """Raises ValueError if lists and objects in it are nested too deep."""
    if isinstance(value, dict | list):
        if not left:
            raise ValueError("nested too deep")
        for part in value.values() if isinstance(value, dict) else value:
            check_depth(part, left - 1)
