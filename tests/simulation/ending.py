"""What must be so at the end of a run, when all is quiet."""

from __future__ import annotations

from typing import Any

from kueue.job import FINISHED, JobState
from tests.simulation.arrays import all_jobs
from tests.simulation.parts import Parts
from tests.simulation.queueing import check_keys
from tests.simulation.truth import PromiseBrokenError, Run, is_retriable

SEEN_SECONDS = 2.0
"""Within so long after a job's end in a shutdown its keeper is told to end, too."""


class Ending:
    """The last checks of a run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def check(self) -> None:
        """What must be so when all is quiet."""
        server, truth = self._parts.server, self._parts.truth
        assert server is not None
        core, journal = server.server.core, self._parts.disk.uuid
        table = all_jobs(core)
        core.check_invariants()
        for client in self._parts.clients:
            if client.process.alive and client.busy:
                raise PromiseBrokenError("end", f"{client.process.name} was never answered")
        for (uuid, job), name in truth.acknowledged.items():
            if uuid == journal and job not in table and not self._was_cleaned(job):
                raise PromiseBrokenError(
                    "G1", f"job {job} ({name}) was acknowledged and is gone", (uuid, job)
                )
        by_name: dict[str, list[int]] = {}
        for number in table:
            name = _spec_name(core, number)
            if name:
                by_name.setdefault(name, []).append(number)
        for name, numbers in by_name.items():
            if len(numbers) > truth.names[name]:
                raise PromiseBrokenError(
                    "G2", f"{name} had {truth.names[name]} jobs and made {numbers}", (journal, numbers[-1])
                )
        self._parts.verbs.check(journal, core, self._parts.disk.rows.dropped)
        check_keys(core, journal)
        self._parts.following.check(journal, core)
        for number, entry in table.items():
            self._check_job(journal, number, entry)
        for run in truth.live.values():
            raise PromiseBrokenError("end", f"{run.key} still runs on {run.host}", (run.journal, run.job))
        for machine in self._parts.machines.values():
            for record in machine.records:
                if record.startswith(journal):
                    raise PromiseBrokenError("end", f"{machine.name} still remembers {record}")
        stops = [stop for worker in core._state.workers.by_id.values() for stop in worker.stops]
        if stops:
            raise PromiseBrokenError("end", f"stop orders are left: {stops}")
        used = {name: amount for name, amount in core._state.ledger.used.items() if amount}
        if used:
            raise PromiseBrokenError("G5", f"nothing runs, and is in use: {used}")

    def _check_job(self, journal: str, number: int, job: Any) -> None:
        truth, key = self._parts.truth, (journal, number)
        if job.state not in FINISHED:
            raise PromiseBrokenError("end", f"job {number} is still {job.state.value}", key)
        seen = truth.seen.get(key)
        # The report of an attempt that was given up (`failed: lost`) still wins, later.
        if seen not in (None, "failed", job.state.value):
            raise PromiseBrokenError(
                "watch", f"job {number} is {job.state.value}, its waiter saw {seen}", key
            )
        runs = truth.runs.get(key, [])
        if job.state is JobState.CANCELED or not runs:
            return
        if job.reason is not None and job.reason.code == "no_program":
            return  # what ran were earlier attempts; `steered` looks whether it may fail so
        mine = [run for run in runs if run.fence == job.fence]
        outcome = job.outcome
        left = runs[0].spec.max_retries - job.retries
        failed_itself = outcome is not None and outcome.exit_code and any(map(is_retriable, mine))
        if left and failed_itself and number not in self._parts.verbs.to_kill:
            raise PromiseBrokenError("G10", f"job {number} was not tried again, {left} times are left", key)
        if outcome is not None and outcome.exit_code is not None:
            if not mine or mine[0].how in ("power", "left over") or mine[0].code != outcome.exit_code:
                raise PromiseBrokenError("G6", f"job {number} shows {outcome}, {mine} ran", key)
            tails = self._parts.disk.rows.tails.get((number, job.attempt))
            if tails is None or tails[0] != f"{job.fence} of {number}".encode():
                raise PromiseBrokenError("G6", f"the output of job {number} did not arrive: {tails}", key)
        by_shutdown = any(run.spec.restart and self._ended_by_shutdown(run) for run in mine)
        if outcome is not None and outcome.signal is not None and by_shutdown:
            raise PromiseBrokenError("G6", f"job {number} failed by the shutdown of its machine", key)
        if job.state is JobState.SUCCEEDED and (outcome is None or outcome.exit_code != 0):
            raise PromiseBrokenError("G6", f"job {number} succeeded with {outcome}", key)

    def _ended_by_shutdown(self, run: Run) -> bool:
        """Did it end so, with a keeper that lived to see what it was?"""
        ended = run.ended
        if run.how != "shutdown" or ended is None:
            return False
        seen = ended if run.recorded_at is None else run.recorded_at
        deaths = self._parts.machines[run.host].keeper_deaths
        return not any(ended - 1.0 < death < seen + SEEN_SECONDS for death in deaths)

    def _was_cleaned(self, job: int) -> bool:
        """Has a person (or the retention, after a jump of the clock) had it dropped?"""
        return job in self._parts.disk.rows.dropped


def _spec_name(core: Any, number: int) -> str:
    """Empty for a new run of another job."""
    view = core.job_view(number, 0.0, attempts=False)
    assert view is not None
    return "" if view.rerun_of is not None else str(view.name)
