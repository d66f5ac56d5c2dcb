"""What happens to latent tasks, many at once: submitted, canceled, dropped, changed; and what the journal is told.

Whatever is not here happens to each task by itself, after the table has made its record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kueue.job import JobId, JobState, check_transition
from kueue.wire.messages import Spec
from kueue_server.core.arrays import Part, Plan, Tasks, cap_of
from kueue_server.core.closed import path_bytes
from kueue_server.core.events import ArraySubmitted
from kueue_server.core.instructions import DropJobs, DropPart, SavePart, SaveTask
from kueue_server.core.pending import Lane, order_key
from kueue_server.core.records import PlanRecord, RestoredPart, encoded_plan
from kueue_server.core.table import Job

if TYPE_CHECKING:
    from kueue_server.core.state import State

S = JobState

_decode_plan = msgspec.json.Decoder(PlanRecord).decode


def lane_of(state: State, spec: Spec) -> Lane:
    """Where jobs of this spec wait."""
    return state.pending.lane(
        spec.queue, spec.shape, path_bytes(spec.volume), cap_of(spec.array, spec.max_running)
    )


def submitted(state: State, event: ArraySubmitted) -> None:
    """An array is durable: its tasks are pending from now on."""
    plan = Plan(event.spec, event.steps, event.wall, lane_of(state, event.spec))
    _put_in(state, Part(event.first, event.last, plan))
    state.wake_lane(plan.lane)
    state.newest_submitted = max(state.newest_submitted, event.last)
    state.outbox.changed_range(event.first, event.last)


def restored(state: State, row: RestoredPart) -> None:
    """Tasks as the journal had them."""
    record = _decode_plan(row.plan)
    plan = Plan(record.spec, record.steps, row.submitted_at, lane_of(state, record.spec))
    _put_in(state, Part(row.first, row.last, plan, row.state, row.finished_at))


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


def cancel(state: State, tasks: Tasks) -> None:
    """Cancel tasks that are pending."""
    part = tasks.part
    check_transition(JobId(tasks.first), part.state, S.CANCELED)
    _dequeue(state, tasks)
    state.table.move_latent(tasks, S.CANCELED)
    _leave_part(state, tasks.first, tasks.last)
    _join(state, Part(tasks.first, tasks.last, part.plan, S.CANCELED, state.wall))
    state.retention.finished_range(tasks.first, tasks.last, now=state.now)
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
    context, record = plan.spec.context, encoded_plan(plan.spec, plan.steps)
    state.outbox.write(
        SavePart(part.first, part.last, plan.submitted_at, context, record, part.state, part.finished_at)
    )
