"""The blocking client against a scripted server over real TCP and TLS."""

from __future__ import annotations

import datetime
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

import kueue
from kueue import JobSpec
from kueue.client import Client
from kueue.effects import TRIES
from kueue.errors import (
    AuthenticationError,
    ConfigError,
    RequestError,
    ServerUnreachableError,
    UnknownJobError,
    UsageError,
    WaitTimeoutError,
)
from kueue.submitting import WINDOW
from kueue.wire import connection
from kueue.wire.messages import (
    Cancel,
    Context,
    Heartbeat,
    ListJobs,
    ListWorkers,
    RawBytes,
    Reason,
    Shutdown,
    Submit,
    Unwatch,
    Watch,
    WatchState,
)
from tests.support.dying_server import CHALLENGE, dying
from tests.support.lab import free_port
from tests.support.scripted_clients_server import SECRET, ClientsServer, clients_server
from tests.support.waiting import wait_for


@pytest.fixture
def server() -> Iterator[ClientsServer]:
    with clients_server() as found:
        yield found


@pytest.fixture
def client(server: ClientsServer) -> Iterator[Client]:
    with client_of(server) as found:
        yield found


def client_of(server: ClientsServer, **options: Any) -> Client:
    options.setdefault("connect_timeout", 10.0)
    return Client(address=("127.0.0.1", server.port), secret=SECRET, **options)


def specs(number: int) -> Iterator[JobSpec]:
    return (JobSpec(["true", str(index)]) for index in range(number))


def once(kind: type) -> Any:
    """True for the first message of a kind."""
    left = [True]

    def check(message: Any) -> bool:
        return isinstance(message, kind) and bool(left) and left.pop()

    return check


# ---------------------------------------------------------------- importing


def test_the_client_imports_no_asyncio_and_no_configuration() -> None:
    code = (
        "import sys, kueue; early = set(sys.modules); kueue.Client; kueue.JobSpec; kueue.as_completed;"
        "heavy = ('asyncio', 'pydantic', 'cryptography', 'uvloop', 'rich', 'typer', 'kueue.config');"
        "print([name for name in heavy if name in sys.modules], 'kueue.client' in early)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"


def test_every_exported_name_is_there() -> None:
    for name in kueue.__all__:
        assert getattr(kueue, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = kueue.nothing_of_that_name


# ---------------------------------------------------------------- submitting


def test_a_job_arrives_as_it_was_asked_for(server: ClientsServer, client: Client) -> None:
    job = client.submit(
        [b"./sim\xff", "in.dat"],
        cpus=4,
        ram_mb=2048,
        resources={"genus": 1, "ansys": 2},
        stdout="sim.log",
        cwd="/tmp/sub/..",
        name="a",
        priority=-5,
        time_limit=datetime.timedelta(minutes=2),
        env={"MODE": "fast"},
        workers=["lab*"],
    )
    assert (job.id, job.state, job.finished) == (1, "pending", False)
    spec = server.jobs[1]
    assert spec.payload.argv == (RawBytes(b"./sim\xff"), "in.dat")
    assert (spec.cwd, spec.volume, spec.stdout, spec.stderr) == ("/tmp", "/tmp", "sim.log", None)
    assert (spec.shape.cpus, spec.shape.ram_mb, spec.shape.workers) == (4, 2048, ("lab*",))
    assert spec.shape.resources == (("ansys", 2), ("genus", 1))
    assert (spec.name, spec.priority, spec.time_limit_seconds) == ("a", -5, 120.0)
    (submit,) = server.of(Submit)
    context = msgspec.json.decode(submit.contexts[0], type=Context)
    assert ("MODE", "fast") in context.env


def test_many_jobs_are_sent_in_batches_with_ids_in_their_order(server: ClientsServer, client: Client) -> None:
    counts: list[int] = []
    jobs = client.submit_many(specs(2500), progress=counts.append)
    assert [len(submit.jobs) for submit in server.of(Submit)] == [1000, 1000, 500]
    assert counts == [1000, 2000, 2500]
    assert [server.jobs[job.id].payload.argv[1] for job in jobs] == [str(index) for index in range(2500)]
    assert (len(jobs), jobs[0].id, jobs[-1].id, jobs.ranges) == (2500, 1, 2500, ((1, 2500),))
    assert [warning.text for warning in jobs.warnings] == ["no worker is there"]


def test_batches_are_cut_by_size_too(server: ClientsServer, client: Client) -> None:
    client.submit_many(JobSpec(["x", "\x01" * 100_000]) for _ in range(5))  # six bytes each in JSON
    sizes = [sum(len(spec.payload.argv[1]) * 6 for spec in submit.jobs) for submit in server.of(Submit)]
    assert sum(sizes) == 3_000_000
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_connection_makes_no_job_twice(server: ClientsServer, client: Client, moment: str) -> None:
    """Each batch is lost once: on its way there, or its answer, after the server has taken it."""
    lost: set[str] = set()

    def lose(message: Any) -> bool:
        if not isinstance(message, Submit) or message.token in lost:
            return False
        lost.add(message.token)
        return True

    setattr(server, moment, lose)
    jobs = client.submit_many(specs(3000))
    assert sorted(server.jobs) == list(range(1, 3001)) == [job.id for job in jobs]
    assert [spec.payload.argv[1] for _, spec in sorted(server.jobs.items())] == [str(n) for n in range(3000)]
    assert len({submit.token for submit in server.of(Submit)}) == 3
    assert server.connections == 4


def test_submitting_goes_on_over_a_restart_of_the_server(server: ClientsServer) -> None:
    said: list[str] = []
    with client_of(server, on_retry=said.append) as client:

        def slowly() -> Iterator[JobSpec]:
            for number, spec in enumerate(specs(3000)):
                if number == 1500:
                    server.until(lambda: len(server.jobs) == 1000)
                    server.stop()
                    threading.Timer(0.3, server.start).start()
                yield spec

        jobs = client.submit_many(slowly())
    assert len(jobs) == len(server.jobs) == 3000
    assert len(said) == 1
    assert "connection refused" in said[0]


def test_a_connection_that_never_holds_is_given_up(server: ClientsServer, client: Client) -> None:
    server.before = lambda message: True
    with pytest.raises(ServerUnreachableError, match="broke"):
        client.submit(["true"])
    assert len(server.of(Submit)) == TRIES


def test_a_job_that_is_refused_leaves_the_others_and_says_which(
    server: ClientsServer, client: Client
) -> None:
    server.refuse = lambda spec: (
        Reason("unknown_resource", "unknown resource x") if spec.payload.argv[1] == "1500" else None
    )
    with pytest.raises(UsageError, match="unknown resource x") as raised:
        client.submit_many(specs(20_000))
    notes = "\n".join(raised.value.__notes__)
    assert "begins with job 1001" in notes
    # What was on its way behind it is known, too, and nothing more was sent.
    assert f"1-{len(server.jobs)}" in notes
    assert 1000 <= len(server.jobs) < 1000 * (WINDOW + 2)
    assert client.submit(["true", "on"]).id == len(server.jobs)


def test_an_iterable_that_raises_leaves_nothing_in_doubt(server: ClientsServer, client: Client) -> None:
    def broken() -> Iterator[JobSpec]:
        yield from specs(1200)
        raise ValueError("my own")

    with pytest.raises(ValueError, match="my own") as raised:
        client.submit_many(broken())
    assert "1-1000" in raised.value.__notes__[0]
    assert len(server.jobs) == 1000


def test_jobs_are_taken_from_the_iterable_only_as_they_are_needed(
    server: ClientsServer, client: Client
) -> None:
    """Constant memory: never more than some batches ahead of what the server has taken."""
    ahead: list[int] = []

    def counted() -> Iterator[JobSpec]:
        for number, spec in enumerate(specs(20_000)):
            ahead.append(number - len(server.jobs))
            yield spec

    assert len(client.submit_many(counted())) == 20_000
    assert max(ahead) <= 1000 * (WINDOW + 2)


def test_progress_is_counted_in_place_on_a_terminal(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client.submit_many(specs(1500), progress=True)
    assert capsys.readouterr().err == "1500 jobs submitted\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    client.submit_many(specs(1500), progress=True)
    assert capsys.readouterr().err == "\r1000 jobs submitted\r1500 jobs submitted\n"


def test_nothing_to_submit_is_no_error(server: ClientsServer, client: Client) -> None:
    assert len(client.submit_many([])) == 0
    assert not server.received


# ---------------------------------------------------------------- waiting


def test_jobs_come_as_they_are_completed(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(3))
    server.change(2, "succeeded", return_code=0, worker="lab1", attempt=1, cpu_seconds=1.5)
    completed = client.as_completed(jobs, timeout=20)
    first = next(completed)
    assert (first.id, first.state, first.return_code, first.worker) == (2, "succeeded", 0, "lab1")
    assert (first.finished, first.succeeded, first.cpu_seconds) == (True, True, 1.5)
    server.change(1, "running", attempt=1)
    server.change(1, "failed", return_code=2, attempt=1)
    second = next(completed)
    assert (second.id, second.state, second.succeeded) == (1, "failed", False)
    server.change(3, "canceled")
    assert [job.state for job in completed] == ["canceled"]
    server.until(lambda: server.watching == 0)  # of many jobs a client that is idle now would be told much


def test_other_requests_go_over_the_connection_while_a_watch_goes_on(
    server: ClientsServer, client: Client
) -> None:
    todo = client.submit_many(specs(5))
    found = []
    for number in range(1, 6):
        server.change(number, "succeeded")
    for job in client.as_completed(todo):
        found.append(job.id)
        assert client.submit(["next"]).id == 5 + len(found)
        assert client.job(job).state == "succeeded"
    assert found == [1, 2, 3, 4, 5]
    assert server.connections == 1


def test_waiting_goes_on_over_a_lost_connection_from_where_it_was(
    server: ClientsServer, client: Client
) -> None:
    jobs = client.submit_many(specs(3))
    completed = client.as_completed(jobs)
    server.change(1, "succeeded")
    assert next(completed).id == 1
    seen = server.seq
    server.stop()
    server.change(2, "succeeded")
    server.start()
    assert next(completed).id == 2
    assert server.of(Watch)[-1].since == seen
    server.change(3, "succeeded")
    assert [job.id for job in completed] == [3]


def test_a_wait_ends_with_an_error_when_the_server_comes_back_with_another_journal(
    server: ClientsServer, client: Client
) -> None:
    completed = client.as_completed(client.submit_many(specs(2)))
    server.change(1, "succeeded")
    assert next(completed).id == 1
    server.stop()
    server.journal = "another"
    server.change(2, "failed")
    server.start()
    with pytest.raises(RequestError, match="another journal") as raised:
        next(completed)
    assert raised.value.code == "other_journal"


def test_who_waits_outwaits_the_server_and_whoever_asks_does_not(server: ClientsServer) -> None:
    said: list[str] = []
    with client_of(server, connect_timeout=0.2, on_retry=said.append) as client:
        client.submit(["true"])
        completed = client.as_completed(1, timeout=60)
        server.change(1, "running")
        changes = client.watch(1)
        assert next(changes).state == "running"
        server.stop()
        with pytest.raises(ServerUnreachableError):
            client.counts()
        server.change(1, "succeeded")
        threading.Timer(1.5, server.start).start()
        assert next(completed).succeeded
        assert next(changes).state == "succeeded"
    assert len([line for line in said if "still waiting" in line]) == 1


def test_a_timeout_holds_while_the_server_is_away(server: ClientsServer) -> None:
    with client_of(server, connect_timeout=30) as client:
        client.submit(["true"])
        changes = client.watch(1, timeout=0.7)
        assert next(changes).state == "pending"
        server.stop()
        began = time.monotonic()
        with pytest.raises(WaitTimeoutError):
            next(changes)
        assert time.monotonic() - began < 20


def test_a_wait_that_is_refused_for_long_ends(server: ClientsServer) -> None:
    with client_of(server, connect_timeout=0.5) as client:
        client.submit(["true"])
        changes = client.watch(1)
        assert next(changes).state == "pending"
        server.stop()
        server.start("another-secret-for-tests-0123456789abcdef")
        with pytest.raises(AuthenticationError):
            next(changes)


def test_a_watch_that_is_left_is_ended_at_the_server(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(2))
    server.change(1, "succeeded")
    for _ in client.as_completed(jobs):
        break
    gc.collect()
    server.until(lambda: server.watching == 0)
    assert len(server.of(Unwatch)) == 1
    assert client.counts().pending == 2


def test_a_wait_that_is_over_is_ended_at_the_server_with_the_next_request(
    server: ClientsServer, client: Client
) -> None:
    job = client.submit(["true"])
    server.change(1, "succeeded")
    assert client.wait(job).succeeded
    with client_of(server) as other:
        other.counts()
    assert server.of(Unwatch) == []
    assert client.wait(job).succeeded
    assert len(server.of(Unwatch)) == 1
    client.counts()
    server.until(lambda: server.watching == 0)
    order = [type(message) for message in server.received if isinstance(message, Watch | Unwatch)]
    assert order == [Watch, Unwatch, Watch, Unwatch]


def test_a_fresh_snapshot_after_resync_tells_nobody_twice(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(2))
    server.change(1, "succeeded")
    completed = client.as_completed(jobs)
    assert next(completed).id == 1
    server.change(1, "succeeded")  # told again
    server.change(2, "succeeded")
    assert [job.id for job in completed] == [2]


def test_a_timeout_says_so_and_leaves_the_client_usable(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(2))
    server.change(1, "succeeded")
    completed = client.as_completed(jobs, timeout=0.2)
    assert next(completed).id == 1
    with pytest.raises(WaitTimeoutError, match=r"0\.2 s"):
        next(completed)
    server.until(lambda: server.watching == 0)
    assert client.counts().pending == 2


def test_jobs_that_have_finished_already_need_no_time(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(2))
    for number in (1, 2):
        server.change(number, "succeeded")
    assert len(list(client.as_completed(jobs, timeout=0))) == 2


def test_an_unknown_job_is_nothing_to_wait_for(client: Client) -> None:
    assert client.wait(77).state == "unknown"


def test_more_ranges_than_one_watch_takes_are_watched_in_parts(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(30_000))
    odd = [job for job in jobs if job.id % 2]
    for number in range(1, 30_001):
        server.changes[number] = msgspec.structs.replace(server.changes[number], state="succeeded")
    assert sorted(job.id for job in client.as_completed(odd)) == [job.id for job in odd]
    assert len(server.of(Watch)) == 2
    assert all(len(watch.ranges) <= 10_000 for watch in server.of(Watch))


def test_as_completed_of_the_module_finds_the_client_of_the_jobs(
    server: ClientsServer, client: Client
) -> None:
    jobs = client.submit_many(specs(2))
    single = client.submit(["true"])
    for number in (1, 2, 3):
        server.change(number, "succeeded")
    assert {job.id for job in kueue.as_completed(jobs)} == {1, 2}
    assert {job.id for job in kueue.as_completed([jobs[0], single])} == {1, 3}
    assert {job.id for job in kueue.as_completed(client.jobs())} == {1, 2, 3}
    assert list(kueue.as_completed([])) == []
    with pytest.raises(UsageError, match="client="):
        kueue.as_completed([kueue.Job(1)])
    assert [job.id for job in kueue.as_completed([kueue.Job(1)], client=client)] == [1]


def test_jobs_are_the_same_whatever_their_state(server: ClientsServer, client: Client) -> None:
    inputs = {client.submit(["true"]): "a.dat"}
    server.change(1, "succeeded")
    assert inputs[client.wait(1)] == "a.dat"


# ---------------------------------------------------------------- looking


def test_listings_are_pages_that_are_fetched_as_they_are_needed(
    server: ClientsServer, client: Client
) -> None:
    client.submit_many(specs(2500))
    rows = client.jobs()
    assert next(rows).id == 1
    assert len(server.of(ListJobs)) == 1
    assert [job.id for job in rows] == list(range(2, 2501))
    assert [page.cursor for page in server.of(ListJobs)] == [None, 1000, 2000]
    assert [job.id for job in client.jobs(newest_first=True, limit=3)] == [2500, 2499, 2498]
    server.change(7, "failed")
    assert [job.id for job in client.jobs(states=["failed"])] == [7]
    assert [job.id for job in client.jobs(ids=[5, 6, 9])] == [5, 6, 9]


def test_a_listing_with_more_ranges_than_one_request_takes_keeps_its_order(
    server: ClientsServer, client: Client
) -> None:
    client.submit_many(specs(25_000))
    odd = list(range(1, 25_000, 2))
    assert [job.id for job in client.jobs(ids=odd)] == odd
    assert [job.id for job in client.jobs(ids=odd, newest_first=True)] == odd[::-1]


def test_a_job_is_told_in_python_s_terms(server: ClientsServer, client: Client) -> None:
    client.submit([b"./sim\xff"], cpus=2, resources={"genus": 1}, stdout=b"out\xfe", cwd="/tmp")
    job = client.job(1)
    assert job.command == ("./sim\udcff",)
    assert job.stdout_path == "out\udcfe"
    assert job.submitted_at == datetime.datetime(2023, 11, 14, 22, 13, 20, 500_000, datetime.UTC)
    assert (job.cpus, job.resources, job.started_at) == (2, (("genus", 1),), None)
    detail = client.detail(1, context=True)
    assert detail.context is not None
    assert b"PATH" in detail.context


def test_no_is_an_error_of_its_own_kind(server: ClientsServer, client: Client) -> None:
    with pytest.raises(UnknownJobError, match="no job 5") as raised:
        client.job(5)
    assert (raised.value.code, raised.value.exit_code) == ("unknown_job", 1)
    with pytest.raises(RequestError, match="not in this test"):
        client.reload()
    with pytest.raises(UsageError, match="no job id"):
        client.job(0)


def test_output_comes_in_pieces_and_whole(server: ClientsServer, client: Client) -> None:
    server.outputs["stdout"] = bytes(range(256)) * 3000
    assert client.logs(1) == server.outputs["stdout"]
    assert [len(chunk.data) for chunk in client.read_log(1, "stdout")] == [262144, 262144, 243712]
    assert b"".join(chunk.data for chunk in client.read_log(1, "stdout", start=-5)) == bytes(range(251, 256))
    assert client.logs(1, stream="stderr") == b""


def test_output_is_followed_to_its_end_over_a_lost_connection(server: ClientsServer, client: Client) -> None:
    server.outputs = {"stdout": b"one ", "stderr": b"oops"}
    server.output_ends = False
    found: dict[str, bytes] = {"stdout": b"", "stderr": b""}
    for stream, chunk in client.follow(1):
        found[stream] += chunk.data
        if found == {"stdout": b"one ", "stderr": b"oops"}:
            server.drop_connections()
            server.outputs["stdout"] += b"two"
            server.output_ends = True
    assert found == {"stdout": b"one two", "stderr": b"oops"}


def test_cancel_and_the_rest(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(3))
    assert client.cancel(jobs, kill=True).canceled == 3
    assert server.of(Cancel)[0].kill
    assert client.cancel([]).canceled == 0
    assert client.clean() == 7
    assert client.workers() == ()
    assert client.resources().resources[0].name == "genus"
    assert client.server_info().journal == "journal"
    assert client.shutdown(workers=True) == ("bye",)


# ---------------------------------------------------------------- the connection


def test_a_question_is_asked_again_when_the_connection_breaks(server: ClientsServer, client: Client) -> None:
    server.before = once(ListWorkers)
    assert client.workers() == ()
    assert len(server.of(ListWorkers)) == 2


def test_an_order_to_shut_down_is_never_given_twice(server: ClientsServer, client: Client) -> None:
    server.after = once(Shutdown)
    with pytest.raises(ServerUnreachableError):
        client.shutdown()
    assert len(server.of(Shutdown)) == 1


def test_a_connection_that_broke_while_idle_is_made_anew(server: ClientsServer, client: Client) -> None:
    assert client.workers() == ()
    server.stop()
    server.start()
    assert client.workers() == ()
    client.close()
    assert client.workers() == ()
    assert server.connections == 3


def test_a_refused_connection_is_tried_for_a_while(server: ClientsServer) -> None:
    server.stop()
    said: list[str] = []
    threading.Timer(0.4, server.start).start()
    with client_of(server, on_retry=said.append) as client:
        assert client.workers() == ()
    assert said == [f"no server at 127.0.0.1:{server.port} (connection refused); trying for 10 s"]


def test_without_patience_a_refusal_is_an_answer() -> None:
    port = free_port()
    began = time.monotonic()
    with (
        Client(address=("127.0.0.1", port), secret=SECRET) as client,
        pytest.raises(ServerUnreachableError, match="connection refused"),
    ):
        client.workers()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("words", [b"", CHALLENGE], ids=["at once", "after its challenge"])
def test_a_server_that_dies_while_it_shakes_hands_is_waited_for(server: ClientsServer, words: bytes) -> None:
    """It hangs up as one does that refuses us, or that is no Kueue server."""
    server.stop()
    said: list[str] = []
    with (
        dying(server.port, words) as dead,
        Client(
            address=("127.0.0.1", server.port), secret=SECRET, connect_timeout=60, on_retry=said.append
        ) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        connecting = pool.submit(client.connect)
        assert dead.wait(20)
        wait_for("it is tried again", lambda: said)
        server.start()
        connecting.result(30)
        assert client.workers() == ()
    assert said == [f"no server at 127.0.0.1:{server.port} (connection refused); trying for 60 s"]


def test_without_patience_either_a_server_that_died_is_not_said_to_have_another_secret() -> None:
    port = free_port()
    with (
        dying(port, CHALLENGE),
        Client(address=("127.0.0.1", port), secret=SECRET) as client,
        pytest.raises(ServerUnreachableError, match="connection refused"),
    ):
        client.connect()


def test_a_wrong_secret_is_not_tried_again_and_again(server: ClientsServer) -> None:
    with (
        Client(address=("127.0.0.1", server.port), secret="x" * 40, connect_timeout=30) as client,
        pytest.raises(AuthenticationError, match="shared_secret differs"),
    ):
        client.connect()
    assert server.connections == 0


def test_a_server_that_falls_silent_is_given_up(
    server: ClientsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = connection.BlockingConnection.receive.__defaults__
    assert defaults == (60.0,)
    monkeypatch.setattr(connection.BlockingConnection.receive, "__defaults__", (0.2,))
    handle = server.handle
    server.handle = lambda link, message: None  # type: ignore[method-assign]
    with (
        client_of(server) as client,
        pytest.raises(ServerUnreachableError, match=r"silent for 0\.2 s"),
    ):
        client.workers()
    server.handle = handle  # type: ignore[method-assign]


def test_heartbeats_keep_a_long_wait_alive(server: ClientsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.BlockingConnection.receive, "__defaults__", (0.5,))
    with client_of(server) as client:
        client.submit(["true"])
        finished = threading.Event()

        def beat() -> None:
            for _ in range(10):
                for link in list(server._links):
                    server._loop.call_soon_threadsafe(link.send, Heartbeat())
                finished.wait(0.1)
            server.change(1, "succeeded")

        thread = threading.Thread(target=beat)
        thread.start()
        assert client.wait(1).state == "succeeded"
        finished.set()
        thread.join()
    assert server.connections == 1


def test_a_second_thread_is_told_to_have_a_client_of_its_own(server: ClientsServer, client: Client) -> None:
    client.submit(["true"])
    waiting = threading.Thread(target=lambda: client.wait(1))
    waiting.start()
    server.until(lambda: server.watching == 1)
    with pytest.raises(UsageError, match="one for each thread"):
        client.workers()
    server.change(1, "succeeded")
    waiting.join(20)
    assert not waiting.is_alive()
    assert client.workers() == ()


def test_a_forked_child_has_a_connection_of_its_own(server: ClientsServer, client: Client) -> None:
    client.submit(["true"])
    child = os.fork()
    if not child:
        try:
            os._exit(0 if client.counts().pending == 1 else 1)
        except BaseException:
            os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert server.connections == 2  # the child's own: it has not touched ours
    assert client.counts().pending == 1
    assert server.connections == 2


def test_an_interrupted_wait_leaves_the_client_usable(server: ClientsServer, client: Client) -> None:
    client.submit(["true"])
    server.before = lambda message: interrupt() if isinstance(message, Watch) else None

    def interrupt() -> None:
        os.kill(os.getpid(), 2)

    with pytest.raises(KeyboardInterrupt):
        client.wait(1)
    server.before = lambda message: None
    assert client.counts().pending == 1
    server.until(lambda: server.watching == 0)


def test_a_message_that_the_protocol_does_not_know_costs_the_connection_only(
    server: ClientsServer, client: Client
) -> None:
    bad = [True]
    plain = server._answer

    def answer(link: Any, message: Any) -> Any:
        if bad and bad.pop():
            link.send_encoded(b'{"type": "from_the_future", "rid": 1}')
            return None
        return plain(link, message)

    server._answer = answer  # type: ignore[method-assign]
    assert client.workers() == ()
    assert server.connections == 2


def test_a_slow_reader_gets_all_of_a_large_snapshot(server: ClientsServer, client: Client) -> None:
    jobs = client.submit_many(specs(20_000))
    changes = client.watch(jobs)
    assert next(changes).id == 1
    assert client.counts().pending == 20_000  # the rest of the snapshot is sorted aside meanwhile
    assert [next(changes).id for _ in range(19_999)] == list(range(2, 20_001))


def test_what_a_client_can_t_be_made_of_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=tmp_path.name):
        Client(config=tmp_path)
    with pytest.raises(UsageError, match="belong together"):
        Client(address=("localhost", 1))


def test_watch_state_of_an_ended_watch_is_nobody_s(server: ClientsServer, client: Client) -> None:
    """What is on its way when a watch ends is dropped, and the next answer is not mistaken for it."""
    client.submit(["true"])
    plain = server._answer

    def answer(link: Any, message: Any) -> Any:
        if isinstance(message, ListWorkers):
            link.send(WatchState(1, 1))
        return plain(link, message)

    server._answer = answer  # type: ignore[method-assign]
    assert client.workers() == ()
