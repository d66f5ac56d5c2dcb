"""Hosts for the supervisor: network, host name, processes, mounts, boot id and sshd of their own, one shared home.

The hosts are around a desk, on which people sit and the server runs; each is on a link of its own to it. A host is
killed with all its processes at once, and boots again with another boot id. It needs root, and touches nothing
outside its namespaces but its own directory.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_for

DESK = "desk"
USER = "lab"
UID = 4242
HOME = f"/home/{USER}"
NOBODY = "02:00:00:00:00:ff"
"""A hardware address that no host has: what is sent there vanishes."""
ROOT = Path(__file__).resolve().parents[2]
BOOT = Path(__file__).with_name("boot.sh")
PROGRAMS = ("unshare", "nsenter", "setpriv", "ip", "ssh-keygen", "screen", "tmux")


@functools.cache
def why_no_hosts() -> str:
    """Why no hosts can be made here, empty if they can."""
    if os.getuid() != 0:
        return "hosts in namespaces of their own need root"
    if not os.access("/usr/sbin/sshd", os.X_OK):
        return "there is no sshd here (openssh-server)"
    for program in PROGRAMS:
        if shutil.which(program) is None:
            return f"there is no {program} here"
    if not (Path(sys.prefix) / "bin" / "kueue_worker").exists():
        return "kueue is not installed beside this Python, as it is on a shared home"
    for place in _ours():
        if place.startswith(("/var/", "/run/", "/etc/")):
            return f"{place} is where hosts have files of their own"
    probe = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "true"]
    done = subprocess.run(probe, capture_output=True, text=True)
    return "" if done.returncode == 0 else f"no namespaces can be made here: {done.stderr.strip()}"


class RealHost:
    """One machine. `number` makes its address; `files` is what it alone has, and keeps across boots."""

    def __init__(self, name: str, number: int, files: Path) -> None:
        self.name = name
        self.number = number
        self.files = files
        self.address = f"10.79.{number}.2" if number else "10.79.0.1"
        self.holder: subprocess.Popen[bytes] | None = None

    @property
    def is_up(self) -> bool:
        """Has it booted, and not been killed?"""
        return self.holder is not None and self.holder.poll() is None

    @property
    def pid(self) -> int:
        """Of its first process, as it is seen from outside."""
        assert self.holder is not None
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()
        return int(children[0])


class RealHosts:
    """The desk and others around it. All of it is ended and removed by `close`."""

    def __init__(self, place: Path, names: Sequence[str], shells: Mapping[str, str] | None = None) -> None:
        self.place = place
        self.home = place / "home"
        self.hosts: dict[str, RealHost] = {}
        self._shells = dict(shells or {})
        os.chmod(place, 0o755)
        self.home.mkdir()
        (self.home / ".ssh").mkdir(mode=0o700)
        for number, name in enumerate((DESK, *names)):
            self.hosts[name] = RealHost(name, number, place / "hosts" / name)
        self._make_keys()
        for host in self.hosts.values():
            self._make_files(host)
        for folder, _, files in os.walk(self.home):
            os.chown(folder, UID, UID)
            for name in files:
                os.chown(os.path.join(folder, name), UID, UID, follow_symlinks=False)
        try:
            for name in self.hosts:
                self.boot(name)
        except BaseException:
            self.close()
            raise

    # ---------------------------------------------------------------- power

    def boot(self, name: str) -> None:
        """Switch a host on; returns when its sshd listens."""
        host = self.hosts[name]
        assert not host.is_up
        (host.files / "boot_id").write_text(f"{uuid.uuid4()}\n")
        log = (host.files / "console").open("ab")
        host.holder = subprocess.Popen(
            [
                *(
                    "unshare",
                    "--net",
                    "--uts",
                    "--ipc",
                    "--pid",
                    "--mount",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                ),
                *("sh", str(BOOT), name, str(host.files), str(self.home), USER, *_visible()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_for(f"{name} boots", lambda: self._is_listening(host))
        if host.number:
            self._wire(host)
        else:
            self.ip(DESK, "address", "add", f"{host.address}/32", "dev", "lo")

    def kill(self, name: str) -> None:
        """All processes of a host end at once, as when the power fails."""
        host = self.hosts[name]
        assert host.holder is not None
        host.holder.kill()  # and `--kill-child` ends its first process, with which the kernel ends the others
        host.holder.wait()
        if host.number:
            # The link goes with the host's network, as soon as the kernel gets round to it.
            self.ip(DESK, "link", "delete", f"link{host.number}", check=False)

    def cut(self, name: str) -> None:
        """From now on what is sent to or from this host vanishes without a trace."""
        number = self.hosts[name].number
        self._neighbour(DESK, f"link{number}", self.hosts[name].address, NOBODY)
        self._neighbour(name, "uplink", f"10.79.{number}.1", NOBODY)

    def mend(self, name: str) -> None:
        """All arrives again."""
        number = self.hosts[name].number
        self._neighbour(DESK, f"link{number}", self.hosts[name].address, _hardware(number, 2))
        self._neighbour(name, "uplink", f"10.79.{number}.1", _hardware(number, 1))

    def part(self, name: str) -> None:
        """From now on what this host sends to the desk's own address, the server's, vanishes; ssh goes on."""
        gateway = f"10.79.{self.hosts[name].number}.254"
        self._neighbour(name, "uplink", gateway, NOBODY)
        self.ip(name, "route", "add", f"{self.hosts[DESK].address}/32", "via", gateway)

    def unite(self, name: str) -> None:
        """That arrives again."""
        self.ip(name, "route", "delete", f"{self.hosts[DESK].address}/32")

    def close(self) -> None:
        """End every host."""
        for host in reversed(self.hosts.values()):
            if host.holder is not None:
                host.holder.kill()
                host.holder.wait()

    # ---------------------------------------------------------------- programs there

    def run(
        self,
        name: str,
        *words: str,
        check: bool = True,
        text: str | None = None,
        environment: Mapping[str, str] | None = None,
        seconds: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user on a host, at home."""
        done = subprocess.run(
            self.inside(name, environment) + list(words),
            input=text,
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd="/",
        )
        assert not check or done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, name: str, *words: str, **options: Any) -> subprocess.Popen[str]:
        """The same in the background."""
        return subprocess.Popen(self.inside(name) + list(words), text=True, cwd="/", **options)

    def inside(self, name: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """Words to put before a command that the user is to run there."""
        variables = {
            "HOME": HOME,
            "USER": USER,
            "LOGNAME": USER,
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        return [
            *(
                "nsenter",
                "--target",
                str(self.hosts[name].pid),
                "--net",
                "--uts",
                "--ipc",
                "--pid",
                "--mount",
            ),
            *("setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups"),
            *("env", "-i", "-C", HOME, *(f"{key}={value}" for key, value in variables.items())),
        ]

    def agents(self, name: str) -> list[int]:
        """Pids of the agents on a host, as they are there."""
        return self._pids(name, "-x", "kueue_worker")

    def keepers(self, name: str) -> list[int]:
        """Pids of the keepers."""
        return self._pids(name, "-f", "kueue_worker.keeper")

    def pids(self, name: str, program: str) -> list[int]:
        """Pids of the user's processes of this name."""
        return self._pids(name, "-x", program)

    def _pids(self, name: str, *words: str) -> list[int]:
        done = self.run(name, "pgrep", "-u", str(UID), *words, check=False)
        return [int(word) for word in done.stdout.split()]

    def as_root(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host."""
        inside = ["nsenter", "--target", str(self.hosts[name].pid), "--net", "--uts", "--pid", "--mount"]
        return subprocess.run([*inside, *words], check=True, capture_output=True, text=True, timeout=60)

    def signal(self, name: str, signal: str, *pids: int) -> None:
        """Send a signal to processes of the user on a host."""
        if pids:
            self.run(name, "kill", f"-{signal}", *map(str, pids), check=False)

    # ---------------------------------------------------------------- ssh

    def change_host_key(self, name: str) -> None:
        """From its next connection on, a host shows another key."""
        host = self.hosts[name]
        (host.files / "host_key").unlink()
        (host.files / "host_key.pub").unlink()
        _make_key(host.files / "host_key")
        key = (host.files / "host_key").read_bytes()
        into = ["nsenter", "--target", str(host.pid), "--mount", "tee", "/run/sshd/host_key"]
        subprocess.run(into, input=key, check=True, capture_output=True)
        subprocess.run(["kill", "-HUP", str(host.pid)], check=True)
        wait_for(f"{name} listens again", lambda: self._is_listening(host))

    def set_shell(self, name: str, shell: str) -> None:
        """The user's login shell on a host, from the next login on."""
        self._shells[name] = shell
        (self.hosts[name].files / "passwd").write_text(self._passwd(name))

    def know_hosts(self) -> None:
        """Put all host keys into the user's `known_hosts`."""
        lines = []
        for host in self.hosts.values():
            kind, key, *_ = (host.files / "host_key.pub").read_text().split()
            lines.append(f"{host.name},{host.address} {kind} {key}\n")
        self.write_home(".ssh/known_hosts", "".join(lines))

    def write_home(self, path: str, text: str, mode: int = 0o600) -> Path:
        """A file of the user's."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        for each in (file, *file.parents):
            os.chown(each, UID, UID)
            if each == self.home:
                break
        return file

    # ---------------------------------------------------------------- making them

    def ip(self, name: str, *words: str, check: bool = True) -> None:
        """Run `ip` on a host, as root."""
        inside = ["nsenter", "--target", str(self.hosts[name].pid), "--net"]
        subprocess.run([*inside, "ip", *words], check=check, capture_output=True, timeout=30)

    def _wire(self, host: RealHost) -> None:
        number, link = host.number, f"link{host.number}"
        self.ip(
            DESK,
            *("link", "add", "name", link, "address", _hardware(number, 1), "type", "veth"),
            *("peer", "name", "uplink", "address", _hardware(number, 2), "netns", str(host.pid)),
        )
        self.ip(DESK, "address", "add", f"10.79.{number}.1/24", "dev", link)
        self.ip(DESK, "link", "set", link, "up")
        self.ip(host.name, "address", "add", f"{host.address}/24", "dev", "uplink")
        self.ip(host.name, "link", "set", "uplink", "up")
        self.ip(host.name, "route", "add", "default", "via", f"10.79.{number}.1")
        self.mend(host.name)

    def _neighbour(self, name: str, device: str, address: str, hardware: str) -> None:
        words = ("neighbour", "replace", address, "lladdr", hardware, "nud", "permanent", "dev", device)
        self.ip(name, *words)

    def _is_listening(self, host: RealHost) -> bool:
        assert host.holder is not None
        console = (host.files / "console").read_text(errors="replace")
        assert host.holder.poll() is None, console
        try:
            rows = Path(f"/proc/{host.pid}/net/tcp").read_text().splitlines()[1:]
            name = Path(f"/proc/{host.pid}/comm").read_text()
        except (OSError, IndexError):
            return False
        return name == "sshd\n" and any(
            row.split()[1].endswith(":0016") and row.split()[3] == "0A" for row in rows
        )

    def _make_keys(self) -> None:
        _make_key(self.home / ".ssh" / "id_ed25519")
        shutil.copy(self.home / ".ssh" / "id_ed25519.pub", self.home / ".ssh" / "authorized_keys")

    def _make_files(self, host: RealHost) -> None:
        files = host.files
        (files / "var_tmp").mkdir(parents=True)
        (files / "var_tmp").chmod(0o1777)
        _make_key(files / "host_key")
        (files / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (files / "passwd").write_text(self._passwd(host.name))
        (files / "shadow").write_text(Path("/etc/shadow").read_text() + f"{USER}:*:19000:0:99999:7:::\n")
        names = "".join(f"{each.address} {each.name}\n" for each in self.hosts.values())
        (files / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        (files / "sshd_config").write_text(
            "Port 22\nListenAddress 0.0.0.0\nHostKey /run/sshd/host_key\nPidFile none\nUsePAM no\nUseDNS no\n"
            "PasswordAuthentication no\nPrintMotd no\nMaxStartups 200\nLogLevel ERROR\n"
        )

    def _passwd(self, name: str) -> str:
        shell = self._shells.get(name, "/bin/bash")
        return Path("/etc/passwd").read_text() + f"{USER}:x:{UID}:{UID}::{HOME}:{shell}\n"


def _visible() -> list[str]:
    """Directories that every host has of its own, and what of ours is seen below them all the same."""
    shown = {os.path.realpath(place) for place in (sys.prefix, ROOT, sys.base_prefix)} | {
        sys.prefix,
        str(ROOT),
    }
    tops = {"/tmp", "/home"} | {"/" + place.split("/")[1] for place in shown} - {"/usr", "/opt"}
    below = sorted(place for place in shown if any(place.startswith(f"{top}/") for top in tops))
    return [":".join(sorted(tops)), *below]


def _ours() -> set[str]:
    """Where the programs, their Python and these sources are, by every name that somebody may use."""
    return {os.path.realpath(place) for place in (sys.prefix, ROOT, sys.base_prefix)} | {
        sys.prefix,
        str(ROOT),
    }


def _make_key(place: Path) -> None:
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(place)]
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def _hardware(number: int, end: int) -> str:
    return f"02:00:00:00:{number:02x}:{end:02x}"
