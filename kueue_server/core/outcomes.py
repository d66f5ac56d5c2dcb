"""How an attempt ended, in the words that people read. Pure functions of the worker's report."""

from __future__ import annotations

import signal as signals
from typing import assert_never

from kueue.durations import format_ram
from kueue.job import End
from kueue.wire.messages import FinishedAttempt, OsString, Pause, Reason
from kueue_server.core.records import Outcome

CANCELED = Reason("canceled", "canceled")
"""Why a canceled job did not finish."""
LONGEST_TEXT = 1000
LONGEST_PATH = 8192
LEAST_PEAK_MB = 64
"""A peak below this may be that of the keeper, which a job begins as."""


def outcome_of(end: FinishedAttempt, wall: float) -> Outcome:
    """What the job's record keeps of the end of its last attempt."""
    return Outcome(
        wall - end.ended_ago,
        end.exit_code,
        end.signal,
        end.run_seconds,
        end.cpu_seconds,
        end.peak_ram_mb,
        _path(end.stdout_path),
        _path(end.stderr_path),
    )


def reason_of(end: FinishedAttempt, reserved_mb: int | None = None) -> Reason | None:
    """Why an attempt that ended so did not succeed; None if it did. At most `LONGEST_TEXT` characters.

    Args:
        end: as its worker tells it.
        reserved_mb: the memory that the job had asked for, if that is known.
    """
    reason = _reason_of(end)
    if reason is not None and (len(reason.code) > LONGEST_TEXT or len(reason.text) > LONGEST_TEXT):
        reason = Reason(reason.code[:LONGEST_TEXT], reason.text[: LONGEST_TEXT - 1] + "…")
    if reason is not None and reserved_mb is not None and end.end is End.EXITED and end.peak_ram_mb > 0:
        # A SIGKILL alone may be anybody's; how much memory there was is for people to make something of.
        killed = end.signal == signals.SIGKILL and end.peak_ram_mb >= max(reserved_mb, LEAST_PEAK_MB)
        if reason.code == "memory" or killed:
            peak, reserved = (format_ram(mb).replace(".0 ", " ") for mb in (end.peak_ram_mb, reserved_mb))
            return Reason(reason.code, f"{reason.text}, peak {peak} of {reserved} reserved")
    return reason


def _reason_of(end: FinishedAttempt) -> Reason | None:
    match end.end:
        case End.EXITED:
            if end.exit_code == 0:
                return None
            if end.signal is not None:
                return end.reason or Reason("signal", _signal_text(end.signal))
            if end.exit_code is None:
                return end.reason or Reason("exit", "ended, nobody knows how")
            return end.reason or Reason("exit", f"exit {end.exit_code}")
        case End.TIME_LIMIT:
            return Reason("time_limit", "time limit")
        case End.OUTPUT_LIMIT:
            return end.reason or Reason("output_limit", "output over the worker's cap")
        case End.NOT_STARTED:
            return end.reason or Reason("spawn", "the worker could not start it")
        case End.STOPPED | End.INTERRUPTED | End.LOST:
            return end.reason
        case _:
            assert_never(end.end)


def paused_reason(pause: Pause) -> Reason:
    """Why an attempt was ended whose worker a person has paused."""
    return Reason("paused", f"its worker was paused{': ' if pause.reason else ''}{pause.reason}")


def _path(path: OsString | None) -> OsString | None:
    """None for one that no system takes: whoever lists the job would get all of it."""
    if path is None or len(path if isinstance(path, str) else path.b64) <= LONGEST_PATH:
        return path
    return None


def _signal_text(number: int) -> str:
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
