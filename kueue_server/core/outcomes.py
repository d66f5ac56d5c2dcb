"""How an attempt ended, in the words that people read. Pure functions of the worker's report."""

from __future__ import annotations

import signal as signals
from typing import assert_never

from kueue.job import End
from kueue.wire.messages import FinishedAttempt, Reason
from kueue_server.core.records import Outcome

CANCELED = Reason("canceled", "canceled")
"""Why a canceled job did not finish."""


def outcome_of(end: FinishedAttempt, wall: float) -> Outcome:
    """What the job's record keeps of the end of its last attempt."""
    return Outcome(
        wall - end.ended_ago,
        end.exit_code,
        end.signal,
        end.run_seconds,
        end.cpu_seconds,
        end.peak_ram_mb,
        end.stdout_path,
        end.stderr_path,
    )


def reason_of(end: FinishedAttempt) -> Reason | None:
    """Why an attempt that ended so did not succeed; None if it did."""
    match end.end:
        case End.EXITED:
            if end.exit_code == 0:
                return None
            if end.signal is not None:
                return Reason("signal", _signal_text(end.signal))
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


def _signal_text(number: int) -> str:
    try:
        return f"signal {number} ({signals.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
