"""What both clients offer about queues, as operations (see `requests`), and as methods of the blocking client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TypeVar

from kueue.effects import Operation, ask
from kueue.wire.messages import (
    Done,
    ListQueues,
    PauseQueues,
    QueuePage,
    QueueView,
    RemoveQueue,
    ResumeQueues,
    SetQueue,
)

T = TypeVar("T")


def queues() -> Operation[tuple[QueueView, ...]]:
    """All queues, by name."""
    return (yield from ask(ListQueues, QueuePage)).queues


def pause_queues(names: str | Iterable[str], reason: str) -> Operation[tuple[str, ...]]:
    """Let nothing of queues start."""
    queues = _names(names)
    return (yield from ask(lambda rid: PauseQueues(rid, queues, reason), Done)).lines


def resume_queues(names: str | Iterable[str]) -> Operation[tuple[str, ...]]:
    """Let jobs of queues start again."""
    queues = _names(names)
    return (yield from ask(lambda rid: ResumeQueues(rid, queues), Done)).lines


def set_queue(name: str, weight: int | None, max_running: int | None) -> Operation[tuple[str, ...]]:
    """Change what a queue may."""
    return (yield from ask(lambda rid: SetQueue(rid, name, weight, max_running), Done)).lines


def remove_queue(name: str, cancel: bool) -> Operation[tuple[str, ...]]:
    """End a queue."""
    # Not to be repeated: what is put into a queue of this name meanwhile is not meant.
    return (yield from ask(lambda rid: RemoveQueue(rid, name, cancel), Done, repeatable=False)).lines


def _names(names: str | Iterable[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


class BlockingQueues(ABC):
    """Queues, as the blocking client has them."""

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T:
        """Perform an operation."""

    def queues(self) -> tuple[QueueView, ...]:
        """The queues that have jobs, or of which something is set, by name."""
        return self._run(queues())

    def pause_queues(self, names: str | Iterable[str], *, reason: str = "") -> tuple[str, ...]:
        """Let nothing of these queues start any more; what runs goes on. When this returns nothing of them will start
        but what the lines say. A queue that is not there is made."""
        return self._run(pause_queues(names, reason))

    def resume_queues(self, names: str | Iterable[str]) -> tuple[str, ...]:
        """Let jobs of these queues start again."""
        return self._run(resume_queues(names))

    def set_queue(
        self, name: str, *, weight: int | None = None, max_running: int | None = None
    ) -> tuple[str, ...]:
        """Change the weight of a queue (1 to 1,000), or how many of its jobs may run at the same time (0: any
        number)."""
        return self._run(set_queue(name, weight, max_running))

    def remove_queue(self, name: str, *, cancel: bool = False) -> tuple[str, ...]:
        """Drop a queue with its finished jobs; with `cancel`, also one that has others: these are canceled."""
        return self._run(remove_queue(name, cancel))


class AwaitedQueues(ABC):
    """Queues, as the asyncio client has them: as `BlockingQueues`."""

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T:
        """Perform an operation."""

    async def queues(self) -> tuple[QueueView, ...]:
        """The queues that have jobs, or of which something is set, by name."""
        return await self._run(queues())

    async def pause_queues(self, names: str | Iterable[str], *, reason: str = "") -> tuple[str, ...]:
        """Let nothing of these queues start any more; what runs goes on."""
        return await self._run(pause_queues(names, reason))

    async def resume_queues(self, names: str | Iterable[str]) -> tuple[str, ...]:
        """Let jobs of these queues start again."""
        return await self._run(resume_queues(names))

    async def set_queue(
        self, name: str, *, weight: int | None = None, max_running: int | None = None
    ) -> tuple[str, ...]:
        """Change the weight of a queue, or how many of its jobs may run at the same time (0: any number)."""
        return await self._run(set_queue(name, weight, max_running))

    async def remove_queue(self, name: str, *, cancel: bool = False) -> tuple[str, ...]:
        """Drop a queue with its finished jobs; with `cancel`, also one that has others: these are canceled."""
        return await self._run(remove_queue(name, cancel))
