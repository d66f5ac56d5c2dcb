"""Where the kernel shares out CPUs by session, a job's session is as nice as its processes; without real ones but the
last."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kueue_worker.keeper.sessions import AFTER_SECONDS, AGAIN_SECONDS, Sessions, has_autogroups, make_nice
from tests.support.waiting import wait_for
from tests.unit.kueue_worker.keeper.keeper_client import Agent


class Kernel:
    """Takes what is written, `room` times until it gets more."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []
        self.room = 1000

    def write(self, pid: int, nice: int) -> bool:
        if not self.room:
            return False
        self.room -= 1
        self.written.append((pid, nice))
        return True


def test_what_goes_on_for_a_while_is_made_nice_and_what_does_not_is_forgotten() -> None:
    kernel = Kernel()
    sessions = Sessions(kernel.write)
    assert sessions.next_time() is None
    sessions.started(10, 5, 100.0)
    sessions.started(11, 5, 100.1)
    sessions.started(12, 0, 100.2)
    assert sessions.next_time() == 100.0 + AFTER_SECONDS
    sessions.on_time(100.5, {10, 11})
    assert kernel.written == []
    sessions.on_time(100.0 + AFTER_SECONDS, {11})
    assert (kernel.written, sessions.next_time()) == ([], 100.1 + AFTER_SECONDS)
    sessions.on_time(100.1 + AFTER_SECONDS, {11, 12})
    assert (kernel.written, sessions.next_time()) == ([(11, 5)], None)


def test_short_jobs_are_forgotten_before_it_is_time() -> None:
    sessions = Sessions(Kernel().write)
    for pid in range(1, 1000):
        sessions.started(pid, 10, 100.0)
    sessions.on_time(100.0, ())
    assert sessions.next_time() is None


def test_the_kernel_takes_a_few_a_second_and_the_others_wait_their_turn() -> None:
    kernel = Kernel()
    sessions = Sessions(kernel.write)
    live = range(1, 6)
    for pid in live:
        sessions.started(pid, 10, 0.0)
    now, turns = AFTER_SECONDS, 0
    while sessions.next_time() is not None:
        kernel.room = 1
        sessions.on_time(now, live)
        turns += 1
        expected = None if turns == 5 else pytest.approx(now + AGAIN_SECONDS)
        assert sessions.next_time() == expected
        now += AGAIN_SECONDS
    assert kernel.written == [(pid, 10) for pid in live]


@pytest.mark.parametrize(
    ("error", "is_over"), [(errno.EAGAIN, False), (errno.EPERM, True), (errno.ESRCH, True)]
)
def test_only_what_may_be_done_later_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: int, is_over: bool
) -> None:
    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, flags: os.dup(2))
        patch.setattr(os, "write", fail)
        assert make_nice(17, 10) is is_over


def test_a_job_that_has_ended_is_not_tried_again() -> None:
    assert make_nice(2**22 + 1, 10)


def test_the_session_of_a_real_job_is_as_nice_as_the_job(agent: Agent) -> None:
    if not has_autogroups():
        pytest.skip("this kernel does not share out CPUs by session")
    pid = agent.started(agent.shell("sleep 1000", nice=7))["pid"]
    group = Path(f"/proc/{pid}/autogroup")
    wait_for("its session is nice", lambda: group.read_text().split()[-1] == "7")
