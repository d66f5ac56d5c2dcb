"""The parts of one run, and what starts and kills them."""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.simulation.agent import SimulatedAgent
from tests.simulation.arrays import ArrayTruth
from tests.simulation.client import SimulatedClient
from tests.simulation.disk import Disk
from tests.simulation.following import FollowTruth
from tests.simulation.machine import Machine
from tests.simulation.network import Network
from tests.simulation.queueing import started
from tests.simulation.schedule import LICENCES, MACHINES, Schedule
from tests.simulation.server import SimulatedServer, config_with
from tests.simulation.sickness import pause_after
from tests.simulation.truth import Truth
from tests.simulation.verbs import VerbTruth
from tests.simulation.world import Host, Process, World

CPUS = {"w1": 1, "w2": 2, "w3": 4}


class Parts:
    """Server, workers, clients, the network between them, and the model of what is true."""

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

    def client(self, patience: float) -> SimulatedClient:
        name = f"client{len(self.clients) + 1}"
        client = SimulatedClient(self.world, name, self.truth, self.verbs, lambda: self.disk.uuid, patience)
        self.clients.append(client)
        return client

    def processes_of(self, part: str, host: str | None) -> list[Process]:
        """Those of a part: `server`; of a host `agent`, `keeper` or `both`."""
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

    def processes(self) -> list[Process]:
        """All of the server and the workers that there are."""
        return self.processes_of("server", None) + [
            part for name in MACHINES for part in self.processes_of("both", name)
        ]

    def kill(self, part: str, down: float, host: str | None = None, instruction: int | None = None) -> None:
        """SIGKILL, now or at an instruction; started again after a while."""
        for process in self.processes_of(part, host):
            if instruction is not None and process.alive:
                process.died.append(partial(self.come_back, part, host, down))
                process.kill_at_instruction(instruction)
            else:
                process.kill()
        if instruction is None:
            self.come_back(part, host, down)

    def come_back(self, part: str, host: str | None, down: float) -> None:
        """Start it again after a while."""
        if part == "server":
            self.world.after(down, self.start_server)
        elif host is not None:
            self.world.after(down, partial(self.start_agent, host))
