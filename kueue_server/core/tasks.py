"""What happens to latent tasks, many at once: submitted, canceled, dropped, changed; and what the journal is told.

Whatever is not here happens to each task by itself, after the table has made its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kueue.job import JobId, JobState, check_transition
from kueue.wire.messages import Reason, Spec
from kueue_server.core.arrays import Part, Plan, Tasks, cap_of
from kueue_server.core.closed import path_bytes
from kueue_server.core.events import ArraySubmitted
from kueue_server.core.instructions import DropJobs, DropPart, SavePart, SaveTask
from kueue_server.core.jobs import Job, SpecHead
from kueue_server.core.pending import Lane, order_key
from kueue_server.core.records import PlanRecord, RestoredPart, encoded_plan

if TYPE_CHECKING:
    from kueue_server.core.state import State

S = JobState

_decode_plan = msgspec.json.Decoder(PlanRecord).decode


def lane_of(state: State, spec: Spec | SpecHead) -> Lane:
    """Where jobs of this spec wait."""
    return state.pending.lane(
        spec.queue, spec.shape, path_bytes(spec.volume), cap_of(spec.array, spec.max_running)
    )


def submitted(state: State, event: ArraySubmitted) -> None:
    """An array is durable: its tasks are pending from now on, or wait for other jobs."""
    plan = Plan(event.spec, event.steps, event.wall, lane_of(state, event.spec))
    part = Part(event.first, event.last, plan, first_state(event.spec))
    _put_in(state, part)
    if part.state is S.PENDING:
        state.wake_lane(plan.lane)
    else:
        wait(state, part)
    if event.request:
        state.gates.unpin(event.request)
    state.newest_submitted = max(state.newest_submitted, event.last)
    state.outbox.changed_range(event.first, event.last)


def first_state(spec: Spec) -> JobState:
    """Of the tasks of a new array."""
    return S.PENDING if spec.waits is None else S.WAITING


def restored(state: State, row: RestoredPart) -> Part:
    """Tasks as the journal had them; those that wait for other jobs `wait` when these are there, too."""
    record = _decode_plan(row.plan)
    plan = Plan(record.spec, record.steps, row.submitted_at, lane_of(state, record.spec))
    part = Part(row.first, row.last, plan, row.state, row.finished_at, record.reason)
    _put_in(state, part)
    return part


def wait(state: State, part: Part) -> None:
    """Tasks that wait for other jobs come to their gate, unless they are held."""
    waits = part.plan.spec.waits
    if part.state is S.WAITING and part.reason is None and waits is not None:
        state.gates.join_tasks(part.first, part.last, waits)


def _put_in(state: State, part: Part) -> None:
    state.table.add_part(part)
    if part.state is S.PENDING:
        _enqueue(state, part.plan, part.first, part.last)


def _enqueue(state: State, plan: Plan, first: int, last: int) -> None:
    key = order_key(plan.spec.priority, first)
    state.pending.push_block(plan.lane, key, last - first + 1, state.now)


def _dequeue(state: State, tasks: Tasks) -> None:
    plan = tasks.part.plan
    key = order_key(plan.spec.priority, tasks.first)
    state.pending.remove_block(plan.lane, key, len(tasks), state.now)


def cancel(state: State, tasks: Tasks, reason: Reason | None = None) -> None:
    """Cancel tasks that have not started; without a reason a person does it."""
    if tasks.part.state is S.PENDING:
        _dequeue(state, tasks)
    _move(state, tasks, S.CANCELED, state.wall, reason)
    state.retention.finished_range(tasks.first, tasks.last, now=state.now)


def let_go(state: State, tasks: Tasks) -> None:
    """Tasks have nothing to wait for any more."""
    _move(state, tasks, S.PENDING)
    _enqueue(state, tasks.part.plan, tasks.first, tasks.last)
    state.wake_lane(tasks.part.plan.lane)


def hold(state: State, tasks: Tasks, reason: Reason) -> None:
    """Tasks stay until a person decides."""
    _become(state, tasks, S.WAITING, 0.0, reason)


def _move(
    state: State, tasks: Tasks, new: JobState, finished_at: float = 0.0, reason: Reason | None = None
) -> None:
    check_transition(JobId(tasks.first), tasks.part.state, new)
    state.table.move_latent(tasks, new)
    _become(state, tasks, new, finished_at, reason)


def _become(state: State, tasks: Tasks, new: JobState, finished_at: float, reason: Reason | None) -> None:
    _leave_part(state, tasks.first, tasks.last)
    _join(state, Part(tasks.first, tasks.last, tasks.part.plan, new, finished_at, reason))
    state.outbox.changed_range(tasks.first, tasks.last)


def drop(state: State, tasks: Tasks) -> None:
    """Tasks that were canceled leave the table; so does what the journal has of them."""
    _leave_part(state, tasks.first, tasks.last)
    state.table.take_out(tasks)
    state.outbox.write(DropJobs(((tasks.first, tasks.last),)))
    state.pending.leave(tasks.part.plan.lane, len(tasks))
    state.outbox.changed_range(tasks.first, tasks.last)


def dropped(state: State, first: int, last: int) -> None:
    """Jobs with these ids left the table, some of which may have been tasks."""
    _leave_part(state, first, last)


def become_single(state: State, job: Job) -> bool:
    """A task is not like the others any more. Returns whether it was one; the journal has its own spec then."""
    part = state.table.parts.of(job.id)
    if part is None:
        return False
    _leave_part(state, job.id, job.id)
    state.outbox.write(SaveTask(job.id, job.submitted_at, job.context, job.spec))
    if job.reason is not None:
        state.outbox.save(job.id)  # that it is held was written of its part
    return True


def _leave_part(state: State, first: int, last: int) -> None:
    gone, changed = state.table.parts.cut(first, last)
    for number in gone:
        state.outbox.write(DropPart(number))
    for part in changed:
        _save(state, part)


def _join(state: State, part: Part) -> None:
    state.table.parts.add(part)
    _save(state, part)


def _save(state: State, part: Part) -> None:
    plan = part.plan
    context, record = plan.spec.context, encoded_plan(plan.spec, plan.steps, part.reason)
    state.outbox.write(
        SavePart(part.first, part.last, plan.submitted_at, context, record, part.state, part.finished_at)
    )
