"""Ending jobs, decided from snapshots of processes that are not there; and whose a process is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping

import pytest

from kueue_worker.keeper import kill
from kueue_worker.keeper.attempts import Attempt
from kueue_worker.keeper.kill import GIVE_UP_SECONDS, Endings, signal_process
from kueue_worker.keeper.leftovers import find_leftovers
from kueue_worker.keeper.processes import Process, Snapshot, all_processes, fence_of, look_at, parse_stat

KEEPER = 10


def process(
    pid: int, parent: int, session: int, *, group: int = 0, state: str = "S", started: float = 100.0
) -> Process:
    return Process(pid, ord(state), parent, group or session, session, started)


class World:
    """Processes that live until somebody says otherwise, and the signals that were sent to them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[Process] = []
        self.fences: Mapping[int, str] = {}
        self.sent: list[tuple[str, int, int]] = []
        self.looks = 0
        self.now = 1000.0
        self.endings = Endings(KEEPER, self.snapshot, lambda: self.now)
        monkeypatch.setattr(os, "killpg", lambda group, number: self.sent.append(("group", group, number)))
        monkeypatch.setattr(
            kill, "signal_process", lambda process, number: self.sent.append(("process", process.pid, number))
        )

    def snapshot(self) -> Snapshot:
        self.looks += 1
        here = [process(1, 0, 1), process(KEEPER, 1, KEEPER), *self.processes]
        return Snapshot(here, lambda process: self.fences.get(process.pid))

    def look(self, *leaders: int) -> list[str]:
        return self.endings.look(self.now, leaders)

    def take_sent(self) -> list[tuple[str, int, int]]:
        sent, self.sent = self.sent, []
        return [each for each in sent if each[2] != signal.SIGCONT]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_groups_of_the_session_and_those_who_left_it_are_told_then_killed(world: World) -> None:
    world.processes = [
        process(20, KEEPER, 20),
        process(21, 20, 20, group=21),
        process(22, 21, 20, group=21),
        process(23, 22, 23),  # left the session, parent lives
        process(24, KEEPER, 24),  # left it, parent gone: known by its fence
        process(25, 24, 25),
        process(30, KEEPER, 30),  # another job
        process(31, KEEPER, 31),  # what another job left behind
    ]
    world.fences = {24: "a", 31: "b", 30: "b"}
    world.endings.begin("a", 20, reaped=False, grace=5.0, now=world.now)
    assert world.look(20, 30) == []
    told = {("group", 20), ("group", 21), ("process", 23), ("process", 24), ("process", 25)}
    assert set(world.take_sent()) == {(*each, signal.SIGTERM) for each in told}
    world.now += 4.9
    assert world.look(20, 30) == []
    assert world.take_sent() == []
    world.now += 0.1
    assert world.look(20, 30) == []
    assert set(world.take_sent()) == {(*each, signal.SIGKILL) for each in told}
    world.processes = world.processes[-2:]
    world.endings.on_reaped("a", world.now)
    world.now += 1
    assert world.look(30) == ["a"]
    assert (len(world.endings), world.endings.next()) == (0, None)


def test_it_is_over_when_the_first_process_and_all_others_are_gone(world: World) -> None:
    world.processes = [process(20, KEEPER, 20), process(21, 20, 20)]
    world.endings.begin("a", 20, reaped=False, grace=5.0, now=world.now)
    world.look(20)
    world.processes = [process(20, KEEPER, 20, state="Z")]
    world.now += 1
    assert world.look(20) == []  # nobody has waited for it yet
    world.endings.on_reaped("a", world.now)
    world.processes = [process(21, KEEPER, 20)]
    world.now += 1
    assert world.look() == []
    world.processes = [process(21, KEEPER, 20, state="Z")]
    world.now += 1
    assert world.look() == ["a"]


def test_a_member_seen_once_is_known_by_its_number_and_start(world: World) -> None:
    world.processes = [process(20, KEEPER, 20), process(23, 20, 23, started=101.0)]
    world.endings.begin("a", 20, reaped=False, grace=5.0, now=world.now)
    world.look(20)
    world.endings.on_reaped("a", world.now)
    world.processes = [process(23, KEEPER, 23, started=101.0)]  # an orphan now, and has no fence
    world.now += 5
    assert world.look() == []
    assert (("process", 23, signal.SIGKILL)) in world.take_sent()
    world.processes = [process(23, KEEPER, 23, started=102.0)]  # another one of the same number
    world.now += 1
    assert world.look() == ["a"]


def test_a_number_that_another_has_by_now_is_spared(world: World) -> None:
    world.processes = [process(20, KEEPER, 20), process(21, 20, 20), process(40, 1, 20)]
    world.endings.begin("a", 20, reaped=True, grace=0.0, now=world.now)
    assert world.look(20) == ["a"]
    assert world.take_sent() == []


def test_a_session_of_somebody_else_is_spared(world: World) -> None:
    world.processes = [process(40, 1, 20)]  # not below the keeper
    world.endings.begin("a", 20, reaped=True, grace=0.0, now=world.now)
    assert world.look() == ["a"]
    assert world.take_sent() == []


def test_what_can_not_be_ended_is_given_up(world: World) -> None:
    world.processes = [process(20, KEEPER, 20, state="D")]
    world.endings.begin("a", 20, reaped=False, grace=1.0, now=world.now)
    for _ in range(300):
        assert world.look(20) == []
        world.now += 0.1
        if world.now >= 1001.0 + GIVE_UP_SECONDS:
            break
    world.now += 1.1
    assert world.look(20) == ["a"]
    assert world.looks < 120


def test_one_look_serves_all_and_looks_are_rare_though_orphans_die_in_swarms(world: World) -> None:
    for number in range(50):
        world.processes.append(process(100 + number, KEEPER, 100 + number))
        world.endings.begin(str(number), 100 + number, reaped=False, grace=5.0, now=world.now)
    leaders = [each.pid for each in world.processes]
    world.look(*leaders)
    assert world.looks == 1
    world.endings.on_reaped("3", world.now)
    for _ in range(1000):
        world.endings.on_orphan_reaped(world.now)
        world.look(*leaders)
        world.now += 0.0001
    assert world.looks < 15


def test_fences_are_read_of_orphans_only(world: World) -> None:
    asked: list[int] = []

    def fence(process: Process) -> str | None:
        asked.append(process.pid)
        return None

    here = [process(1, 0, 1), process(KEEPER, 1, KEEPER), process(20, KEEPER, 20), process(21, 20, 20)]
    here += [process(50, KEEPER, 50), process(60, 1, 60)]
    endings = Endings(KEEPER, lambda: Snapshot(here, fence), lambda: 0.0)
    endings.begin("a", 20, reaped=False, grace=5.0, now=0.0)
    endings.begin("b", 22, reaped=True, grace=5.0, now=0.0)
    endings.look(0.0, [20])
    assert asked == [50]


# ---------------------------------------------------------------- leftovers


def attempts(*entries: tuple[str, int | None, float | None]) -> dict[str, Attempt]:
    return {key: Attempt(key, 1, 1, None, pid, started) for key, pid, started in entries}


def leftovers(
    processes: list[Process], fences: Mapping[int, str], wanted: dict[str, Attempt], *spared: int
) -> set[int]:
    snapshot = Snapshot([process(1, 0, 1), *processes], lambda process: fences.get(process.pid))
    return {found.pid for found in find_leftovers(snapshot, wanted, (), frozenset(spared))}


def test_leftovers_are_the_recorded_process_its_session_and_what_is_below() -> None:
    processes = [
        process(20, 1, 20),
        process(21, 1, 20),
        process(22, 21, 22),
        process(30, 1, 30),
        process(31, 30, 30),
    ]
    assert leftovers(processes, {}, attempts(("a", 20, 99.9))) == {20, 21, 22}


@pytest.mark.parametrize(
    "found",
    [
        process(20, 1, 20, started=98.0),
        process(20, 1, 20, started=102.0),
        process(20, 1, 15),
        process(20, 1, 20, state="Z"),
    ],
)
def test_another_process_of_the_recorded_number_is_spared(found: Process) -> None:
    assert leftovers([found, process(21, 20, 20)], {}, attempts(("a", 20, 100.0))) <= {21}
    if not found.is_dead:
        assert leftovers([found, process(21, 20, 20)], {}, attempts(("a", 20, 100.0))) == set()


def test_leftovers_are_known_by_their_fence_wherever_they_went() -> None:
    processes = [
        process(40, 1, 40),
        process(41, 40, 41),
        process(50, 1, 50),
        process(21, 1, 20),
        process(22, 1, 20),
    ]
    fences = {40: "a", 50: "forgotten", 21: "b"}
    assert leftovers(processes, fences, attempts(("a", None, None), ("b", 20, 50.0))) == {40, 41, 21, 22}


def test_who_looks_is_spared_though_it_was_started_in_a_job() -> None:
    processes = [process(40, 1, 40), process(41, 40, 40), process(42, 41, 42)]
    assert leftovers(processes, {40: "a", 41: "a", 42: "a"}, attempts(("a", 40, 100.0)), 42, 41) == {40}


# ---------------------------------------------------------------- processes


def test_a_name_may_be_anything() -> None:
    line = b"77 (a) R 9 (\n) R 1 2 3 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0"
    assert parse_stat(line) == Process(77, ord("R"), 1, 2, 3, 12345 / os.sysconf("SC_CLK_TCK"))


def test_living_processes_are_seen_as_they_are() -> None:
    ours = look_at(os.getpid())
    assert ours is not None
    assert (ours.pid, ours.parent, ours.session) == (os.getpid(), os.getppid(), os.getsid(0))
    assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - ours.started < 100_000
    assert any(found.pid == os.getpid() for found in all_processes())
    assert look_at(2**22 + 1) is None


@pytest.mark.parametrize(
    ("variables", "fence"),
    [
        ({"KUEUE_FENCE": "j/1/2"}, "j/1/2"),
        ({"A": "KUEUE_FENCE=x", "KUEUE_FENCE": "ü"}, "ü"),
        ({"A": "KUEUE_FENCE=x"}, None),
        ({"MY_KUEUE_FENCE": "x"}, None),
        ({}, None),
        ({"LONG": "x" * 100_000, "KUEUE_FENCE": "after"}, "after"),
    ],
)
def test_a_fence_is_read_from_the_environment(variables: dict[str, str], fence: str | None) -> None:
    # `cat` answers once it has been executed, and not a fork of ours that still is.
    with subprocess.Popen(
        ["/bin/cat"], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b"x")
        child.stdin.flush()
        assert child.stdout.read(1) == b"x"
        found = look_at(child.pid)
        assert found is not None
        assert fence_of(found) == fence
        assert fence_of(found._replace(state=ord("D"))) is None


def test_a_signal_goes_to_that_very_process_only() -> None:
    with subprocess.Popen(["/bin/sleep", "1000"]) as child:
        found = look_at(child.pid)
        assert found is not None
        signal_process(found._replace(started=found.started - 1), signal.SIGKILL)
        signal_process(found._replace(pid=2**22 + 1), signal.SIGKILL)
        assert child.poll() is None
        signal_process(found, signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
