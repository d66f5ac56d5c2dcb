"""Between the keeper's messages (untyped JSON) and the core's events and instructions (typed)."""

from __future__ import annotations

import math
import os
from typing import Any

import msgspec

from kueue.job import End
from kueue.wire.messages import Reason
from kueue_worker.core.events import Ended, KeptAttempt, Note
from kueue_worker.keeper_link import KeeperFaultError, Message


def ended_of(message: Message) -> Ended:
    """How an attempt ended, from `ended` or from a record with its fields.

    Raises:
        KeeperFaultError: it is not what the protocol says.
    """
    try:
        end = End(message["end"])
        exit_code, signal = None, None
        status = message.get("status")
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            exit_code, signal = (code, None) if code >= 0 else (None, -code)
        reason = None
        if message.get("code"):
            reason = Reason(str(message["code"]), str(message.get("text") or message["code"]))
        elif end is End.LOST:
            reason = Reason("lost", str(message.get("text") or "the worker's keeper died under it"))
        return Ended(
            end=end,
            exit_code=exit_code,
            signal=signal,
            started=_number(message.get("started")),
            ended=_number(message.get("ended")),
            cpu_seconds=_number(message.get("cpu_seconds")) or 0.0,
            peak_ram_mb=(_number(message.get("peak_kb")) or 0.0) / 1024,
            reason=reason,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise KeeperFaultError(f"an end that can't be read: {error!r}") from None


def kept_of(record: Message) -> KeptAttempt | None:
    """A record of the keeper; None if its note is not one of ours (another version's, say)."""
    try:
        note = msgspec.convert(record["note"], Note)
        key = str(record["key"])
    except (KeyError, msgspec.ValidationError):
        return None
    ended = ended_of(record) if record.get("state") == "ended" else None
    return KeptAttempt(key, note, _number(record.get("started")), ended)


def note_as_json(note: Note) -> Any:
    """What the keeper is given to remember."""
    return msgspec.to_builtins(note)


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"not a number: {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"not a number: {value!r}")
    return float(value)
