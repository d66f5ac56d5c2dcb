"""How many jobs a second does one connection submit, durably, and how does that compare with SQLite alone?

1,000,000 jobs with commands and directories of their own, through the Python client; SQLite by itself writes the
same rows in the same schema with the same pragmas.
"""

from __future__ import annotations

import time

from benchmarks.answers import REPETITIONS, Answer, Figure, Goal
from benchmarks.server_lab import ServerLab, distinct_jobs, place_on_disk
from benchmarks.sqlite_alone import insert_seconds

JOBS = 1_000_000
QUICK_JOBS = 5_000


def measure(quick: bool) -> Answer:
    """Kueue and SQLite in turns, each time with a new file."""
    jobs = QUICK_JOBS if quick else JOBS
    found: dict[str, list[float]] = {}

    def note(what: str, value: float) -> None:
        found.setdefault(what, []).append(value)

    for _ in range(1 if quick else REPETITIONS):
        with place_on_disk() as directory:
            note("SQLite alone", jobs / insert_seconds(directory, distinct_jobs(1, jobs)))
        with ServerLab() as lab:
            client, server, begin = time.process_time(), lab.cpu(), time.perf_counter()
            lab.client.submit_many(distinct_jobs(1, jobs))
            seconds = time.perf_counter() - begin
            own, cost = time.process_time() - client, lab.cpu() - server
            assert lab.client.counts().pending == jobs
            note("submit", jobs / seconds)
            note("client's CPU", 1e6 * own / jobs)
            note("server's event loop", 1e6 * cost.loop / jobs)
            note("server's journal", 1e6 * cost.journal / jobs)
            note("journal", lab.journal_bytes / jobs)
    units = {"SQLite alone": "jobs/s", "submit": "jobs/s", "journal": "bytes/job"}
    figures = {name: Figure(name, units.get(name, "µs/job"), tuple(values)) for name, values in found.items()}
    return Answer(
        figures=list(figures.values()),
        goals=[
            Goal(figures["submit"], 50_000, "at least"),
            Goal(figures["submit"], 0.25, "at least", over=figures["SQLite alone"]),
        ],
        notes=[
            "the client makes and encodes its jobs in the same time; SQLite alone is given rows that are there",
            "the jobs' directories are not there; a look at one that is costs the client about 2 µs",
        ],
    )
