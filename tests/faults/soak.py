"""A long run by hand: many short jobs on eight workers while something is killed or frozen every few seconds.

    python -m tests.faults.soak --hours 2 --jobs 100000 --seed 1 --report soak.json --plot soak.svg

Each job notes its start and its end, with id and attempt, in a file. At the end: nothing acknowledged is lost,
no attempt ran twice, each run beyond the first is an attempt that the server knows of, jobs that may run at
most once did, and the memory of all programs is where it was.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import kueue
from kueue.errors import KueueError
from tests.support.lab import Lab
from tests.support.plot import plot

PORT = 11_999
WORKERS = tuple(f"w{number}" for number in range(1, 9))
LEASE_SECONDS = 30
SUBMITTERS = 6
BATCH = 40
SAMPLE_SECONDS = 10.0
WARM_UP_SECONDS = 300.0
"""Memory is compared from then on: caches and pools have their size by then."""

SCRIPT = """
echo "$KUEUE_JOB_ID $KUEUE_ATTEMPT start $EPOCHREALTIME" >> "$1"
[ "$2" = 0 ] || sleep "$2"
echo "$KUEUE_JOB_ID $KUEUE_ATTEMPT end $EPOCHREALTIME" >> "$1"
exit "$3"
"""


class SoakLab(Lab):
    """At a port that no test takes."""

    def choose_port(self) -> int:
        return PORT


@dataclass
class Result:
    """What a submitter was told of a job at the end. `once`: it may run at most once."""

    state: str
    attempt: int
    code: int | None
    once: bool
    wanted: int


@dataclass
class Soak:
    """One run. `results` by job; `faults` by kind; `memory` are samples (seconds, program, MB)."""

    lab: Lab
    jobs: int
    seconds: float
    dice: random.Random
    began: float = field(default_factory=time.monotonic)
    results: dict[int, Result] = field(default_factory=dict)
    submitted: int = 0
    errors: list[str] = field(default_factory=list)
    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    memory: list[tuple[float, str, float]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    # ---------------------------------------------------------------- people

    def submit(self, number: int) -> None:
        """One of the submitters: batch after batch, each waited for, spread over the time there is."""
        dice = random.Random(f"{number} {self.dice.random()}")
        place = self.lab.work / "runs"
        while not self.over.is_set():
            with self._lock:
                due = self.jobs * min(1.0, self.elapsed / (0.93 * self.seconds))
                count = min(BATCH, self.jobs - self.submitted)
                wait = self.submitted > due
                if not wait:
                    self.submitted += count
            if count <= 0:
                return
            if wait:
                self.over.wait(0.2)
                continue
            self._batch([_job(dice, str(place)) for _ in range(count)])

    def _batch(self, specs: list[tuple[kueue.JobSpec, int]]) -> None:
        while True:
            try:
                with kueue.Client(config=str(self.lab.config), connect_timeout=120) as client:
                    jobs = client.submit_many([spec for spec, _ in specs])
                    ids = [job.id for job in jobs]
                break
            except KueueError as error:  # nothing was acknowledged: the same again, as new jobs
                self.errors.append(f"submit: {error}")
        wanted = dict(zip(ids, specs, strict=True))
        while wanted:
            try:
                with kueue.Client(config=str(self.lab.config), connect_timeout=120) as client:
                    for done in client.as_completed(list(wanted)):
                        spec, code = wanted.pop(done.id)
                        self.results[done.id] = Result(
                            str(done.state), done.attempt, done.return_code, not spec.restart, code
                        )
            except KueueError as error:
                self.errors.append(f"wait: {error}")

    # ---------------------------------------------------------------- faults

    def harm(self) -> None:
        """One random fault."""
        name = self.dice.choice(WORKERS)
        kinds: dict[str, Callable[[str], None]] = {
            "kill server": self._kill_server,
            "kill agent": self._kill_agent,
            "kill keeper": lambda name: self.lab.kill_keeper(name),
            "kill worker": self._kill_worker,
            "end worker": self._end_worker,
            "upgrade worker": self._upgrade_worker,
            "freeze server": self._freeze_server,
            "freeze agent": lambda name: self._freeze([self.lab.agents[name].pid], self._while()),
            "freeze keeper": lambda name: self._freeze(self.lab.keeper_pids(name), self._while()),
            "freeze worker": lambda name: self._freeze(
                [self.lab.agents[name].pid, *self.lab.keeper_pids(name)], self._while()
            ),
        }
        kind = self.dice.choice(list(kinds))
        self.faults[kind] += 1
        kinds[kind](name)

    def _while(self) -> float:
        return self.dice.choice((1.0, 5.0, 12.0, 1.3 * LEASE_SECONDS))

    def _kill_server(self, _: str) -> None:
        self.lab.kill_server()
        self.over.wait(self.dice.choice((0.0, 2.0, 10.0)))
        self.lab.start_server()

    def _freeze_server(self, _: str) -> None:
        assert self.lab.server_process is not None
        self._freeze([self.lab.server_process.pid], self._while())

    def _kill_agent(self, name: str) -> None:
        self.lab.agents[name].kill()
        self.over.wait(self.dice.choice((0.0, 3.0)))

    def _kill_worker(self, name: str) -> None:
        self.lab.agents[name].kill()
        self.lab.kill_keeper(name)

    def _end_worker(self, name: str) -> None:
        self._signal(self.lab.agents[name], signal.SIGTERM)

    def _upgrade_worker(self, name: str) -> None:
        self._signal(self.lab.agents[name], signal.SIGUSR2)

    def _signal(self, agent: subprocess.Popen[bytes], number: signal.Signals) -> None:
        agent.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.wait(20)

    def _freeze(self, pids: list[int], seconds: float) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        self.over.wait(seconds)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def revive(self) -> None:
        """Start again what has ended."""
        for name, agent in list(self.lab.agents.items()):
            if agent.poll() is not None:
                self.lab.start_worker(name, wait=False)

    # ---------------------------------------------------------------- memory

    def sample(self) -> None:
        """The memory of each program, until the run is over."""
        while not self.over.wait(SAMPLE_SECONDS):
            assert self.lab.server_process is not None
            groups = {
                "server": [self.lab.server_process.pid],
                "agents": [agent.pid for agent in self.lab.agents.values()],
                "keepers": self.lab.keeper_pids(),
            }
            for group, pids in groups.items():
                sizes = []
                for pid in pids:
                    with contextlib.suppress(psutil.Error):
                        sizes.append(psutil.Process(pid).memory_info().rss / 2**20)
                if sizes:
                    self.memory.append((round(self.elapsed, 1), group, round(max(sizes), 2)))

    # ---------------------------------------------------------------- the whole

    def run(self, pause: float) -> None:
        """All of it: returns when all jobs have finished."""
        threads = [threading.Thread(target=self.submit, args=(n,), daemon=True) for n in range(SUBMITTERS)]
        sampler = threading.Thread(target=self.sample, daemon=True)
        for thread in (*threads, sampler):
            thread.start()
        told = 0.0
        while any(thread.is_alive() for thread in threads):
            started = time.monotonic()
            if self.elapsed < self.seconds:
                self.harm()
            self.revive()
            if self.elapsed - told >= 60:
                told = self.elapsed
                print(
                    f"{self.elapsed:6.0f} s: {len(self.results)} jobs done, {sum(self.faults.values())} faults",
                    flush=True,
                )
            time.sleep(max(0.1, pause - (time.monotonic() - started)))
        self.over.set()
        sampler.join()

    def report(self) -> dict[str, Any]:
        """The figures, and what was not as it should be under `problems`."""
        starts: dict[int, list[tuple[int, float]]] = {}
        ends: dict[tuple[int, int], float] = {}
        for line in (self.lab.work / "runs").read_text().splitlines():
            number, attempt, what, when = line.split()
            if what == "start":
                starts.setdefault(int(number), []).append((int(attempt), float(when)))
            else:
                ends[int(number), int(attempt)] = float(when)
        problems: list[str] = []
        for job, result in self.results.items():
            runs = starts.get(job, [])
            attempts = [attempt for attempt, _ in runs]
            if len(set(attempts)) < len(attempts):
                problems.append(f"job {job}: an attempt ran twice: {runs}")
            if len(runs) > result.attempt:
                problems.append(f"job {job}: {len(runs)} runs, {result.attempt} attempts known")
            if result.once and len(runs) > 1:
                problems.append(f"job {job}: at most once, and ran {len(runs)} times")
            if not result.once:
                right = result.state == ("succeeded" if result.wanted == 0 else "failed")
                if not right or result.code != result.wanted:
                    problems.append(f"job {job}: {result}")
                if (job, max(attempts, default=0)) not in ends:
                    problems.append(f"job {job}: {result.state}, and never came to its end")
        if len(self.results) != self.submitted:
            problems.append(f"{self.submitted - len(self.results)} jobs are lost")
        more = sum(1 for runs in starts.values() if len(runs) > 1)
        return {
            "seconds": round(self.elapsed),
            "jobs": len(self.results),
            "states": dict(collections.Counter(result.state for result in self.results.values())),
            "faults": dict(sorted(self.faults.items())),
            "jobs_that_ran_more_than_once": more,
            "overlapping_runs": _overlaps(starts, ends),
            "errors_seen_by_clients": dict(collections.Counter(text[:60] for text in self.errors)),
            "memory_mb": self._memory(),
            "problems": problems,
        }

    def _memory(self) -> dict[str, dict[str, float]]:
        found = {}
        for group in ("server", "agents", "keepers"):
            samples = [(when, size) for when, name, size in self.memory if name == group]
            late = [size for when, size in samples if when >= min(WARM_UP_SECONDS, self.elapsed / 2)]
            if late:
                third = max(1, len(late) // 3)
                found[group] = {
                    "first third": round(sum(late[:third]) / third, 1),
                    "last third": round(sum(late[-third:]) / third, 1),
                    "peak": max(late),
                }
        return found


def _job(dice: random.Random, place: str) -> tuple[kueue.JobSpec, int]:
    seconds = dice.choice((0, 0, 0.05, 0.2, 0.2, 1, 2))
    if dice.random() < 0.01:
        seconds = dice.choice((20, 60))
    code = 7 if dice.random() < 0.05 else 0
    once = dice.random() < 0.1
    command = ["bash", "-c", SCRIPT, "job", place, str(seconds), str(code)]
    spec = kueue.JobSpec(
        command, cpus=0, ram_mb=1, cwd=os.path.dirname(place), restart=not once, max_restarts=1000
    )
    return spec, code


def _overlaps(starts: dict[int, list[tuple[int, float]]], ends: dict[tuple[int, int], float]) -> int:
    """Runs of one job that were seen to live at the same time: only after a lease was over."""
    count = 0
    for job, runs in starts.items():
        runs = sorted(runs)
        for (attempt, _), (_, later) in itertools.pairwise(runs):
            end = ends.get((job, attempt))
            count += end is not None and end > later
    return count


def main() -> int:
    """Exit code 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--pause", type=float, default=20.0, help="seconds from fault to fault")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    place = tempfile.mkdtemp(prefix="kueue-soak-")
    with contextlib.ExitStack() as stack:
        stack.callback(print, f"what it left is in {place}", flush=True)
        lab = SoakLab(
            Path(place),
            server=f"worker_timeout_seconds = {LEASE_SECONDS}\nmax_finished_jobs = 5000",
            worker="worker_max_parallel_jobs = 4",
        )
        try:
            lab.start_server()
            for name in WORKERS:
                lab.start_worker(name)
            soak = Soak(lab, options.jobs, options.hours * 3600, random.Random(options.seed))
            soak.run(options.pause)
            report = soak.report()
            report["tracebacks"] = [
                line
                for text in (lab.server_log(), *(lab.worker_log(name) for name in WORKERS))
                for line in text.splitlines()
                if "Traceback" in line or " ERROR " in line
            ][:20]
        finally:
            lab.close()
        good = not report["problems"] and not report["tracebacks"]
        if good:
            stack.pop_all()
            shutil.rmtree(place)
    text = json.dumps(report, indent=2)
    print(text)
    if options.report:
        options.report.write_text(text + "\n")
    if options.plot:
        options.plot.write_text(plot(soak.memory, "seconds", "MB resident (largest of its kind)"))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
