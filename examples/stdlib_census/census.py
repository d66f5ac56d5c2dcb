"""The census with Kueue: one job a source file of this Python's standard library, then one that merges.

    python3 census.py DIRECTORY [MOST]

DIRECTORY gets `sources.txt`, `results/`, and at the end `census.json`; with MOST only so many files are counted.
The server is the one of the configuration (KUEUE_CONFIG); `run_with_a_crash.py` sets up a small cluster of its
own and calls this.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import kueue

HERE = Path(__file__).resolve().parent


def sources() -> list[str]:
    """All source files of the standard library, without what has been installed into it."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(str(path) for path in library.rglob("*.py") if "site-packages" not in path.parts)


def main(directory: str, most: str | None = None) -> int:
    """Submit, wait, merge. Returns the number of jobs that did not succeed."""
    place = Path(directory).resolve()
    results = place / "results"
    results.mkdir(parents=True, exist_ok=True)
    names = sources()[: int(most) if most else None]
    listing = place / "sources.txt"
    listing.write_text("".join(f"{name}\n" for name in names))
    specs = (
        kueue.JobSpec(
            [sys.executable, str(HERE / "count_tokens.py"), name, str(results / f"{number}.json")],
            cwd=str(place),
            ram_mb=64,
            name=f"count {Path(name).name}",
            group="census",
        )
        for number, name in enumerate(names)
    )
    failed = 0
    with kueue.Client() as client:
        jobs = client.submit_many(specs)
        print(f"{len(names)} jobs submitted: {jobs[0].id} to {jobs[-1].id}", flush=True)
        workers: dict[str, int] = {}
        restarted = 0
        for done in kueue.as_completed(jobs):
            workers[done.worker or "?"] = workers.get(done.worker or "?", 0) + 1
            restarted += (done.attempt or 1) > 1
            if done.state != "succeeded":
                failed += 1
                print(f"job {done.id} {done.state}: {done.reason}", flush=True)
        for worker, count in sorted(workers.items()):
            print(f"{worker}: {count} jobs")
        print(f"{restarted} jobs needed a second attempt; {failed} failed", flush=True)
        command = [
            sys.executable,
            str(HERE / "merge.py"),
            str(listing),
            str(results),
            str(place / "census.json"),
        ]
        last = client.wait(client.submit(command, cwd=str(place), name="merge", group="census"))
        print(f"merge {last.state}: {place / 'census.json'}")
        failed += last.state != "succeeded"
    return failed


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:]) else 0)
