"""The keeper by messages, with no process and no socket: what only a machine in trouble shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kueue_worker.keeper.attempts import Attempt, Ended
from kueue_worker.keeper.keeper import Keeper
from kueue_worker.keeper.kill import GIVE_UP_SECONDS, Endings
from kueue_worker.keeper.limits import Limits
from kueue_worker.keeper.processes import Process, Snapshot
from kueue_worker.keeper.records import Records, read
from kueue_worker.keeper.spawn import Spawner
from kueue_worker.keeper.wire import Message, WireError

OURS = os.getpid()


class Bench:
    """A keeper whose processes are made up: started when it says so, ended when the test says so."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.now = 1000.0
        self.alive: dict[int, str] = {}
        self.zombies: list[tuple[int, int, Any]] = []
        self.log: list[str] = []
        self.spawned: list[tuple[bytes, list[bytes]]] = []
        self.signals: list[int] = []
        self.failing: Exception | None = None
        self.spawn_seconds = 0.0
        self.attempts: dict[str, Attempt] = {}
        self.records = Records(str(place), "boot", self.attempts)
        umask, here = os.umask(0o022), os.getcwd()
        spawner = Spawner(str(place), Limits())
        os.umask(umask)
        os.chdir(here)
        monkeypatch.setattr(os, "umask", lambda mask: 0o022)
        monkeypatch.setattr(os, "fchdir", lambda descriptor: None)
        monkeypatch.setattr(os, "posix_spawn", self.posix_spawn)
        monkeypatch.setattr(os, "waitid", self.waitid)
        monkeypatch.setattr(os, "wait4", self.wait4)
        monkeypatch.setattr(os, "killpg", lambda group, number: self.signals.append(number))
        endings = Endings(OURS, self.snapshot, lambda: self.now)
        self.keeper = Keeper(
            "name", "boot", self.attempts, self.records, spawner, endings, self.log.append, lambda: self.now
        )
        self.do({"m": "env", "id": "e", "env": []})
        directory = os.open(place, os.O_RDONLY)
        self.keeper.on_messages([{"m": "dir", "id": 1}], lambda: directory)
        self.spawner = spawner

    def snapshot(self) -> Snapshot:
        jobs = [Process(pid, ord(state), OURS, pid, pid, 1.0) for pid, state in self.alive.items()]
        return Snapshot([Process(OURS, ord("R"), 1, 1, 1, 0.5), *jobs], lambda process: None)

    def posix_spawn(self, program: bytes, argv: list[bytes], *_: object, **__: object) -> int:
        if self.failing is not None:
            raise self.failing
        self.spawned.append((program, argv))
        self.now += self.spawn_seconds
        pid = 5000 + len(self.spawned)
        self.alive[pid] = "S"
        return pid

    def waitid(self, which: int, number: int, options: int) -> Any:
        assert (which, options) == (os.P_ALL, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if not self.zombies:
            return None
        pid, status, _ = self.zombies[0]
        code = os.CLD_EXITED if os.WIFEXITED(status) else os.CLD_KILLED
        return SimpleNamespace(si_pid=pid, si_code=code, si_status=status >> 8 or status)

    def wait4(self, pid: int, options: int) -> tuple[int, int, Any]:
        assert (pid, options) == (self.zombies[0][0], os.WNOHANG)
        return self.zombies.pop(0)

    def end(self, pid: int, status: int = 0) -> None:
        """A process ends by itself; nobody has waited for it yet."""
        del self.alive[pid]
        self.zombies.append((pid, status, SimpleNamespace(ru_utime=1.0, ru_stime=0.5, ru_maxrss=9)))

    def do(self, *messages: Message) -> list[Message]:
        """Hand it a frame; what it answers."""

        def none() -> int:
            raise WireError("no descriptor")

        self.keeper.on_messages(list(messages), none)
        return self.take()

    def take(self) -> list[Message]:
        told, self.keeper.out[:] = list(self.keeper.out), []
        return told

    def turn(self, seconds: float = 0.0) -> list[Message]:
        """Time goes by; what it tells."""
        self.now += seconds
        self.keeper.on_time(self.now)
        self.keeper.save(self.now)
        return self.take()

    def spawn(self, key: str, **fields: Any) -> Message:
        order: Message = {"m": "spawn", "key": key, "job": 1, "attempt": 1, "program": "/x", "argv": ["x"]}
        return {**order, "env": "e", "dir": 1, "out": None, "err": None, "note": None, **fields}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    made = Bench(tmp_path, monkeypatch)
    yield made
    made.spawner.forget()


def test_an_order_may_be_short_of_what_has_a_default(bench: Bench) -> None:
    (told,) = bench.do(bench.spawn("a"))
    assert told == {"m": "started", "key": "a", "pid": 5001, "started": 1000.0}


@pytest.mark.parametrize(("seconds", "started"), [(0.4, 1000.0), (7.0, 1006.5)])
def test_a_start_that_took_long_is_recorded_as_the_system_tells_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, seconds: float, started: float
) -> None:
    """Else a next keeper would take the process for another one."""
    bench.spawn_seconds = seconds
    monkeypatch.setattr(
        "kueue_worker.keeper.keeper.look_at", lambda pid: Process(pid, 83, 1, pid, pid, 1006.5)
    )
    (told,) = bench.do(bench.spawn("a"))
    assert told["started"] == started
    bench.keeper.save(bench.now)
    assert read(str(bench.place)).attempts["a"].started == started


def test_a_kill_that_comes_after_the_exit_does_not_change_it(bench: Bench) -> None:
    bench.do(bench.spawn("a"))
    bench.end(5001)
    (ended,) = bench.do({"m": "kill", "key": "a", "grace": 1, "end": "stopped"})
    assert (ended["end"], ended["status"], ended["cpu_seconds"], ended["peak_kb"]) == ("exited", 0, 1.5, 9)
    bench.turn(1)
    assert bench.signals == []


def test_who_exits_at_the_very_limit_made_it_in_time(bench: Bench) -> None:
    bench.do(bench.spawn("a", time_limit=10))
    bench.end(5001)
    (ended,) = bench.turn(10)
    assert ended["end"] == "exited"
    assert bench.keeper.next_time() is None


def test_a_process_that_can_not_be_ended_is_given_up_and_holds_up_nobody(bench: Bench) -> None:
    bench.do(bench.spawn("a"))
    bench.alive[5001] = "D"
    bench.keeper.on_told_to_end(2.0)
    told = bench.take()
    for _ in range(200):
        told += bench.turn(0.3)
        if not bench.keeper.is_busy:
            break
    ended = told[-1]
    assert (ended["end"], ended["status"]) == ("interrupted", None)
    assert 2.0 + GIVE_UP_SECONDS <= ended["ended"] - 1000.0 <= 4.0 + GIVE_UP_SECONDS
    assert not bench.keeper.is_busy
    bench.end(5001)
    bench.keeper.reap()
    assert bench.take() == []
    assert "given up" in bench.log[-1]


def test_something_unforeseen_at_a_start_costs_that_job_only(bench: Bench) -> None:
    bench.failing = RuntimeError()
    (ended,) = bench.do(bench.spawn("a"))
    assert (ended["end"], ended["code"]) == ("not_started", "spawn")
    bench.failing = None
    assert bench.do(bench.spawn("b"))[0]["m"] == "started"
    assert not any(attempt.pid is None for attempt in bench.attempts.values() if attempt.ended is None)


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (12, "exhausted", "the machine has no memory for another process"),
        (11, "exhausted", "the limit of processes of this user is reached"),
        (26, "no_program", "/x: is being written by another program"),
        (5, "spawn", "/x: Input/output error"),
    ],
)
def test_errors_of_the_machine_are_told_in_words(bench: Bench, number: int, code: str, text: str) -> None:
    bench.failing = OSError(number, os.strerror(number))
    (ended,) = bench.do(bench.spawn("a"))
    assert (ended["end"], ended["code"], ended["text"]) == ("not_started", code, text)


def test_messages_before_a_fault_are_done(bench: Bench) -> None:
    with pytest.raises(WireError):
        bench.do(bench.spawn("a"), {"m": "ping", "n": 1}, {"m": "nonsense"}, bench.spawn("b"))
    assert [(m["m"], m.get("key", m.get("n"))) for m in bench.take()] == [("started", "a"), ("pong", 1)]
    assert list(bench.attempts) == ["a"]


def test_ends_that_can_not_be_written_are_told_and_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.do(bench.spawn("a"))
    bench.turn()
    write = os.write

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    bench.end(5001)
    bench.keeper.reap()
    assert [m["m"] for m in bench.turn()] == ["ended"]
    for _ in range(5):
        bench.turn(0.1)
    assert bench.log == ["cannot write the records, tries on: No space left on device"]
    assert bench.keeper.next_time() == bench.now + 1.0
    monkeypatch.setattr(os, "write", write)
    bench.turn(1.0)
    assert bench.keeper.next_time() is None
    assert read(str(bench.place)).attempts["a"].ended is not None


def test_a_keeper_without_memory_starts_nothing_and_tells_ends_that_are_written_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.do(bench.spawn("a"))
    bench.turn()
    write = os.write

    def fail(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(os, "write", fail)
    (ended,) = bench.do(bench.spawn("b"))
    assert (ended["end"], ended["code"]) == ("not_started", "exhausted")
    assert ended["text"] == "cannot write the worker's records: the keeper has no memory left"
    assert list(bench.attempts) == ["a"], "nothing seems to run for ever"
    bench.end(5001)
    bench.keeper.reap()
    assert [m["m"] for m in bench.turn()] == ["ended"]
    assert bench.log[-1] == "cannot write the records, tries on: the keeper has no memory left"
    monkeypatch.setattr(os, "write", write)
    bench.turn(1.0)
    assert bench.keeper.next_time() is None
    found = read(str(bench.place)).attempts
    assert list(found) == ["a"]
    assert found["a"].ended is not None
    bench.failing = MemoryError()
    (ended,) = bench.do(bench.spawn("c"))
    assert (ended["end"], ended["code"], ended["text"]) == (
        *("not_started", "exhausted"),
        "the keeper has no memory left",
    )


def test_only_bad_ends_of_the_last_moments_become_interruptions(bench: Bench) -> None:
    for key, ended in {
        "failed now": Ended("exited", 256, 1.0, 996.0),
        "signalled now": Ended("exited", 9, 1.0, 999.0),
        "good now": Ended("exited", 0, 1.0, 999.0),
        "failed before": Ended("exited", 256, 1.0, 994.0),
        "stopped now": Ended("stopped", 15, 1.0, 999.0),
        "lost": Ended("lost", None, 1.0, None),
    }.items():
        bench.attempts[key] = Attempt(key, 1, 1, None, 7, 1.0, ended)
        bench.records.will_spawn([bench.attempts[key]])
    bench.keeper.on_told_to_end(5.0)
    assert bench.turn() == [{"m": "leaving"}]
    interrupted = {
        key
        for key, each in read(str(bench.place)).attempts.items()
        if each.ended and each.ended.end == "interrupted"
    }
    changed = {key for key, each in bench.attempts.items() if each.ended and each.ended.end == "interrupted"}
    assert changed == {"failed now", "signalled now"}
    assert interrupted == changed


def test_an_end_of_an_earlier_boot_is_not_of_the_shutdown_of_this_one_however_young_it_is() -> None:
    assert not Ended("exited", 256, -10.0, 0.0).may_be_of_shutdown(3.0)
    assert Ended("exited", 256, 1.0, 2.0).may_be_of_shutdown(3.0)


def test_a_running_attempt_is_not_forgotten(bench: Bench) -> None:
    bench.do(bench.spawn("a"), {"m": "forget", "keys": ["a", "unknown"]})
    assert list(bench.attempts) == ["a"]
    bench.end(5001)
    bench.keeper.reap()
    bench.do({"m": "forget", "keys": ["a"]})
    assert bench.attempts == {}
    assert not bench.keeper.remembers
