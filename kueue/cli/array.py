"""`kueue cmd --array`: one job for each index, in one request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from kueue.cli import options
from kueue.cli.session import Session
from kueue.errors import UsageError
from kueue.indices import MARK, index_at, parse_indices
from kueue.job_spec import JobSpec


def submit_array(session: Session, job: JobSpec, values: Mapping[str, Any]) -> int:
    """Submit the array that `values` describe; prints its ids as a range. Returns the exit code.

    Raises:
        KueueError: it can't be submitted.
    """
    if values["each_line"] is not None or values["from_json"] is not None:
        raise UsageError("either --array or a file: the jobs of a file are as many as its lines")
    if values["follow"]:
        raise UsageError("--follow is for one job; --wait waits for all")
    if not job.command:
        raise UsageError("which command? e.g. kueue cmd --array 1-100 ./sim {n}")
    steps = parse_indices(values["array"])
    first = os.fsdecode(job.cwd or "").replace(MARK, str(index_at(steps, 0)))
    if first and not os.path.isdir(first):
        raise UsageError(f"-C {first}: no such directory")
    most = options.amount(values["max_running"], "--max-running", 1)
    with session.connected_or_started() as client:
        jobs = client.submit_array(job, values["array"], max_running=most)
        for warning in jobs.warnings:
            if not (warning.code == "no_worker" and session.has_started_worker):
                session.terminal.say(f"kueue: {warning.text}")
        ((low, high),) = jobs.ranges
        session.terminal.print([str(low) if low == high else f"{low}-{high}"])
        if not values["wait"]:
            return 0
        from kueue.cli.awaiting import wait_for_jobs  # imported here: most submits wait for nothing

        return wait_for_jobs(session.terminal, client, jobs, None)
