"""What a worker's refusals close, for how long, and what opens it again."""

from __future__ import annotations

from kueue.wire.messages import RawBytes
from kueue_server.core.closed import (
    FIRST_PROBE_SECONDS,
    MOST_JOBS,
    PROBE_SECONDS,
    SUBTREES_PER_VOLUME,
    ClosedPlaces,
    Sight,
    path_os_string,
)


def test_a_refusal_closes_the_subtree_below_the_ancestor() -> None:
    places = ClosedPlaces()
    places.close(b"/data/ann/run/7", b"/data", b"/data/ann", 0.0)
    assert places.paths() == [b"/data/ann/run"]
    assert places.volume(b"/data", 1.0) is Sight.PARTLY
    assert places.directory(b"/data/ann/run", b"/data", 1.0) is Sight.CLOSED
    assert places.directory(b"/data/ann/run/8/deep", b"/data", 1.0) is Sight.CLOSED
    assert places.directory(b"/data/ann/runs", b"/data", 1.0) is Sight.OPEN
    assert places.directory(b"/data/bob", b"/data", 1.0) is Sight.OPEN
    assert places.directory(b"/home/ann", b"/home", 1.0) is Sight.OPEN


def test_an_ancestor_at_or_above_the_mount_closes_the_volume() -> None:
    for ancestor in (b"/data", b"/", None):
        places = ClosedPlaces()
        places.close(b"/data/x", b"/data", ancestor, 0.0)
        assert places.paths() == [b"/data"]
        assert places.volume(b"/data", 1.0) is Sight.CLOSED


def test_an_ancestor_that_is_none_closes_the_volume() -> None:
    places = ClosedPlaces()
    places.close(b"/data/x", b"/data", b"/data/elsewhere", 0.0)
    assert places.paths() == [b"/data"]


def test_the_fourth_subtree_of_one_ancestor_closes_the_volume() -> None:
    places = ClosedPlaces()
    for number in range(3):
        places.close(b"/data/p/%d" % number, b"/data", b"/data/p", 0.0)
    assert len(places.paths()) == 3
    places.close(b"/data/q/1", b"/data", b"/data/q", 0.0)
    assert places.volume(b"/data", 1.0) is Sight.PARTLY
    places.close(b"/data/p/3", b"/data", b"/data/p", 0.0)
    assert places.paths() == [b"/data"]


def test_many_subtrees_of_different_ancestors_close_the_volume_too() -> None:
    places = ClosedPlaces()
    for number in range(SUBTREES_PER_VOLUME + 1):
        places.close(b"/data/%d/x" % number, b"/data", b"/data/%d" % number, 0.0)
    assert places.paths() == [b"/data"]


def test_a_closed_place_is_probed_once_a_minute() -> None:
    places = ClosedPlaces()
    places.close(b"/data/a/b", b"/data", b"/data/a", 0.0)
    places.close(b"/home/x", b"/home", b"/home", 0.0)
    assert not places.probe_due(0.0, PROBE_SECONDS - 1)
    assert places.probe_due(0.0, PROBE_SECONDS)
    now = PROBE_SECONDS + 1
    assert places.directory(b"/data/a/b/c", b"/data", now) is Sight.PROBE
    assert places.volume(b"/home", now) is Sight.PROBE
    places.probing(b"/data/a/b/c", b"/data", now)
    places.probing(b"", b"/home", now)
    assert places.directory(b"/data/a/b/c", b"/data", now) is Sight.CLOSED
    assert places.volume(b"/home", now) is Sight.CLOSED


def test_a_start_opens_the_place_and_only_that() -> None:
    places = ClosedPlaces()
    places.close(b"/data/a/b", b"/data", b"/data/a", 0.0)
    places.close(b"/data/c/d", b"/data", b"/data/c", 0.0)
    places.close(b"/home/x", b"/home", b"/home", 0.0)
    assert places.open(1, b"/data/a/b/c", b"/data")
    assert places.paths() == [b"/data/c/d", b"/home"]
    assert not places.open(1, b"/data/z", b"/data")
    assert places.open(1, b"/home/y", b"/home")
    assert places.open(1, b"/data/c/d", b"/data")
    assert not places


def test_paths_that_are_not_utf8_travel_as_bytes() -> None:
    assert path_os_string(b"/d/\xff") == RawBytes(b"/d/\xff")
    assert path_os_string("/d/ü".encode()) == "/d/ü"


def test_a_job_that_is_held_up_elsewhere_is_kept_away_alone_and_for_a_while() -> None:
    places = ClosedPlaces()
    places.close_job(7, b"/data", 0.0)
    assert places
    assert places.paths() == []
    assert places.volume(b"/data", 1.0) is Sight.PARTLY
    assert places.volume(b"/home", 1.0) is Sight.OPEN
    assert places.job(7, b"/data/x", b"/data", 1.0) is Sight.CLOSED
    assert places.job(8, b"/data/x", b"/data", 1.0) is Sight.OPEN
    assert places.job(7, b"/data/x", b"/data", FIRST_PROBE_SECONDS) is Sight.OPEN
    assert not places.probe_due(0.0, FIRST_PROBE_SECONDS - 1)
    assert places.probe_due(FIRST_PROBE_SECONDS - 1, FIRST_PROBE_SECONDS)
    assert not places


def test_what_does_not_answer_is_asked_again_soon_and_then_ever_more_rarely() -> None:
    """A machine that is busy for a moment is not to be without jobs for a minute."""
    places = ClosedPlaces()
    now, pauses = 0.0, []
    for _ in range(6):
        places.close_silent_volume(b"/data", now)
        places.close_silent_volume(b"/data", now + 1)  # asked before the first one came back
        due = next(at for at in range(1, 100) if places.volume(b"/data", now + at) is Sight.PROBE)
        pauses.append(due)
        now += due
    assert pauses == [5, 10, 20, 40, PROBE_SECONDS, PROBE_SECONDS]
    assert places.volume(b"/home", now) is Sight.OPEN
    assert places.open(1, b"/data/x", b"/data")
    places.close_silent_volume(b"/data", now)
    assert places.volume(b"/data", now + FIRST_PROBE_SECONDS) is Sight.PROBE


def test_jobs_that_are_held_up_again_and_again_are_asked_for_ever_more_rarely() -> None:
    places = ClosedPlaces()
    places.close_job(1, b"/data", 0.0)
    places.close_job(2, b"/data", 1.0)
    assert places.probe_due(0.0, FIRST_PROBE_SECONDS)
    places.close_job(2, b"/data", FIRST_PROBE_SECONDS)
    assert places.job(2, b"/data/x", b"/data", 3 * FIRST_PROBE_SECONDS - 1) is Sight.CLOSED
    assert places.job(2, b"/data/x", b"/data", 3 * FIRST_PROBE_SECONDS) is Sight.OPEN
    later = 3 * FIRST_PROBE_SECONDS + PROBE_SECONDS  # it has answered meanwhile, as far as anybody knows
    places.close_job(3, b"/data", later)
    assert places.job(3, b"/data/x", b"/data", later + FIRST_PROBE_SECONDS) is Sight.OPEN


def test_a_job_that_was_held_up_and_starts_opens_the_way_for_others_of_its_volume() -> None:
    places = ClosedPlaces()
    for number, volume in ((1, b"/data"), (2, b"/data"), (3, b"/home")):
        places.close_job(number, volume, 0.0)
    assert not places.open(9, b"/data/x", b"/data")
    assert places.open(1, b"/data/x", b"/data")
    assert places.job(2, b"/data/x", b"/data", 1.0) is Sight.OPEN
    assert places.job(3, b"/home/x", b"/home", 1.0) is Sight.CLOSED


def test_only_so_many_jobs_are_kept_away_one_by_one() -> None:
    places = ClosedPlaces()
    for number in range(MOST_JOBS + 5):
        places.close_job(number, b"/data", 0.0)
    assert places.job(4, b"/data/x", b"/data", 1.0) is Sight.OPEN
    assert places.job(5, b"/data/x", b"/data", 1.0) is Sight.CLOSED
