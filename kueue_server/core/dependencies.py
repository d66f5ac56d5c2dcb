"""Jobs that wait for others: taken in, let go, canceled or held when what they wait for is over.

The journal keeps what such a job waits for in its spec, and nothing more: that it waits follows from how its
predecessors are, and so does that it waits no more. Only what does not follow is written: that it was canceled, or is
held, for one that failed, and that a person has let it go. What follows from one end, however much, is done in portions
and never by recursion; nobody is let go before those of lower ids at the same gate.
"""

from __future__ import annotations

from kueue.job import JobState
from kueue.wire.messages import Reason
from kueue_server.core import attempts, tasks
from kueue_server.core.gates import HELD, Gate
from kueue_server.core.jobs import Job, waits_of
from kueue_server.core.selection import PORTION
from kueue_server.core.state import State
from kueue_server.core.verbs import CHANGE_COST

S = JobState

LOOK_COST = 8
"""What it costs to look at a gate (see `selection`)."""


def go_on(state: State) -> None:
    """Do a portion of what follows from the ends of jobs. Verbs come first: who cancels a whole chain means each job of
    it, not the first and what follows from that."""
    gates = state.gates
    left = PORTION
    while left > 0 and not state.verbs:
        if gates.leaving:
            left -= _let_go(state, gates.leaving[0], left)
            continue
        gate = gates.next_look()
        if gate is None:
            return
        left -= LOOK_COST
        gates.look(gate)


def _let_go(state: State, gate: Gate, left: int) -> int:
    """Some followers of a settled gate; what it has cost."""
    cost = 0
    followers = gate.followers
    while cost < left:
        if gate.handled < len(followers) and not (gate.spans and gate.spans[0][0] < followers[gate.handled]):
            job = state.table.get(followers[gate.handled])
            gate.handled += 1
            cost += CHANGE_COST
            if job is not None:
                _tell(state, gate, job)
        elif gate.spans:
            cost += _tell_next_tasks(state, gate)
        else:
            state.gates.done(gate)
            break
    return cost + 1


def _tell(state: State, gate: Gate, job: Job) -> None:
    if job.state is not S.WAITING or job.reason is not None:
        return
    if gate.reason is None:
        _to_pending(state, job)
    elif gate.waits.on_failure == "hold":
        job.reason = _held(gate.reason)
        state.outbox.save(job.id)
        state.outbox.changed(job.id)
    else:
        attempts.cancel_pending(state, job, gate.reason)


def _tell_next_tasks(state: State, gate: Gate) -> int:
    """The next tasks of the first span that wait: all that are latent and follow one another, or one that is not. What
    it has cost."""
    table = state.table
    first, last = gate.spans[0]
    number = table.by_state[S.WAITING].at_or_after(max(first, gate.passed + 1))
    if number is None or number > last:
        gate.spans, gate.passed = gate.spans[1:], 0
        return 1
    run = table.run_from(number)
    gate.passed = number if run is None else run.last
    if run is None:
        job = table.jobs[number]
        if waits_of(job) == gate.waits:
            _tell(state, gate, job)
    elif run.part.reason is None and run.part.plan.spec.waits == gate.waits:
        if gate.reason is None:
            tasks.let_go(state, run)
        elif gate.waits.on_failure == "hold":
            tasks.hold(state, run, _held(gate.reason))
        else:
            tasks.cancel(state, run, gate.reason)
    return CHANGE_COST


def _held(reason: Reason) -> Reason:
    return Reason(HELD, f"held: {reason.text}")


def _to_pending(state: State, job: Job) -> None:
    state.table.move(job, S.PENDING)
    state.enqueue(job)
    state.outbox.changed(job.id)


def release(state: State, job: Job) -> None:
    """A person lets a held job go."""
    job.reason = None
    _to_pending(state, job)
    state.outbox.save(job.id)
