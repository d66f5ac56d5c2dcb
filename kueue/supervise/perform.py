"""One machine in one round: looks, carries out the plan, and says in one row what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from kueue import __version__
from kueue.supervise.hosts import Host
from kueue.supervise.plan import (
    CloseSession,
    End,
    EndKeepers,
    Launch,
    Ours,
    Plan,
    Step,
    Wipe,
    Wish,
    is_ours,
    plan,
)
from kueue.supervise.programs import WORKER, Programs
from kueue.supervise.seen import Ended, Launched, Seen, SeenAgent
from kueue.supervise.sent import encoded
from kueue.supervise.ssh import Connections, HostError, Machine
from kueue.text import visible

START_SECONDS = 30.0
"""How long a worker may take until it serves: a Python on a busy home directory."""
ANSWER_SECONDS = 20.0
"""How long a machine that has been looked at may take for anything else, over what the order waits for."""
SETTLE_SECONDS = 1.0
"""How long after our log-out a new worker is looked at again."""
RUNS_ALREADY = "runs on this machine already"


@dataclass(frozen=True, slots=True)
class Row:
    """One machine as people see it. `since` is seconds since the epoch; `done` what was changed, empty if nothing."""

    host: str
    reachable: bool = False
    agent: SeenAgent | None = None
    done: str = ""
    note: str = ""
    error: str = ""
    is_server: bool = False
    since: float | None = None
    by_keys: bool = False
    tried: bool = False
    """Was something to be changed, whether or not it was?"""
    shut: bool = False
    """Did nobody there take so much as a connection?"""

    @property
    def is_well(self) -> bool:
        """Is all as it was wished?"""
        return not self.error


class Performer:
    """What all machines of a round share."""

    def __init__(
        self,
        connections: Connections,
        programs: Programs,
        ours: Callable[[], Awaitable[Ours]],
        look_seconds: float,
    ) -> None:
        """`ours` is waited for between the first look at a machine and what is done there."""
        self._connections = connections
        self._programs = programs
        self._find_ours = ours
        self._look_seconds = look_seconds

    async def perform(self, host: Host, wish: Wish) -> Row:
        """The row of `host`, after all was done there that the wish asks for. Never raises `HostError`."""
        row = Row(host.label)
        try:
            until = time.monotonic() + self._look_seconds
            async with self._connections.machine(host, self._look_seconds) as machine:
                seen = await self._look(machine, max(0.5, until - time.monotonic()))
                ours = await self._find_ours()
                planned = plan(wish, seen, ours)
                remark = _with_version(planned)
                note, error = ("", remark) if planned.fault else (remark, "")
                row = replace(row, reachable=True, agent=planned.agent, note=note, error=error)
                row = await self._carry_out(machine, planned, ours, row)
            if row.tried and wish in (Wish.KEEP, Wish.UPGRADE) and not row.error and _launches(planned):
                row = await self._look_again(host, row, seen, ours, quick=wish is Wish.UPGRADE)
        except HostError as error:
            row = replace(
                row,
                reachable=row.reachable or error.reached,
                error=str(error),
                by_keys=error.by_keys,
                shut=error.shut,
            )
        return row

    async def _look(self, machine: Machine, seconds: float) -> Seen:
        return await machine.ask(encoded("look", **self._programs.look()), Seen, seconds)

    async def _carry_out(self, machine: Machine, planned: Plan, ours: Ours, row: Row) -> Row:
        for step in planned.steps:
            row = replace(row, tried=row.tried or not isinstance(step, Wipe))
            row = await self._step(machine, step, ours, row)
            if row.error:
                break
        return row

    async def _step(self, machine: Machine, step: Step, ours: Ours, row: Row) -> Row:
        match step:
            case Wipe():
                await machine.ask(encoded("wipe"), Ended, ANSWER_SECONDS)
                return row
            case CloseSession():
                session = step.session
                order = encoded("close_session", tool=session.tool, id=session.id)
                await machine.ask(order, Ended, ANSWER_SECONDS)
                return row
            case End():
                return await self._end(machine, step, row)
            case EndKeepers():
                ended = await machine.ask(
                    encoded("end_keepers", seconds=step.seconds), Ended, step.seconds + ANSWER_SECONDS
                )
                return replace(row, done="ended what was left" if ended.gone else "", agent=None,
                               error="" if ended.gone else "a keeper is still ending its jobs")  # fmt: skip
            case Launch():
                return await self._launch(machine, step, ours, row)

    async def _end(self, machine: Machine, step: End, row: Row) -> Row:
        agent = step.agent
        order = encoded(
            "end", pid=agent.pid, ticks=agent.ticks, signal=step.signal, seconds=step.seconds, kill=step.kill
        )
        ended = await machine.ask(order, Ended, step.seconds + ANSWER_SECONDS)
        if not step.seconds:
            return replace(row, done="told to end when its jobs have")
        if not ended.gone:
            return replace(row, error=f"its worker (pid {agent.pid}) does not end")
        done = "agent killed, it did not answer" if ended.killed else "ended"
        return replace(row, done=done, agent=None)

    async def _launch(self, machine: Machine, step: Launch, ours: Ours, row: Row) -> Row:
        words = self._programs.launch(WORKER, seconds=START_SECONDS, await_connection=ours.server_answers)
        told = await machine.ask(encoded("launch", **words), Launched, START_SECONDS + ANSWER_SECONDS)
        again = "restarted" if step.again else "started"
        done = (
            f"{again} in {told.tool}" if told.tool != "setsid" else f"{again} by itself (no screen, no tmux)"
        )
        if told.agent is None:
            return replace(row, error=why_not(told, "the worker"))
        if told.ended and RUNS_ALREADY in told.said:
            return replace(row, done="", agent=told.agent, note="somebody else has just started it")
        note = f"before: {row.note}" if step.again and row.note else row.note
        return replace(row, done=done, agent=told.agent, note=note)

    async def _look_again(self, host: Host, row: Row, before: Seen, ours: Ours, *, quick: bool) -> Row:
        """Over a new connection, since some systems end what a user leaves behind at the log-out."""
        if not quick or before.ends_at_logout:
            await asyncio.sleep(SETTLE_SECONDS)
        until = time.monotonic() + self._look_seconds
        async with self._connections.machine(host, self._look_seconds) as machine:
            seen = await self._look(machine, max(0.5, until - time.monotonic()))
        agents = [agent for agent in seen.agents if is_ours(agent, ours)]
        if agents:
            agent = max(agents, key=lambda agent: (agent.connected, agent.answers))
            return replace(row, agent=agent, error=_why_useless(agent, ours) if row.done else "")
        gone = "the worker was gone as soon as we had logged out"
        if seen.ends_at_logout:
            gone += ": this machine ends what its users leave running (KillUserProcesses of logind)"
        return replace(row, agent=None, done="", error=f"{gone}; run there once: loginctl enable-linger")


def _why_useless(agent: SeenAgent, ours: Ours) -> str:
    """What keeps a worker that was waited for from getting jobs; empty if nothing does."""
    if agent.connected or not ours.server_answers:
        return ""
    why = f": {visible(agent.why_alone)}" if agent.why_alone else ""
    return f"{ours.server} answers here, but its worker does not get through to it{why}"


def _launches(planned: Plan) -> bool:
    return any(isinstance(step, Launch) for step in planned.steps)


def why_not(told: Launched, what: str) -> str:
    if told.ended:
        said = visible(told.said)[:300]
        said = said.removeprefix("kueue_worker: ").removeprefix("kueue_server: ")
        return f"{what} ended at once{': ' + said if said else ''} (log: {told.log})"
    return f"{what} did not come up within {START_SECONDS:.0f} s (log: {told.log})"


def _with_version(planned: Plan) -> str:
    agent = planned.agent
    if agent is None or not agent.answers or agent.version == __version__ or planned.steps or planned.note:
        return planned.note
    return f"of another version than {__version__} here; --upgrade restarts it"
