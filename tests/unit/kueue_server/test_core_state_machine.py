"""The server's core against a model of the world: workers that crash, reboot, fall silent and come back.

The model knows the truth (what really runs where); the core only hears what arrives. Whatever happens, no
job vanishes, licences are never over-used in truth, an at-most-once job starts once, and when all faults are
over every job comes to its end. The journal's writes rebuild the same state at any moment.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kueue.job import FINISHED, End, JobState
from kueue.wire.messages import (
    Acknowledge,
    AttemptRef,
    Changes,
    FinishedAttempt,
    Forget,
    Pause,
    RefusedAttempt,
    Report,
    Retract,
    RunningAttempt,
    Selector,
    Spec,
    Stop,
    Waits,
)
from kueue_server.core.arrays import task_spec
from kueue_server.core.events import ChangeRequested, Limits
from kueue_server.core.idranges import merged
from kueue_server.core.instructions import CloseSession, DropJobs, Instruction, OfferJobs, SendWorker
from kueue_server.core.records import Progress
from tests.support.core_bench import Bench, make_spec

Key = tuple[int, int]
LICENCES = 3
NAMES = ("w1", "w2", "w3")


class SimulatedWorker:
    """An honest worker: it does what the protocol says, until something happens to it."""

    def __init__(self, name: str, cpus: int) -> None:
        self.name = name
        self.cpus = cpus
        self.keeper = f"{name}-keeper-0"
        self.boot = f"{name}-boot-0"
        self.lives = 0
        self.session: int | None = None
        self.inbox: deque[Any] = deque()
        self.held: dict[Key, None] = {}
        self.running: dict[Key, None] = {}
        self.done: dict[Key, FinishedAttempt] = {}
        self.succeeded: set[int] = set()

    def end(self, key: Key, how: End, code: int = 0) -> None:
        """A running attempt ends."""
        self.running.pop(key)
        exited = how is End.EXITED
        if exited and code == 0:
            self.succeeded.add(key[0])
        self.done[key] = FinishedAttempt(*key, 1, how, exit_code=code if exited else None, run_seconds=0.05)

    def new_life(self, *, reboot: bool) -> None:
        """The keeper died, maybe with the whole machine."""
        self.lives += 1
        self.keeper = f"{self.name}-keeper-{self.lives}"
        if reboot:
            self.boot = f"{self.name}-boot-{self.lives}"


class ServerAndWorkers(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.submitted: dict[int, Spec] = {}
        self.cleaned: set[int] = set()
        self.starts: dict[int, int] = {}
        self.workers = {
            name: SimulatedWorker(name, cpus) for name, cpus in zip(NAMES, (2, 3, 8), strict=True)
        }
        self.hidden: dict[str, set[str]] = {name: set() for name in NAMES}
        self.large: set[int] = set()

    @initialize(most=st.sampled_from([None, None, 3]))
    def begin(self, most: int | None) -> None:
        self.bench = Bench(
            Limits(
                global_resources=(("lic", LICENCES),),
                global_max_parallel_jobs=most,
                worker_timeout_seconds=30.0,
                job_offer_timeout_seconds=10.0,
                starvation_seconds=15.0,
                job_cleanup_after_seconds=300.0,
                maintenance_interval_seconds=20.0,
                worker_pause_after_failures=2,
            )
        )

    # ------------------------------------------------------------ the wires

    def deal(self, instructions: list[Instruction]) -> None:
        """Instructions reach the workers' sessions."""
        by_session = {worker.session: worker for worker in self.workers.values() if worker.session}
        for instruction in instructions:
            match instruction:
                case OfferJobs(session, jobs):
                    assert session in by_session
                    self.check_queues(job[0] for job in jobs)
                    by_session[session].inbox.append([(job[0], job[1]) for job in jobs])
                case SendWorker(session, message):
                    if session in by_session:
                        by_session[session].inbox.append(message)
                case DropJobs(ranges):
                    for first, last in ranges:
                        self.cleaned.update(range(first, last + 1))
                case CloseSession(session, _):
                    if session in by_session:
                        self.cut(by_session[session])
                case _:
                    pass

    def check_queues(self, jobs: Iterable[int]) -> None:
        """What is handed out is of a queue that lets it, and no more than that may run are."""
        for number in jobs:
            queue = self.bench.core._state.table.jobs[number].lane.queue
            assert queue.paused is None, number
            assert queue.max_running is None or queue.handed_out <= queue.max_running, number

    def cut(self, worker: SimulatedWorker) -> None:
        worker.session = None
        worker.inbox.clear()

    def report(self, worker: SimulatedWorker, **fields: Any) -> None:
        if worker.session is not None:
            self.deal(self.bench.report(worker.session, Report(**fields)))

    def deliver(self, worker: SimulatedWorker, *, refuse: bool = False) -> None:
        message = worker.inbox.popleft()
        match message:
            case list():
                for key in message:
                    spec = self.submitted[key[0]]
                    unseen = spec.cwd in self.hidden[worker.name]
                    if unseen:
                        no = RefusedAttempt(key[0], key[1], "no_directory", "", "/data/p")
                        self.report(worker, refused=(no,))
                    elif refuse:
                        self.report(worker, refused=(RefusedAttempt(key[0], key[1], "no_resources"),))
                    else:
                        worker.held[key] = None
            case Stop(refs, _):
                for ref in refs:
                    self.stop(worker, (ref.job, ref.fence))
            case Retract(refs):
                released = tuple(ref for ref in refs if (ref.job, ref.fence) in worker.held)
                kept = tuple(ref for ref in refs if (ref.job, ref.fence) not in worker.held)
                for ref in released:
                    del worker.held[ref.job, ref.fence]
                self.report(worker, released=released, kept=kept)
            case Acknowledge(refs):
                for ref in refs:
                    worker.done.pop((ref.job, ref.fence), None)
            case Forget():
                pass
            case _:
                raise AssertionError(message)

    def stop(self, worker: SimulatedWorker, key: Key) -> None:
        if key in worker.running:
            worker.end(key, End.STOPPED)
        if key in worker.done:
            self.report(worker, finished=(worker.done[key],))
        else:
            worker.held.pop(key, None)
            self.report(worker, released=(AttemptRef(*key),))

    def deliver_all(self, worker: SimulatedWorker) -> None:
        while worker.inbox:
            self.deliver(worker)

    def start(self, worker: SimulatedWorker, key: Key) -> None:
        used = sum(self.submitted[job].shape.cpus for job, _ in worker.running)
        spec = self.submitted[key[0]]
        if used + spec.shape.cpus > worker.cpus or len(worker.running) >= worker.cpus:
            return
        del worker.held[key]
        worker.running[key] = None
        if spec.waits is not None and spec.waits.on_failure == "cancel":
            succeeded = set().union(*(one.succeeded for one in self.workers.values()))
            before = {job for first, last in spec.waits.after for job in range(first, last + 1)}
            assert before <= succeeded, f"{key[0]} starts, {before - succeeded} have not succeeded"
        self.starts[key[0]] = self.starts.get(key[0], 0) + 1
        self.report(worker, started=(RunningAttempt(*key, 1, 0.0),))

    def connect(self, worker: SimulatedWorker) -> None:
        session, instructions = self.bench.connect(
            worker.name,
            worker.cpus,
            keeper=worker.keeper,
            boot=worker.boot,
            held=tuple(worker.held),
            running=tuple((*key, 1) for key in worker.running),
            finished=tuple(worker.done.values()),
        )
        worker.session = session
        self.deal(instructions)
        if worker.session is not None:
            self.deal(self.bench.status(worker.session, worker.cpus))

    # ------------------------------------------------------------ what people do

    @rule(
        count=st.integers(1, 4),
        cpus=st.sampled_from([1, 1, 1, 2, 8]),
        licences=st.sampled_from([0, 0, 1, 2, 3]),
        priority=st.sampled_from([0, 0, 5]),
        restart=st.booleans(),
        place=st.sampled_from(["a", "b", "c/d"]),
        tries=st.sampled_from([0, 1, 5]),
        queue=st.sampled_from(["default", "default", "a", "b"]),
    )
    def submit(
        self,
        count: int,
        cpus: int,
        licences: int,
        priority: int,
        restart: bool,
        place: str,
        tries: int,
        queue: str,
    ) -> None:
        spec = make_spec(
            cwd=f"/data/p/{place}",
            cpus=cpus,
            resources={"lic": licences} if licences else None,
            priority=priority,
            restart=restart,
            max_restarts=tries,
            group="g" if licences else "",
            queue=queue,
        )
        assert self.bench.core.refusal_of(spec) is None
        first = self.bench.journal.next_job
        self.submitted.update((first + offset, spec) for offset in range(count))
        self.deal(self.bench.submit(*[spec] * count))

    @rule(
        count=st.sampled_from([1, 1, 3, 3, 30, 30, 1300]),
        most=st.sampled_from([None, 1, 2, 5]),
        licences=st.sampled_from([0, 0, 1]),
        priority=st.sampled_from([0, 0, -5]),
        place=st.sampled_from(["a", "b", "{n}"]),
        follows=st.sampled_from(["", "", "cancel", "cancel", "hold", "run", "any"]),
        width=st.integers(1, 6),
    )
    def submit_array(
        self,
        count: int,
        most: int | None,
        licences: int,
        priority: int,
        place: str,
        follows: str,
        width: int,
    ) -> None:
        if count > 30 and self.large:
            return  # one is enough, and slow enough
        spec = make_spec(
            "sim",
            "{n}",
            cwd=f"/data/p/{place}",
            resources={"lic": licences} if licences else None,
            priority=priority,
            group="g" if licences else "",
        )
        first = self.bench.journal.next_job
        spec = msgspec.structs.replace(spec, array=first, max_running=most)
        present = self.bench.core._state.table.present
        before = range(max(1, first - width), first)
        # What is not in the table nobody can wait for: the server refuses that.
        if follows and before and all(job in present for job in before):
            meant = ((before[0], before[-1]),)
            waits = Waits(after_any=meant) if follows == "any" else Waits(meant, on_failure=follows)
            spec = msgspec.structs.replace(spec, waits=waits)
        self.submitted.update((first + offset, task_spec(spec, 1 + 2 * offset)) for offset in range(count))
        self.large |= {first} if count > 30 else set()
        self.deal(self.bench.submit_array(spec, (1, 2 * count - 1, 2), max_running=most))

    @rule(
        place=st.integers(0, 20),
        width=st.integers(1, 6),
        count=st.integers(1, 3),
        kind=st.sampled_from(["after", "after", "after_any"]),
        on_failure=st.sampled_from(["cancel", "cancel", "hold", "run"]),
    )
    def submit_followers(self, place: int, width: int, count: int, kind: str, on_failure: str) -> None:
        known = sorted(self.bench.journal.jobs)
        chosen = known[max(0, len(known) - place - width) :][:width]
        if not chosen:
            return
        ranges = tuple(merged([(job, job) for job in chosen]))
        waits = Waits(ranges if kind == "after" else (), ranges if kind == "after_any" else (), on_failure)
        spec = make_spec(waits=waits)
        assert self.bench.core.refusal_of(spec) is None
        first = self.bench.journal.next_job
        self.submitted.update((first + offset, spec) for offset in range(count))
        self.deal(self.bench.submit(*[spec] * count))

    @rule()
    def let_held_jobs_go(self) -> None:
        waiting = Selector(states=("waiting",))
        self.deal(self.bench.handle(ChangeRequested(1, waiting, Changes(release=True), self.bench.wall)))

    @rule(first=st.integers(1, 40), width=st.sampled_from([0, 1, 2, 3, 20, 2000]), kill=st.booleans())
    def cancel(self, first: int, width: int, kill: bool) -> None:
        self.deal(self.bench.cancel((first, first + width), kill=kill))

    @rule(
        first=st.integers(1, 40),
        width=st.integers(0, 5),
        priority=st.integers(0, 9),
        queue=st.sampled_from([None, "a", "b", "default"]),
    )
    def change(self, first: int, width: int, priority: int, queue: str | None) -> None:
        which, changes = Selector(ranges=((first, first + width),)), Changes(priority=priority, queue=queue)
        self.deal(self.bench.handle(ChangeRequested(99, which, changes, self.bench.wall)))

    @rule(failed=st.booleans())
    def clean(self, failed: bool) -> None:
        self.deal(self.bench.clean(failed=failed))

    @rule(queues=st.sampled_from([("a",), ("b", "default")]))
    def queues_are_paused(self, queues: tuple[str, ...]) -> None:
        self.deal(self.bench.pause_queues(*queues))

    @rule(queue=st.sampled_from(["a", "b", "default"]))
    def queue_is_resumed(self, queue: str) -> None:
        self.deal(self.bench.resume_queues(queue))

    @rule(
        queue=st.sampled_from(["a", "b", "default"]),
        weight=st.sampled_from([None, 1, 3]),
        most=st.sampled_from([None, 0, 1, 2]),
    )
    def queue_is_set(self, queue: str, weight: int | None, most: int | None) -> None:
        self.deal(self.bench.set_queue(queue, weight=weight, max_running=most))

    @rule(queue=st.sampled_from(["a", "b"]), cancel=st.booleans())
    def queue_is_removed(self, queue: str, cancel: bool) -> None:
        self.deal(self.bench.remove_queue(queue, cancel=cancel))

    # ------------------------------------------------------------ what workers do

    @rule(name=st.sampled_from(NAMES))
    def worker_connects(self, name: str) -> None:
        if self.workers[name].session is None:
            self.connect(self.workers[name])

    @rule(name=st.sampled_from(NAMES), refuse=st.integers(0, 9))
    def message_arrives(self, name: str, refuse: int) -> None:
        if self.workers[name].inbox:
            self.deliver(self.workers[name], refuse=refuse == 0)

    @rule(name=st.sampled_from(NAMES))
    def all_messages_arrive(self, name: str) -> None:
        self.deliver_all(self.workers[name])

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 3))
    def jobs_start(self, name: str, count: int) -> None:
        for key in list(self.workers[name].held)[:count]:
            self.start(self.workers[name], key)

    @rule()
    def all_is_well_for_a_moment(self) -> None:
        for worker in self.workers.values():
            if worker.session is None:
                self.connect(worker)
            self.deliver_all(worker)
            for key in list(worker.held):
                self.start(worker, key)

    @rule(
        name=st.sampled_from(NAMES),
        how=st.sampled_from([End.EXITED, End.EXITED, End.INTERRUPTED, End.TIME_LIMIT, End.LOST]),
        code=st.sampled_from([0, 0, 2]),
    )
    def job_ends(self, name: str, how: End, code: int) -> None:
        worker = self.workers[name]
        if worker.running:
            key = next(iter(worker.running))
            worker.end(key, how, code)
            self.report(worker, finished=(worker.done[key],))

    @rule(name=st.sampled_from(NAMES), place=st.sampled_from(["/data/p/a", "/data/p/b", "/data/p/c/d"]))
    def mount_comes_or_goes(self, name: str, place: str) -> None:
        self.hidden[name] ^= {place}

    @rule(name=st.sampled_from(NAMES), cpus=st.integers(0, 8), accepting=st.booleans())
    def worker_says_what_is_free(self, name: str, cpus: int, accepting: bool) -> None:
        worker = self.workers[name]
        if worker.session is not None:
            self.deal(self.bench.status(worker.session, min(cpus, worker.cpus), accepting=accepting))

    # ------------------------------------------------------------ what goes wrong

    @rule(name=st.sampled_from(NAMES))
    def connection_breaks(self, name: str) -> None:
        worker = self.workers[name]
        if worker.session is not None:
            session = worker.session
            self.cut(worker)
            self.deal(self.bench.disconnect(session))

    @rule(name=st.sampled_from(NAMES))
    def agent_is_killed(self, name: str) -> None:
        self.workers[name].held.clear()
        self.connection_breaks(name)

    @rule(name=st.sampled_from(NAMES), told=st.booleans())
    def machine_reboots(self, name: str, told: bool) -> None:
        worker = self.workers[name]
        worker.held.clear()
        for key in list(worker.running):
            worker.end(key, End.LOST)
            if not told:
                del worker.done[key]
        worker.new_life(reboot=True)
        self.connection_breaks(name)

    @rule(name=st.sampled_from(NAMES))
    def keeper_is_killed(self, name: str) -> None:
        worker = self.workers[name]
        for key in list(worker.running):
            worker.end(key, End.LOST)
        worker.new_life(reboot=False)
        self.agent_is_killed(name)

    @rule(name=st.sampled_from(NAMES))
    def agent_is_replaced_before_the_server_notices(self, name: str) -> None:
        worker = self.workers[name]
        if worker.session is not None:
            worker.held.clear()
            self.cut(worker)
            self.connect(worker)

    @rule(name=st.sampled_from(NAMES))
    def worker_leaves(self, name: str) -> None:
        worker = self.workers[name]
        if worker.session is None:
            return
        released = tuple(AttemptRef(*key) for key in worker.held)
        worker.held.clear()
        for key in list(worker.running):
            worker.end(key, End.INTERRUPTED)
        self.report(worker, released=released, finished=tuple(worker.done.values()))
        session = worker.session
        if session is not None:
            self.cut(worker)
            worker.new_life(reboot=False)
            self.deal(self.bench.disconnect(session, leaving=True))

    @rule(seconds=st.sampled_from([1, 1, 5, 12, 40]), late=st.sampled_from([0, 0, 0, 20]))
    def time_passes(self, seconds: int, late: int) -> None:
        for _ in range(seconds):
            for worker in self.workers.values():
                if worker.session is not None:
                    self.deal(self.bench.hear(worker.session))
            self.deal(self.bench.tick(1.0))
        if late:
            self.deal(self.bench.tick(1.0 + late, late=float(late)))

    @rule(name=st.sampled_from(NAMES))
    def worker_falls_silent(self, name: str) -> None:
        """The connection looks alive and nothing comes: the server closes it, then the lease ends."""
        silent = self.workers[name]
        for _ in range(45):
            for worker in self.workers.values():
                if worker.session is not None and worker is not silent:
                    self.deal(self.bench.hear(worker.session))
            self.deal(self.bench.tick(1.0))

    @rule()
    def server_crashes(self) -> None:
        self.compare_with_journal()
        for worker in self.workers.values():
            self.cut(worker)
        self.bench.restart()

    # ------------------------------------------------------------ what must hold

    def compare_with_journal(self) -> None:
        """What a new server would read is what this one knows, but for starts, which are not written."""
        rows = self.bench.journal.jobs
        live = self.bench.core._state.table.jobs
        assert rows.keys() <= live.keys()
        for number in live.keys() - rows.keys():  # made, and nothing has become of it
            assert self.bench.journal.has_part_of(number)
            assert live[number].state in (JobState.WAITING, JobState.PENDING, JobState.CANCELED)
        parts = [(part.first, part.last, part.state) for part in self.bench.core._state.table.parts]
        assert parts == [
            (part.first, part.last, part.state) for _, part in sorted(self.bench.journal.parts.items())
        ]
        for number, row in rows.items():
            job = live[number]
            progress = (
                Progress() if row.progress is None else msgspec.json.decode(row.progress, type=Progress)
            )
            if job.state is JobState.RUNNING and row.state is not JobState.RUNNING:
                assert row.state is JobState.OFFERED
                progress = msgspec.structs.replace(progress, started_at=job.started_at)
            elif row.progress is None and self.submitted[number].waits is not None:
                assert job.state in (JobState.WAITING, JobState.PENDING), job
            else:
                assert row.state is job.state, job
            for field in Progress.__struct_fields__:
                assert getattr(progress, field) == getattr(job, field), (field, job)
        stops = {
            (worker.id, *key): why
            for worker in self.bench.core._state.workers.by_id.values()
            for key, why in worker.stops.items()
        }
        assert stops == self.bench.journal.stops
        queues = self.bench.core._state.queues.by_name.values()
        told = {
            queue.name: (queue.weight, queue.max_running, queue.paused) for queue in queues if queue.is_set
        }
        kept = {
            row.queue: (row.weight, row.max_running, row.paused_since and Pause(row.paused_since, row.reason))
            for row in self.bench.journal.queues.values()
        }
        assert told == kept

    @invariant()
    def no_job_vanishes(self) -> None:
        if hasattr(self, "bench"):
            present = set(self.bench.journal.jobs)
            for part in self.bench.journal.parts.values():
                present.update(range(part.first, part.last + 1))
            assert present == set(self.submitted) - self.cleaned
            listed, cursor = self.bench.core.page(Selector(), False, None, 1000, False, 0.0, arrays=True)
            seen = {number for row in listed for number in range(row.id, (row.last or row.id) + 1)}
            assert seen == present if cursor is None else seen < present

    @invariant()
    def licences_are_not_overused_in_truth(self) -> None:
        alive = [key for worker in self.workers.values() for key in worker.running]
        used = sum(dict(self.submitted[job].shape.resources).get("lic", 0) for job, _ in alive)
        assert used <= LICENCES, alive
        if hasattr(self, "bench") and self.bench.limits.global_max_parallel_jobs is not None:
            assert len(alive) <= self.bench.limits.global_max_parallel_jobs, alive

    @invariant()
    def at_most_so_many_tasks_of_an_array_run(self) -> None:
        running = Counter(
            (spec.array, spec.max_running)
            for worker in self.workers.values()
            for job, _ in worker.running
            if (spec := self.submitted[job]).max_running is not None
        )
        for (array, most), count in running.items():
            assert count <= (most or 0), array

    @invariant()
    def an_at_most_once_job_starts_once(self) -> None:
        for job, count in self.starts.items():
            assert self.submitted[job].restart or count <= 1, job

    def teardown(self) -> None:
        """All faults are over: everything comes to its end, and nothing is held any more."""
        if not hasattr(self, "bench"):
            return
        for hidden in self.hidden.values():
            hidden.clear()
        for first in self.large:
            self.deal(self.bench.cancel((first + 10, first + 1299)))
        self.deal(self.bench.resume_queues("default"))
        for queue in self.bench.core.queues(self.bench.time):
            if queue.paused is not None:
                self.deal(self.bench.resume_queues(queue.name))
        for _ in range(400):
            if any(view.paused is not None for view in self.bench.core.workers(self.bench.time)):
                self.deal(self.bench.resume("*"))
            for worker in self.workers.values():
                if worker.session is None:
                    self.connect(worker)
                self.deliver_all(worker)
                for key in list(worker.held):
                    self.start(worker, key)
                for key in list(worker.running):
                    worker.end(key, End.EXITED)
                    self.report(worker, finished=(worker.done[key],))
                    self.deliver_all(worker)
                if worker.session is not None:
                    self.deal(self.bench.status(worker.session, worker.cpus))
            self.let_held_jobs_go()
            self.time_passes(1, 0)
            table = self.bench.core._state.table
            quiet = not any(worker.inbox or worker.running for worker in self.workers.values())
            if quiet and table.unfinished == 0 and self.bench.core.parallel_jobs == 0:
                break
        left = [job for job in self.bench.core._state.table.jobs.values() if job.state not in FINISHED]
        assert not left, [(job, self.bench.core.job_view(job.id, self.bench.time)) for job in left]
        assert self.bench.core.parallel_jobs == 0
        assert all(view.used == 0 for view in self.bench.core.resources())
        assert not self.bench.journal.stops
        assert not any(worker.done or worker.held for worker in self.workers.values())


# Half a minute of computing, on a machine that may have other things to do.
TestServerAndWorkers = pytest.mark.timeout(900)(ServerAndWorkers.TestCase)
TestServerAndWorkers.settings = settings(
    max_examples=30, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
