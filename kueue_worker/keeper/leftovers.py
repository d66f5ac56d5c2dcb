"""Finding and ending what a keeper that died left behind, before another one serves.

Its jobs may have any parent by now. Of an attempt are: the process of its record, if it has that number, is
the leader of its session and began at that time; that one's session; processes that carry its fence in
their environment; and what descends from these. Nothing else tells with certainty whose a process is, and
one that is not ours must live.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable

from kueue_worker.keeper.attempts import Attempt
from kueue_worker.keeper.boot import boottime
from kueue_worker.keeper.kill import signal_process
from kueue_worker.keeper.processes import Process, Snapshot, all_processes

GRACE_SECONDS = 2.0
GIVE_UP_SECONDS = 10.0
"""After the first KILL; see `kill.GIVE_UP_SECONDS`."""
PAUSE_SECONDS = 0.02
EARLIER_SECONDS = 0.05
LATER_SECONDS = 1.0
"""How far the start of a process may be from the recorded one, which was taken just before it."""


def end_leftovers(attempts: Iterable[Attempt], say: Callable[[str], None]) -> int:
    """End all that is left of these attempts, which began in this boot; how many processes there were."""
    wanted = {attempt.key: attempt for attempt in attempts}
    if not wanted:
        return 0
    seen: dict[int, Process] = {}
    begin = boottime()
    told: set[Process] = set()
    while True:
        snapshot = Snapshot(all_processes())
        living = find_leftovers(snapshot, wanted, seen.values(), _own_line(snapshot))
        seen |= {process.pid: process for process in living}
        if not living:
            return len(seen)
        waited = boottime() - begin
        if waited >= GRACE_SECONDS + GIVE_UP_SECONDS:
            pids = ", ".join(str(process.pid) for process in living)
            say(f"these processes of lost jobs hang in the kernel and can't be ended: {pids}")
            return len(seen)
        for process in living:
            if waited >= GRACE_SECONDS:
                signal_process(process, signal.SIGKILL)
            elif process not in told:
                told.add(process)
                signal_process(process, signal.SIGTERM)
                signal_process(process, signal.SIGCONT)
        time.sleep(PAUSE_SECONDS)


def find_leftovers(
    snapshot: Snapshot, attempts: dict[str, Attempt], seen: Iterable[Process], spared: frozenset[int]
) -> list[Process]:
    """The living processes of these attempts. `seen`: found before; `spared`: this process and those above
    it."""
    sessions = set()
    roots = [process for process in seen if snapshot.has(process)]
    for attempt in attempts.values():
        leader = None if attempt.pid is None else snapshot.processes.get(attempt.pid)
        if leader is not None and is_of_record(leader, attempt):
            roots.append(leader)
            sessions.add(leader.pid)
    for process in snapshot.processes.values():
        key = snapshot.fence(process)
        if key is not None and key in attempts:
            roots.append(process)
            if process.session == attempts[key].pid:
                sessions.add(process.session)
    for session in sessions:
        roots += snapshot.session(session)
    found = snapshot.closure(roots, spared)
    return [process for process in found.values() if not process.is_dead]


def is_of_record(process: Process, attempt: Attempt) -> bool:
    """Is it the process that the attempt began with?"""
    if process.session != process.pid or attempt.started is None:
        return False
    return -EARLIER_SECONDS <= process.started - attempt.started <= LATER_SECONDS


def _own_line(snapshot: Snapshot) -> frozenset[int]:
    """This process and those above it: a worker may have been started from within a job."""
    line = set()
    pid = os.getpid()
    while pid in snapshot.processes and pid not in line:
        line.add(pid)
        pid = snapshot.processes[pid].parent
    return frozenset(line)
