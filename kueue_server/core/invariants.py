"""What must hold between any two steps. Slow, for tests; a breach is told with the story of the job."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

import msgspec

from kueue.job import JobState
from kueue.wire.words import DEFAULT_QUEUE
from kueue_server.core.arrays import cap_of
from kueue_server.core.gate_invariants import check_gates
from kueue_server.core.jobs import Job, SpecHead, key_of
from kueue_server.core.pending import job_of
from kueue_server.core.queues import digest_of
from kueue_server.core.state import State
from kueue_server.core.workers import Worker

S = JobState

_head_of = lru_cache(10_000)(msgspec.json.Decoder(SpecHead).decode)


def check(state: State) -> None:
    """Compare the indexes with the records, and the books with the attempts.

    Raises:
        AssertionError: with what does not hold.
    """
    jobs = _all_jobs(state)
    _check_table(state, jobs)
    _check_pending(state, jobs)
    _check_queues(state, jobs)
    lost = set(state.table.by_state[S.WAITING]) - state.retries.jobs() - check_gates(state)
    assert not lost, f"nobody will ever retry {lost}, or let them go"
    for worker in state.workers.by_id.values():
        _check_worker(state, worker)
    held = Counter(known for worker in state.workers.by_id.values() for known in worker.held)
    assert held == state.workers.held_shapes, "the shapes of held jobs are counted wrongly"
    for job in jobs.values():
        _check_job(state, job)
    _check_ledger(state)
    _check_idle(state)


def story(job: Job) -> str:
    """A job in one line, for people who look for a fault."""
    return (
        f"job {job.id}: {job.state.value}, worker {job.worker}, fence {job.fence}, attempt {job.attempt}, "
        f"losses {job.losses}, retries {job.retries}, holding {job.holding}, reason {job.reason}, "
        f"attempts {job.attempts}"
    )


def _all_jobs(state: State) -> dict[int, Job]:
    """All of the table, those without a record, too."""
    table = state.table
    found = dict(table.jobs)
    for job_id in table.latent:
        job = table.look(job_id)
        assert job is not None
        assert job_id not in found, f"latent, and has a record: {story(job)}"
        found[job_id] = job
    return found


def _check_table(state: State, jobs: dict[int, Job]) -> None:
    table = state.table
    assert list(table.present) == sorted(jobs), "the index of ids differs from the table"
    assert len(table.present) == len(jobs)
    assert len(table.latent) == len(list(table.latent))
    for job_state, ids in table.by_state.items():
        for job_id in ids:
            job = jobs[job_id]
            assert job.state is job_state, f"listed as {job_state}: {story(job)}"
    assert sum(map(len, table.by_state.values())) == len(jobs), "a job is in no or two states"
    failed = table.by_state[S.FAILED]
    assert all(job_id in failed for job_id in table.failed_lately), "lately failed, and not failed any more"
    for group, ids in table.groups.items():
        assert ids, f"group {group} is empty"
        assert all(jobs[job_id].group == group for job_id in ids), f"group {group}"
    lanes = Counter(id(job.lane) for job in jobs.values())
    for job in jobs.values():
        assert lanes[id(job.lane)] == job.lane.jobs, f"its lane counts wrongly: {story(job)}"
    _check_parts(state, jobs)


def _check_parts(state: State, jobs: dict[int, Job]) -> None:
    end = 0
    for part in state.table.parts:
        assert end < part.first <= part.last, f"parts overlap at {part.first}"
        end = part.last
        for job_id in range(part.first, part.last + 1):
            job = jobs.get(job_id)
            assert job is not None, (
                f"task {job_id} of array {part.plan.array} has left the table, not its part"
            )
            if job_id in state.table.jobs:  # the others are made of it, just now
                same = job.spec == part.plan.encoded_spec(job_id)
                assert same, f"not as its array says: {story(job)}"
    caps = {known.cap for known in state.shapes.known() if known.cap is not None}
    assert caps >= set(state.shapes.caps.items()), "the caps of arrays"
    assert {name for name, _ in caps} == state.shapes.caps.keys(), "the caps of arrays"


def _check_pending(state: State, jobs: dict[int, Job]) -> None:
    expected = {job.key for job in jobs.values() if job.state is S.PENDING}
    found: list[int] = []
    pools = [state.queues.common, *(queue.heads for queue in state.queues.by_name.values())]
    heads = {head: lane for pool in pools for head, lane in pool.items()}
    for head, lane in heads.items():
        assert lane.head == head == lane.first(), f"head of lane {lane.number}"
        assert head in lane.queue.heads, f"lane {lane.number} is not with its queue {lane.queue.name}"
        keys = list(lane.keys_from(0))
        assert len(keys) == len(lane)
        assert all(jobs[job_of(key)].lane is lane for key in keys)
        found += keys
    assert sorted(found) == sorted(expected), "pending jobs and lanes differ"
    assert state.pending.size == len(found)


def _check_queues(state: State, all_jobs: dict[int, Job]) -> None:
    queues = state.queues
    weighted = any(queue.weight != 1 for queue in queues.by_name.values())
    assert queues.taking_turns == weighted, "whether queues take turns"
    jobs: dict[str, list[Job]] = {name: [] for name in queues.by_name}
    for job in all_jobs.values():
        assert queues.by_name[job.lane.queue.name] is job.lane.queue, story(job)
        jobs[job.lane.queue.name].append(job)
    for name, queue in queues.by_name.items():
        mine = jobs[name]
        assert list(queue.jobs) == sorted(job.id for job in mine), f"the jobs of queue {name}"
        counts = Counter(job.state for job in mine)
        assert queue.counts == [counts[each] for each in S], f"queue {name} counts wrongly"
        keys = Counter(digest_of(key) for job in mine if (key := key_of(job)))
        assert queue.keys == keys, f"the keys of queue {name}"
        assert queue.unconfirmed == sum(len(job.holding) for job in mine), f"unconfirmed of queue {name}"
        alone = weighted or queue.paused is not None or queue.max_running is not None
        assert alone == (queue.heads is not queues.common), f"where queue {name} keeps its heads"
        assert (name in queues.apart) == (alone and queue.paused is None), (
            f"whether queue {name} is looked at"
        )
        if alone:
            assert all(lane.queue is queue for lane in queue.heads.values()), f"lanes of queue {name}"
        assert mine or queue.is_set or name == DEFAULT_QUEUE, f"queue {name} is nothing but a name"


def _check_worker(state: State, worker: Worker) -> None:
    jobs = state.table.jobs
    held = [job for group in worker.held.values() for job in group]
    assert len(held) == worker.held_count, f"worker {worker.name} counts its held jobs wrongly"
    assert (worker.id in state.workers.holders) == bool(held), f"worker {worker.name} as a holder"
    current = [*worker.offered, *held, *worker.running]
    assert len(set(current)) == len(current), f"worker {worker.name} has a job twice"
    for job_id in current:
        assert jobs[job_id].worker == worker.id, f"on worker {worker.name}: {story(jobs[job_id])}"
    assert all(jobs[job_id].state is S.RUNNING for job_id in worker.running)
    for known, group in worker.held.items():
        for job_id in group:
            job = jobs[job_id]
            assert job.lane.shape is known, story(job)
            assert job.restart, f"held, and at most once: {story(job)}"
    assert all(job_id in worker.offered or job_id in held for job_id in worker.retracting)
    reserving = [jobs[job_id].lane.shape for job_id in [*worker.offered, *worker.running]]
    reserving += [known for known in worker.unconfirmed.values() if known is not None]
    assert worker.reserved_cpus == sum(known.shape.cpus for known in reserving), worker.name
    assert worker.reserved_ram_mb == sum(known.shape.ram_mb for known in reserving), worker.name
    assert worker.reserved_slots == sum(known.shape.job_slots for known in reserving), worker.name
    own: Counter[str] = Counter()
    for known in reserving:
        own.update(dict(known.own_needs))
    assert worker.reserved_own == dict(own), worker.name
    assert worker.active == dict(Counter(reserving)), worker.name
    for job_id, fence in worker.unconfirmed:
        assert (worker.id, fence) in jobs[job_id].holding, story(jobs[job_id])
    if worker.paused is not None:
        assert worker.idle_key is None, f"worker {worker.name} is paused, and idle"
        assert worker.drained_for is None, f"worker {worker.name} is paused, and drained for a job"
    if worker.session is None:
        assert not worker.retracting
        assert worker.idle_key is None
        assert worker.drained_for is None
    thefts = sum(
        retraction.thief == worker.id
        for victim in state.workers.by_id.values()
        for retraction in victim.retracting.values()
    )
    assert worker.loot == thefts, (
        f"worker {worker.name} waits for {worker.loot} jobs, {thefts} are on the way"
    )


def _check_job(state: State, job: Job) -> None:
    workers = state.workers.by_id
    if job.state in (S.OFFERED, S.RUNNING):
        worker = workers[job.worker]
        on_it = (
            job.id in worker.running
            if job.state is S.RUNNING
            else job.id in worker.offered or job.id in worker.held.get(job.lane.shape, ())
        )
        assert on_it, f"not on its worker: {story(job)}"
        assert job.fence, story(job)
        assert (job.worker, job.fence) not in job.holding, f"current and unconfirmed: {story(job)}"
    for number, fence in job.holding:
        assert (job.id, fence) in workers[number].unconfirmed, story(job)
        if fence != job.fence or number != job.worker:
            assert (job.id, fence) in workers[number].stops, f"superseded without a stop order: {story(job)}"
    assert len(set(job.holding)) == len(job.holding), story(job)
    if job.state in (S.PENDING, S.WAITING):
        assert job.outcome is None, story(job)
    assert job.retry_at is None or job.state is S.WAITING, f"waits for a retry or not: {story(job)}"
    spec = _head_of(job.spec)
    assert job.retries <= spec.max_retries, f"tried too often: {story(job)}"
    told = (spec.shape, cap_of(spec.array, spec.max_running), spec.group, spec.queue, spec.priority)
    known = job.lane.shape
    found = (known.shape, known.cap, job.group, job.lane.queue.name, job.priority)
    assert found == told, f"not as its spec says: {story(job)}"


def _check_ledger(state: State) -> None:
    used: Counter[str] = Counter()
    parallel = 0
    for job in state.table.jobs.values():
        held = job.state is S.OFFERED and job.id in state.workers.by_id[job.worker].held.get(
            job.lane.shape, ()
        )
        attempts = len(job.holding) + (job.state in (S.OFFERED, S.RUNNING) and not held)
        parallel += attempts
        for name, amount in job.lane.shape.global_needs:
            used[name] += amount * attempts
    assert state.ledger.parallel == parallel, (
        f"{state.ledger.parallel} jobs in the ledger, {parallel} in truth"
    )
    ledger = {name: amount for name, amount in state.ledger.used.items() if amount}
    assert ledger == {name: amount for name, amount in used.items() if amount}, "the ledger is wrong"
    for name, holders in state.ledger.holders.items():
        assert sum(holders.values()) == state.ledger.used[name]


def _check_idle(state: State) -> None:
    keys = [worker.idle_key for worker in state.workers.by_id.values() if worker.idle_key is not None]
    assert sorted(keys) == list(state.workers.idle), "the idle workers"
