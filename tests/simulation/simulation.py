"""One run: the parts put together, the schedule carried out, the promises checked at the end."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import random
import secrets
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest import mock

import kueue.async_client
import kueue_server.core.core
import kueue_server.core.dependencies
import kueue_server.core.rerunning
import kueue_server.core.selection
import kueue_server.core.verbs
import kueue_worker.server_session
from kueue.job import FINISHED, JobState
from kueue.resources import Shape
from kueue.submitting import submit, submit_array
from kueue.wire.handshake import Role
from kueue.wire.link import Handler, Link
from kueue.wire.messages import Command, Selector, Spec, Step
from kueue_server.core.verbs import CHANGE_COST
from tests.simulation.agent import SimulatedAgent
from tests.simulation.arrays import ArrayTruth, all_jobs
from tests.simulation.client import CONTEXT, SimulatedClient
from tests.simulation.disk import Disk
from tests.simulation.following import FollowTruth, Wish, held_jobs, waits_for
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.queueing import check_keys, started, with_keys
from tests.simulation.schedule import FAULTS, LICENCES, MACHINES, Action, Schedule
from tests.simulation.server import SimulatedServer, config_with
from tests.simulation.sickness import pause_after
from tests.simulation.truth import PromiseBrokenError, Run, Truth, is_retriable
from tests.simulation.verbs import VerbTruth, selector_of
from tests.simulation.world import WALL, Host, Process, World

CPUS = {"w1": 1, "w2": 2, "w3": 4}
DIGEST = hashlib.sha256(CONTEXT).hexdigest()
PATIENCE_SECONDS = 4 * 3600.0
"""How long after the last fault everything may take to come to its end."""
EPOCH_STEP = 100_000
COLLECT_EVERY = 20
MOST_LICENCES = 4
SEEN_SECONDS = 2.0
"""Within so long after a job's end in a shutdown its keeper is told to end, too."""


@dataclass
class Outcome:
    """What came of a run. `problem` None: all promises were kept."""

    schedule: Schedule
    problem: BaseException | str | None
    steps: int
    seconds: float
    counts: dict[str, int]
    digest: int
    """Of all that happened: the same for the same run."""
    story: list[str] = field(default_factory=list)

    @property
    def promise(self) -> str:
        """A short name of what went wrong, the same for the same fault."""
        if isinstance(self.problem, PromiseBrokenError):
            return self.problem.promise
        return type(self.problem).__name__ if isinstance(self.problem, BaseException) else str(self.problem)


def run(schedule: Schedule) -> Outcome:
    """Carry out a schedule in virtual time."""
    simulation = Simulation(schedule)
    problem: BaseException | str | None = None
    with _stood_in(simulation):
        try:
            simulation.run()
        except (PromiseBrokenError, AssertionError, KeyError) as error:
            problem = error
        if simulation.world.faults:
            problem = simulation.world.faults[0]
        simulation.world.close()
    if schedule.seed % COLLECT_EVERY == 0:
        gc.collect()  # each run is one large cycle, and the collector's own pace is not made for that
    truth = simulation.truth
    job = problem.job if isinstance(problem, PromiseBrokenError) else None
    return Outcome(
        schedule,
        problem,
        simulation.world.steps,
        simulation.world.now,
        dict(sorted(truth.counts.items())),
        zlib.crc32(repr((truth.told, truth.stories, simulation.world.steps)).encode()),
        truth.story(job) if problem is not None else [],
    )


class Simulation:
    """All parts of one run."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.world = World(schedule.seed)
        self.truth = Truth(self.world, schedule.lease_seconds, LICENCES)
        self.verbs = VerbTruth(self.truth)
        self.arrays = ArrayTruth(self.truth)
        self.disks: dict[str, Disk] = {}
        self.truth.on_start.append(partial(started, self.truth, self.disks))
        self.following = FollowTruth(self.truth)
        self.network = Network(self.world)
        self.dice = self.world.stream("dice")
        self.server_host = Host("server")
        self.disk = self.disks["journal-1"] = Disk("journal-1", self.world.stream("disk"))
        self.backup: Disk | None = None
        self.server: SimulatedServer | None = None
        self.server_wall = 0.0
        self.machines = {name: Machine(name, cpus, self.world, self.truth) for name, cpus in CPUS.items()}
        self.clients: list[SimulatedClient] = []
        self._configs: dict[int, Any] = {}
        self._submits = 0
        self._over = False

    # ---------------------------------------------------------------- the run

    def run(self) -> None:
        """From the first start to the last check.

        Raises:
            PromiseBrokenError: at the end, something promised is not so. Faults on the way are in
            `world.faults`.
        """
        self.start_server()
        for name in MACHINES:
            self.start_agent(name)
        for action in self.schedule.actions:
            self.world.at(action.at, partial(self._act, action))
        self.world.run(self.schedule.seconds)
        self._make_peace()
        deadline = self.world.now + PATIENCE_SECONDS
        quiet_since = self.world.now
        # What is only waiting for its moment (a late order, a probe, a lease) has it before the end.
        quiet = self.schedule.lease_seconds + 20.0
        while not self.world.faults and quiet_since + quiet > self.world.now < deadline:
            self.world.run(self.world.now + 5.0)
            self._resume_paused()
            if not self._is_settled():
                quiet_since = self.world.now
        if not self.world.faults:
            self._check()

    def _act(self, action: Action) -> None:
        if self._over:
            return
        self.truth.tell(f"-- {action}")
        self.truth.count(f"{'fault' if action.what in FAULTS else 'people'}: {action.what}")
        getattr(self, "do_" + action.what.replace(" ", "_"))(**action.how)

    # ---------------------------------------------------------------- the parts

    def config(self) -> Any:
        """As the file says now."""
        amount = self.truth.licences
        if amount not in self._configs:
            few = pause_after(self.schedule)
            self._configs[amount] = config_with(self.schedule.lease_seconds, amount, few)
        return self._configs[amount]

    def start_server(self) -> None:
        """Start the server, if its host is up and none runs."""
        if not self.server_host.up or (self.server is not None and self.server.process.alive):
            return
        self.truth.tell("server: starts")
        self.server = SimulatedServer(
            self.world,
            self.server_host,
            self.disk,
            self.truth,
            self.verbs,
            self.following,
            list(MACHINES),
            self.config,
            self.server_wall,
            lambda: self.world.after(1.0, self.start_server),
        )

    def start_agent(self, name: str) -> None:
        """Start a worker, if its machine is up and none runs."""
        machine = self.machines[name]
        if (
            not machine.host.up
            or machine.stopping
            or (machine.agent is not None and machine.agent.process.alive)
        ):
            return
        self.truth.tell(f"{name}: agent starts")
        machine.agent = SimulatedAgent(
            machine,
            stop_when_alone_seconds=self.schedule.alone_seconds,
            over=lambda: self.world.after(self.dice.uniform(0.1, 20.0), partial(self.start_agent, name)),
        )

    def _client(self, patience: float) -> SimulatedClient:
        name = f"client{len(self.clients) + 1}"
        client = SimulatedClient(self.world, name, self.truth, self.verbs, lambda: self.disk.uuid, patience)
        self.clients.append(client)
        return client

    # ---------------------------------------------------------------- what people do

    def do_submit(
        self,
        count: int,
        seconds: float,
        cpus: int,
        wait: bool,
        code: int = 0,
        licences: int = 0,
        restart: bool = True,
        max_restarts: int = 100,
        priority: int = 0,
        time_limit: float | None = None,
        cwd: str = "/data/a",
        program: str = "run",
        retries: int = 0,
        retry_delay: float | None = None,
        retry_on: tuple[int, ...] = (),
        queue: str = "default",
        keys: int = 0,
        after: Wish | None = None,
        dies: int | None = None,
        server_dies: int | None = None,
    ) -> None:
        """A person submits jobs."""
        self._submits += 1
        name = f"submit{self._submits}"
        spec = Spec(
            payload=Command((program, str(seconds), str(code))),
            cwd=cwd,
            volume="/data",
            shape=Shape(cpus, 100, 1, (("lic", licences),) if licences else ()),
            context=DIGEST,
            name=name,
            queue=queue,
            priority=priority,
            max_restarts=max_restarts,
            restart=restart,
            time_limit_seconds=time_limit,
            max_retries=retries,
            retry_delay_seconds=retry_delay,
            retry_on=retry_on,
            waits=waits_for(after, self.disk.rows.next_job - 1),
        )
        client = self._client(60.0)
        client.submit_and_wait(partial(submit, with_keys(spec, count, keys)), name, count, wait=wait)
        if dies is not None:
            client.process.kill_at_instruction(dies)
        if server_dies is not None:
            self.do_kill("server", self.dice.uniform(0.1, 5.0), instruction=server_dies)

    def do_submit_array(
        self,
        indices: tuple[Step, ...],
        seconds: float,
        max_running: int | None = None,
        code: int = 0,
        retries: int = 0,
        licences: int = 0,
        restart: bool = True,
        priority: int = 0,
        wait: bool = False,
        dies: int | None = None,
        server_dies: int | None = None,
        after: Wish | None = None,
    ) -> None:
        """A person submits an array, which may have to follow others."""
        name = self.arrays.new_name(indices)
        spec = Spec(
            payload=Command(("run", str(seconds), str(code), "{n}")),
            cwd="/data/a",
            volume="/data",
            shape=Shape(1, 100, 1, (("lic", licences),) if licences else ()),
            context=DIGEST,
            name=name,
            priority=priority,
            max_restarts=100,
            restart=restart,
            max_retries=retries,
            waits=waits_for(after, self.disk.rows.next_job - 1),
        )
        client = self._client(60.0)
        submission = partial(submit_array, spec, indices, max_running)  # type: ignore[arg-type]
        client.submit_and_wait(submission, name, self.arrays.count(name), wait=wait)
        if dies is not None:
            client.process.kill_at_instruction(dies)
        if server_dies is not None:
            self.do_kill("server", self.dice.uniform(0.1, 5.0), instruction=server_dies)

    def do_cancel(self, place: float, width: int, kill: bool) -> None:
        """A person cancels some jobs."""
        highest = self.disk.rows.next_job - 1
        if highest > 0:
            first = max(1, highest - int(place * min(highest, 40)))
            if kill:
                self.verbs.to_kill.update(range(first, first + width + 1))
            self._client(60.0).cancel(((first, first + width),), kill=kill)

    def do_cancel_selected(self, place: float, width: int, state: str, kill: bool) -> None:
        """A person cancels what a selector names."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        if kill:
            self.verbs.to_kill.update(range(which.ranges[0][0], which.ranges[0][1] + 1))
        self._client(60.0).ask(lambda client: client.cancel(which, kill=kill))

    def do_set(self, place: float, width: int, state: str) -> None:
        """A person changes jobs that have not started."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        changes = self.verbs.new_changes()
        limit, priority = changes.time_limit_seconds, changes.priority
        self._client(60.0).ask(lambda client: client.change(which, time_limit=limit, priority=priority))

    def do_rerun(self, place: float, width: int, state: str) -> None:
        """A person has finished jobs run again."""
        which = selector_of(place, width, state, self.disk.rows.next_job - 1)
        self._client(60.0).rerun(which, self.verbs.new_group())

    def do_clean(self, failed: bool) -> None:
        """A person has finished jobs dropped."""
        self._client(5.0).ask(lambda client: client.clean(failed=failed))

    def do_licences(self, amount: int) -> None:
        """The configuration has another number of licences, and is read again."""
        self.truth.licences = amount
        self._client(5.0).ask(lambda client: client.reload())

    def do_pause(self, host: str, kill: bool) -> None:
        """A person keeps a machine from taking jobs."""
        self._client(60.0).ask(lambda client: client.pause_workers(host, kill=kill, reason="hot"))

    def do_resume(self, host: str) -> None:
        """A person lets a machine take jobs again."""
        self._client(60.0).ask(lambda client: client.resume_workers(host))

    def do_pause_queue(self, queue: str) -> None:
        """A person wants nothing of a queue to start."""
        self._client(60.0).ask(lambda client: client.pause_queues(queue, reason="new library"))

    def do_resume_queue(self, queue: str) -> None:
        """A person lets jobs of a queue start again."""
        self._client(60.0).ask(lambda client: client.resume_queues(queue))

    def do_set_queue(self, queue: str, **what: int) -> None:
        """A person sets what a queue may."""
        self._client(60.0).ask(lambda client: client.set_queue(queue, **what))

    def do_remove_queue(self, queue: str) -> None:
        """A person wants a queue no more, if it is empty."""
        self._client(60.0).ask(lambda client: client.remove_queue(queue))

    def do_forget(self, host: str) -> None:
        """A person knows that a machine is off, and says so."""
        if not self.machines[host].host.up:
            self._client(5.0).ask(lambda client: client.forget_worker(host))

    # ---------------------------------------------------------------- what goes wrong

    def _parts(self, part: str, host: str | None) -> list[Process]:
        if part == "server":
            return [] if self.server is None else [self.server.process]
        assert host is not None
        machine = self.machines[host]
        found = []
        if part in ("agent", "both") and machine.agent is not None:
            found.append(machine.agent.process)
        if part in ("keeper", "both") and machine.keeper is not None:
            found.append(machine.keeper.process)
        return found

    def _processes(self) -> list[Process]:
        return self._parts("server", None) + [part for name in MACHINES for part in self._parts("both", name)]

    def do_kill(
        self, part: str, down: float, host: str | None = None, instruction: int | None = None
    ) -> None:
        """SIGKILL, now or at an instruction; started again after a while."""
        for process in self._parts(part, host):
            if instruction is not None and process.alive:
                process.died.append(partial(self._come_back, part, host, down))
                process.kill_at_instruction(instruction)
            else:
                process.kill()
        if instruction is None:
            self._come_back(part, host, down)

    def _come_back(self, part: str, host: str | None, down: float) -> None:
        if part == "server":
            self.world.after(down, self.start_server)
        elif host is not None:
            self.world.after(down, partial(self.start_agent, host))

    def do_freeze(self, part: str, seconds: float, host: str | None = None) -> None:
        """SIGSTOP, and SIGCONT later."""
        for process in self._parts(part, host):
            if not process.frozen:
                process.freeze()
                if part in ("keeper", "both") and host is not None:
                    self.machines[host].keeper_deaths.append(self.world.now)  # it sees no shutdown either
                self.world.after(seconds, partial(self._thaw, process, self.world.now))

    def _thaw(self, process: Process, since: float) -> None:
        if process.frozen and process is getattr(self.server, "process", None):
            self.truth.server_slept(self.world.now - since)
        process.thaw()

    def do_cut(self, host: str, ways: str, seconds: float) -> None:
        """No packet gets through, in one direction or both."""
        if ways in ("to", "both"):
            self.network.cut("server", host)
            self.world.after(seconds, partial(self.network.heal, "server", host))
        if ways in ("from", "both"):
            self.network.cut(host, "server")
            self.world.after(seconds, partial(self.network.heal, host, "server"))

    def do_break(self, host: str) -> None:
        """All connections of a host are reset."""
        self.network.break_connections(host)

    def do_power(self, host: str, seconds: float) -> None:
        """The power fails, and comes back."""
        if host == "server":
            if self.server is not None:
                self.server_host.up = False
                self.server.process.kill()
                self.world.after(seconds, self._server_host_boots)
            return
        self.machines[host].power_off()
        self.world.after(seconds, partial(self._machine_boots, host))

    def _server_host_boots(self) -> None:
        self.server_host.up = True
        self.start_server()

    def _machine_boots(self, host: str) -> None:
        self.machines[host].power_on()
        self.start_agent(host)

    def do_reboot(self, host: str, down: float, jobs_first: bool) -> None:
        """An orderly reboot: TERM to every process, then the power goes."""
        machine = self.machines[host]
        if not machine.host.up or machine.stopping:
            return
        machine.stopping = True

        def term_daemons() -> None:
            self.truth.told_to_end(host)
            if machine.agent is not None and machine.agent.process.alive:
                machine.agent.terminate()
            if machine.keeper is not None and machine.keeper.process.alive:
                machine.keeper.process.loop.call_soon(machine.keeper.terminate)

        def term_jobs() -> None:
            for key, process in list(machine.processes.items()):
                machine.gone(key, process, "shutdown")

        first, second = (term_jobs, term_daemons) if jobs_first else (term_daemons, term_jobs)
        first()
        self.world.after(self.dice.uniform(0.0, 0.9), second)
        self.world.after(8.0, machine.power_off)
        self.world.after(8.0 + down, partial(self._machine_boots, host))

    def do_end(self, host: str, down: float) -> None:
        """SIGTERM to a worker: its jobs are interrupted."""
        agent = self.machines[host].agent
        if agent is not None and agent.process.alive:
            self.truth.told_to_end(host)
            agent.terminate()

    def do_drain(self, host: str, down: float) -> None:
        """Ctrl-C on a worker; the second one ends it at once."""
        agent = self.machines[host].agent
        if agent is not None and agent.process.alive:
            if agent.core.conditions.departure.begun:
                self.truth.told_to_end(host)
            agent.interrupt()

    def do_upgrade(self, host: str, down: float) -> None:
        """SIGUSR2 to a worker: agent leaves, keeper and jobs stay."""
        agent = self.machines[host].agent
        if agent is not None and agent.process.alive:
            agent.depart()

    def do_wall(self, seconds: float) -> None:
        """The server's wall clock is set."""
        self.server_wall += seconds
        if self.server is not None:
            self.server.process.wall_offset = self.server_wall

    def do_hide(self, host: str, directory: str, seconds: float) -> None:
        """A directory is not mounted for a while."""
        machine = self.machines[host]
        machine.hidden.add(directory)
        self.world.after(seconds, lambda: machine.hidden.discard(directory))

    def do_lack(self, host: str, seconds: float) -> None:
        """A program is not installed on a machine, or on any, for a while."""
        for machine in self.machines.values() if host == "all" else [self.machines[host]]:
            machine.lacks_tool = True
            self.world.after(seconds, partial(setattr, machine, "lacks_tool", False))

    def do_sick(self, host: str, seconds: float) -> None:
        """Everything fails at once on a machine, for a while."""
        machine = self.machines[host]
        machine.sick = True
        self.world.after(seconds, partial(setattr, machine, "sick", False))

    def do_disk_full(self, seconds: float) -> None:
        """The server's disk is full for a while."""
        disk = self.disk
        disk.full = True
        self.world.after(seconds, lambda: setattr(disk, "full", False))

    def do_disk_fails(self) -> None:
        """The server's next fsync fails."""
        if self.server is not None and self.server.process.alive:
            self.server.journal.fail()

    def do_slow(self, seconds: float) -> None:
        """The network is slow and uneven for a while."""
        self.network.rare_delay_chance = 0.3
        self.world.after(seconds, lambda: setattr(self.network, "rare_delay_chance", 0.0))

    def do_duplicate(self, seconds: float) -> None:
        """Messages arrive twice now and then: more than TCP does, no more than a peer may do."""
        self.network.duplicate_chance = 0.05
        self.world.after(seconds, lambda: setattr(self.network, "duplicate_chance", 0.0))

    def do_restore(self, emptied: bool) -> None:
        """The journal is replaced by an older copy with a new epoch, or by an empty one."""
        old = self.disk
        if self.server is not None:
            self.server.process.kill()
        number = int(old.uuid.rsplit("-", 1)[1]) + 1
        name = f"journal-{number}"
        self.disk = self.disks[name] = Disk(name, self.world.stream(f"disk {number}"))
        if not emptied:
            copy = old.rows
            self.disk.rows.jobs = dict(copy.jobs)
            self.disk.rows.workers = dict(copy.workers)
            self.disk.rows.stops = dict(copy.stops)
            self.disk.rows.pauses = dict(copy.pauses)
            self.disk.steered.come_from(old.steered)
            self.disk.rows.queues = dict(copy.queues)
            self.disk.queued.come_from(old.queued)
            self.disk.rows.tails = dict(copy.tails)
            self.disk.rows.parts = dict(copy.parts)
            self.disk.rows.next_job = (copy.next_job // EPOCH_STEP + 1) * EPOCH_STEP
            self.disk.contexts = dict(old.contexts)
            self.disk.tokens = dict(old.tokens)
        self.world.after(0.5, self.start_server)

    # ---------------------------------------------------------------- peace, and the end

    def _make_peace(self) -> None:
        """No more faults; what is dead is started."""
        self._over = True
        self.truth.tell("-- peace")
        network, disk = self.network, self.disk
        network.rare_delay_chance = network.duplicate_chance = 0.0
        network.heal_all()
        disk.full = False
        self.server_host.up = True
        self.start_server()
        for name, machine in self.machines.items():
            machine.hidden.clear()
            machine.lacks_tool = False
            machine.sick = False
            machine.power_on()
            self.start_agent(name)
        self.truth.licences = MOST_LICENCES
        self._client(60.0).ask(lambda client: client.reload(), until_done=True)

    def _resume_paused(self) -> None:
        """Nothing stays paused, or held; whoever wanted a pause before the peace may be answered only now."""
        server = self.server
        if server is None or not server.process.alive:
            return
        workers = server.server.core.workers(self.world.now)
        names = [worker.name for worker in workers if worker.paused is not None]
        if names:
            self._client(60.0).ask(lambda client: client.resume_workers(names))
        queues = server.server.core.queues(self.world.now)
        paused = [queue.name for queue in queues if queue.paused is not None]
        if paused:
            self._client(60.0).ask(lambda client: client.resume_queues(paused))
        if held_jobs(server.server.core):
            self.following.are_let_go = True
            waiting = Selector(states=("waiting",))
            self._client(60.0).ask(lambda client: client.change(waiting, release=True))

    def _is_settled(self) -> bool:
        server = self.server
        if server is None or not server.process.alive or self.truth.live:
            return False
        if any(client.process.alive and client.busy for client in self.clients):
            return False
        if any(process.frozen for process in self._processes()):
            return False
        counts = server.server.core.counts(self.world.now)
        if counts.waiting + counts.pending + counts.offered + counts.running:
            return False
        return all(
            machine.agent is not None
            and machine.agent.process.alive
            and not any(key.startswith(self.disk.uuid) for key in machine.records)
            for machine in self.machines.values()
        )

    def _check(self) -> None:
        """What must be so when all is quiet."""
        server, truth = self.server, self.truth
        assert server is not None
        core, journal = server.server.core, self.disk.uuid
        table = all_jobs(core)
        core.check_invariants()
        for client in self.clients:
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
        self.verbs.check(journal, core, self.disk.rows.dropped)
        check_keys(core, journal)
        self.following.check(journal, core)
        for number, entry in table.items():
            self._check_job(journal, number, entry)
        for run in truth.live.values():
            raise PromiseBrokenError("end", f"{run.key} still runs on {run.host}", (run.journal, run.job))
        for machine in self.machines.values():
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
        truth, key = self.truth, (journal, number)
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
        if left and failed_itself and number not in self.verbs.to_kill:
            raise PromiseBrokenError("G10", f"job {number} was not tried again, {left} times are left", key)
        if outcome is not None and outcome.exit_code is not None:
            if not mine or mine[0].how in ("power", "left over") or mine[0].code != outcome.exit_code:
                raise PromiseBrokenError("G6", f"job {number} shows {outcome}, {mine} ran", key)
            tails = self.disk.rows.tails.get((number, job.attempt))
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
        deaths = self.machines[run.host].keeper_deaths
        return not any(ended - 1.0 < death < seen + SEEN_SECONDS for death in deaths)

    def _was_cleaned(self, job: int) -> bool:
        """Has a person (or the retention, after a jump of the clock) had it dropped?"""
        return job in self.disk.rows.dropped


def _spec_name(core: Any, number: int) -> str:
    """Empty for a new run of another job."""
    view = core.job_view(number, 0.0, attempts=False)
    assert view is not None
    return "" if view.rerun_of is not None else str(view.name)


# ---------------------------------------------------------------- what is stood in for


@contextlib.contextmanager
def _stood_in(simulation: Simulation) -> Iterator[None]:
    """Clocks, randomness and connecting are the simulation's; errors in logs are faults."""
    world, network = simulation.world, simulation.network
    bits = world.stream("secrets")

    async def connect(
        host: str,
        port: int,
        *,
        role: Role,
        secret: str,
        version: str,
        handler: Handler,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Link:
        process = world.current
        assert process is not None
        return await network.connect(process, process.host, simulation.server_host, role, handler, timeout)

    def wall() -> float:
        return WALL + world.now if world.current is None else world.current.wall

    patches: list[tuple[Any, str, Any]] = [
        (kueue.async_client, "connect", connect),
        (kueue_worker.server_session, "connect", connect),
        (time, "time", wall),
        (time, "monotonic", lambda: 1000.0 + world.now),
        (secrets, "randbits", bits.getrandbits),
        (secrets, "token_hex", lambda size=16: f"{bits.getrandbits(8 * size):0{2 * size}x}"),
        (random, "uniform", world.stream("uniform").uniform),
    ]
    # So that verbs of some ten jobs go through the table in several portions.
    core = kueue_server.core
    patches += [
        (module, "PORTION", 3 * CHANGE_COST)
        for module in (core.core, core.selection, core.verbs, core.rerunning, core.dependencies)
    ]
    handler = _Faults(world)
    loggers = [logging.getLogger(name) for name in ("kueue", "kueue_server", "kueue_worker")]
    kept = [(logger.level, logger.propagate) for logger in loggers]
    with contextlib.ExitStack() as stack:
        for target, name, replacement in patches:
            stack.enter_context(mock.patch.object(target, name, replacement))
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.ERROR)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, (level, propagate) in zip(loggers, kept, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
                logger.propagate = propagate


class _Faults(logging.Handler):
    """An exception that ends up in the log is a fault of the product."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        if record.exc_info and record.exc_info[1] is not None:
            self._world.faults.append(record.exc_info[1])
