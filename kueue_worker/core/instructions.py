"""Orders that the core gives the agent's shell, to be carried out in their order.

`Tell…` go into the next `Report`; the shell coalesces them. What can't be carried out (the session or the
keeper has just ended) is dropped: the event of that end follows and makes it good.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from kueue.wire.messages import (
    AttemptRef,
    FinishedAttempt,
    Inventory,
    OsString,
    RefusedAttempt,
    RunningAttempt,
    Spec,
    Status,
)
from kueue_worker.core.events import Note

KillEnd = Literal["stopped", "interrupted", "output_limit"]
"""The end that a kill is ordered with."""
Level = Literal["debug", "info", "warning", "error"]

# ---------------------------------------------------------------- this machine


class Look(msgspec.Struct, frozen=True, gc=False):
    """See whether the working directory exists; answered by `LookDone`."""

    key: str
    cwd: OsString


class Prepare(msgspec.Struct, frozen=True, gc=False):
    """Open the directory and the outputs, find the program; answered by `PrepareDone`."""

    key: str
    job: int
    attempt: int
    spec: Spec


class Discard(msgspec.Struct, frozen=True, gc=False):
    """What was prepared (or is being prepared) for this key is not needed."""

    key: str


class ReadTails(msgspec.Struct, frozen=True, gc=False):
    """Read the ends of an ended attempt's output; answered by `TailsRead`."""

    key: str
    note: Note


# ---------------------------------------------------------------- the keeper


class Spawn(msgspec.Struct, frozen=True, gc=False):
    """Start what was prepared for this key; answered by `AttemptStarted` and `AttemptEnded`. `room`: attempts of the
    same one can take each other's place. `until`: it waits in line for such a place, for so long."""

    key: str
    spec: Spec
    note: Note
    room: str = ""
    until: float | None = None


class Go(msgspec.Struct, frozen=True, gc=False):
    """One in line starts now."""

    key: str


class DropStart(msgspec.Struct, frozen=True, gc=False):
    """One in line is not to start; answered by `StartDropped`, unless it has started."""

    key: str


class Kill(msgspec.Struct, frozen=True, gc=False):
    """End the whole process tree of an attempt."""

    key: str
    grace_seconds: float
    end: KillEnd


class DropRecords(msgspec.Struct, frozen=True):
    """The keeper may forget these."""

    keys: tuple[str, ...]


class EndKeeper(msgspec.Struct, frozen=True):
    """Nothing of ours runs: the keeper is to exit."""


# ---------------------------------------------------------------- the server


class SendInventory(msgspec.Struct, frozen=True):
    messages: tuple[Inventory, ...]


class SendStatus(msgspec.Struct, frozen=True):
    status: Status


class TellStarted(msgspec.Struct, frozen=True, gc=False):
    item: RunningAttempt


class TellFinished(msgspec.Struct, frozen=True, gc=False):
    item: FinishedAttempt


class TellRefused(msgspec.Struct, frozen=True, gc=False):
    item: RefusedAttempt


class TellReleased(msgspec.Struct, frozen=True, gc=False):
    item: AttemptRef


class TellKept(msgspec.Struct, frozen=True, gc=False):
    item: AttemptRef


class Reconnect(msgspec.Struct, frozen=True):
    """End the session in good order and begin another: what we registered with has changed."""


class SendLeaving(msgspec.Struct, frozen=True):
    """Say good-bye, after everything told so far."""

    jobs_stay: bool
    text: str


# ---------------------------------------------------------------- the program


class AttemptOver(msgspec.Struct, frozen=True, gc=False):
    """No more output of this attempt will come: whoever waits for it is to be answered."""

    key: str


class Say(msgspec.Struct, frozen=True, gc=False):
    """Something that the person who runs the worker wants to read."""

    level: Level
    text: str


class Quit(msgspec.Struct, frozen=True):
    """The agent is done; it exits with this code."""

    code: int


Tell = TellStarted | TellFinished | TellRefused | TellReleased | TellKept
Instruction = (
    Look
    | Prepare
    | Discard
    | ReadTails
    | Spawn
    | Go
    | DropStart
    | Kill
    | DropRecords
    | EndKeeper
    | SendInventory
    | SendStatus
    | Tell
    | Reconnect
    | SendLeaving
    | AttemptOver
    | Say
    | Quit
)
