"""What to do on a machine, given what was seen of it. Pure: no clock, no connection.

A worker is alive if a process holds its lock and answers there, whatever the sessions are called. Agents may be
ended at any time, since their jobs are the keeper's; keepers and jobs are touched by `stop` alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from kueue.supervise.seen import Seen, SeenAgent, SeenSession

ALONE_SECONDS = 60.0
"""So long an agent may be without a server that answers others, before it is started anew."""
DEPART_SECONDS = 10.0
"""How long an agent may take to leave its jobs to the keeper."""
SILENT_SECONDS = 3.0
"""The same for one that has not answered: it may be slow, and not frozen."""
STARTING_SECONDS = 60.0
"""A session younger than this may hold a worker that another supervisor is just starting."""
STOP_SECONDS = 30.0
"""How long a worker may take to interrupt its jobs, over their grace time."""


class Wish(Enum):
    """What a round is for."""

    KEEP = "keep"
    LOOK = "status"
    STOP = "stop"
    DRAIN = "drain"
    UPGRADE = "upgrade"


@dataclass(frozen=True, slots=True)
class Ours:
    """What tells this cluster's workers from others of the same user: its server, and its configuration file."""

    server: str
    config: str
    config_is_default: bool = False
    server_answers: bool = True
    """Does it answer the supervisor? While it doesn't, no agent is blamed for being alone."""
    server_seconds: float = math.inf
    """For how long it has served. One that was down has agents that are alone, and about to find it."""
    stop_seconds: float = STOP_SECONDS
    """Until a worker that is told to stop has ended."""


@dataclass(frozen=True, slots=True)
class Wipe:
    """Have `screen` forget its dead sockets."""


@dataclass(frozen=True, slots=True)
class CloseSession:
    """End a session that was launched for a worker, and in which there is none any more."""

    session: SeenSession


@dataclass(frozen=True, slots=True)
class End:
    """Signal an agent. `seconds`: how long it is waited for; then it is killed, if `kill`."""

    agent: SeenAgent
    signal: str
    seconds: float
    kill: bool = False


@dataclass(frozen=True, slots=True)
class EndKeepers:
    """Have keepers without an agent end their jobs."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a worker. `again`: in place of an agent that has just left."""

    again: bool = False


Step = Wipe | CloseSession | End | EndKeepers | Launch


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in their order; `note` is for people; `agent` the worker as it was seen, if there is one.

    `fault`: the note says what is wrong, and no step mends it.
    """

    steps: tuple[Step, ...] = ()
    note: str = ""
    agent: SeenAgent | None = None
    fault: bool = False


def plan(wish: Wish, seen: Seen, ours: Ours) -> Plan:
    """What `wish` asks for on a machine that looks like this."""
    agents = [agent for agent in seen.agents if is_ours(agent, ours)]
    agent = min(agents, key=_worth, default=None)
    if wish is Wish.LOOK:
        fault = agent is None or bool(_why_anew(agent, ours))
        return Plan((), _standing(agent, seen, ours), agent, fault)
    if wish in (Wish.STOP, Wish.DRAIN):
        return _end(wish, seen, agents, ours)
    tidy = _tidied(seen, launching=agent is None)
    if agent is None:
        others = len(seen.agents)
        note = f"{others} of another cluster stays" if others else ""
        return Plan((*tidy, Launch()), note)
    if agent.leaving:
        return Plan(tidy, _leaving(agent), agent)
    why = _why_anew(agent, ours)
    if why or wish is Wish.UPGRADE:
        leave = End(agent, "USR2", DEPART_SECONDS if agent.answers else SILENT_SECONDS, kill=True)
        return Plan((*tidy, leave, Launch(again=True)), why, agent)
    return Plan(tidy, _standing(agent, seen, ours), agent)


def is_ours(agent: SeenAgent, ours: Ours) -> bool:
    """Is it a worker of this cluster: of the same server, or of the same configuration file?

    Of one that does not answer only the file is known, and only if it was named at its start.
    """
    if agent.answers:
        return ours.server == agent.server or ours.config == agent.config
    return ours.config == agent.config or (ours.config_is_default and not agent.config)


def _worth(agent: SeenAgent) -> tuple[bool, bool, float]:
    return (not agent.connected, not agent.answers, agent.since)


def _why_anew(agent: SeenAgent, ours: Ours) -> str:
    if not agent.answers:
        return "the agent does not answer"
    alone = min(agent.alone_seconds, ours.server_seconds) >= ALONE_SECONDS
    if agent.server != ours.server and (agent.connected or alone):
        return f"it is a worker of {agent.server}"
    if not agent.connected and ours.server_answers and alone:
        why = f": {agent.why_alone}" if agent.why_alone else ""
        return f"without the server for {agent.alone_seconds:.0f} s{why}"
    return ""


def _standing(agent: SeenAgent | None, seen: Seen, ours: Ours) -> str:
    if agent is None:
        return "no worker; its jobs run on" if seen.keepers else "no worker"
    if agent.leaving:
        return _leaving(agent)
    why = _why_anew(agent, ours)
    if why:
        return why
    if not agent.connected:
        return "not connected" + (f": {agent.why_alone}" if agent.why_alone else "")
    return ""


def _leaving(agent: SeenAgent) -> str:
    return f"it is ending, {agent.jobs} {'job' if agent.jobs == 1 else 'jobs'} left"


def _tidied(seen: Seen, *, launching: bool) -> tuple[Step, ...]:
    steps: list[Step] = []
    if seen.may_wipe and any(each.tool == "screen" and each.state == "dead" for each in seen.sessions):
        steps.append(Wipe())
    if launching:
        steps += [CloseSession(each) for each in seen.sessions if _is_left_over(each)]
    return tuple(steps)


def _is_left_over(session: SeenSession) -> bool:
    return session.state == "live" and session.launched and session.age_seconds >= STARTING_SECONDS


def _end(wish: Wish, seen: Seen, agents: list[SeenAgent], ours: Ours) -> Plan:
    if not agents:
        if seen.agents or not seen.keepers or wish is Wish.DRAIN:
            note = "no worker; its jobs run to their end" if seen.keepers and not seen.agents else "no worker"
            return Plan((), note)
        return Plan((EndKeepers(ours.stop_seconds),), "no agent, but a keeper with jobs")
    steps: list[Step] = []
    for agent in agents:
        if wish is Wish.STOP:
            steps.append(End(agent, "TERM", ours.stop_seconds, kill=not agent.answers))
        elif not agent.leaving:  # a second INT would interrupt the jobs
            steps.append(End(agent, "INT", 0.0))
    first = min(agents, key=_worth)
    note = "" if wish is Wish.STOP else f"{first.jobs} {'job' if first.jobs == 1 else 'jobs'} left"
    return Plan(tuple(steps), note, first)
