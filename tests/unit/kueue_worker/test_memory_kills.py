"""Which SIGKILLs were the kernel's for want of memory: what is known, and no more."""

from __future__ import annotations

import os

from kueue.job import End
from kueue_worker.core.events import Ended
from kueue_worker.memory_kills import KILLED_FOR_MEMORY, MemoryKills, count_of_kills

KILLED = Ended(End.EXITED, signal=9)
BY_A_SHELL = Ended(End.EXITED, exit_code=137)


class Kernel:
    """Its count, and whose it is."""

    def __init__(self, count: int | None = 5) -> None:
        self.count = count
        self.asked: list[int | None] = []

    def __call__(self, pid: int | None) -> int | None:
        self.asked.append(pid)
        return self.count

    def kill(self, number: int = 1) -> None:
        assert self.count is not None
        self.count += number


def test_a_sigkill_with_a_kill_of_the_kernels_is_explained_and_each_kill_explains_one() -> None:
    kernel = Kernel()
    kills = MemoryKills(kernel)
    kills.look(77)
    assert kills.explain(KILLED) is None
    kernel.kill(2)
    assert kills.explain(KILLED) == KILLED_FOR_MEMORY
    assert kills.explain(BY_A_SHELL) == KILLED_FOR_MEMORY
    assert kills.explain(KILLED) is None
    assert set(kernel.asked) == {77}


def test_other_ends_are_not_explained_by_it() -> None:
    kernel = Kernel()
    kills = MemoryKills(kernel)
    kills.look(77)
    kernel.kill()
    for ended in (
        Ended(End.EXITED, exit_code=0),
        Ended(End.EXITED, exit_code=1),
        Ended(End.EXITED, signal=15),
        Ended(End.TIME_LIMIT, signal=9),
        Ended(End.STOPPED, signal=9),
    ):
        assert kills.explain(ended) is None


def test_a_kill_that_explained_nothing_until_the_look_after_next_was_none_of_ours() -> None:
    kernel = Kernel()
    kills = MemoryKills(kernel)
    kills.look(77)
    kernel.kill()
    kills.look(77)  # just now: its end may still be on its way here
    kills.look(77)
    assert kills.explain(KILLED) is None


def test_an_end_may_come_after_the_look_that_saw_the_kill() -> None:
    kernel = Kernel()
    kills = MemoryKills(kernel)
    kills.look(77)
    kernel.kill()
    kills.look(77)
    assert kills.explain(KILLED) == KILLED_FOR_MEMORY


def test_another_keeper_has_another_count_and_nothing_is_known_before_the_first_look() -> None:
    kernel = Kernel(3)
    kills = MemoryKills(kernel)
    assert kills.explain(KILLED) is None
    kills.look(77)
    kernel.count = 900
    kills.look(78)
    assert kills.explain(KILLED) is None


def test_where_the_kernel_does_not_say_nothing_is_claimed() -> None:
    kernel = Kernel(None)
    kills = MemoryKills(kernel)
    kills.look(77)
    assert kills.explain(KILLED) is None


def test_this_kernel_counts() -> None:
    found = count_of_kills(os.getpid())
    assert found is None or found >= 0
    assert count_of_kills(2**22 + 1) == count_of_kills(2**22 + 1)  # no such process: of the machine
