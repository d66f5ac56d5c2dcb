"""What does it cost that jobs wait for others, in chains, trees, fans, and stages, and how does that grow?

The real core on the tests' bench, from the submit of the last job to its end, over one worker that ends at once what it
is given: CPU time a job, against as many jobs that wait for nothing. Then the same over a real server with simulated
workers, in jobs a second. And a chain whose first job is canceled, with all that follows from it.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator

import msgspec

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab
from kueue import JobSpec
from kueue.job import End
from kueue.wire.messages import FinishedAttempt, Report, Status, Waits
from kueue_server.core.events import CancelRequested, JobsSubmitted, TurnCame, WorkerReported, WorkerStatus
from kueue_server.core.instructions import Instruction
from tests.support.core_bench import WALL, Bench, make_spec, offers

SIZES = (10_000, 100_000)
QUICK_SIZES = (200, 1_000)
SERVED = 20_000
QUICK_SERVED = 500
BLOCK = 1000
CPUS = 32
RAM_MB = 16_000.0
PLOT = "jobs that wait for others"
MEASURED_LINKS = 20_000


def _one_by_one(number: int, count: int) -> Waits | None:
    return Waits(((number - 1, number - 1),)) if number > 1 else None


def _tree(number: int, count: int) -> Waits | None:
    """Each waits for the one above it, of which two do."""
    return Waits(((number // 2, number // 2),)) if number > 1 else None


def _fan_in(number: int, count: int) -> Waits | None:
    return Waits(((1, count - 1),)) if number == count else None


def _fan_out(number: int, count: int) -> Waits | None:
    return Waits(((1, 1),)) if number > 1 else None


def _stages(number: int, count: int) -> Waits | None:
    """Ten of them; each job waits for all of the one before."""
    width = count // 10
    stage = (number - 1) // width
    return Waits(((1 + (stage - 1) * width, stage * width),)) if stage else None


def _alone(number: int, count: int) -> Waits | None:
    return None


SHAPES: dict[str, Callable[[int, int], Waits | None]] = {
    "waiting for nothing": _alone,
    "a chain": _one_by_one,
    "a binary tree": _tree,
    "one that waits for all": _fan_in,
    "all that wait for one": _fan_out,
    "ten stages": _stages,
}


class _Core:
    """Jobs of one shape in a core, and the worker that ends them."""

    def __init__(self, shape: Callable[[int, int], Waits | None], count: int) -> None:
        self._bench = Bench()
        self._bench.checked = False
        self._session, _ = self._bench.connect("w1", cpus=CPUS)
        self._count = count
        for first in range(1, count + 1, BLOCK):
            numbers = range(first, min(first + BLOCK, count + 1))
            specs = tuple(make_spec(waits=shape(number, count)) for number in numbers)
            encoded = tuple(map(msgspec.json.encode, specs))
            self._handle(JobsSubmitted(first, specs, encoded, WALL))

    def _handle(self, event: object) -> list[Instruction]:
        core, now = self._bench.core, self._bench.time
        result = core.handle(event, now)  # type: ignore[arg-type]
        while core.is_under_way:
            result += core.handle(TurnCame(), now)
        return result

    def run(self) -> None:
        """All come to their end."""
        found = offers(self._handle(WorkerStatus(self._session, Status(float(CPUS), RAM_MB), WALL)))
        done = 0
        while found:
            done += len(found)
            ends = tuple(FinishedAttempt(job, fence, 1, End.EXITED, exit_code=0) for _, job, fence in found)
            found = offers(self._handle(WorkerReported(self._session, Report(finished=ends), WALL)))
        assert done == self._count, f"{done} of {self._count} came to their end"

    def cancel_first(self) -> None:
        """And with it all that follow."""
        self._handle(CancelRequested(1, ((1, 1),), False, WALL))
        assert self._bench.core.counts(0.0).canceled == self._count


def measure(quick: bool) -> Answer:
    """The shapes in turns, then the server."""
    sizes = QUICK_SIZES if quick else SIZES
    repetitions = 1 if quick else REPETITIONS
    taken: dict[tuple[str, int], list[float]] = {}
    gc.disable()
    try:
        for _ in range(repetitions):
            for size in sizes:
                for name, seconds in _times(size):
                    taken.setdefault((name, size), []).append(seconds * 1e6 / size)
                    gc.collect()
    finally:
        gc.enable()
    figures = {key: Figure(f"{key[0]}, {key[1]:,} jobs", "µs/job", tuple(taken[key])) for key in taken}
    answer = Answer(figures=list(figures.values()), axes={PLOT: ("jobs", "µs/job")})
    names = dict.fromkeys(name for name, _ in taken)
    answer.goals += [
        Goal(figures[name, sizes[-1]], 1.5, "at most", over=figures[name, sizes[0]]) for name in names
    ]
    answer.curves[PLOT] = {
        name: [(float(size), statistics.median(taken[name, size])) for size in sizes] for name in names
    }
    answer.figures.append(Figure("memory of a link of a chain", "bytes", (_bytes_of_a_link(quick),)))
    for name in ("waiting for nothing", "one that waits for all", "all that wait for one"):
        served = QUICK_SERVED if quick else SERVED
        rates = tuple(_served(SHAPES[name], served) for _ in range(repetitions))
        answer.figures.append(Figure(f"server, {name}", "1/s", rates))
    return answer


def _times(size: int) -> Iterator[tuple[str, float]]:
    for name, shape in SHAPES.items():
        core = _Core(shape, size)
        begin = time.process_time()
        core.run()
        yield name, time.process_time() - begin
    core = _Core(_one_by_one, size)
    begin = time.process_time()
    core.cancel_first()
    yield "a chain, canceled at its head", time.process_time() - begin


def _bytes_of_a_link(quick: bool) -> float:
    """What a waiting job takes beyond a pending one."""
    links = QUICK_SIZES[-1] if quick else MEASURED_LINKS
    used = []
    for shape in (_alone, _one_by_one):
        gc.collect()
        tracemalloc.start()
        kept = _Core(shape, links)
        used.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        del kept
    return (used[1] - used[0]) / links


def _served(shape: Callable[[int, int], Waits | None], count: int) -> float:
    """Jobs a second, of a server that has taken all of them before it gets its workers."""
    with ServerLab() as lab:
        for numbers in ((1,), range(2, count), (count,)):  # who waits for a job can only come after it
            lab.client.submit_many(_job(shape(number, count)) for number in numbers)
        with lab.ends(16, 32, count) as ends:
            ends.go()
            done = ends.wait()
        assert lab.client.counts().succeeded == count
    return count / done.seconds


def _job(waits: Waits | None) -> JobSpec:
    return JobSpec(["true"], cwd="/data", after=waits.after if waits is not None else ())
