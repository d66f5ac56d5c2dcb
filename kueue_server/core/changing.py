"""Changes to jobs that have not started, and the specs of jobs that are run again.

A pending job that is changed takes another place in its lane, or another lane, perhaps of another queue. One that was
handed over keeps what its worker was told; so does one of which an attempt may still live, since its books go by its
shape and its queue.
"""

from __future__ import annotations

import msgspec

from kueue.job import FINISHED, JobState
from kueue.resources import Shape
from kueue.wire.changes import Changes
from kueue.wire.messages import Command, Reason, Spec
from kueue_server.core import dependencies, tasks, verbs
from kueue_server.core.admission import Admission
from kueue_server.core.events import ChangeRequested
from kueue_server.core.gates import is_held
from kueue_server.core.instructions import AnswerChange, SaveSpec
from kueue_server.core.jobs import Job, spec_of
from kueue_server.core.queues import digest_of
from kueue_server.core.state import State

S = JobState

_encode = msgspec.json.Encoder().encode


def refusal_of(changes: Changes, admission: Admission, *, may_be_none: bool) -> Reason | None:
    """Why no job at all can be changed so; None if some may."""
    if not may_be_none and changes == Changes():
        return Reason("bad_changes", "nothing is to be changed")
    names = [name for name, _ in changes.resources]
    if len(set(names)) < len(names):
        return Reason("bad_resource", "a resource is there twice")
    wanted = tuple(sorted(need for need in changes.resources if need[1] != 0))
    probe = Spec(Command(("true",)), "/", "/", Shape(resources=wanted), "")
    return admission.refusal_of(changed(probe, msgspec.structs.replace(changes, resources=())))


def changed(spec: Spec, changes: Changes) -> Spec:
    """The spec with what is to be different."""
    shape = spec.shape
    needs = dict(shape.resources) | dict(changes.resources)
    new_shape = msgspec.structs.replace(
        shape,
        cpus=shape.cpus if changes.cpus is None else changes.cpus,
        ram_mb=shape.ram_mb if changes.ram_mb is None else changes.ram_mb,
        job_slots=shape.job_slots if changes.job_slots is None else changes.job_slots,
        resources=tuple(sorted((name, amount) for name, amount in needs.items() if amount != 0)),
    )
    limit = spec.time_limit_seconds
    if changes.time_limit_seconds is not None:
        limit = changes.time_limit_seconds if changes.time_limit_seconds != 0 else None
    return msgspec.structs.replace(
        spec,
        shape=new_shape,
        priority=spec.priority if changes.priority is None else changes.priority,
        group=spec.group if changes.group is None else changes.group,
        queue=spec.queue if changes.queue is None else changes.queue,
        time_limit_seconds=limit,
    )


def change(state: State, event: ChangeRequested, admission: Admission) -> None:
    """Change what may be changed, and answer."""
    verb = Changing(event.request, event.changes, admission)
    verbs.begin(state, event.selector, verb, event.wall)


class Changing:
    """Change each job that has not started."""

    needs_stillness = True

    def __init__(self, request: int, changes: Changes, admission: Admission) -> None:
        self._request = request
        self._changes = changes
        self._admission = admission
        self._changed = self._started = self._finished = self._refused = 0
        self._reason: Reason | None = None

    def apply(self, state: State, job: Job) -> None:
        """Change one job, or count why not."""
        if job.state in FINISHED:
            self._finished += 1
            return
        if job.state not in (S.PENDING, S.WAITING) or job.holding:
            self._started += 1
            return
        old = spec_of(job)
        new = changed(old, self._changes)
        refusal = self._admission.refusal_of(new)
        if new.queue != old.queue and _has_key(state, new):
            refusal = refusal or Reason("same_key", f"a job of the same key is in queue {new.queue}")
        if self._changes.release and not is_held(job):
            refusal = refusal or Reason("not_held", f"job {job.id} is not held")
        if refusal is not None:
            self._refused += 1
            self._reason = self._reason or refusal
            return
        self._changed += 1
        if new != old:
            _put(state, job, new)
        if self._changes.release:
            dependencies.release(state, job)

    def pause(self, state: State) -> None:
        """Nothing is left over."""

    def answer(self) -> AnswerChange:
        """How many were, and how many were not."""
        return AnswerChange(
            self._request, self._changed, self._started, self._finished, self._refused, self._reason
        )


def _has_key(state: State, spec: Spec) -> bool:
    queue = state.queues.by_name.get(spec.queue) if spec.key else None
    return queue is not None and digest_of(spec.key) in queue.keys


def _put(state: State, job: Job, new: Spec) -> None:
    pending = job.state is S.PENDING
    if pending:
        state.dequeue(job)
    lane = tasks.lane_of(state, new)
    lane.jobs += 1
    state.table.requeue(job, lane.queue)
    state.pending.leave(job.lane)
    job.lane = lane
    job.priority = new.priority
    job.spec = _encode(new)
    state.table.regroup(job, new.group)
    if pending:
        state.enqueue(job)
    if not tasks.become_single(state, job):
        state.outbox.write(SaveSpec(job.id, job.spec))
    state.outbox.changed(job.id)
