"""A keeper that has no memory for the N-th thing that it wants some for, and for some after it, in one turn.

    python memory_sweep.py FIRST LAST STEP WIDTH    one keeper for each N, in a process of its own

In that turn one of its jobs has ended, one is to be killed, one is beyond its time limit and one is to be started.
Run as a program; exit code 1 and a line for each N where a job's end was lost, or a job forgotten.
"""

from __future__ import annotations

import _testcapi  # type: ignore[import-not-found]
import contextlib
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kueue_worker.keeper.attempts import EXITED, NOT_STARTED, STOPPED, TIME_LIMIT, Attempt
from kueue_worker.keeper.boot import boottime
from kueue_worker.keeper.keeper import Keeper
from kueue_worker.keeper.kill import Endings
from kueue_worker.keeper.limits import Limits
from kueue_worker.keeper.loop import Loop
from kueue_worker.keeper.place import hold
from kueue_worker.keeper.records import Records, read
from kueue_worker.keeper.spawn import Spawner
from kueue_worker.keeper.wire import Message, Wire, connect

SECONDS = 20.0


class Bench:
    """A keeper and its agent, both in this process."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.attempts: dict[str, Attempt] = {}
        spawner = Spawner(place, Limits())
        self.keeper = Keeper(
            "name",
            "boot",
            self.attempts,
            Records(place, "boot", self.attempts),
            spawner,
            Endings(os.getpid()),
            lambda text: None,
            boottime,
        )
        self.address = f"kueue-test-{os.getpid()}"
        self.loop = Loop(self.keeper, hold(self.address), lambda text: None, grace=1.0, idle=60.0)
        self.loop._listener.listen(1)
        self.loop._epoll.register(self.loop._listener)
        self.agent = self.connected()

    def connected(self) -> Wire:
        """An agent that has said hello."""
        agent = connect(self.address)
        agent.send([{"m": "hello", "v": 3}])
        return agent

    def turn(self) -> None:
        """As in `Loop.serve`."""
        try:
            self.loop.turn()
        except MemoryError:
            self.loop._reserve = None
            self.loop.after_no_memory()

    def until(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.attempts
            self.turn()

    def spawn(self, key: str, script: str, **fields: Any) -> Message:
        order: Message = {"m": "spawn", "key": key, "job": 1, "attempt": 1, "program": "/bin/sh"}
        script = f"echo > {self.place}/{key}; {script}"
        return {
            **order,
            "argv": ["sh", "-c", script],
            "env": "e",
            "dir": 1,
            "out": None,
            "err": None,
            "note": None,
            **fields,
        }

    def ended(self, key: str) -> bool:
        return key not in self.attempts or self.attempts[key].ended is not None

    def check(self) -> None:
        """Is all known that there is to know?"""
        ends = {key: (a.ended.end, a.ended.status) for key, a in self.attempts.items() if a.ended is not None}
        assert ends["a"] == (EXITED, 7 << 8), ends
        assert ends["b"] in ((STOPPED, 15), (EXITED, 0)), ends
        assert ends["c"][0] == TIME_LIMIT, ends
        started = os.path.exists(f"{self.place}/d")
        assert ends.get("d") in ([(EXITED, 3 << 8)] if started else [(NOT_STARTED, None), None]), ends
        assert len(read(self.place).attempts) >= 3
        for key in "abc":
            found, kept = read(self.place).attempts[key].ended, self.attempts[key].ended
            assert found is not None
            assert kept is not None
            assert (found.end, found.status) == (kept.end, kept.status)


def run(nth: int, width: int) -> None:
    """One keeper; raises if it forgot something."""
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(place)
        directory = os.open(place, os.O_RDONLY)
        bench.agent.send([{"m": "env", "id": "e", "env": []}, {"m": "dir", "id": 1}], [directory])
        limit = 0.2
        bench.agent.send(
            [
                bench.spawn("a", "exit 7"),
                bench.spawn("b", "exec sleep 60"),
                bench.spawn("c", "exec sleep 60", time_limit=limit),
            ]
        )
        bench.until(lambda: len(bench.keeper._leaders) == 3)
        began = time.monotonic()
        (pid,) = (number for number, attempt in bench.keeper._leaders.items() if attempt.key == "a")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        for key in "bc":
            while not os.path.exists(f"{place}/{key}"):
                time.sleep(0.001)
        time.sleep(max(0.0, began + limit - time.monotonic()))
        kill = {"m": "kill", "key": "b", "grace": 5, "end": STOPPED}
        bench.agent.send([kill, bench.spawn("d", "exit 3")])
        _testcapi.set_nomemory(nth, nth + width)
        try:
            bench.turn()
        finally:
            _testcapi.remove_mem_hooks()
        if bench.loop._agent is None:  # an agent says again what may not have been heard
            bench.agent = bench.connected()
            bench.agent.send([kill])
        bench.until(lambda: not bench.keeper.is_busy and all(map(bench.ended, "abcd")))
        if bench.attempts["b"].ended is None or bench.attempts["b"].ended.end != STOPPED:
            raise AssertionError("b was not stopped")
        bench.check()


def main() -> int:
    """The exit code."""
    first, last, step, width = map(int, sys.argv[1:])
    faults = 0
    for nth in range(first, last, step):
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                try:
                    run(nth, width)
                    code = 0
                except BaseException:
                    print(f"{nth} and {width - 1} more: {traceback.format_exc()}", flush=True)
            os._exit(code)
        faults += os.waitpid(child, 0)[1] != 0
    return 1 if faults else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[4]))
    sys.exit(main())
