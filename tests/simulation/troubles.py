"""What goes wrong in a run."""

from __future__ import annotations

from functools import partial

from tests.simulation.disk import Disk
from tests.simulation.parts import Parts
from tests.simulation.world import Process

EPOCH_STEP = 100_000


class Troubles(Parts):
    """An action `x` of a schedule is `do_x`."""

    def do_kill(
        self, part: str, down: float, host: str | None = None, instruction: int | None = None
    ) -> None:
        """SIGKILL, now or at an instruction; started again after a while."""
        self.kill(part, down, host, instruction)

    def do_freeze(self, part: str, seconds: float, host: str | None = None) -> None:
        """SIGSTOP, and SIGCONT later."""
        for process in self.processes_of(part, host):
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
