"""A real server with peers that have the secret and say anything: they are answered or closed, others go on."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kueue.errors import KueueError, ProtocolError
from kueue.wire import codec
from kueue.wire.messages import (
    TAIL_BYTES,
    Acknowledge,
    ClientMessage,
    Failure,
    JobPage,
    Offer,
    ServerState,
    ToClient,
    Welcome,
    WorkerMessage,
)
from tests.hostile.drawing import Thrown
from tests.hostile.forging import bent, encoded, forge, message_types, tag_of
from tests.hostile.raw_peers import CheckedServer, RawPeer, all_goes_on, honest_worker, is_valid

WORKER_KINDS = {tag_of(kind): kind for kind in message_types(WorkerMessage)}
CLIENT_KINDS = {tag_of(kind): kind for kind in message_types(ClientMessage)}
ANSWERS = {
    "submit": "submitted",
    "submit_array": "submitted",
    "list_jobs": "job_page",
    "select_jobs": "jobs_selected",
    "show_job": "job_detail",
    "explain": "explanation",
    "read_log": "log_chunk",
    "watch": "watch_state",
    "watch_cluster": "cluster_state",
    "cancel": "canceled",
    "clean": "cleaned",
    "rerun": "reran",
    "change": "changed",
    "list_workers": "worker_page",
    "show_worker": "worker_detail",
    "list_resources": "resource_page",
    "server_info": "server_state",
    "backup": "done",
    "reload": "done",
    "forget_worker": "done",
    "pause_workers": "steered",
    "resume_workers": "steered",
    "list_queues": "queue_page",
    "pause_queues": "done",
    "resume_queues": "done",
    "set_queue": "done",
    "remove_queue": "done",
    "dump_jobs": "jobs_dumped",
}
SEEDS = 6
SEEDS_LONG = 150
AT_ONCE_SECONDS = 20.0
"""A peer that is silent is closed after 30 s or more; one that says what it must not, before."""
MEGABYTE = "x" * 1_000_000
HUGE = 2**63 - 1


@pytest.fixture
async def checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[CheckedServer]:
    """A server that must be in order at the end, and after a restart; nothing unforeseen may have happened."""
    monkeypatch.chdir(tmp_path)  # what is backed up to relative paths
    caplog.set_level(logging.ERROR)
    checked = CheckedServer(tmp_path)
    await checked.start()
    yield checked
    await checked.stop()
    assert checked.faults == []
    unforeseen = [record.getMessage() for record in caplog.get_records("call") if record.exc_info]
    assert unforeseen == []
    await checked.start()  # what the journal holds is in order, too
    await checked.stop()


def seeds(long_form: bool) -> range:
    """How often."""
    return range(SEEDS_LONG if long_form else SEEDS)


def registration(name: str, /, **fields: Any) -> dict[str, Any]:
    """A sensible one."""
    capacity = {"cpus": 4, "ram_mb": 4000, "job_slots": 4}
    sensible = {
        "name": name,
        "host": socket.gethostname(),
        "version": "1",
        "keeper": f"k-{name}",
        "boot": "b",
    }
    return {"type": "register", **sensible, "capacity": capacity, "system": {}, **fields}


STATUS = {"type": "status", "usable_cpus": 4, "usable_ram_mb": 4000}


async def joined(checked: CheckedServer, name: str = "evil", **inventory: Any) -> RawPeer:
    """A worker that has registered as it should, and asks for work."""
    peer = RawPeer()
    await peer.connect(checked.port, "worker")
    peer.send(registration(name))
    journal = (await peer.until(lambda told: told))[0].journal
    peer.send({"type": "inventory", "journal": journal, **inventory})
    peer.send(STATUS)
    return peer


def spec(**fields: Any) -> dict[str, Any]:
    """A job with an environment that `submission` sends."""
    payload = {"kind": "command", "argv": ["true"]}
    sensible = {
        "cwd": "/data/x",
        "volume": "/data",
        "shape": {"cpus": 1, "ram_mb": 1},
        "context": EMPTY_CONTEXT,
    }
    return {"payload": payload, **sensible, **fields}


EMPTY_CONTEXT = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # SHA-256 of {}


def submission(rid: int, token: str, *jobs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A submit of these jobs."""
    return {"type": "submit", "rid": rid, "token": token, "jobs": list(jobs), "contexts": ["e30="], **fields}


# ---------------------------------------------------------------- anything at all


@pytest.mark.timeout(1200)
async def test_workers_that_say_anything_harm_nobody(checked: CheckedServer, long_form: bool) -> None:
    async with honest_worker(checked.port), checked.client() as client:
        await all_goes_on(client)
        for seed in seeds(long_form):
            for _ in range(3):
                await client.submit(["true"], ram_mb=1, not_workers=["honest"])
            source = Thrown(seed)
            for _ in range(4):
                await rave_as_a_worker(checked, source)
            await all_goes_on(client)
    assert checked.events > 100


async def rave_as_a_worker(checked: CheckedServer, source: Thrown) -> None:
    """One session, sensible at first with some luck."""
    peer = RawPeer()
    await peer.connect(checked.port, "worker")
    sensible = source.random.random() < 0.8
    if sensible:
        peer.send(registration(source.choose(["evil", "bad", "honest"]), keeper=source.choose(["k1", "k2"])))
        welcome = await peer.until(lambda told: [m for m in told if isinstance(m, Welcome)])
        if not welcome:
            return
        source.texts = [welcome[0].journal, "evil", "bad", "honest"]
        inventory = forge(source, WORKER_KINDS["inventory"])
        inventory |= {"journal": welcome[0].journal, "more": False, "highest_job": 0}
        peer.send(
            inventory
            if source.random.random() < 0.7
            else {"type": "inventory", "journal": welcome[0].journal}
        )
        peer.send(STATUS)
    source.integers += [1, 2, 3]
    seen = 0
    for _ in range(40):
        await asyncio.sleep(0)
        for message in peer.told[seen:]:
            if isinstance(message, Offer):
                source.integers += [
                    number for job in message.jobs for number in (job.job, job.fence, job.attempt)
                ]
        seen = len(peer.told)
        kind = source.choose([*WORKER_KINDS.values(), *[WORKER_KINDS["report"]] * 8])
        if tag_of(kind) in ("leaving", "register", "inventory") and source.random.random() < 0.8:
            continue
        made = forge(source, kind)
        body = encoded(bent(source, made) if source.random.random() < 0.03 else made)
        if not is_valid(body, "worker") and source.random.random() < 0.9:
            continue  # that it would be closed is shown soon enough
        if peer.closed.is_set():
            return
        peer.send(body)
    await peer.read_to_the_end()
    peer.close()


@pytest.mark.timeout(1200)
async def test_clients_that_say_anything_harm_nobody(checked: CheckedServer, long_form: bool) -> None:
    async with honest_worker(checked.port), checked.client() as client:
        for seed in seeds(long_form):
            source = Thrown(seed)
            source.integers = list(range(1, 12))
            source.texts = ["honest", "true", EMPTY_CONTEXT, "pending", "genus"]
            for _ in range(4):
                await rave_as_a_client(checked, source)
            await client.resume_workers("*")
            # One client may cancel and clean away what is another's, and say so.
            await all_goes_on(client, ("succeeded", "canceled", "unknown"))
    assert checked.events > 50


async def rave_as_a_client(checked: CheckedServer, source: Thrown) -> None:
    """One session; at the end the server still knows it, or has closed it."""
    peer = RawPeer()
    await peer.connect(checked.port, "client")
    for number in range(40):
        tag = source.choose([tag for tag in CLIENT_KINDS if tag != "shutdown"])
        made = forge(source, CLIENT_KINDS[tag])
        if tag == "backup":
            made["path"] = source.choose(
                ["a/b/c", "", "nul\0", "x" * 5000, {"b64": "/w=="}, "journal.sqlite"]
            )
        if tag == "submit" and source.random.random() < 0.7:
            made |= {"contexts": ["e30="]}
            for job in made["jobs"]:
                job |= {"context": EMPTY_CONTEXT, "cwd": "/data/x", "volume": "/data"}
        if tag == "submit_array" and source.random.random() < 0.7:
            made |= {"contexts": ["e30="], "indices": [[1, source.choose([1, 3, 3000]), 1]]}
            made["spec"] |= {"context": EMPTY_CONTEXT, "cwd": "/data/{n}", "volume": "/data"}
            for name in ("array", "array_index"):
                made["spec"].pop(name, None)
        if tag == "read_log":
            made["wait_seconds"] = 0
        body = encoded(bent(source, made) if source.random.random() < 0.03 else made)
        if is_valid(body, "client"):
            peer.send(body)
        if number % 10 == 9:
            await asyncio.sleep(0)
    peer.send({"type": "server_info", "rid": 424242})
    await peer.until(lambda told: any(isinstance(m, ServerState) and m.rid == 424242 for m in told))
    assert not peer.closed.is_set(), "closed, though all that it said was of the protocol"
    peer.close()


@pytest.mark.parametrize("tag", [tag for tag in CLIENT_KINDS if tag in ANSWERS])
async def test_each_request_with_absurd_values_is_answered(checked: CheckedServer, tag: str) -> None:
    peer, source = RawPeer(), Thrown(7)
    source.strict = True
    await peer.connect(checked.port, "client")
    asked = range(1000, 1030)
    for rid in asked:
        made = forge(source, CLIENT_KINDS[tag]) | {"rid": rid}
        if tag == "backup":
            made["path"] = source.choose(["a/b/c", "", "nul\0", "x" * 5000, {"b64": "/w=="}])
        if tag == "read_log":
            made["wait_seconds"] = 0
        peer.send(made)
    await peer.until(lambda told: {m.rid for m in told} >= set(asked))
    answers = {type(message).__struct_config__.tag for message in peer.told}
    assert answers <= {ANSWERS[tag], "failure"}
    assert not peer.closed.is_set()
    peer.close()


# ---------------------------------------------------------------- chosen absurdities


def ref(job: int = 1, fence: int = 5) -> list[int]:
    """An attempt that is not its own."""
    return [job, fence]


def end(job: int = 1, fence: int = 5, **fields: Any) -> dict[str, Any]:
    """The end of one that is not its own."""
    return {"job": job, "fence": fence, "attempt": 1, "end": "exited", "exit_code": 0, **fields}


CLOSED: dict[str, Any] = {
    "a negative id": {"type": "report", "released": [ref(-1)]},
    "an id beyond the journal's": {"type": "report", "finished": [end(2**63)]},
    "a fence beyond the journal's": {"type": "report", "started": [[1, 2**64, 1, 0.0]]},
    "an age before the universe": {"type": "report", "finished": [end(started_ago=1e300)]},
    "an age of the future": {"type": "report", "started": [[1, 5, 1, -1.0]]},
    "a second registration": registration("evil"),
    "a second inventory": {"type": "inventory", "journal": "x"},
    "an exit code beyond 32 bits": {"type": "report", "finished": [end(exit_code=2**40)]},
    "a note of a megabyte": {**STATUS, "note": MEGABYTE},
    "a client's message": {"type": "list_jobs", "rid": 1},
    "no message": b"[]",
    "an empty object": b"{}",
    "bytes that are not UTF-8": b"\xff\xfe",
    "deep nesting": b'{"type":"report","x":' + b"[" * 200_000,
}
TAKEN: dict[str, Any] = {
    "no ids at all": {
        "type": "report",
        "released": [ref(0, 0)],
        "kept": [ref(0, 0)],
        "finished": [end(0, 0)],
    },
    "the largest numbers": {"type": "report", "released": [ref(HUGE, HUGE)], "finished": [end(HUGE, HUGE)]},
    "fences of others": {"type": "report", "started": [[1, 5, 1, 0.0]], "finished": [end()], "kept": [ref()]},
    "one end a hundred times": {"type": "report", "finished": [end()] * 100, "released": [ref()] * 100},
    "a hundred thousand attempts": {"type": "report", "released": [ref(n, n) for n in range(100_000)]},
    "a reason of a megabyte": {"type": "report", "finished": [end(reason={"code": "x", "text": MEGABYTE})]},
    "tails of a megabyte": {"type": "report", "finished": [end(stdout_tail="eHh4" * 350_000)]},
    "a status of nothing": {**STATUS, "usable_cpus": -1e15, "usable_ram_mb": -1.0},
    "a status of more than there is": {**STATUS, "usable_cpus": 1e15, "usable_ram_mb": 1e15},
    "output nobody asked for": {"type": "log_data", "rid": HUGE, "data": "eHh4", "size": HUGE},
}


async def prepared(checked: CheckedServer) -> RawPeer:
    """Some jobs of others, and a worker that is up to something."""
    async with checked.client() as client:
        for _ in range(2):
            await client.submit(["true"], ram_mb=1, workers=["honest"])
    return await joined(checked)


@pytest.mark.parametrize("what", CLOSED)
async def test_a_worker_that_says_what_can_not_be_is_closed_and_others_go_on(
    checked: CheckedServer, what: str
) -> None:
    async with honest_worker(checked.port), checked.client() as client:
        peer = await prepared(checked)
        peer.send(CLOSED[what])
        async with asyncio.timeout(AT_ONCE_SECONDS):
            await peer.closed.wait()
        await all_goes_on(client)


async def test_a_worker_that_says_what_is_not_so_changes_nothing(checked: CheckedServer) -> None:
    port = checked.port
    async with honest_worker(port), honest_worker(port, "busy", finishing=False), checked.client() as client:
        for _ in range(2):
            await client.submit(["sleep", "1000"], ram_mb=1, workers=["busy"])
        async with asyncio.timeout(60):
            while (await client.counts()).running < 2:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)
        await all_goes_on(client)
        peer = await joined(checked)
        for said in TAKEN.values():
            peer.send(said)
        assert await peer.read_to_the_end()
        await all_goes_on(client)
        assert not peer.closed.is_set()
        states = [(job.state, job.attempt) async for job in client.jobs()]
        assert states == [("running", 1)] * 2 + [("succeeded", 1)] * 2
        peer.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "x" * 256},
        {"name": "two\nlines"},
        {"name": "\x1b[2J"},
        {"host": MEGABYTE},
        {"keeper": ""},
        {"boot": MEGABYTE},
        {"system": {"cpu_model": MEGABYTE}},
        {"system": {"boot_time_ago": -1.0}},
        {"capacity": {"cpus": -1, "ram_mb": 1, "job_slots": 1}},
        {"capacity": {"cpus": 1, "ram_mb": 2**31, "job_slots": 1}},
        {"capacity": {"cpus": 1, "ram_mb": 1, "job_slots": HUGE}},
        {"capacity": {"cpus": 1, "ram_mb": 1, "job_slots": 1, "resources": [["x", -1]]}},
        {"capacity": {"cpus": 1, "ram_mb": 1, "job_slots": 1, "resources": [["x", 1]] * 1001}},
    ],
    ids=lambda fields: ascii(fields)[:40],
)
async def test_a_worker_that_is_impossible_is_not_taken(
    checked: CheckedServer, fields: dict[str, Any]
) -> None:
    peer = RawPeer()
    await peer.connect(checked.port, "worker")
    peer.send(registration("evil", **fields))
    async with asyncio.timeout(AT_ONCE_SECONDS):
        await peer.closed.wait()
    assert peer.told == []  # closed at once, not when it has been silent for long
    async with checked.client() as client:
        assert await client.workers() == ()


ABSURD_JOBS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer CPUs than none": (spec(shape={"cpus": -1}), "bad_amount"),
    "more memory than any machine": (spec(shape={"ram_mb": 2**40}), "bad_amount"),
    "a negative licence": (spec(shape={"resources": [["genus", -1]]}), "bad_amount"),
    "a huge licence": (spec(shape={"resources": [["genus", HUGE]]}), "bad_amount"),
    "a licence twice": (spec(shape={"resources": [["genus", 1], ["genus", 1]]}), "bad_resource"),
    "retries without end": (spec(max_retries=2**40), "bad_retries"),
    "a retry in the past": (spec(max_retries=1, retry_delay_seconds=-1.0), "bad_retries"),
    "a retry after the universe": (spec(max_retries=1, retry_delay_seconds=1e300), "bad_retries"),
    "retries of what runs once": (spec(max_retries=1, restart=False), "bad_retries"),
    "retries on no exit code": (spec(retry_on=[0]), "bad_retries"),
    "retries on every number": (spec(retry_on=list(range(1, 1000))), "bad_retries"),
    "a directory with a NUL": (spec(cwd="/a\0b"), "bad_command"),
    "a directory of a megabyte": (spec(cwd="/" + MEGABYTE), "bad_directory"),
    "a relative volume": (spec(volume="data"), "bad_directory"),
    "no words": (spec(payload={"kind": "command", "argv": []}), "empty_command"),
    "a NUL in a word": (spec(payload={"kind": "command", "argv": ["a", {"b64": "AA=="}]}), "bad_command"),
    "five megabytes of words": (
        spec(payload={"kind": "command", "argv": ["a", MEGABYTE * 5]}),
        "bad_command",
    ),
    "a name of a megabyte": (spec(name=MEGABYTE), "bad_name"),
    "a pattern of a megabyte": (spec(shape={"workers": ["*a" * 500_000]}), "bad_name"),
    "a priority beyond": (spec(priority=2**63), "bad_priority"),
    "restarts below none": (spec(max_restarts=-1), "bad_max_restarts"),
    "no time": (spec(time_limit_seconds=-1e308), "bad_time_limit"),
    "an environment nobody sent": (spec(context="0" * 64), "unknown_context"),
    "a context that is no hash": (spec(context="../../x\0"), "unknown_context"),
}


async def test_absurd_jobs_are_refused_with_their_reason_and_leave_nothing(checked: CheckedServer) -> None:
    peer = RawPeer()
    await peer.connect(checked.port, "client")
    for rid, (job, _) in enumerate(ABSURD_JOBS.values(), 1):
        peer.send(submission(rid, f"t{rid}", spec(), job))
    peer.send(submission(100, "", spec()))
    peer.send(submission(101, "t", *[spec()] * 1001))
    peer.send(submission(102, "t"))
    await peer.until(lambda told: len(told) >= len(ABSURD_JOBS) + 3)
    found = {message.rid: message.reason.code for message in peer.told if isinstance(message, Failure)}
    expected = {rid: code for rid, (_, code) in enumerate(ABSURD_JOBS.values(), 1)}
    assert found == {**expected, 100: "bad_token", 101: "bad_block", 102: "bad_block"}
    async with checked.client() as client:
        assert [job async for job in client.jobs()] == []
    peer.close()


async def test_absurd_ranges_and_pages_are_answered(checked: CheckedServer) -> None:
    peer = RawPeer()
    await peer.connect(checked.port, "client")
    peer.send(submission(1, "t", *[spec()] * 5))
    assert await peer.until(lambda told: told)
    odd = [[5, 1], [-(10**30), 10**30], [HUGE, HUGE], [0, 0], [-5, -1], [3, 3], [2**64, 2**65]]
    peer.send({"type": "cancel", "rid": 2, "ranges": odd[:1]})
    peer.send(
        {"type": "list_jobs", "rid": 3, "filter": {"ranges": odd}, "limit": -(10**30), "cursor": -(10**30)}
    )
    peer.send(
        {"type": "list_jobs", "rid": 4, "filter": {"ranges": odd}, "limit": 10**30, "newest_first": True}
    )
    peer.send({"type": "list_jobs", "rid": 10**30, "cursor": 10**30, "filter": {"states": ["failed"] * 100}})
    peer.send({"type": "list_jobs", "rid": 11, "filter": {"states": ["x"] * 100}})
    selector = {"ranges": odd, "since_seconds": 1e300, "exit_code": -(10**30), "name": "[", "cwd": "/\0"}
    peer.send({"type": "select_jobs", "rid": 12, "selector": selector, "cursor": -(10**30)})
    peer.send({"type": "change", "rid": 13, "selector": {"ranges": odd}, "changes": {"cpus": 10**30}})
    peer.send({"type": "watch", "rid": 5, "ranges": odd, "since": 10**30})
    peer.send({"type": "watch", "rid": 6, "ranges": []})
    peer.send({"type": "cancel", "rid": 7, "ranges": [[1, 1]] * 10_001})
    peer.send({"type": "unwatch", "rid": 5})
    peer.send({"type": "unwatch", "rid": -1})
    peer.send(
        {"type": "read_log", "rid": 8, "job": 10**30, "stream": "stdout", "attempt": -1, "offset": 10**30}
    )
    peer.send({"type": "cancel", "rid": 9, "ranges": odd[1:2]})
    await peer.until(
        lambda told: {2, 3, 4, 10**30, 5, 6, 7, 8, 9, 11, 12, 13} <= {message.rid for message in told}
    )
    answers = {message.rid: message for message in peer.told}
    pages: dict[int, JobPage] = {rid: answers[rid] for rid in (3, 4, 10**30)}
    assert [len(pages[rid].jobs) for rid in (3, 4, 10**30)] == [1, 5, 0]
    assert [answers[rid].reason.code for rid in (6, 7, 8, 11, 13)] == [
        "too_many_ranges",
        "too_many_ranges",
        "unknown_job",
        "bad_selector",
        "bad_amount",
    ]
    assert answers[12].ranges == ()
    assert (answers[2].canceled, answers[9].canceled) == (0, 5)
    assert answers[9].unknown == ((0, 0), (6, 10**30))
    assert not peer.closed.is_set()
    peer.close()


# ---------------------------------------------------------------- what one says, others have to read


async def test_jobs_of_many_megabytes_are_listed_in_pages_that_can_be_read(checked: CheckedServer) -> None:
    peer = RawPeer()
    await peer.connect(checked.port, "client")
    big = spec(payload={"kind": "command", "argv": ["a", MEGABYTE * 4]})
    for number in range(8):
        peer.send(submission(number, f"t{number}", big))
    assert await peer.until(lambda told: len(told) == 8)
    async with checked.client() as client:
        assert [job.id async for job in client.jobs()] == list(range(1, 9))
    peer.close()


async def test_a_worker_with_much_to_say_about_a_job_does_not_hide_it_from_others(
    checked: CheckedServer,
) -> None:
    peer = await joined(checked)
    async with checked.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        (offer,) = await peer.until(lambda told: [m for m in told if isinstance(m, Offer)])
        said = end(job.id, offer.jobs[0].fence, exit_code=1, reason={"code": "x", "text": MEGABYTE * 5})
        peer.send(
            {
                "type": "report",
                "finished": [{**said, "stdout_tail": "eHh4" * 500_000, "stdout_path": MEGABYTE}],
            }
        )
        assert await peer.until(lambda told: [m for m in told if isinstance(m, Acknowledge)])
        done = await client.wait(job, timeout=60)
        assert done.state == "failed"
        detail = await client.detail(job)
        assert detail.job.reason is not None
        assert len(detail.job.reason.text) == 1000
        assert detail.job.stdout_path is None
        assert detail.stdout_tail is not None
        assert len(detail.stdout_tail) == TAIL_BYTES
    peer.close()


async def test_more_output_than_was_asked_for_is_no_answer(checked: CheckedServer) -> None:
    peer = await joined(checked)
    async with checked.client() as client:
        job = await client.submit(["true"], ram_mb=1)
        (offer,) = await peer.until(lambda told: [m for m in told if isinstance(m, Offer)])
        peer.send(
            {"type": "report", "finished": [end(job.id, offer.jobs[0].fence, stdout_tail="dGhlIGVuZA==")]}
        )
        await client.wait(job, timeout=60)
        reading = asyncio.ensure_future(client.logs(job))
        fetch = await peer.until(lambda told: [m for m in told if m.__class__.__name__ == "FetchLog"])
        peer.send({"type": "log_data", "rid": fetch[0].rid, "data": "eHh4" * 1_000_000, "size": 10**9})
        assert await reading == b"the end"
    peer.close()


def test_what_no_message_can_be_is_told_in_a_line_that_writes_no_other() -> None:
    with pytest.raises(ProtocolError) as raised:
        codec.decode_worker_message(b'{"type":"' + b"\\nroot: all is well " * 100 + b'"}')
    assert str(raised.value).isprintable()
    assert issubclass(ProtocolError, KueueError)


def test_all_answers_of_the_protocol_are_expected_here() -> None:
    assert set(CLIENT_KINDS) - set(ANSWERS) == {"unwatch", "shutdown", "heartbeat"}
    assert set(ANSWERS.values()) < {tag_of(kind) for kind in message_types(ToClient)}
