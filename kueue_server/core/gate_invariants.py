"""What must hold of jobs that wait for others between any two steps. Slow, for tests."""

from __future__ import annotations

from kueue.job import UNFINISHED, JobState
from kueue_server.core.gates import Gate, first_in, is_held, why_not
from kueue_server.core.jobs import waits_of
from kueue_server.core.state import State

S = JobState


def check_gates(state: State) -> set[int]:
    """Compare the gates with the table; the jobs that wait at one.

    Raises:
        AssertionError: with what does not hold.
    """
    gates, table = state.gates, state.table
    assert (table.turned is not None) == bool(len(gates)), (
        "the table tells of ends though nobody waits, or not"
    )
    waiting: set[int] = set()
    for gate in gates:
        left = [job for job in gate.followers[gate.handled :] if _waits_at(state, job, gate)]
        assert gate.followers == sorted(gate.followers), f"out of order: {gate}"
        assert not waiting.intersection(left), f"a job waits at two gates: {gate}"
        waiting.update(left)
        waiting.update(_in_spans(state, gate))
        assert gate.pins or gate.settled or not gate.is_empty, f"a gate for nobody: {gate}"
        assert not gate.settled or gate.is_empty or gate in gates.leaving, f"nobody lets them go: {gate}"
        if not gate.settled:
            assert len(left) == len(gate.followers) - gate.gone, f"{left} wait: {gate}"
            if not gates.has_work:
                _check_watch(state, gate)
    for gate in gates.leaving:
        assert gate.settled, f"let go too early: {gate}"
        assert not gate.is_empty, f"let go without anybody: {gate}"
    held = {job_id for job_id in table.by_state[S.WAITING] if _is_held(state, job_id)}
    assert not held & waiting, f"held, and at a gate: {held & waiting}"
    return waiting | held


def _is_held(state: State, job_id: int) -> bool:
    job = state.table.look(job_id)
    return job is not None and is_held(job)


def _in_spans(state: State, gate: Gate) -> set[int]:
    """The tasks that are still to be told."""
    found: set[int] = set()
    for number, (first, last) in enumerate(gate.spans):
        start = first if number else max(first, gate.passed + 1)
        found.update(job for job in range(start, last + 1) if _task_waits_at(state, job, gate))
    return found


def _task_waits_at(state: State, job_id: int, gate: Gate) -> bool:
    job = state.table.look(job_id)
    if job is None or job.state is not S.WAITING or job.reason is not None:
        return False
    return waits_of(job) == gate.waits


def _waits_at(state: State, job_id: int, gate: Gate) -> bool:
    job = state.table.get(job_id)
    if job is None or job.state is not S.WAITING or job.reason is not None:
        return False
    assert waits_of(job) == gate.waits, f"job {job_id} is at the wrong gate: {gate}"
    return True


def _check_watch(state: State, gate: Gate) -> None:
    """Nothing is to be done, so it waits for what is unfinished, and for nothing that failed."""
    first = first_in(state.table, UNFINISHED, gate.ranges, 0)
    assert gate.watched == first, f"watches {gate.watched}, the first unfinished is {first}: {gate}"
    if gate.waits.on_failure != "run":
        failed = first_in(state.table, (S.FAILED, S.CANCELED), gate.waits.after, 0)
        assert failed is None, f"waits, and {why_not(state.table.jobs[failed or 0])}: {gate}"
