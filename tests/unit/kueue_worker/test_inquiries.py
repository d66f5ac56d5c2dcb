"""Who asks on an agent's lock is told who and how it is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import msgspec

from kueue_worker.inquiries import Answer, Inquiries
from kueue_worker.place import AgentLock, name_on_host

ANSWER = Answer(
    name="w1",
    version="1",
    server="ralab29:11236",
    config="/c.toml",
    connected=False,
    alone_seconds=2.5,
    why_alone="connection refused",
    jobs=3,
    leaving=False,
)


async def test_each_caller_gets_the_whole_answer_and_one_that_hangs_up_disturbs_nobody(
    tmp_path: Path,
) -> None:
    lock = AgentLock(str(tmp_path))
    inquiries = Inquiries(lock.socket, lambda: ANSWER)
    address = f"\0{name_on_host('agent', str(tmp_path))}"
    try:
        with socket.socket(socket.AF_UNIX) as hasty:
            hasty.connect(address)
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(address)
            said = await reader.read()
            writer.close()
            assert msgspec.json.decode(said, type=Answer) == ANSWER
    finally:
        inquiries.close()
        lock.release()


async def test_without_answers_the_lock_is_held_all_the_same(tmp_path: Path) -> None:
    lock = AgentLock(str(tmp_path))
    Inquiries(lock.socket, lambda: ANSWER).close()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(f"\0{name_on_host('agent', str(tmp_path))}")
        caller.settimeout(0.05)
        try:
            said = caller.recv(1)
        except TimeoutError:
            said = b"nothing"
    assert said == b"nothing"
    lock.release()
