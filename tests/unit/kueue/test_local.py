"""The local server and worker: started once, in the background, and ended; stubs stand in for the daemons.

The stubs are real processes: the server's binds a port and writes the owner file as `kueue_server --local`
does, the worker's waits for a signal.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kueue import local
from kueue.address import local_host, may_start, resolve_address
from kueue.client_config import ClientConfig, load_client_config
from kueue.errors import ServerUnreachableError, UsageError
from kueue.local import ensure_running, stop_local, worker_process, write_worker_pid
from kueue.owner import Owner, owner_path, read_owner, this_process, write_process
from kueue.processes import is_alive, wait_until_ended
from tests.support.waiting import wait_for

SERVER = """
import os, signal, socket, sys, time
from pathlib import Path
from kueue.client_config import load_client_config
from kueue.owner import remove_owner, write_owner
assert sys.argv[1] == "--local", sys.argv
config = load_client_config(sys.argv[3], create=False)
place = Path(os.environ["STUB_PLACE"])
(place / f"server.{os.getpid()}").write_text(repr(dict(os.environ)))
if (place / "server fails").exists():
    print("an earlier line")
    sys.exit("kueue_server: the journal is on fire")
listener = socket.create_server(("127.0.0.1", 0))
def end(number, _):
    if number == signal.SIGTERM:
        (place / "terminated").touch()
    else:
        time.sleep(0.3)
    remove_owner(config.state_dir)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGUSR1, end)
if (place / "server hangs").exists():
    time.sleep(600)
write_owner(config.state_dir, listener.getsockname()[1])
print("serving", flush=True)
while True:
    listener.accept()[0].close()
"""

WORKER = """
import os, signal, sys, time
from pathlib import Path
place = Path(os.environ["STUB_PLACE"])
(place / f"worker.{os.getpid()}").touch()
if (place / "worker fails").exists():
    sys.exit("kueue_worker: another worker of this name runs here")
if (place / "worker has jobs").exists():
    signal.signal(signal.SIGINT, lambda *_: (place / "interrupted").touch())
else:
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
while True:
    time.sleep(600)
"""


class Place:
    """A configuration of its own, with stubs for the daemons."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: list[str] = []
        path = root / "config.toml"
        path.touch(mode=0o600)
        self.write()

    def write(self, more: str = "") -> None:
        text = f'[common_settings]\nshared_secret = "{"s" * 30}"\nstate_dir = "{self.root}/state"\n{more}\n'
        (self.root / "config.toml").write_text(text)

    @property
    def config(self) -> ClientConfig:
        return load_client_config(self.root / "config.toml")

    def starts(self, kind: str) -> list[int]:
        return [int(path.suffix[1:]) for path in self.root.glob(f"{kind}.*[0-9]")]

    def up(self, **options: bool | float) -> local.LocalAddress:
        return ensure_running(self.config, self.said.append, **options)  # type: ignore[arg-type]

    def down(self, kill: bool = False) -> bool:
        def ask() -> None:
            raise ServerUnreachableError("stubs understand signals only")

        return stop_local(self.config, kill, self.said.append, ask=ask)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "stub_of_the_server.py").write_text(SERVER)
    (modules / "stub_of_the_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)
    monkeypatch.setenv("STUB_PLACE", str(tmp_path))
    monkeypatch.setattr(local, "SERVER_MODULE", "stub_of_the_server")
    monkeypatch.setattr(local, "WORKER_MODULE", "stub_of_the_worker")
    monkeypatch.setattr(local, "WORKER_WATCH_SECONDS", 0.3)
    place = Place(tmp_path)
    yield place
    for pid in place.starts("server") + place.starts("worker"):
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
            wait_until_ended(pid, None, 10)


# ---------------------------------------------------------------- starting


def test_server_and_worker_are_started_and_said_in_one_line(place: Place) -> None:
    assert may_start(place.config)
    address = place.up()
    assert address.started == ("server", "worker")
    assert address.host == "127.0.0.1"
    assert resolve_address(place.config) == (address.host, address.port)
    socket.create_connection((address.host, address.port), 5).close()
    [line] = place.said
    assert line == (
        f"started a local server and worker (port {address.port}, logs in {place.root}/state/log);"
        " kueue down ends them"
    )
    assert not may_start(place.config)


def test_starting_again_changes_nothing_and_says_nothing(place: Place) -> None:
    first = place.up()
    place.said.clear()
    assert place.up() == (first.host, first.port, ())
    assert place.said == []
    assert len(place.starts("server")) == len(place.starts("worker")) == 1


def test_what_is_missing_is_started(place: Place) -> None:
    assert place.up(worker=False).started == ("server",)
    assert place.starts("worker") == []
    assert place.up(server=False).started == ("worker",)
    assert place.said[1].startswith("started a local worker (port ")


def test_no_server_is_started_when_only_the_worker_is_wanted(place: Place) -> None:
    with pytest.raises(ServerUnreachableError, match="kueue up starts one"):
        place.up(server=False)
    assert place.starts("server") == place.starts("worker") == []


def test_parallel_first_calls_start_one(place: Place) -> None:
    command = [
        sys.executable,
        "-c",
        "import sys\nfrom kueue import local\nfrom kueue.client_config import load_client_config\n"
        "local.SERVER_MODULE, local.WORKER_MODULE = 'stub_of_the_server', 'stub_of_the_worker'\n"
        "local.WORKER_WATCH_SECONDS = 0.3\n"
        "print(local.ensure_running(load_client_config(sys.argv[1]), print).port)",
        str(place.root / "config.toml"),
    ]
    root = str(Path(local.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": f"{root}:{os.environ['PYTHONPATH']}"}
    programs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(5)]
    said = [process.communicate(timeout=60)[0].splitlines() for process in programs]
    assert [process.returncode for process in programs] == [0] * 5
    assert len({lines[-1] for lines in said}) == 1
    assert sum(len(lines) for lines in said) == 6  # five ports, and one line about the start
    assert len(place.starts("server")) == len(place.starts("worker")) == 1


def test_parallel_first_calls_of_threads_start_one(place: Place) -> None:
    config = place.config
    ports: list[int] = []

    def up() -> None:
        ports.append(ensure_running(config, place.said.append).port)

    threads = [threading.Thread(target=up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ports) == 4
    assert len(set(ports)) == 1
    assert len(place.said) == 1


def test_the_daemons_are_detached_from_terminal_directory_and_descriptors(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUEUE_JOB_ID", "17")
    monkeypatch.setenv("KUEUE_FENCE", "4711")
    monkeypatch.setenv("KUEUE_STATE_DIR", str(place.root / "elsewhere"))
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    place.up()
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody has the other end any more
    os.close(reader)
    for pid in [*place.starts("server"), *place.starts("worker")]:
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
        assert os.readlink(f"/proc/{pid}/fd/2").startswith(f"{place.root}/elsewhere/log/")
    [pid] = place.starts("server")
    environment = (place.root / f"server.{pid}").read_text()
    assert "KUEUE_JOB_ID" not in environment
    assert "KUEUE_FENCE" not in environment
    assert f"'KUEUE_STATE_DIR': '{place.root}/elsewhere'" in environment
    assert f"'KUEUE_CONFIG': '{place.root}/config.toml'" in environment
    log = place.root / "elsewhere/log/server.log"
    assert log.read_text() == "serving\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_server_that_ends_at_once_is_told_with_its_last_line(place: Place) -> None:
    (place.root / "server fails").touch()
    with pytest.raises(ServerUnreachableError) as caught:
        place.up()
    log = place.root / "state/log/server.log"
    assert str(caught.value) == f"the local server did not start: the journal is on fire (log: {log})"
    assert place.starts("worker") == []
    (place.root / "server fails").unlink()
    assert place.up().started == ("server", "worker")


def test_a_server_that_is_not_ready_in_time_is_told_with_its_log(place: Place) -> None:
    (place.root / "server hangs").touch()
    with pytest.raises(ServerUnreachableError, match=r"is not ready after 0\.5 s; its log: .*server\.log"):
        place.up(seconds=0.5)


def test_a_worker_that_ends_at_once_is_told_and_no_failure_of_the_server(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "WORKER_WATCH_SECONDS", 30.0)
    (place.root / "worker fails").touch()
    assert place.up().started == ("server",)
    assert place.said[0].startswith("started a local server (port ")
    log = place.root / "state/log/worker.log"
    assert place.said[1] == (
        f"the local worker ended at once: another worker of this name runs here (log: {log})"
    )
    assert worker_process(place.config) is None


def test_a_big_log_is_put_aside_at_a_start_and_a_small_one_appended_to(place: Place) -> None:
    logs = place.root / "state/log"
    logs.mkdir(parents=True)
    (logs / "server.log").write_bytes(b"old\n" * (5 * 1024 * 1024 // 4 + 1))
    (logs / "worker.log").write_bytes(b"old\n")
    place.up()
    assert (logs / "server.log").read_text() == "serving\n"
    assert (logs / "server.log.1").stat().st_size > 5 * 1024 * 1024
    assert (logs / "worker.log").read_text() == "old\n"
    assert not (logs / "worker.log.1").exists()


def test_a_server_that_was_killed_is_replaced(place: Place) -> None:
    place.up()
    [pid] = place.starts("server")
    os.kill(pid, signal.SIGKILL)
    assert wait_until_ended(pid, None, 10)
    assert may_start(place.config)
    assert read_owner(place.root / "state") is not None
    assert place.up().started == ("server",)
    assert place.up().started == ()
    assert len(place.starts("server")) == 2


def test_a_server_that_lives_but_takes_no_connection_is_told(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    process = subprocess.Popen(["sleep", "600"])
    try:
        write_process(owner_path(place.root / "state"), this_process(port, pid=process.pid))
        with pytest.raises(ServerUnreachableError, match=rf"\(pid {process.pid}\) does not answer on port"):
            place.up(seconds=0.2)
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- not here


def test_a_server_on_another_machine_of_the_home_is_named_and_none_started(place: Place) -> None:
    away = this_process(4711)._replace(host="ralab29", boot_id="another")
    write_process(owner_path(place.root / "state"), away)
    assert not may_start(place.config)
    for call in (place.up, place.down):
        with pytest.raises(ServerUnreachableError) as caught:
            call()
        assert (
            'the local server runs on ralab29, not here; use it there, or set server_name = "ralab29"'
            in str(caught.value)
        )
        assert str(owner_path(place.root / "state")) in str(caught.value)
    assert place.starts("server") == []


def test_a_server_of_another_name_is_never_started(place: Place) -> None:
    place.write('server_name = "ralab29"')
    assert not may_start(place.config)
    write_process(owner_path(place.root / "state"), this_process(4711))
    assert resolve_address(place.config) == ("ralab29", 11236)
    for call in (place.up, place.down):
        with pytest.raises(UsageError, match="the server is ralab29, not this machine"):
            call()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "[::1]", "LOCALHOST"])
def test_names_of_this_machine(place: Place, name: str) -> None:
    place.write(f'server_name = "{name}"')
    assert may_start(place.config)
    host, port = resolve_address(place.config)
    assert host == name.strip("[]")
    assert port == 11236


@pytest.mark.parametrize(
    ("bind", "address", "host"),
    [
        ("0.0.0.0 [::]", "", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("[::1]", "", "localhost"),
        ("0.0.0.0", "192.0.2.7", "192.0.2.7"),
    ],
)
def test_where_a_server_of_this_machine_is_reached(place: Place, bind: str, address: str, host: str) -> None:
    place.write(f'[server_settings]\nbind_addresses = "{bind}"')
    owner = this_process(4711, address)
    write_process(owner_path(place.root / "state"), owner)
    assert local_host(place.config, owner) == host
    assert resolve_address(place.config) == (host, 4711)


def test_a_state_directory_that_can_t_be_made_is_one_line(place: Place) -> None:
    (place.root / "state").write_text("a file")
    with pytest.raises(ServerUnreachableError, match=r"can't use the state directory .*: Not a directory"):
        place.up()


def test_a_start_that_another_program_holds_up_is_not_waited_for_forever(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "LOCK_SECONDS", 0.1)
    with (
        local.one_at_a_time(place.config),
        pytest.raises(ServerUnreachableError, match="another program has been at the local server"),
    ):
        place.up()


# ---------------------------------------------------------------- ending


def test_down_ends_both(place: Place) -> None:
    place.up()
    place.said.clear()
    assert place.down()
    assert place.said == ["the local server has ended", "the local worker has ended"]
    assert not any(is_alive(pid) for pid in place.starts("server") + place.starts("worker"))
    assert read_owner(place.root / "state") is None
    assert worker_process(place.config) is None
    assert may_start(place.config)


def test_down_without_anything_to_end_says_so(place: Place) -> None:
    assert not place.down()
    assert place.said == ["no local server is running"]


def test_down_leaves_a_worker_to_its_running_jobs_and_kill_does_not(place: Place) -> None:
    (place.root / "worker has jobs").touch()
    place.up()
    [worker] = place.starts("worker")
    place.said.clear()
    wait_for("the stub has its handlers", lambda: "SIGINT" in _caught_signals(worker))
    assert place.down()
    assert place.said == [
        "the local server has ended",
        f"the local worker (pid {worker}) ends when its jobs have; kueue down --kill ends them now",
    ]
    wait_for("the worker has got the signal", (place.root / "interrupted").exists)
    assert is_alive(worker)
    place.said.clear()
    assert place.down(kill=True)
    assert place.said == ["the local worker has ended"]
    assert not is_alive(worker)


def _caught_signals(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigCgt")).split()[1], 16)
    return {number.name for number in signal.Signals if mask >> (number - 1) & 1}


def test_a_server_that_was_asked_gets_no_signal(place: Place) -> None:
    place.up(worker=False)
    [pid] = place.starts("server")
    asked = []

    def ask() -> None:
        asked.append(True)
        os.kill(pid, signal.SIGUSR1)

    assert stop_local(place.config, False, place.said.append, ask=ask)
    assert asked == [True]
    assert not is_alive(pid)
    assert not (place.root / "terminated").exists()


def test_a_worker_that_the_server_did_not_reach_is_ended_with_kill(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "STOP_SECONDS", 1.0)
    place.up()
    [server], [worker] = place.starts("server"), place.starts("worker")
    assert stop_local(place.config, True, place.said.append, ask=lambda: os.kill(server, signal.SIGTERM))
    assert not is_alive(worker)
    assert place.said[1:] == ["the local server has ended", "the local worker has ended"]


def test_a_worker_is_noted_by_whoever_starts_it(place: Place) -> None:
    assert worker_process(place.config) is None
    write_worker_pid(place.config)
    noted = worker_process(place.config)
    assert isinstance(noted, Owner)
    assert noted.pid == os.getpid()
    assert place.up().started == ("server",)
