"""How many jobs a second does the server alone manage, and what CPU time does each cost it?

200,000 jobs over real sockets with TLS, durable, given to workers that end them at once. The rate is that of handing
out, taking the ends in and acknowledging them; the CPU time is that of the whole life, submitting included.
"""

from __future__ import annotations

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs

JOBS = 200_000
QUICK_JOBS = 2_000
CLUSTERS = ((16, 32), (64, 4))
"""Workers, and CPUs of each. The larger a worker, the more fits into one message."""


def measure(quick: bool) -> Answer:
    """The clusters in turns, each time with a new server."""
    jobs = QUICK_JOBS if quick else JOBS
    repetitions = 1 if quick else REPETITIONS
    found: dict[str, tuple[str, list[float]]] = {}
    for _ in range(repetitions):
        for workers, cpus in CLUSTERS[:1] if quick else CLUSTERS:
            _run(found, jobs, workers, cpus)
    figures = {name: Figure(name, unit, tuple(values)) for name, (unit, values) in found.items()}
    answer = Answer(figures=list(figures.values()))
    main = _name(*CLUSTERS[0])
    answer.goals = [
        Goal(figures[f"{main}: jobs"], 20_000, "at least"),
        Goal(figures[f"{main}: server's CPU, whole life"], 50, "at most"),
    ]
    answer.notes.append(
        "the simulated workers are one process; the server can be the limit only while that one waits"
    )
    return answer


def _name(workers: int, cpus: int) -> str:
    return f"{workers} workers of {cpus} CPUs"


def _run(found: dict[str, tuple[str, list[float]]], jobs: int, workers: int, cpus: int) -> None:
    name = _name(workers, cpus)

    def note(what: str, unit: str, value: float) -> None:
        found.setdefault(f"{name}: {what}", (unit, []))[1].append(value)

    with ServerLab() as lab:
        start = lab.cpu()
        lab.client.submit_many(distinct_jobs(1, jobs))
        submitted = lab.cpu()
        with lab.ends(workers, cpus, jobs) as ends:
            before = lab.cpu()
            ends.go()
            done = ends.wait()
            after = lab.cpu()
        counts = lab.client.counts()
        assert counts.succeeded == jobs, counts
    run, submit = after - before, submitted - start
    each = 1e6 / jobs
    note("jobs", "1/s", jobs / done.seconds)
    note("server's CPU, whole life", "µs/job", (run.whole + submit.whole) * each)
    note("its event loop, from offer to end", "µs/job", run.loop * each)
    note("its journal, from offer to end", "µs/job", run.journal * each)
    note("submitting, event loop", "µs/job", submit.loop * each)
    note("submitting, journal", "µs/job", submit.journal * each)
    note("simulated workers' CPU", "µs/job", done.cpu_seconds * each)
    note("simulated workers busy", "share of a core", done.cpu_seconds / done.seconds)
    note("server busy", "cores", run.whole / done.seconds)
    note("jobs in a message", "jobs", jobs / done.offers)
