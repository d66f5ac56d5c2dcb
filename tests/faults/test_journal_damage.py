"""Files as broken disks leave them: a torn WAL opens to exactly what was committed, a damaged journal not at all."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kueue_server.journal.store import JournalOpenError, begin_new_epoch
from tests.faults.journal_states import (
    FRAME_BYTES,
    WAL_HEADER_BYTES,
    Grown,
    Rows,
    grow,
    opened_and_closed,
    rows_at,
)
from tests.support.lab import Lab

SHORT_COMMITS, LONG_COMMITS = 6, 32
SHORT_PLACES, LONG_PLACES = 60, 300


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory, long_form: bool) -> Grown:
    path = tmp_path_factory.mktemp("grown") / "journal.sqlite"
    grown = grow(path, LONG_COMMITS if long_form else SHORT_COMMITS)
    assert grown.commits[0].wal == b""
    for commit in grown.commits[1:]:
        assert grown.wal.startswith(commit.wal)
        assert (len(commit.wal) - WAL_HEADER_BYTES) % FRAME_BYTES == 0
    assert len({str(commit.rows) for commit in grown.commits}) == len(grown.commits)
    return grown


def places(grown: Grown, count: int) -> list[int]:
    """Offsets in the WAL: every commit's end ±1, the header's parts, and an even spread over the rest."""
    size = len(grown.wal)
    chosen = {0, 1, 31, 32, 33, 55, 56, 57, size - 1}
    for commit in grown.commits[1:]:
        chosen |= {len(commit.wal) - 1, len(commit.wal), len(commit.wal) + 1}
    spread = itertools.count(size // 2, size * 233 // 377)  # nearly the golden section: even, all over
    while len(chosen) < count:
        chosen.add(next(spread) % size)
    return sorted(place for place in chosen if place <= size)


def first_difference(one: bytes, other: bytes) -> int:
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def expected(grown: Grown, wal: bytes) -> Rows:
    """What was committed before the first byte that is not as it was written."""
    intact = len(wal) if wal == grown.wal else first_difference(wal, grown.wal)
    return [commit.rows for commit in grown.commits if len(commit.wal) <= intact][-1]


Damage = Callable[[bytes, int], bytes]


def truncated(wal: bytes, place: int) -> bytes:
    return wal[:place]


def zeroed(wal: bytes, place: int) -> bytes:
    return wal[:place] + bytes(len(wal) - place)


def one_byte_changed(wal: bytes, place: int) -> bytes:
    place = min(place, len(wal) - 1)
    return wal[:place] + bytes([wal[place] ^ 0x10]) + wal[place + 1 :]


@pytest.mark.parametrize("damage", [truncated, zeroed, one_byte_changed])
def test_a_damaged_wal_opens_to_exactly_the_committed_prefix(
    grown: Grown, tmp_path: Path, damage: Damage, long_form: bool
) -> None:
    path = tmp_path / "journal.sqlite"
    seen = set()
    for place in places(grown, LONG_PLACES if long_form else SHORT_PLACES):
        wal = damage(grown.wal, place)
        grown.put(path, wal)
        opened_and_closed(path)
        found = rows_at(path)
        assert found == expected(grown, wal), f"{damage.__name__} at {place} of {len(grown.wal)}"
        seen.add(str(found))
    assert len(seen) >= len(grown.commits) - 1, "the places should have met every commit"


def test_after_a_cut_the_next_commits_follow_what_is_left(grown: Grown, tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    grown.put(path, truncated(grown.wal, len(grown.commits[2].wal) + 7))
    left = rows_at(path)
    opened_and_closed(path, with_another_commit=True)
    after = rows_at(path)
    assert len(after["job"]) == len(left["job"]) + 3
    assert after["context"][:-1] == left["context"]


# ---------------------------------------------------------------- the main file


def a_garbage_header(data: bytes) -> bytes:
    return b"\xa5" * 100 + data[100:]


def a_header_of_zeros(data: bytes) -> bytes:
    return bytes(4096) + data[4096:]


def a_garbage_page(data: bytes) -> bytes:
    middle = len(data) // 4096 // 2 * 4096
    return data[:middle] + b"\x5a" * 4096 + data[middle + 4096 :]


def a_page_of_zeros(data: bytes) -> bytes:
    middle = len(data) // 4096 // 2 * 4096
    return data[:middle] + bytes(4096) + data[middle + 4096 :]


def half_of_it(data: bytes) -> bytes:
    return data[: len(data) // 2]


def half_a_page_less(data: bytes) -> bytes:
    return data[:-2048]


def nothing(data: bytes) -> bytes:
    return b""


def an_impossible_state(data: bytes) -> bytes:
    assert b"succeeded" in data
    return data.replace(b"succeeded", b"succeeeed")


def a_spec_that_is_not_json(data: bytes) -> bytes:
    return data.replace(b'{"payload":', b'{"payload";')


ALONE = [
    a_garbage_header,
    a_header_of_zeros,
    a_garbage_page,
    a_page_of_zeros,
    half_of_it,
    half_a_page_less,
    an_impossible_state,
    a_spec_that_is_not_json,
]
# Where the WAL has a newer copy of a page, the one in the file counts no more.
WITH_A_WAL = [nothing]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return grow(tmp_path_factory.mktemp("sound") / "journal.sqlite", 2)


@pytest.mark.parametrize(
    ("damage", "with_wal"),
    [*((damage, False) for damage in ALONE), *((damage, True) for damage in WITH_A_WAL)],
)
def test_a_damaged_journal_is_refused_with_one_line_and_left_as_it_is(
    make_lab: Callable[..., Lab], sound: Grown, damage: Callable[[bytes], bytes], with_wal: bool
) -> None:
    lab = make_lab()
    path = lab.state / "server" / "journal.sqlite"
    path.parent.mkdir(parents=True)
    main = damage(sound.main)
    assert main != sound.main
    before = {path.name: main, **({f"{path.name}-wal": sound.wal} if with_wal else {})}
    for name, data in before.items():
        (path.parent / name).touch(mode=0o600)
        (path.parent / name).write_bytes(data)
    server = subprocess.run(
        [sys.executable, "-m", "kueue_server"],
        env=lab.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
    )
    assert server.returncode == 2, server.stderr
    lines = server.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert str(path) in lines[0]
    assert "damaged" in lines[0]
    for name, data in before.items():
        assert (path.parent / name).read_bytes() == data, name


@pytest.mark.parametrize("damage", [a_garbage_header, a_garbage_page, half_of_it])
def test_a_new_epoch_does_not_begin_in_a_damaged_journal(
    tmp_path: Path, sound: Grown, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(damage(sound.main))
    with pytest.raises(JournalOpenError, match="damaged"):
        begin_new_epoch(path)
    assert path.read_bytes() == damage(sound.main)


def test_an_undamaged_one_is_served(make_lab: Callable[..., Lab], sound: Grown) -> None:
    lab = make_lab()
    path = lab.state / "server" / "journal.sqlite"
    path.parent.mkdir(parents=True)
    sound.put(path, sound.wal)
    lab.start_server()
    assert [job["id"] for job in lab.json("list-jobs")] == [row[0] for row in sound.commits[-1].rows["job"]]
