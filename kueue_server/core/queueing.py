"""What people do to queues: pause and resume, weight and limit, and the end of one.

A paused queue lets nothing start: what was handed to workers and has not started is asked back, and whoever has asked
is answered when each of these jobs has come back or started, so that nothing starts after the answer. Only a worker
that is away can't be asked, and it may go before it has answered: that is told. What is set is kept until a person
changes it, whoever restarts meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kueue.amounts import MAX_AMOUNT
from kueue.job import FINISHED, JobState
from kueue.wire.messages import MAX_ITEMS, Pause, Reason, Selector
from kueue.wire.words import DEFAULT_QUEUE
from kueue_server.core import canceling, holding, retention, verbs
from kueue_server.core.events import (
    PauseQueuesRequested,
    RemoveQueueRequested,
    ResumeQueuesRequested,
    SetQueueRequested,
)
from kueue_server.core.idset import walk
from kueue_server.core.instructions import AnswerQueues, DropQueue, SaveQueue
from kueue_server.core.jobs import Job
from kueue_server.core.queues import MOST_QUEUES, Queue
from kueue_server.core.records import RestoredQueue
from kueue_server.core.state import State

S = JobState

MAX_WEIGHT = 1000
LONGEST_NAME = 1000
PATIENCE_SECONDS = 30.0
"""How long a pause is answered later for the sake of jobs of which it is not known whether they have started."""


class Unsettled(msgspec.Struct):
    """A pause that is not answered yet: jobs that had been handed out and not started, by their fences."""

    request: int
    lines: list[str]
    asked: dict[int, int]
    until: float


# ---------------------------------------------------------------- pause and resume


def pause(state: State, event: PauseQueuesRequested) -> None:
    """Let nothing of these queues start any more, and answer when that is so."""
    fault = _fault_of(state, event.queues)
    if fault is None and len(event.reason) > LONGEST_NAME:
        fault = Reason("bad_name", f"the reason is longer than {LONGEST_NAME} characters")
    if fault is not None:
        state.outbox.send(AnswerQueues(event.request, fault))
        return
    lines: list[str] = []
    asked: dict[int, int] = {}
    for name in dict.fromkeys(event.queues):
        is_new = name not in state.queues.by_name
        queue = state.queues.get(name)
        since = state.wall if queue.paused is None else queue.paused.since
        queue.paused = Pause(since, event.reason)
        _save(state, queue)
        lines.append(f"queue {name} is paused" + (" (it is new)" if is_new else ""))
        if queue.counts[S.RUNNING.place]:
            lines.append(f"{_jobs(queue.counts[S.RUNNING.place])} of it: running on until they have finished")
        for job in _unstarted(state, queue):
            asked[job.id] = job.fence
            worker = state.workers.by_id[job.worker]
            if worker.session is not None:
                holding.retract(state, worker, job, None)
    state.queues.arrange()
    state.unsettled.append(Unsettled(event.request, lines, asked, state.now + PATIENCE_SECONDS))


def settle(state: State) -> None:
    """At the end of each step: answer the pauses of which each job has come back or started."""
    for pausing in list(state.unsettled):
        pausing.asked = {
            job_id: fence for job_id, fence in pausing.asked.items() if _may_start(state, job_id, fence)
        }
        away = sum(_is_away(state, job_id) for job_id in pausing.asked)
        silent = len(pausing.asked) - away
        if silent and state.now < pausing.until:
            continue
        if away:
            pausing.lines.append(f"{_jobs(away)} may start on workers that are away, and can't be asked")
        if silent:
            pausing.lines.append(f"{_jobs(silent)}: not known yet whether they have started")
        state.unsettled.remove(pausing)
        state.outbox.send(AnswerQueues(pausing.request, None, tuple(pausing.lines)))


def _may_start(state: State, job_id: int, fence: int) -> bool:
    job = state.table.get(job_id)
    return job is not None and job.fence == fence and job.state is S.OFFERED


def _is_away(state: State, job_id: int) -> bool:
    return state.workers.by_id[state.table.jobs[job_id].worker].session is None


def _unstarted(state: State, queue: Queue) -> list[Job]:
    found = walk(queue.jobs, (state.table.by_state[S.OFFERED],))
    return [state.table.jobs[number] for number in found]


def take_back(state: State, jobs: Iterable[int]) -> None:
    """A worker has come back with these: ask for what belongs to paused queues and has not started."""
    for job_id in jobs:
        job = state.table.jobs[job_id]
        worker = state.workers.by_id[job.worker]
        if job.state is S.OFFERED and job.lane.queue.paused is not None:
            holding.retract(state, worker, job, None)


def resume(state: State, event: ResumeQueuesRequested) -> None:
    """Let jobs of these queues start again, and answer."""
    fault = _fault_of(state, event.queues)
    if fault is None:
        unknown = [name for name in event.queues if name not in state.queues.by_name]
        fault = Reason("unknown_queue", f"no queue {unknown[0]}; nothing was changed") if unknown else None
    if fault is not None:
        state.outbox.send(AnswerQueues(event.request, fault))
        return
    lines = []
    for name in dict.fromkeys(event.queues):
        queue = state.queues.by_name[name]
        if queue.paused is None:
            lines.append(f"queue {name} was not paused")
            continue
        queue.paused = None
        lines.append(f"queue {name} goes on")
        state.fresh.update(dict.fromkeys(queue.heads.values()))
        _save(state, queue)
        state.queues.tidy(queue)
    state.queues.arrange()
    state.outbox.send(AnswerQueues(event.request, None, tuple(lines)))


# ---------------------------------------------------------------- weight and limit


def set_queue(state: State, event: SetQueueRequested) -> None:
    """Change the weight or the limit of a queue, and answer."""
    fault = _fault_of(state, (event.queue,))
    if fault is None and event.weight is not None and not 1 <= event.weight <= MAX_WEIGHT:
        fault = Reason("bad_amount", f"weight {event.weight}: must be 1 to {MAX_WEIGHT}")
    if fault is None and event.max_running is not None and not 0 <= event.max_running <= MAX_AMOUNT:
        fault = Reason("bad_amount", f"max_running {event.max_running}: must be 0 (no limit) to {MAX_AMOUNT}")
    if fault is not None:
        state.outbox.send(AnswerQueues(event.request, fault))
        return
    is_new = event.queue not in state.queues.by_name
    queue = state.queues.get(event.queue)
    if event.weight is not None:
        queue.weight = event.weight
    if event.max_running is not None:
        queue.max_running = event.max_running or None
        for job in _unstarted(state, queue) if queue.max_running is not None else ():
            worker = state.workers.by_id[job.worker]
            if worker.session is not None and job.id in worker.held.get(job.lane.shape, ()):
                holding.retract(state, worker, job, None)
    state.queues.arrange()
    state.fresh.update(dict.fromkeys(queue.heads.values()))
    _save(state, queue)
    limit = "" if queue.max_running is None else f", at most {queue.max_running} running"
    line = f"queue {queue.name}: weight {queue.weight}{limit}" + (" (it is new)" if is_new else "")
    state.queues.tidy(queue)
    state.outbox.send(AnswerQueues(event.request, None, (line,)))


# ---------------------------------------------------------------- the end of a queue


def remove(state: State, event: RemoveQueueRequested) -> None:
    """Drop the finished jobs of a queue and what is set of it; with `cancel`, cancel the others before."""
    queue = state.queues.by_name.get(event.queue)
    fault = None
    if queue is None:
        fault = Reason("unknown_queue", f"no queue {event.queue}")
    elif event.queue == DEFAULT_QUEUE:
        fault = Reason("bad_queue", f"the queue {DEFAULT_QUEUE} stays")
    elif queue.unfinished and not event.cancel:
        text = (
            f"queue {queue.name} has {_jobs(queue.unfinished)} that are not finished; --cancel cancels them"
        )
        fault = Reason("queue_not_empty", text)
    if fault is not None:
        state.outbox.send(AnswerQueues(event.request, fault))
        return
    verbs.begin(state, Selector(queue=event.queue), Removing(event), event.wall)


class Removing:
    """Cancel each job of a queue, or drop it if it has finished; at the end, what was set of the queue goes."""

    needs_stillness = True

    def __init__(self, event: RemoveQueueRequested) -> None:
        self._event = event
        self._doomed: list[int] = []
        self._canceled = self._dropped = self._left = self._awaited = 0

    def apply(self, state: State, job: Job) -> None:
        """Cancel, doom, or leave a job."""
        if job.state not in FINISHED:
            if not self._event.cancel:
                self._left += 1  # has come back from a lost worker meanwhile
                return
            canceling.cancel_one(state, job, kill=True)
            self._canceled += 1
        if state.gates.needs(job):
            self._awaited += 1
        elif job.state in FINISHED and not job.holding:
            self._doomed.append(job.id)
        else:
            self._left += 1

    def pause(self, state: State) -> None:
        """Drop those of this portion; after the last one, the queue."""
        self._dropped += len(self._doomed)
        retention.drop(state, self._doomed)
        self._doomed = []
        if state.verbs and state.verbs[0].verb is self:
            return
        queue = state.queues.by_name.get(self._event.queue)
        if queue is not None:
            queue.weight, queue.max_running, queue.paused = 1, None, None
            state.queues.arrange()
            state.queues.tidy(queue)
        state.outbox.write(DropQueue(self._event.queue))

    def answer(self) -> AnswerQueues:
        """What became of it."""
        parts = [f"queue {self._event.queue} is removed"]
        if self._canceled:
            parts.append(f"{_jobs(self._canceled)} canceled")
        if self._dropped:
            parts.append(f"{_jobs(self._dropped)} dropped from the list")
        if self._awaited:
            stay = "stays, as others wait for it" if self._awaited == 1 else "stay, as others wait for them"
            parts.append(f"{_jobs(self._awaited)} {stay}")
        if self._left:
            until = "it has ended and is" if self._left == 1 else "they have ended and are"
            parts.append(f"{_jobs(self._left)} left, until {until} cleaned away")
        return AnswerQueues(self._event.request, None, ("; ".join(parts),))


# ---------------------------------------------------------------- the journal


def _save(state: State, queue: Queue) -> None:
    if not queue.is_set:
        state.outbox.write(DropQueue(queue.name))
        return
    paused = queue.paused
    since, reason = (None, "") if paused is None else (paused.since, paused.reason)
    state.outbox.write(SaveQueue(queue.name, queue.weight, queue.max_running, since, reason))


def restore(state: State, queues: tuple[RestoredQueue, ...]) -> None:
    """What was set before the restart."""
    for kept in queues:
        queue = state.queues.get(kept.queue)
        queue.weight = kept.weight
        queue.max_running = kept.max_running
        if kept.paused_since is not None:
            queue.paused = Pause(kept.paused_since, kept.reason)
    state.queues.arrange()


def _fault_of(state: State, names: tuple[str, ...]) -> Reason | None:
    """Why queues can't be named so."""
    if not 1 <= len(names) <= MAX_ITEMS or any(not 1 <= len(name) <= LONGEST_NAME for name in names):
        return Reason("bad_name", f"1 to {MAX_ITEMS} names of 1 to {LONGEST_NAME} characters")
    if not all(state.queues.takes(name) for name in names):
        return Reason("too_many_queues", f"there are {MOST_QUEUES} queues already")
    return None


def _jobs(number: int) -> str:
    return "1 job" if number == 1 else f"{number} jobs"
