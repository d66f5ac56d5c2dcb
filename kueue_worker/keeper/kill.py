"""Ending jobs with all that they have started: TERM, some seconds, KILL, until nothing of a job is left.

The keeper adopts the orphans of its jobs, so all processes of jobs are below it. Of a job are: its first
process, the members of that one's session, orphans that carry its fence in their environment, those that
were seen to be of it before, and whatever descends from one of these. One look over /proc serves all jobs
that are being ended at the time.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from kueue_worker.keeper.boot import boottime
from kueue_worker.keeper.processes import Process, Snapshot, all_processes, look_at
from kueue_worker.keeper.timers import Timers

FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.5
GIVE_UP_SECONDS = 30.0
"""After the first KILL. What still lives then hangs in the kernel (on a dead mount, say), and its KILL
waits for it."""


@dataclass(slots=True, eq=False)
class Ending:
    """A job that is being ended. `reaped`: its first process was waited for; `pid` may be another's by
    then."""

    key: str
    pid: int
    kill_at: float
    reaped: bool
    told: bool = False
    killed: bool = False
    pause: float = FIRST_PAUSE_SECONDS
    members: dict[int, Process] = field(default_factory=dict)


class Endings:
    """The jobs that are being ended. `snapshot` looks at all processes; `keeper` is the pid they are
    below."""

    def __init__(
        self,
        keeper: int,
        snapshot: Callable[[], Snapshot] = lambda: Snapshot(all_processes()),
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._keeper = keeper
        self._snapshot = snapshot
        self._clock = clock
        self._endings: dict[str, Ending] = {}
        self._due = Timers()
        self._rest_until = 0.0

    def __len__(self) -> int:
        return len(self._endings)

    def __contains__(self, key: object) -> bool:
        return key in self._endings

    def begin(self, key: str, pid: int, *, reaped: bool, grace: float, now: float) -> None:
        """End a job: TERM at the next look, KILL after `grace` seconds. One that is being ended already has
        no more time than it had."""
        ending = self._endings.get(key)
        if ending is None:
            self._endings[key] = Ending(key, pid, now + grace, reaped)
            self._due.set(key, now)
        elif now + grace < ending.kill_at:
            ending.kill_at = now + grace
            self._due.set(key, now)

    def on_reaped(self, key: str, now: float) -> None:
        """The first process of a job that is being ended was waited for."""
        ending = self._endings[key]
        ending.reaped = True
        self._due.bring_forward(key, max(now, self._rest_until))

    def on_orphan_reaped(self, now: float) -> None:
        """A process that a job had left behind is gone: that may have been the last one of a job."""
        for key, ending in self._endings.items():
            if ending.reaped:
                self._due.bring_forward(key, max(now, self._rest_until))

    def put_right(self, now: float) -> None:
        """A look was broken off: those it was about are looked at again."""
        for key in self._endings:
            if key not in self._due:
                self._due.set(key, now)

    def child_of_start(self, key: str, leaders: Collection[int]) -> Process | None:
        """The process of a start that was broken off before its number was known, if there is one."""
        snapshot = self._snapshot()
        for process in snapshot.children(self._keeper):
            if process.pid != process.session or process.pid in leaders:
                continue
            if process.is_dead or snapshot.fence(process) == key:
                return process
        return None

    def drop(self, key: str) -> None:
        """Leave what there is of it alone."""
        if self._endings.pop(key, None) is not None:
            self._due.drop(key)

    def next(self) -> float | None:
        """When to look again."""
        return self._due.next()

    def look(self, now: float, leaders: Collection[int]) -> list[str]:
        """Look after the jobs whose time has come; those of which nothing is left any more (or can be ended).

        Args:
            leaders: the first processes of all jobs that were not waited for yet.
        """
        due = self._due.take_due(now)
        if not due:
            return []
        snapshot = self._snapshot()
        ours = {process.pid for process in snapshot.descendants(self._keeper)}
        orphans = [process for process in snapshot.children(self._keeper) if process.pid not in leaders]
        gone = []
        for key in due:
            ending = self._endings[key]
            roots = _roots(ending, snapshot, ours, orphans)
            besides = [pid for pid in leaders if pid != ending.pid or ending.reaped]
            found = snapshot.closure(roots, frozenset(besides))
            ending.members = {pid: process for pid, process in found.items() if not process.is_dead}
            if self._attend_to(ending, now):
                del self._endings[key]
                gone.append(key)
        done = self._clock()
        self._rest_until = done + max(FIRST_PAUSE_SECONDS, done - now)
        return gone

    def _attend_to(self, ending: Ending, now: float) -> bool:
        """Send what signal is due; whether the job is over."""
        members = ending.members.values()
        if (ending.reaped and not members) or now >= ending.kill_at + GIVE_UP_SECONDS:
            return True
        if now >= ending.kill_at:
            _signal(members, ending.pid, signal.SIGKILL)
            if not ending.killed:
                ending.killed, ending.pause = True, FIRST_PAUSE_SECONDS
        elif not ending.told:
            ending.told = True
            _signal(members, ending.pid, signal.SIGTERM)
            _signal(members, ending.pid, signal.SIGCONT)  # one that is stopped would not notice
        until = now + ending.pause
        self._due.set(ending.key, until if ending.killed else min(until, ending.kill_at))
        ending.pause = min(2 * ending.pause, LONGEST_PAUSE_SECONDS)
        return False


def _roots(
    ending: Ending, snapshot: Snapshot, ours: Collection[int], orphans: Iterable[Process]
) -> list[Process]:
    leader = snapshot.processes.get(ending.pid)
    roots = [process for process in ending.members.values() if snapshot.has(process)]
    if leader is not None and not ending.reaped:
        roots.append(leader)
    if leader is None or not ending.reaped:  # else the number is another process's by now
        roots += [process for process in snapshot.session(ending.pid) if process.pid in ours]
    found = {process.pid for process in roots}
    roots += [
        process for process in orphans if process.pid not in found and snapshot.fence(process) == ending.key
    ]
    return roots


def _signal(processes: Iterable[Process], session: int, number: signal.Signals) -> None:
    """To the process groups of the session, which can't fork away from it, and to each that has left it."""
    groups = set()
    for process in processes:
        if process.session != session:
            signal_process(process, number)
        elif process.group not in groups:
            groups.add(process.group)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.group, number)


def signal_process(process: Process, number: signal.Signals) -> None:
    """Send a signal to this process, and to no later one of the same number."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except OSError:  # a kernel before 5.3
        descriptor = -1
    try:
        found = look_at(process.pid)
        if found is None or found.started != process.started:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(process.pid, number)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
