"""Journals of other versions: each older one is loaded, by its frozen sample; a newer one is refused, untouched."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kueue_server.journal.migrations import VERSION, create
from tests.faults.journal_sample import load
from tests.faults.journal_states import rows_at
from tests.support.lab import Lab

SAMPLES = Path(__file__).parent.parent / "samples" / "journal"
FROZEN = {
    1: "20a89c6c43d137ac598fe007e10ab3223819fa897578d7c20cef101198be990f",
    2: "e891c1c17b91fd0201ec3203c59cc1dbd695ffc0d36a163221c5fe199ed328a3",
    3: "0adf6b34a3e47ee2ea5b53af68b12bf2c2f448e4c123bd68e642d3d1da8aa57d",
    4: "9ed6793464b89e0608dd0ef94ded1474b33241fdccdfa8f8da92c05f6dbd0cda",
}
"""SHA-256 of the samples; one that was released never changes."""


TASKS = [(7, 8, "pending", "1-3:2"), (9, 12, "canceled", "5-11:2"), (13, 16, "pending", "13-19:2")]
"""The tasks of the array that samples of version 4 and later have."""


def structure(connection: sqlite3.Connection) -> set[str]:
    """Tables and indices as SQL, without what the layout of the text says."""
    created = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {" ".join(sql.split()) for (sql,) in created}


def put(lab: Lab, version: int) -> Path:
    path = lab.state / "server" / "journal.sqlite"
    path.parent.mkdir(parents=True)
    load((SAMPLES / f"version-{version}.sql").read_text(), path)
    return path


def test_there_is_a_frozen_sample_of_each_version_and_it_has_not_changed() -> None:
    found = {
        int(path.stem.partition("-")[2]): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in SAMPLES.glob("version-*.sql")
    }
    assert found == FROZEN
    assert sorted(found) == list(range(1, VERSION + 1))


def test_the_schema_is_that_of_the_newest_sample(tmp_path: Path) -> None:
    sample, fresh = sqlite3.connect(":memory:"), sqlite3.connect(":memory:", isolation_level=None)
    sample.executescript((SAMPLES / f"version-{VERSION}.sql").read_text())
    create(fresh)
    try:
        assert structure(fresh) == structure(sample), (
            "a changed schema.sql needs a new version and its sample"
        )
    finally:
        sample.close()
        fresh.close()


@pytest.mark.parametrize("version", FROZEN)
def test_a_journal_of_any_version_is_loaded_and_its_jobs_go_on(
    make_lab: Callable[..., Lab], version: int
) -> None:
    lab = make_lab()
    path = put(lab, version)
    before = rows_at(path)
    assert [table for table, rows in before.items() if not rows] == [], "the sample should fill every table"
    lab.start_server()
    rows = lab.json("list-jobs")
    states = {job["id"]: job["state"] for job in rows if job["array"] is None}
    assert states == {1: "succeeded", 2: "failed", 3: "offered", 4: "canceled", 5: "canceled", 6: "pending"}
    tasks = [(job["id"], job["last"], job["state"], job["indices"]) for job in rows if job["array"]]
    assert tasks == (TASKS if version >= 4 else [])
    assert lab.job(1)["name"] == "good"
    assert lab.job(2)["group"] == "bad ones"
    assert lab.kueue("logs", "1").stdout == b"out\n"
    new = lab.submit("true")
    assert new == (17 if version >= 4 else 7)
    lab.kill_server()
    after = rows_at(path)
    for table in ("context", "stop_order", "tail", "worker"):
        assert {row[:2] for row in before[table]} <= {row[:2] for row in after[table]}, table
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    connection.close()


@pytest.mark.parametrize("with_wal", [False, True], ids=["alone", "with_a_wal"])
def test_a_newer_journal_is_refused_with_one_line_and_left_as_it_is(
    make_lab: Callable[..., Lab], with_wal: bool
) -> None:
    lab = make_lab()
    path = put(lab, VERSION)
    wal = path.with_name(path.name + "-wal")
    connection = sqlite3.connect(path, isolation_level=None)
    if with_wal:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    data = {file: file.read_bytes() for file in (path, wal) if file.exists()}
    connection.close()
    assert (wal in data) == with_wal
    for file, content in data.items():
        file.touch(mode=0o600)
        file.write_bytes(content)
    server = subprocess.run(
        [sys.executable, "-m", "kueue_server"],
        env=lab.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert server.returncode == 2
    lines = server.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert "newer Kueue" in lines[0]
    assert "upgrade the server" in lines[0]
    assert {file: file.read_bytes() for file in data} == data
