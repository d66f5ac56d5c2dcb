"""One run: the schedule carried out on all the parts, peace made, the promises checked at the end."""

from __future__ import annotations

import gc
import zlib
from dataclasses import dataclass, field
from functools import partial

from kueue.wire.messages import Selector
from tests.simulation.ending import Ending
from tests.simulation.following import held_jobs
from tests.simulation.people import People
from tests.simulation.schedule import FAULTS, MACHINES, Action, Schedule
from tests.simulation.standing_in import stood_in
from tests.simulation.troubles import Troubles
from tests.simulation.truth import PromiseBrokenError

PATIENCE_SECONDS = 4 * 3600.0
"""How long after the last fault everything may take to come to its end."""
COLLECT_EVERY = 20
MOST_LICENCES = 4


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
    with stood_in(simulation):
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


class Simulation(People, Troubles):
    """A schedule, carried out."""

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
            Ending(self).check()

    def _act(self, action: Action) -> None:
        if self._over:
            return
        self.truth.tell(f"-- {action}")
        self.truth.count(f"{'fault' if action.what in FAULTS else 'people'}: {action.what}")
        getattr(self, "do_" + action.what.replace(" ", "_"))(**action.how)

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
        self.client(60.0).ask(lambda client: client.reload(), until_done=True)

    def _resume_paused(self) -> None:
        """Nothing stays paused, or held; whoever wanted a pause before the peace may be answered only now."""
        server = self.server
        if server is None or not server.process.alive:
            return
        workers = server.server.core.workers(self.world.now)
        names = [worker.name for worker in workers if worker.paused is not None]
        if names:
            self.client(60.0).ask(lambda client: client.resume_workers(names))
        queues = server.server.core.queues(self.world.now)
        paused = [queue.name for queue in queues if queue.paused is not None]
        if paused:
            self.client(60.0).ask(lambda client: client.resume_queues(paused))
        if held_jobs(server.server.core):
            self.following.are_let_go = True
            waiting = Selector(states=("waiting",))
            self.client(60.0).ask(lambda client: client.change(waiting, release=True))

    def _is_settled(self) -> bool:
        server = self.server
        if server is None or not server.process.alive or self.truth.live:
            return False
        if any(client.process.alive and client.busy for client in self.clients):
            return False
        if any(process.frozen for process in self.processes()):
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
