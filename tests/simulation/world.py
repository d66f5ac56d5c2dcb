"""Virtual time: one heap of what happens next, and a small event loop for each simulated process.

A process is a thing that can be killed or frozen at any moment; all its callbacks run on its own
`ProcessLoop`, which asyncio's futures and tasks accept as theirs. Nothing here waits: the clock jumps to the next
thing that happens. The order is by time, then by the order in which things were put there, so a run depends on
nothing but its seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import random
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any

WALL = 1_700_000_000.0
"""The true wall clock when a run begins, in seconds since the epoch."""


class KilledError(SystemExit):
    """Thrown through the code of a process that dies in the middle of it. A `SystemExit`, since asyncio lets
    only that and Ctrl-C through a task."""


class World:
    """The clock, what happens next, and the randomness of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now = 0.0
        self.steps = 0
        self.current: Process | None = None
        self.faults: list[BaseException | str] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._heap: list[tuple[float, int, Process | None, events.Handle | Callable[[], object]]] = []
        self._serial = 0

    def stream(self, name: str) -> random.Random:
        """Random numbers for one purpose, so that one more drawn there changes nothing elsewhere."""
        return random.Random(f"{self.seed}/{name}")

    def at(self, when: float, what: Callable[[], object]) -> None:
        """Have something happen that is no process's doing."""
        self._push(when, None, what)

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        """The same, from now."""
        self._push(self.now + seconds, None, what)

    def push_handle(self, when: float, process: Process, handle: events.Handle) -> None:
        """A callback of a process."""
        self._push(when, process, handle)

    def _push(self, when: float, process: Process | None, what: events.Handle | Callable[[], object]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self.now), self._serial, process, what))

    def run(self, until: float) -> None:
        """Let everything up to that time happen, or up to the first fault."""
        while self._heap and self._heap[0][0] <= until and not self.faults:
            when, _, process, what = heapq.heappop(self._heap)
            if isinstance(what, events.Handle):
                assert process is not None
                if what.cancelled() or not process.alive:
                    continue
                self.now = when
                if process.frozen:
                    process.backlog.append(what)
                    continue
                self.steps += 1
                process.run_handle(what)
            else:
                self.now = when
                self.steps += 1
                what()
        if not self.faults:
            self.now = max(self.now, until)

    def own(self, task: asyncio.Task[Any]) -> None:
        """A task of one of the processes."""
        if len(self._tasks) > 1000:
            self._tasks = [one for one in self._tasks if not one.done()]
        self._tasks.append(task)

    def close(self) -> None:
        """The run is over: what waits is dropped without a word."""
        self._heap.clear()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with contextlib.suppress(Exception):
                    task.get_coro().close()


class Host:
    """A machine on the network: `up` has power; `listening` takes connections (the server's)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = True
        self.listening: tuple[Process, Callable[[Any], Any]] | None = None


class Process:
    """A simulated process on a host. `died` is called once when it is gone, however that came. What its code
    does not catch is a fault of the product, whatever the schedule was."""

    def __init__(self, world: World, name: str, host: Host) -> None:
        self.world = world
        self.name = name
        self.host = host
        self.alive = True
        self.frozen = False
        self.backlog: list[events.Handle] = []
        self.wall_offset = 0.0
        self.died: list[Callable[[], None]] = []
        self._countdown: int | None = None
        self.loop = ProcessLoop(self)  # type: ignore[abstract] # there is no more to a loop than these few

    # ---------------------------------------------------------------- life and death

    def kill(self) -> None:
        """It is gone, between two steps or in the middle of one (see `instruction`)."""
        if not self.alive:
            return
        self.alive = False
        self.backlog.clear()
        died, self.died = self.died, []
        for call in died:
            call()

    def kill_at_instruction(self, number: int) -> None:
        """Kill it when it has carried out so many more instructions."""
        self._countdown = number

    def instruction(self) -> None:
        """The process is about to do something that can be seen from outside; it may die right before it."""
        if self._countdown is None:
            return
        self._countdown -= 1
        if self._countdown < 0:
            self._countdown = None
            self.kill()
            raise KilledError

    def freeze(self) -> None:
        """SIGSTOP, or a machine that sleeps."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT: whatever was due meanwhile happens now, in its order."""
        if not self.frozen:
            return
        self.frozen = False
        backlog, self.backlog = self.backlog, []
        for handle in backlog:
            self.world.push_handle(self.world.now, self, handle)

    @property
    def wall(self) -> float:
        """What its wall clock shows."""
        return WALL + self.world.now + self.wall_offset

    # ---------------------------------------------------------------- running

    def call(self, what: Callable[..., object], *args: Any) -> None:
        """Run something as this process, now; a process that dies of it is no error."""
        self._as_current(lambda: what(*args))

    def later(self, seconds: float, what: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Run something as this process."""
        return self.loop.call_later(seconds, what, *args)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as this process."""
        return self.loop.create_task(coroutine)

    def run_handle(self, handle: events.Handle) -> None:
        """Run a callback that is due."""
        context: contextvars.Context = handle._context  # type: ignore[attr-defined]
        callback, args = handle._callback, handle._args  # type: ignore[attr-defined]
        self._as_current(lambda: context.run(callback, *args))

    def _as_current(self, what: Callable[[], object]) -> None:
        world, before, running = self.world, self.world.current, events._get_running_loop()
        world.current = self
        events._set_running_loop(self.loop)
        try:
            what()
        except KilledError:
            pass
        except Exception as error:
            self.unhandled(error)
        finally:
            world.current = before
            events._set_running_loop(running)

    def unhandled(self, problem: BaseException | str) -> None:
        """Its code did not catch this."""
        if self.alive:
            self.world.faults.append(problem)


class ProcessLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as asyncio's futures, tasks and timeouts need."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    def time(self) -> float:
        return self._world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._world.push_handle(self._world.now, self._process, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.push_handle(when, self._process, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """The heap drops it when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._world.own(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        problem = context.get("exception")
        if not isinstance(problem, KilledError):
            self._process.unhandled(problem or str(context.get("message")))
