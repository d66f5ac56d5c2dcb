"""What the agent knows of one attempt that it was handed, and the interruption rule for how it ended.

An ordinary shutdown of a machine TERMs every process at the same time: a job that ends badly in that moment
was interrupted, it did not fail. So an end that is not a plain success is held back for a second, and counts
as interrupted if agent, keeper or system turn out to be stopping.
"""

from __future__ import annotations

import enum
import posixpath
from dataclasses import dataclass

import msgspec

from kueue.job import End
from kueue.resources import Shape
from kueue.wire.messages import (
    AttemptRef,
    FinishedAttempt,
    OsString,
    RawBytes,
    Reason,
    RunningAttempt,
    Spec,
)
from kueue_worker.core.events import Ended, Note
from kueue_worker.core.instructions import KillEnd
from kueue_worker.core.room import Units

DOUBT_SECONDS = 1.0
"""How long a bad end is held back before it is reported."""
TERM = 15
INTERRUPTION_SECONDS = 5.0
"""A bad end so shortly before we are told to end was part of the same shutdown."""


class Phase(enum.Enum):
    """Where an attempt is on its way through this worker."""

    HELD = "held"  # accepted; waits for room
    PREPARING = "preparing"  # has room; directory, outputs and program are being opened and found
    NEXT = "next"  # in the keeper's line: starts when there is room, which it has not got yet
    STARTING = "starting"  # handed to the keeper
    RUNNING = "running"
    DOUBTFUL = "doubtful"  # ended badly; is it an interruption?
    READING = "reading"  # ended; the ends of its output are being read
    FINISHED = "finished"  # report complete; waits for the server's acknowledgement


WITH_KEEPER = frozenset({Phase.STARTING, Phase.RUNNING})
ON_THE_WAY = WITH_KEEPER | {Phase.PREPARING, Phase.NEXT, Phase.DOUBTFUL, Phase.READING}
"""Phases that a worker which ends in good order waits for."""


@dataclass(slots=True)
class Attempt:
    """One attempt. `spec` is known until it has started; `kept`: the keeper has a record of it; `until`: it has been
    ordered ahead, and the keeper may start it until then."""

    key: str
    note: Note
    phase: Phase
    spec: Spec | None = None
    units: Units = ()
    reserved: bool = False
    kept: bool = False
    started: float | None = None
    ended: Ended | None = None
    kill_end: KillEnd | None = None  # the end that a kill was ordered with
    asked_back: bool = False  # if it does not start now, it is given back
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""
    until: float | None = None

    @property
    def may_be_killed(self) -> bool:
        """Is it with the keeper, and no kill was ordered yet?"""
        return self.phase in WITH_KEEPER and self.kill_end is None

    @property
    def shape(self) -> Shape:
        """What it requires."""
        return self.note.shape

    @property
    def ref(self) -> AttemptRef:
        """Its name on the wire."""
        return AttemptRef(self.note.job, self.note.fence)

    def running_at(self, now: float) -> RunningAttempt:
        """As a report says that it runs."""
        ago = 0.0 if self.started is None else max(0.0, now - self.started)
        return RunningAttempt(self.note.job, self.note.fence, self.note.attempt, ago)

    def finished_at(self, now: float) -> FinishedAttempt:
        """As a report says how it ended; only once it has."""
        ended = self.ended
        assert ended is not None, self.key
        started_ago = None if ended.started is None else max(0.0, now - ended.started)
        run_seconds = 0.0
        if ended.started is not None and ended.ended is not None:
            run_seconds = max(0.0, ended.ended - ended.started)
        return FinishedAttempt(
            job=self.note.job,
            fence=self.note.fence,
            attempt=self.note.attempt,
            end=ended.end,
            exit_code=ended.exit_code,
            signal=ended.signal,
            reason=ended.reason,
            started_ago=started_ago,
            ended_ago=0.0 if ended.ended is None else max(0.0, now - ended.ended),
            run_seconds=run_seconds,
            cpu_seconds=ended.cpu_seconds,
            peak_ram_mb=ended.peak_ram_mb,
            stdout_path=self.note.stdout,
            stderr_path=self.note.stderr,
            stdout_tail=self.stdout_tail,
            stderr_tail=self.stderr_tail,
        )


def key_of(journal: str, job: int, fence: int) -> str:
    """The name of an attempt at the keeper."""
    return f"{journal}/{job}/{fence}"


def is_bad(ended: Ended) -> bool:
    """Did it end by itself, but not as one wishes? Only such an end may turn out to be an interruption."""
    return ended.end is End.EXITED and ended.exit_code != 0


def may_be_interruption(ended: Ended, now: float, seconds: float) -> bool:
    """A bad end of this boot, not longer than `seconds` ago."""
    return is_bad(ended) and ended.ended is not None and ended.ended > 0 and now - ended.ended <= seconds


def doubt_seconds(ended: Ended) -> float:
    """How long a bad end is held back: one by a TERM that was not ours is likely to be a shutdown that has only
    reached the job yet. 143 is how a shell tells of it."""
    return INTERRUPTION_SECONDS if ended.signal == TERM or ended.exit_code == 128 + TERM else DOUBT_SECONDS


def as_interrupted(ended: Ended, text: str) -> Ended:
    """The same end, told as an interruption."""
    return msgspec.structs.replace(ended, end=End.INTERRUPTED, reason=Reason("interrupted", text))


def as_lost(started: float | None) -> Ended:
    """The end of a running attempt that the keeper knows nothing of any more."""
    return Ended(End.LOST, started=started, reason=Reason("lost", "the worker's records of it are gone"))


def as_failure(reason: Reason) -> Ended:
    """The end of an attempt that can't be started here or anywhere."""
    return Ended(End.NOT_STARTED, reason=reason)


def place_of_refusal(refusal: Reason, spec: Spec | None) -> OsString | None:
    """What a refusal to start says of places. Without its directory: the one that holds that (None if it is not a
    text). Without its program: the job's own directory, unless the program is the same from everywhere."""
    if spec is None:
        return None
    if refusal.code == "no_program":
        first = spec.payload.argv[0]
        return None if isinstance(first, str) and first.startswith("/") else spec.cwd
    if refusal.code != "no_directory" or isinstance(spec.cwd, RawBytes):
        return None
    return posixpath.dirname(posixpath.normpath(spec.cwd))
