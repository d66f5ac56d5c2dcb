"""The spool: where output is, forgetting, and its bounds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kueue_worker.output_reading import read_portion, read_tail
from kueue_worker.spool import Spool, SpoolError


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """A spool that is set up."""
    made = Spool(str(tmp_path / "a" / "spool"))
    made.set_up()
    return made


def put(
    spool: Spool, job: int, size: int = 1, age: float = 0.0, journal: str = "j", attempt: int = 1
) -> Path:
    """An output file of so many bytes, last written at second `1000 - age`."""
    spool.make_directory(journal, job)
    path = Path(spool.path(journal, job, attempt, "stdout"))
    path.write_bytes(b"x" * size)
    os.utime(path, (1000 - age, 1000 - age))
    return path


def test_paths_are_by_journal_and_thousands(spool: Spool) -> None:
    assert spool.path("j-1", 12345, 2, "stderr") == f"{spool.root}/j-1/12/12345.2.err"


def test_a_journal_that_is_no_name_is_never_a_path(spool: Spool) -> None:
    for ask in (lambda: spool.path("../x", 1, 1, "stdout"), lambda: spool.highest_job("..")):
        with pytest.raises(ValueError, match="not a journal"):
            ask()


def test_the_spool_is_for_us_alone(spool: Spool) -> None:
    assert stat.S_IMODE(os.stat(spool.root).st_mode) == 0o700


def test_a_spool_that_can_not_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="a part of the path is not a directory"):
        Spool(f"{tmp_path}/file/spool").set_up()


def test_forgetting_follows_what_is_there_and_spares_what_runs(spool: Spool) -> None:
    files = {job: put(spool, job) for job in (1, 2, 999, 1000, 5000)}
    other = put(spool, 2, journal="other")
    again = put(spool, 2, attempt=2)
    count = spool.forget("j", [(2, 2), (900, 2**62)], frozenset({5000}))
    assert count == 4
    assert [job for job, path in files.items() if path.exists()] == [1, 5000]
    assert other.exists()
    assert not again.exists()
    assert not os.path.exists(f"{spool.root}/j/1")  # empty directories go
    put(spool, 1000)  # and come back


def test_old_output_goes_first_by_age_then_by_size(spool: Spool) -> None:
    ancient = put(spool, 1, size=10, age=900)
    old = put(spool, 2, size=10, age=500)
    new = put(spool, 3, size=10, age=1)
    live = put(spool, 4, size=10, age=999)
    assert spool.tidy(25, 1000 - 800, frozenset({("j", 4)})) == 2
    assert [path.exists() for path in (ancient, old, new, live)] == [False, False, True, True]


def test_strangers_in_the_spool_are_left_alone(spool: Spool) -> None:
    records = Path(spool.root, "records.jsonl")
    records.write_text("x")
    os.utime(records, (1, 1))
    stranger = put(spool, 1).with_name("notes.txt")
    stranger.write_text("x")
    os.utime(stranger, (1, 1))
    spool.tidy(0, 2000.0, frozenset())
    assert records.exists()
    assert stranger.exists()


def test_the_highest_job_of_a_journal_is_remembered_by_its_output(spool: Spool) -> None:
    for job in (5, 12345, 12001):
        put(spool, job)
    put(spool, 99999, journal="other")
    assert spool.highest_job("j") == 12345
    assert spool.highest_job("unknown") == 0


def test_a_directory_that_somebody_removed_is_made_again(spool: Spool) -> None:
    put(spool, 1).unlink()
    os.rmdir(f"{spool.root}/j/0")
    spool.remake_directories()
    spool.make_directory("j", 1)
    assert os.path.isdir(f"{spool.root}/j/0")


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, 4, (0, b"0123")),
        (4, 100, (4, b"456789")),
        (10, 5, (10, b"")),
        (99, 5, (10, b"")),
        (-3, 100, (7, b"789")),
        (-3, 2, (7, b"78")),
        (-99, 3, (0, b"012")),
    ],
)
def test_portions(tmp_path: Path, offset: int, limit: int, expected: tuple[int, bytes]) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"0123456789")
    portion = read_portion(str(path), offset, limit)
    assert (portion.offset, portion.data) == expected
    assert portion.size == 10


def test_a_tail_is_the_last_four_kilobytes_and_never_fails(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(bytes(range(256)) * 40)
    assert read_tail(str(path)) == (bytes(range(256)) * 40)[-4096:]
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for absent in ("fifo", "nothing", ".", "empty"):
        assert read_tail(f"{tmp_path}/{absent}") == b""
    assert read_tail("/dev/null") == b""


def test_without_room_no_output_is_begun_and_people_can_see_why(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert spool.why_full() == ""
    monkeypatch.setattr("kueue_worker.spool.LEAST_FREE_MB", 2**60)
    with pytest.raises(OSError, match="No space left"):
        spool.make_directory("j", 1)
    assert "MB free for the spool" in spool.why_full()
