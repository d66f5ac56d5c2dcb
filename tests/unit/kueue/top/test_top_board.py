"""The lines at the bottom: counts, pace and sparklines from what the server told."""

from __future__ import annotations

from kueue.resources import Capacity
from kueue.top.board import Board, sparkline
from kueue.wire.messages import ClusterState, JobCounts, ResourceView, WorkerView


def state(ended: int = 0, used: float = 0.0, **counts: float) -> ClusterState:
    return ClusterState(1, JobCounts(**counts), ended=ended, cpus=8, cpus_used=used)  # type: ignore[arg-type]


def test_a_sparkline_has_its_newest_value_on_the_right_and_its_highest_on_top() -> None:
    assert sparkline([0, 1, 4, 8], 6) == "   ▂▅█"
    assert sparkline([1, 2, 3], 2) == "▆█"
    assert sparkline([2.0], 1, most=8) == "▃"
    assert sparkline([0, 0], 3) == "   "
    assert sparkline([5], 0) == ""


def test_counts_are_by_state_and_leave_out_what_there_is_none_of() -> None:
    board = Board()
    assert board.counts() == []
    board.take(state(pending=1200, failed=1))
    assert [cell.text for cell in board.counts()] == ["1,201 jobs", "1,200 pending", "1 failed"]


def test_throughput_is_what_ended_in_each_second() -> None:
    board = Board()
    for ended in (100, 102, 102, 110):
        board.take(state(ended, used=4.0))
        board.sample()
    assert board.throughput() == [2, 0, 8]
    assert board.cores() == [4.0] * 4
    assert "3.3 jobs/s" in board.pace(80)
    assert "4/8 CPUs" in board.pace(80)
    assert len(board.pace(80)) <= 80


def test_a_server_that_was_started_anew_begins_a_new_throughput() -> None:
    board = Board()
    for ended in (100, 110, 1, 3):
        board.take(state(ended))
        board.sample()
    assert board.throughput() == [2]


def test_what_remains_is_told_while_something_does() -> None:
    board = Board()
    board.take(state(running=1, eta_seconds=75.0))
    assert "1 m 15 s left" in board.pace(80)
    board.take(state(succeeded=1, eta_seconds=0.0))
    assert "left" not in board.pace(80)


def test_workers_and_resources_are_kept_until_told_otherwise() -> None:
    board = Board()
    one, two = (WorkerView(n, f"w{n}", "h", "1", "connected", Capacity(1, 1, 1)) for n in (1, 2))
    board.take_details(ClusterState(1, workers=(one, two), resources=(ResourceView("lic", 0, 1),)))
    board.take_details(ClusterState(1, gone=(1,)))
    assert board.workers == {2: two}
    assert [found.name for found in board.resources] == ["lic"]
    board.take_details(ClusterState(1, resources=()))
    assert board.resources == ()
    board.begin_details()
    assert board.workers == {}
