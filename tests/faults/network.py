"""Hosts in network namespaces of their own, around a server's, whose links can be cut without a trace.

All of it is inside one user namespace, so nobody needs to be root. A link is cut by giving the neighbour's
address a wrong hardware address: the packets leave as ever, nobody takes them, nobody is told. That works in
each direction by itself, and needs no module of the kernel.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.support.lab import Lab

SERVER = "server"
SERVER_ADDRESS = "10.77.0.1"
NOBODY = "02:00:00:00:00:ff"
Direction = Literal["both", "from server", "to server"]


@functools.cache
def why_no_networks() -> str:
    """Why no namespaces can be made here, empty if they can."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"there is no {program} here"
    try:
        Network(("probe",)).close()
    except (OSError, subprocess.CalledProcessError, EOFError) as error:
        return f"no user namespace with networks can be made here: {error}"
    return ""


class _Host:
    """One network namespace, held by a process that ends with us. `number` makes its addresses."""

    def __init__(self, number: int, words: Sequence[str]) -> None:
        self.number = number
        self.address = f"10.77.{number}.2"
        self.holder = subprocess.Popen(
            [*words, "sh", "-c", "echo made; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.holder.stdout is not None
        assert self.holder.stderr is not None
        if self.holder.stdout.readline() != b"made\n":
            said = self.holder.stderr.read().decode(errors="replace").strip()
            self.end()
            raise EOFError(said)

    def end(self) -> None:
        """Let go of the namespace; it lives as long as programs are in it."""
        self.holder.kill()
        self.holder.wait()
        for pipe in (self.holder.stdin, self.holder.stdout, self.holder.stderr):
            assert pipe is not None
            pipe.close()


class Network:
    """The server's host and others around it, each on a link of its own to the server's."""

    def __init__(self, names: Sequence[str]) -> None:
        self._hosts: dict[str, _Host] = {}
        try:
            self._hosts[SERVER] = _Host(0, ("unshare", "--user", "--map-root-user", "--net"))
            self.ip(SERVER, "link", "set", "lo", "up")
            self.ip(SERVER, "address", "add", f"{SERVER_ADDRESS}/32", "dev", "lo")
            for number, name in enumerate(names, 1):
                self._add(number, name)
        except BaseException:
            self.close()
            raise

    def _add(self, number: int, name: str) -> None:
        user = ("nsenter", "--target", str(self.pid(SERVER)), "--user", "--preserve-credentials")
        self._hosts[name] = _Host(number, (*user, "unshare", "--net"))
        link = f"link{number}"
        self.ip(
            SERVER,
            *("link", "add", "name", link, "address", _hardware(number, SERVER), "type", "veth"),
            *("peer", "name", "uplink", "address", _hardware(number, name), "netns", str(self.pid(name))),
        )
        self.ip(SERVER, "address", "add", f"10.77.{number}.1/24", "dev", link)
        self.ip(SERVER, "link", "set", link, "up")
        self.ip(name, "link", "set", "lo", "up")
        self.ip(name, "address", "add", f"10.77.{number}.2/24", "dev", "uplink")
        self.ip(name, "link", "set", "uplink", "up")
        self.ip(name, "route", "add", "default", "via", f"10.77.{number}.1")
        self.mend(name)

    def pid(self, name: str) -> int:
        """Of a process in the namespace of this host."""
        return self._hosts[name].holder.pid

    def inside(self, name: str) -> list[str]:
        """Words to put before a command that is to run on this host; it becomes that command."""
        return ["nsenter", "--target", str(self.pid(name)), "--user", "--net", "--preserve-credentials"]

    def ip(self, host: str, *words: str) -> None:
        """Run `ip` on a host."""
        subprocess.run([*self.inside(host), "ip", *words], check=True, capture_output=True, timeout=30)

    def connect_all(self) -> None:
        """From now on the hosts around reach each other, too, by way of the server's."""
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run([*self.inside(SERVER), "sh", "-c", forward], check=True, timeout=30)

    def cut(self, name: str, direction: Direction = "both") -> None:
        """From now on what is sent between this host and the server's vanishes, in one direction or both."""
        if direction != "to server":
            self._neighbour(SERVER, f"link{self._number(name)}", self._hosts[name].address, NOBODY)
        if direction != "from server":
            self._neighbour(name, "uplink", f"10.77.{self._number(name)}.1", NOBODY)

    def mend(self, name: str) -> None:
        """All arrives again."""
        number = self._number(name)
        self._neighbour(SERVER, f"link{number}", self._hosts[name].address, _hardware(number, name))
        self._neighbour(name, "uplink", f"10.77.{number}.1", _hardware(number, SERVER))

    def close(self) -> None:
        """Let go of all of it."""
        for host in self._hosts.values():
            host.end()
        self._hosts.clear()

    def _number(self, name: str) -> int:
        return self._hosts[name].number

    def _neighbour(self, host: str, device: str, address: str, hardware: str) -> None:
        self.ip(
            host, *("neighbour", "replace", address, "lladdr", hardware, "nud", "permanent", "dev", device)
        )


def _hardware(number: int, end: str) -> str:
    return f"02:00:00:00:{number:02x}:{1 if end == SERVER else 2:02x}"


class NetworkLab(Lab):
    """A lab whose server, workers and clients are on hosts of a network; workers on the one of their name."""

    host = SERVER_ADDRESS

    def __init__(self, place: Path, network: Network, **settings: str) -> None:
        self.network = network
        self.client_host = SERVER
        super().__init__(place, **settings)

    def before(self, program: str, name: str = "") -> list[str]:
        """Each program starts on its host."""
        where = {"server": SERVER, "worker": name, "client": self.client_host}[program]
        return self.network.inside(where)

    def is_listening(self) -> bool:
        """Looks from outside: this process is on none of the hosts."""
        return self._sockets("0A") > 0

    def connections(self) -> int:
        """How many connections the server's host takes for alive at the server's port."""
        return self._sockets("01")

    def _sockets(self, state: str) -> int:
        rows = Path(f"/proc/{self.network.pid(SERVER)}/net/tcp").read_text().splitlines()[1:]
        fields = [row.split() for row in rows]
        return sum(row[1].endswith(f":{self.port:04X}") and row[3] == state for row in fields)

    def close(self) -> None:
        """End the programs, then their hosts."""
        super().close()
        self.network.close()
