"""A machine on which everything fails at once while it runs elsewhere is paused; nobody else is."""

from __future__ import annotations

import random

import pytest

from kueue.job import End
from kueue.wire.messages import Pause, Reason, Spec
from kueue_server.core import distrust
from kueue_server.core.events import Limits
from kueue_server.core.failing import QUICK_SECONDS, WELL_SECONDS
from kueue_server.core.instructions import DropPause, Instruction, LogLine, SavePause
from tests.support.core_bench import Bench, make_spec, offers

N = 3


def jobs(count: int, *program: str, workers: tuple[str, ...] = ()) -> list[Spec]:
    """As wide as a worker, so that none is held ahead."""
    return [make_spec(*program, cpus=2, workers=workers)] * count


class Lab:
    """Workers of one slot each that run jobs to their ends; `broken` ones have every job fail at once."""

    def __init__(self, *names: str, most: int = N) -> None:
        self.bench = Bench(Limits(worker_pause_after_failures=most))
        self.sessions = {name: self.bench.worker(name) for name in names}
        self.names = {session: name for name, session in self.sessions.items()}
        self.at: dict[str, tuple[int, int]] = {}
        self.said: list[Instruction] = []

    def take(self, instructions: list[Instruction]) -> None:
        self.said += instructions
        for session, job, fence in offers(instructions):
            self.at[self.names[session]] = (job, fence)

    def submit(self, *specs: Spec) -> None:
        self.take(self.bench.submit(*specs))

    def end(self, name: str, code: int, run: float = 0.5, **how: object) -> None:
        """What a worker has ends."""
        ref = self.at.pop(name)
        self.take(self.bench.finished(self.sessions[name], ref, code=code, run=run, **how))  # type: ignore[arg-type]

    def paused(self) -> dict[str, Pause]:
        """After the next second; machines are judged on ticks."""
        self.take(self.bench.tick())
        workers = self.bench.core.workers(self.bench.time)
        return {worker.name: worker.paused for worker in workers if worker.paused is not None}


def test_one_on_which_all_fails_while_such_jobs_run_elsewhere_is_paused_and_says_why() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(20, "./synthesize"))
    lab.end("w1", 127)
    for _ in range(N):
        lab.end("w2", 0)
    lab.end("w1", 127)
    assert lab.paused() == {}
    lab.end("w1", 127)
    found = lab.paused()
    (pause,) = found.values()
    assert list(found) == ["w1"]
    assert pause.reason == (
        f"its last {N} jobs failed within seconds, while such jobs ran elsewhere; the last: job 7 (exit 127)"
    )
    assert SavePause(1, pause.since, pause.reason) in lab.said
    assert LogLine("warning", f"worker w1 is paused: {pause.reason}; kueue resume-worker") in lab.said
    assert "w1" not in lab.at
    lab.bench.restart()
    assert list(lab.paused()) == ["w1"]


def test_after_it_is_resumed_it_takes_as_many_failures_again() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(30, "./synthesize"))
    for _ in range(N):
        lab.end("w1", 1)
        for _ in range(5):
            lab.end("w2", 0)
    assert "w1" in lab.paused()
    lab.take(lab.bench.resume("w1"))
    assert DropPause(1) in lab.said
    for _ in range(N - 1):
        lab.end("w1", 1)
    assert lab.paused() == {}
    lab.end("w1", 1)
    assert "w1" in lab.paused()


def test_a_program_that_fails_everywhere_pauses_nobody() -> None:
    lab = Lab("w1", "w2", "w3")
    lab.submit(*jobs(300, "./broken"))
    for _ in range(60):
        for name in ("w1", "w1", "w2", "w3"):
            lab.end(name, 1)
    assert lab.paused() == {}


def test_a_program_that_fails_nowhere_else_because_it_runs_nowhere_else_pauses_nobody() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(20, "./other", workers=("w2",)))
    lab.submit(*jobs(20, "./broken", workers=("w1",)))
    for _ in range(15):
        lab.end("w1", 1)
        lab.end("w2", 0)
    assert lab.paused() == {}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_a_program_that_fails_at_random_pauses_nobody(share: float) -> None:
    dice = random.Random(int(share * 10))
    lab = Lab("w1", "w2", "w3", "w4", most=10)
    lab.bench.checked = False
    lab.submit(*jobs(3000, "./flaky"))
    for _ in range(2900):
        lab.end(dice.choice(sorted(lab.at)), int(dice.random() < share))
    assert lab.paused() == {}


def test_failures_after_a_while_are_the_jobs_own() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(30, "./synthesize"))
    for _ in range(N + 2):
        lab.end("w1", 1, run=60.0)
        lab.end("w2", 0)
        lab.end("w2", 0)
    assert lab.paused() == {}


def test_a_single_success_in_between_clears_the_machine() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(60, "./synthesize"))
    for _ in range(4):
        for _ in range(N - 1):
            lab.end("w1", 1)
            for _ in range(4):
                lab.end("w2", 0)
        lab.end("w1", 0)
    assert lab.paused() == {}


def failing_on_one_of_four() -> Lab:
    """The last jobs of w1 have failed at once, and such jobs have started on the others."""
    lab = Lab("w1", "w2", "w3", "w4")
    lab.submit(*jobs(30, "./synthesize"))
    for name in ("w2", "w3", "w4"):
        lab.bench.started(lab.sessions[name], lab.at[name])
    for _ in range(N):
        lab.end("w1", 1)
    return lab


def test_long_jobs_count_as_running_well_elsewhere_when_they_can_not_have_failed_at_once() -> None:
    lab = failing_on_one_of_four()
    assert lab.paused() == {}
    lab.take(lab.bench.pass_time(WELL_SECONDS - 2, *lab.sessions.values()))
    assert lab.paused() == {}
    lab.take(lab.bench.pass_time(4, *lab.sessions.values()))
    assert list(lab.paused()) == ["w1"]


def test_of_jobs_on_machines_that_say_nothing_nobody_knows_whether_they_run_well() -> None:
    """They may have failed at once as well."""
    lab = failing_on_one_of_four()
    lab.take(lab.bench.pass_time(WELL_SECONDS + 10, lab.sessions["w1"]))
    assert lab.paused() == {}


def test_who_fails_a_little_sooner_than_others_is_not_the_one_that_is_broken() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(60, "./synthesize"))
    for _ in range(N):
        lab.bench.started(lab.sessions["w2"], lab.at["w2"])
        lab.take(lab.bench.pass_time(QUICK_SECONDS + 1, *lab.sessions.values()))
        lab.end("w2", 1, run=QUICK_SECONDS + 1)
    for _ in range(N):
        lab.end("w1", 1, run=QUICK_SECONDS)
    assert lab.paused() == {}


def test_ends_that_are_nobodys_fault_count_for_nothing() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(90, "./synthesize"))
    for _ in range(N + 1):
        for _ in range(4):
            lab.end("w2", 0)
        lab.end("w1", 0, end=End.INTERRUPTED)
        for _ in range(4):
            lab.end("w2", 0)
        lab.end("w1", 0, end=End.TIME_LIMIT)
    assert lab.paused() == {}


def test_a_start_that_fails_counts() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(30, "./synthesize"))
    for _ in range(N):
        lab.end(
            "w1",
            0,
            end=End.NOT_STARTED,
            run=0.0,
            reason=Reason("spawn", "cannot execute: Input/output error"),
        )
        for _ in range(4):
            lab.end("w2", 0)
    assert list(lab.paused()) == ["w1"]


def test_with_0_nobody_is_ever_paused() -> None:
    lab = Lab("w1", "w2", most=0)
    lab.submit(*jobs(60, "./synthesize"))
    for _ in range(20):
        lab.end("w1", 1)
        lab.end("w2", 0)
    assert lab.paused() == {}


def test_how_it_went_elsewhere_more_than_an_hour_ago_says_nothing() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(9, "./synthesize"))
    for _ in range(6):
        lab.end("w2", 0)
    lab.bench.disconnect(lab.sessions["w2"], leaving=True)
    lab.bench.time += 3700.0
    for _ in range(N):
        lab.end("w1", 1)
    assert lab.paused() == {}


def test_what_went_well_before_a_restart_of_the_server_counts() -> None:
    lab = Lab("w1", "w2")
    lab.submit(*jobs(30, "./synthesize"))
    for _ in range(6):
        lab.end("w2", 0)
    lab.bench.restart()
    lab.at.clear()
    session, _ = lab.bench.connect("w1", cpus=2)
    lab.sessions, lab.names = {"w1": session}, {session: "w1"}
    lab.take(lab.bench.status(session))
    for _ in range(N):
        lab.end("w1", 1)
    assert list(lab.paused()) == ["w1"]


def test_to_look_how_it_went_elsewhere_takes_so_many_looks_whatever_the_table() -> None:
    lab = Lab("w1", "w2", most=10)
    lab.bench.checked = False
    lab.submit(*jobs(3 * distrust.MOST_LOOKS, "./synthesize"))
    for _ in range(2 * distrust.MOST_LOOKS):
        lab.end("w2", 0)
    for _ in range(10):
        lab.end("w1", 1)
    state = lab.bench.core._state
    (worker,) = distrust.suspects(state)
    fared = distrust._fared(state, state.streaks.of(worker.id, 10))
    ((well, badly),) = [(found.well, found.badly) for found in fared.values()]
    assert well == {"w2": distrust.MOST_LOOKS}
    assert badly == {"w1": 10}


# ---------------------------------------------------------------- the last hour


def test_each_worker_has_the_attempts_of_the_last_hour() -> None:
    lab = Lab("w1")
    lab.submit(*jobs(30))
    lab.end("w1", 0)
    lab.end("w1", 1)
    lab.bench.started(lab.sessions["w1"], lab.at["w1"])
    lab.bench.pass_time(1800, lab.sessions["w1"])
    lab.end("w1", 1)
    (worker,) = lab.bench.core.workers(lab.bench.time)
    assert (worker.hour_succeeded, worker.hour_failed) == (1, 2)
    (worker,) = lab.bench.core.workers(lab.bench.time + 1900)
    assert (worker.hour_succeeded, worker.hour_failed) == (0, 1)
    (worker,) = lab.bench.core.workers(lab.bench.time + 3700)
    assert (worker.hour_succeeded, worker.hour_failed) == (0, 0)
