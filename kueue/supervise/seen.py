"""What was seen of a machine: the records that `remote.py` sends as JSON lines. Pure.

A peer's line that is not of this shape is that machine's fault, and closes nothing but its session.
"""

from __future__ import annotations

import msgspec


class SeenAgent(msgspec.Struct, frozen=True):
    """A process that holds a worker's lock. What it says of itself is empty if it did not `answer`."""

    pid: int
    ticks: int
    since: float
    """Start of the process, seconds since the epoch."""
    answers: bool
    name: str = ""
    version: str = ""
    server: str = ""
    config: str = ""
    connected: bool = False
    alone_seconds: float = 0.0
    why_alone: str = ""
    jobs: int = 0
    leaving: bool = False


class SeenSession(msgspec.Struct, frozen=True):
    """A session of our name. `state` is `live` or `dead`; `launched`: by a supervisor of this cluster."""

    tool: str
    id: str
    state: str
    launched: bool = False
    age_seconds: float = 0.0


class SeenServer(msgspec.Struct, frozen=True):
    """The process that the state directory names as the server, if it lives on this machine."""

    pid: int
    ticks: int
    since: float
    port: int


class Seen(msgspec.Struct, frozen=True):
    """One look at a machine. `ends_at_logout`: its logind ends what a user leaves running, and does not spare us."""

    host: str
    boot: str
    agents: tuple[SeenAgent, ...]
    keepers: int
    tool: str
    """What sessions are made with: `screen`, `tmux`, or `setsid` where neither is there."""
    sessions: tuple[SeenSession, ...] = ()
    may_wipe: bool = True
    server: SeenServer | None = None
    ends_at_logout: bool = False


class Launched(msgspec.Struct, frozen=True):
    """What came of a launch. `said`: the program's last line, if it has ended."""

    tool: str
    log: str
    ended: bool
    said: str = ""
    agent: SeenAgent | None = None
    server: SeenServer | None = None


class Ended(msgspec.Struct, frozen=True):
    """What came of a signal."""

    gone: bool
    killed: bool = False


class Fault(msgspec.Struct, frozen=True):
    """The machine could not do what it was told."""

    fault: str
