"""How long does the server take for a page of `list-jobs` with 1,000,000 jobs in the table, against 100?

A page is a screen's: 50 rows, as `kueue list-jobs` asks for on a terminal. Measured in the core (from the decoded
request to the encoded answer), and by a client over the socket, where the round trip and the client's own share come
on top. The largest page there is, of 1,000 rows, is a figure without a goal.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.filled_core import FilledCore, filled_with_everything
from benchmarks.server_lab import ServerLab, distinct_jobs
from kueue.wire import codec
from kueue.wire.messages import JobPage, Selector

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
QUICK_SIZES = (100, 1_000)
ROWS = 50
MOST_ROWS = 1000
PAGES = 200
QUICK_PAGES = 5
PLOT = f"a page of {ROWS} rows"

SELECTIONS: dict[str, Callable[[int], tuple[Selector, bool, int | None]]] = {
    "newest": lambda jobs: (Selector(), True, None),
    "from the middle": lambda jobs: (Selector(), False, jobs // 2),
    "newest pending": lambda jobs: (Selector(states=("pending",)), True, None),
    "finished, of which there are none": lambda jobs: (Selector(states=("succeeded", "failed")), True, None),
}
"""What is asked for in a table of so many jobs: filter, newest first, cursor."""


def measure(quick: bool) -> Answer:
    """In the core, all sizes in turns; then over the socket, a small and a large table in turns."""
    answer = Answer(axes={PLOT: ("jobs in the table", "ms")})
    _measure_core(answer, quick)
    _measure_glances(answer, quick)
    _measure_socket(answer, quick)
    return answer


def _measure_core(answer: Answer, quick: bool) -> None:
    sizes = QUICK_SIZES if quick else SIZES
    cores = {size: FilledCore(size, lambda number: f"/data/work/{number}") for size in sizes}
    for what in SELECTIONS:
        figures = _in_turns(what, cores, ROWS, quick)
        answer.figures += [figures[sizes[0]], figures[sizes[-1]]]
        answer.goals.append(Goal(figures[sizes[-1]], 2.0, "at most"))
        answer.curves.setdefault(PLOT, {})[what] = [(float(size), figures[size].median) for size in sizes]
    answer.figures.append(_in_turns("newest", cores, MOST_ROWS, quick)[sizes[-1]])


def _in_turns(what: str, cores: dict[int, FilledCore], rows: int, quick: bool) -> dict[int, Figure]:
    medians: dict[int, list[float]] = {size: [] for size in cores}
    for _ in range(REPETITIONS):
        taken: dict[int, list[float]] = {size: [] for size in cores}
        for _ in range(QUICK_PAGES if quick else PAGES):
            for size, core in cores.items():
                taken[size].append(_page_seconds(core, what, size, rows) * 1000)
        for size in cores:
            medians[size].append(statistics.median(taken[size]))
    return {size: Figure(f"{what}, {rows} rows, {size:,} jobs", "ms", tuple(medians[size])) for size in cores}


GLANCE = "at a glance"
"""What `kueue list-jobs` asks for without conditions: rows of all kinds, and why jobs wait."""


def _measure_glances(answer: Answer, quick: bool) -> None:
    sizes = QUICK_SIZES if quick else SIZES
    for kind in ("all pending", "all of it at once"):
        tables = {size: filled_with_everything(size) if kind != "all pending" else None for size in sizes}
        cores = {
            size: table or FilledCore(size, lambda number: f"/data/work/{number}").core
            for size, table in tables.items()
        }
        medians: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(REPETITIONS):
            taken: dict[int, list[float]] = {size: [] for size in sizes}
            for _ in range(QUICK_PAGES if quick else PAGES):
                for size, core in cores.items():
                    begin = time.perf_counter()
                    rows, left, waits = core.glance(ROWS, 100.0)
                    codec.encode(JobPage(1, tuple(rows), None, core.counts(100.0), left, waits))
                    taken[size].append((time.perf_counter() - begin) * 1000)
            for size in sizes:
                medians[size].append(statistics.median(taken[size]))
        what = f"{GLANCE}, {kind}"
        figures = {
            size: Figure(f"{what}, {ROWS} rows, {size:,} jobs", "ms", tuple(medians[size])) for size in sizes
        }
        answer.figures += [figures[sizes[0]], figures[sizes[-1]]]
        answer.goals.append(Goal(figures[sizes[-1]], 2.0, "at most"))
        answer.curves.setdefault(PLOT, {})[what] = [(float(size), figures[size].median) for size in sizes]


def _page_seconds(filled: FilledCore, what: str, jobs: int, rows: int) -> float:
    wanted, newest_first, cursor = SELECTIONS[what](jobs)
    core = filled.core
    begin = time.perf_counter()
    views, following = core.page(wanted, newest_first, cursor, rows, False, 100.0)
    codec.encode(JobPage(1, tuple(views), following, core.counts(100.0)))
    return time.perf_counter() - begin


def _measure_socket(answer: Answer, quick: bool) -> None:
    few, many = (QUICK_SIZES if quick else SIZES)[0], (QUICK_SIZES if quick else SIZES)[-1]
    with ServerLab() as small, ServerLab() as large:
        labs = {few: small, many: large}
        for size, lab in labs.items():
            lab.client.submit_many(distinct_jobs(1, size))
        medians: dict[int, list[float]] = {size: [] for size in labs}
        for _ in range(REPETITIONS):
            taken: dict[int, list[float]] = {size: [] for size in labs}
            for _ in range(QUICK_PAGES if quick else PAGES):
                for size, lab in labs.items():
                    begin = time.perf_counter()
                    rows = list(lab.client.job_views(newest_first=True, limit=ROWS))
                    taken[size].append((time.perf_counter() - begin) * 1000)
                    assert len(rows) == min(ROWS, size)
            for size in labs:
                medians[size].append(statistics.median(taken[size]))
    for size in labs:
        name = f"newest, {ROWS} rows, {size:,} jobs, over the socket"
        answer.figures.append(Figure(name, "ms", tuple(medians[size])))
