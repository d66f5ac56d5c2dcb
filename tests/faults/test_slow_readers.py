"""Clients that ask for much and don't read what they get: little waits for them, and nobody waits behind them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import kueue
from kueue.wire.codec import decode_to_client, encode
from kueue.wire.connection import BlockingConnection
from kueue.wire.framing import FrameDecoder, frame
from kueue.wire.messages import MAX_FRAME, JobPage, ListJobs
from tests.support.lab import SECRET, Lab
from tests.support.waiting import wait_for

JOBS = 1000
"""A page of them is some 150 KB."""
GROWTH_MB = 48
ANSWER_SECONDS = 3.0


def memory_mb(pid: int) -> float:
    """What a process has of the machine's memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextlib.contextmanager
def asking_at_once(lab: Lab, count: int) -> Iterator[ssl.SSLSocket]:
    """A connection whose other end gets so many requests, from a thread: it may be made to wait."""
    connection = BlockingConnection("127.0.0.1", lab.port, SECRET, "0.1.0")
    sock = connection._socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(60)
    requests = b"".join(frame(encode(ListJobs(rid))) for rid in range(1, count + 1))

    def ask() -> None:
        with contextlib.suppress(OSError):
            sock.sendall(requests)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield sock
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        thread.join()
        connection.close()


def test_a_client_that_asks_for_much_and_never_reads_costs_little_and_is_closed(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab(server="worker_timeout_seconds = 3")
    server = lab.start_server()
    address = ("127.0.0.1", lab.port)
    with kueue.Client(address=address, secret=SECRET) as client:
        client.submit_many(kueue.JobSpec(["true"], ram_mb=1) for _ in range(JOBS))
        before = memory_mb(server.pid)
        with asking_at_once(lab, 4000) as sock:
            slowest = growth = 0.0

            def is_closed() -> bool:
                nonlocal slowest, growth
                asked = time.monotonic()
                assert client.counts().pending == JOBS
                slowest = max(slowest, time.monotonic() - asked)
                growth = max(growth, memory_mb(server.pid) - before)
                return "takes none of what we have for it" in lab.server_log()

            wait_for("the server closes it", is_closed)
            with contextlib.suppress(OSError):
                while sock.recv(1 << 20):
                    pass
        assert growth < GROWTH_MB
        assert slowest < ANSWER_SECONDS


def test_a_client_that_asks_for_much_and_reads_it_later_gets_it_all(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    lab.start_server()
    with kueue.Client(address=("127.0.0.1", lab.port), secret=SECRET) as client:
        client.submit_many(kueue.JobSpec(["true"], ram_mb=1) for _ in range(JOBS))
        with asking_at_once(lab, 60) as sock:
            assert client.counts().pending == JOBS
            decoder = FrameDecoder(MAX_FRAME)
            pages: list[JobPage] = []
            while len(pages) < 60:
                messages = map(decode_to_client, decoder.feed(sock.recv(1 << 16)))
                pages += [message for message in messages if isinstance(message, JobPage)]
    assert [page.rid for page in pages] == list(range(1, 61))
    assert {len(page.jobs) for page in pages} == {JOBS}
